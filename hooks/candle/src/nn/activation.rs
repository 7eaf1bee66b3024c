//! Activations; only `PReLU` has parameters.

use std::ops::Deref;

use candle_core::{Module, Result, Tensor};
pub use candle_nn::Activation;
use candle_nn::VarBuilder;

use crate::gradients::contribution::Contribution;
use crate::gradients::squares::product_dtype;
use crate::gradients::tape::Tape;

/// [`candle_nn::PReLU`], `max(x, 0) + w min(x, 0)`, with the same methods.
#[derive(Clone, Debug)]
pub struct PReLU(candle_nn::PReLU);

impl PReLU {
    /// Makes a layer from slopes `[channels]`, or from one slope for all.
    #[must_use]
    pub fn new(weight: Tensor, is_scalar: bool) -> Self {
        Self(candle_nn::PReLU::new(weight, is_scalar))
    }
}

impl Deref for PReLU {
    type Target = candle_nn::PReLU;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<candle_nn::PReLU> for PReLU {
    fn from(inner: candle_nn::PReLU) -> Self {
        Self(inner)
    }
}

impl Module for PReLU {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let Some(tape) = Tape::running() else { return self.0.forward(input) };
        let (weight, scalar) = (self.0.weight(), self.0.is_scalar());
        // Slopes with the shape of the whole input belong to no channel.
        let by_channel = input.rank() >= 2 && input.shape() != weight.shape();
        if !(scalar || by_channel) || !tape.takes(input, &[Some(weight)]) {
            return self.0.forward(input);
        }
        let output = self.0.forward(&input.detach())?;
        let (weight, input_values) = (weight.clone(), input.detach());
        tape.attach(input, &output, move |output| {
            let batch = output.tape.batch();
            output.tape.add(&weight, || {
                let dtype = product_dtype(&output.gradient);
                let negative = input_values.minimum(0.0)?.to_dtype(dtype)?;
                let products = (output.gradient.to_dtype(dtype)? * negative)?;
                let sums = if scalar {
                    products.reshape((batch, ()))?.sum(1)?
                } else {
                    let channels = input_values.dim(1)?;
                    products.reshape((batch, (), channels, after(&input_values, 2)))?.sum((1, 3))?
                };
                Ok(Contribution::Gradient(sums))
            })?;
            if !output.needs_input_gradient {
                return Ok(None);
            }
            let slopes = if scalar {
                weight.detach().reshape(vec![1; input_values.rank()])?
            } else {
                let mut shape = vec![1; input_values.rank()];
                shape[1] = weight.elem_count();
                weight.detach().reshape(shape)?
            };
            // 1 above zero, the slope below it, and at zero the mean of both, as candle's maximum
            // and minimum treat a tie.
            let above = input_values.sign()?.affine(0.5, 0.5)?;
            let slope = (&above + above.affine(-1.0, 1.0)?.broadcast_mul(&slopes)?)?;
            (&output.gradient * slope).map(Some)
        })
    }
}

/// Returns the number of values behind each index of the first `dims` dimensions.
pub(super) fn after(tensor: &Tensor, dims: usize) -> usize {
    tensor.dims()[dims..].iter().product()
}

/// As [`candle_nn::prelu`].
///
/// # Errors
///
/// If `vb` has a parameter of this name with another shape.
pub fn prelu(num_channels: Option<usize>, vs: VarBuilder) -> Result<PReLU> {
    candle_nn::prelu(num_channels, vs).map(PReLU)
}
