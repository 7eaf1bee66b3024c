//! The linear layer.

use std::ops::Deref;

use candle_core::{DType, Device, Module, Result, Storage, Tensor, WithDType, bail};
use candle_nn::VarBuilder;

use crate::gradients::contribution::{Contribution, Factor};
use crate::gradients::tape::Tape;

/// [`candle_nn::Linear`], `y = x W^T + b`, with the same methods.
#[derive(Clone, Debug)]
pub struct Linear(candle_nn::Linear);

impl Linear {
    /// Makes a layer from weights `[outputs, inputs]` and a bias `[outputs]`.
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
            if !output.needs_input_gradient {
                return Ok(None);
            }
            let gradient = output.gradient.reshape(((), outputs))?.matmul(&weight.detach())?;
            gradient.reshape(rows.shape()).map(Some)
        })
    }
}

/// Sums `[batch, positions, features]` to `[batch, features]`, in f32 at least.
pub(super) fn summed(rows: &Tensor) -> Result<Tensor> {
    let rows = rows.to_dtype(crate::gradients::squares::product_dtype(rows))?;
    match rows.device() {
        _ if rows.dim(1)? == 1 => rows.squeeze(1),
        Device::Cpu if rows.dtype() == DType::F64 => sum_positions_on_host::<f64>(&rows),
        Device::Cpu => sum_positions_on_host::<f32>(&rows),
        _ => rows.sum(1),
    }
}

/// Position by position, in the order of memory, unlike candle's sum over a middle dimension.
fn sum_positions_on_host<T: WithDType>(rows: &Tensor) -> Result<Tensor> {
    let (batch, positions, features) = rows.dims3()?;
    let rows = rows.contiguous()?;
    let (storage, layout) = rows.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { bail!("expected a host tensor") };
    let values = &T::cpu_storage_as_slice(storage)?[layout.start_offset()..];
    let mut sums = vec![T::zero(); batch * features];
    if features > 0 {
        let values = values[..batch * positions * features].chunks_exact(features);
        for (at, row) in values.enumerate() {
            add_row(&mut sums[at / positions * features..][..features], row);
        }
    }
    Tensor::from_vec(sums, (batch, features), rows.device())
}

fn add_row<T: WithDType>(sums: &mut [T], row: &[T]) {
    for (sum, &value) in sums.iter_mut().zip(row) {
        *sum += value;
    }
}

/// As [`candle_nn::linear()`].
///
/// # Errors
///
/// If `vb` has a parameter of this name with another shape.
pub fn linear(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    candle_nn::linear(in_dim, out_dim, vb).map(Linear)
}

/// As [`candle_nn::linear_no_bias`].
///
/// # Errors
///
/// If `vb` has a parameter of this name with another shape.
pub fn linear_no_bias(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    candle_nn::linear_no_bias(in_dim, out_dim, vb).map(Linear)
}

/// As [`candle_nn::linear_b`].
///
/// # Errors
///
/// If `vb` has a parameter of this name with another shape.
pub fn linear_b(in_dim: usize, out_dim: usize, bias: bool, vb: VarBuilder) -> Result<Linear> {
    candle_nn::linear_b(in_dim, out_dim, bias, vb).map(Linear)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the test reads what it has computed on the host")]
mod tests {
    use super::*;

    #[test]
    fn positions_are_added_up() {
        for shape in [(1, 1, 1), (2, 3, 4), (3, 1, 5), (2, 5, 0), (0, 2, 3), (2, 0, 3)] {
            let count = shape.0 * shape.1 * shape.2;
            let values: Vec<f32> = (0..count).map(|at| ((at * 7) % 13) as f32 - 6.0).collect();
            let rows = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            let wide = rows.to_dtype(DType::F64).unwrap();
            // As it is, with an offset, and transposed.
            let later = rows.pad_with_zeros(0, 1, 0).unwrap().narrow(0, 1, shape.0).unwrap();
            let turned = rows.transpose(0, 2).unwrap().contiguous().unwrap();
            for rows in [&rows, &later, &turned.transpose(0, 2).unwrap(), &wide] {
                let got = summed(rows).unwrap().to_dtype(DType::F64).unwrap();
                assert_eq!(got.dims(), [shape.0, shape.2]);
                let expected = wide.to_vec3::<f64>().unwrap().into_iter().map(|rows| {
                    (0..shape.2).map(|at| rows.iter().map(|row| row[at]).sum()).collect()
                });
                let expected: Vec<Vec<f64>> = expected.collect();
                assert_eq!(got.to_vec2::<f64>().unwrap(), expected, "{shape:?}");
            }
        }
    }
}
