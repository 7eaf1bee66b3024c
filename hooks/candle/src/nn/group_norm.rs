//! Normalization over groups of channels.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::gradients::tape::Tape;
use crate::nn::normalization::{Affine, NormalizedRows};

/// [`candle_nn::GroupNorm`]: inputs `[batch, channels, ...]`.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    inner: candle_nn::GroupNorm,
    // candle-nn's own fields are private.
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Makes a layer from scales and shifts `[channels]`.
    ///
    /// # Errors
    ///
    /// If the groups do not divide the channels.
    pub fn new(
        weight: Tensor,
        bias: Tensor,
        num_channels: usize,
        num_groups: usize,
        eps: f64,
    ) -> Result<Self> {
        let (own_weight, own_bias) = (weight.clone(), bias.clone());
        let inner = candle_nn::GroupNorm::new(weight, bias, num_channels, num_groups, eps)?;
        Ok(Self { inner, weight: own_weight, bias: own_bias, groups: num_groups, eps })
    }
}

impl Module for GroupNorm {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let Some(tape) = Tape::running() else { return self.inner.forward(input) };
        if !tape.takes(input, &[Some(&self.weight), Some(&self.bias)]) {
            return self.inner.forward(input);
        }
        let output = self.inner.forward(&input.detach())?;
        let affine =
            Affine { weight: self.weight.clone(), bias: Some(self.bias.clone()), channels: 1 };
        let (images, groups, eps) = (input.detach(), self.groups, self.eps);
        tape.attach(input, &output, move |output| {
            let rows = images.reshape((images.dim(0)? * groups, ()))?;
            let normalized = NormalizedRows::new(&rows, true, eps)?;
            let values = normalized.values.reshape(images.shape())?;
            let gradient = affine.backward(output, &values)?;
            if !output.needs_input_gradient {
                return Ok(None);
            }
            let gradient = normalized.backward(&gradient)?;
            gradient.reshape(images.shape())?.to_dtype(images.dtype()).map(Some)
        })
    }
}

/// As [`candle_nn::group_norm()`].
///
/// # Errors
///
/// If the groups do not divide the channels, or if `vb` has a parameter of this name and of another
/// shape.
#[allow(clippy::needless_pass_by_value, reason = "candle-nn's signature")]
pub fn group_norm(
    num_groups: usize,
    num_channels: usize,
    eps: f64,
    vb: VarBuilder,
) -> Result<GroupNorm> {
    let weight = vb.get_with_hints(num_channels, "weight", Init::Const(1.0))?;
    let bias = vb.get_with_hints(num_channels, "bias", Init::Const(0.0))?;
    GroupNorm::new(weight, bias, num_channels, num_groups, eps)
}
