//! The linear layer.

use std::ops::Deref;

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use crate::contribution::{Contribution, Factor};
use crate::tape::Tape;

/// [`candle_nn::Linear`], `y = x W^T + b`, whose methods it has.
#[derive(Clone, Debug)]
pub struct Linear(candle_nn::Linear);

impl Linear {
    /// A layer from weights `[outputs, inputs]` and a bias `[outputs]`.
    #[must_use]
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self(candle_nn::Linear::new(weight, bias))
    }
}

impl Deref for Linear {
    type Target = candle_nn::Linear;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<candle_nn::Linear> for Linear {
    fn from(inner: candle_nn::Linear) -> Self {
        Self(inner)
    }
}

impl Module for Linear {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let Some(tape) = Tape::running() else { return self.0.forward(input) };
        let (weight, bias) = (self.0.weight(), self.0.bias());
        if input.rank() < 2 || !tape.takes(input, &[Some(weight), bias]) {
            return self.0.forward(input);
        }
        let output = self.0.forward(&input.detach())?;
        let (weight, bias, rows) = (weight.clone(), bias.cloned(), input.detach());
        tape.attach(input, &output, move |output| {
            let batch = output.tape.batch();
            let (outputs, inputs) = weight.dims2()?;
            let gradient = output.gradient.reshape((batch, (), outputs))?;
            output.tape.add(&weight, || {
                Ok(Contribution::Outer {
                    left: Factor::Rows(gradient.clone()),
                    right: Factor::Rows(rows.reshape((batch, (), inputs))?),
                    groups: 1,
                })
            })?;
            if let Some(bias) = &bias {
                output.tape.add(bias, || Ok(Contribution::Gradient(summed(&gradient)?)))?;
            }
            if !output.input_wanted {
                return Ok(None);
            }
            let gradient = output.gradient.reshape(((), outputs))?.matmul(&weight.detach())?;
            gradient.reshape(rows.shape()).map(Some)
        })
    }
}

/// `[batch, positions, features]` to `[batch, features]`, in f32 at least.
pub(super) fn summed(rows: &Tensor) -> Result<Tensor> {
    let rows = rows.to_dtype(crate::squares::product_dtype(rows))?;
    if rows.dim(1)? == 1 { rows.squeeze(1) } else { rows.sum(1) }
}

/// As [`candle_nn::linear()`].
///
/// # Errors
///
/// If `vb` has a parameter of this name and of another shape.
pub fn linear(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    candle_nn::linear(in_dim, out_dim, vb).map(Linear)
}

/// As [`candle_nn::linear_no_bias`].
///
/// # Errors
///
/// If `vb` has a parameter of this name and of another shape.
pub fn linear_no_bias(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    candle_nn::linear_no_bias(in_dim, out_dim, vb).map(Linear)
}

/// As [`candle_nn::linear_b`].
///
/// # Errors
///
/// If `vb` has a parameter of this name and of another shape.
pub fn linear_b(in_dim: usize, out_dim: usize, bias: bool, vb: VarBuilder) -> Result<Linear> {
    candle_nn::linear_b(in_dim, out_dim, bias, vb).map(Linear)
}
