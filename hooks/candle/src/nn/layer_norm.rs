//! Normalizations over the last dimension.

use std::ops::Deref;

use candle_core::{Module, Result, Tensor};
pub use candle_nn::LayerNormConfig;
use candle_nn::VarBuilder;

use crate::gradients::tape::Tape;
use crate::nn::normalization::{Affine, NormalizedRows};

/// [`candle_nn::LayerNorm`], with the same methods.
///
/// On contiguous inputs candle-nn runs a fused kernel without a backward pass: in training, candle
/// forms no gradient of what comes before it, nor of its own parameters. Gradient norms are those
/// of its formula.
#[derive(Clone, Debug)]
pub struct LayerNorm(candle_nn::LayerNorm);

/// [`candle_nn::RmsNorm`], with the same methods. See [`LayerNorm`] about training.
#[derive(Clone, Debug)]
pub struct RmsNorm(candle_nn::RmsNorm);

impl LayerNorm {
    /// Makes a layer from scales and shifts `[size]`.
    #[must_use]
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self(candle_nn::LayerNorm::new(weight, bias, eps))
    }

    /// Makes a layer from scales `[size]`.
    #[must_use]
    pub fn new_no_bias(weight: Tensor, eps: f64) -> Self {
        Self(candle_nn::LayerNorm::new_no_bias(weight, eps))
    }

    /// Makes a layer from scales `[size]` that does not remove the mean.
    #[must_use]
    pub fn rms_norm(weight: Tensor, eps: f64) -> Self {
        Self(candle_nn::LayerNorm::rms_norm(weight, eps))
    }
}

impl RmsNorm {
    /// Makes a layer from scales `[size]`.
    #[must_use]
    pub fn new(weight: Tensor, eps: f64) -> Self {
        Self(candle_nn::RmsNorm::new(weight, eps))
    }

    /// Returns the same layer as a [`LayerNorm`] that does not remove the mean.
    #[must_use]
    pub fn into_inner(self) -> LayerNorm {
        LayerNorm(self.0.into_inner())
    }

    /// Computes the layer without the fused kernel, so that candle can train what comes before it.
    ///
    /// # Errors
    ///
    /// If candle cannot compute it.
    pub fn forward_diff(&self, xs: &Tensor) -> Result<Tensor> {
        let norm = self.as_layer_norm();
        norm.on_tape(xs, || self.0.forward_diff(xs), || self.0.forward_diff(&xs.detach()))
    }

    fn as_layer_norm(&self) -> LayerNorm {
        LayerNorm::rms_norm(self.0.weight().clone(), self.0.eps())
    }
}

impl Deref for LayerNorm {
    type Target = candle_nn::LayerNorm;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Deref for RmsNorm {
    type Target = candle_nn::RmsNorm;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<candle_nn::LayerNorm> for LayerNorm {
    fn from(inner: candle_nn::LayerNorm) -> Self {
        Self(inner)
    }
}

impl From<candle_nn::RmsNorm> for RmsNorm {
    fn from(inner: candle_nn::RmsNorm) -> Self {
        Self(inner)
    }
}

impl LayerNorm {
    fn on_tape(
        &self,
        input: &Tensor,
        plain: impl FnOnce() -> Result<Tensor>,
        detached: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let Some(tape) = Tape::running() else { return plain() };
        let (weight, bias, eps) = (self.0.weight(), self.0.bias(), self.0.eps());
        let remove_mean = self.0.remove_mean();
        if input.rank() < 2 || !tape.takes(input, &[Some(weight), bias]) {
            return unfused(input, weight, bias, remove_mean, eps);
        }
        let output = detached()?;
        let affine =
            Affine { weight: weight.clone(), bias: bias.cloned(), channels: input.rank() - 1 };
        let rows = input.detach();
        tape.attach(input, &output, move |output| {
            let size = rows.dim(affine.channels)?;
            let normalized = NormalizedRows::new(&rows.reshape(((), size))?, remove_mean, eps)?;
            let values = normalized.values.reshape(rows.shape())?;
            let gradient = affine.backward(output, &values)?;
            if !output.needs_input_gradient {
                return Ok(None);
            }
            let gradient = normalized.backward(&gradient)?;
            gradient.reshape(rows.shape())?.to_dtype(rows.dtype()).map(Some)
        })
    }
}

/// Computes the layer with operations that have a backward pass.
fn unfused(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    remove_mean: bool,
    eps: f64,
) -> Result<Tensor> {
    let last = input.rank().saturating_sub(1);
    let rows = input.to_dtype(crate::gradients::squares::product_dtype(input))?;
    let rows = if remove_mean { rows.broadcast_sub(&rows.mean_keepdim(last)?)? } else { rows };
    let deviation = (rows.sqr()?.mean_keepdim(last)? + eps)?.sqrt()?;
    let scaled = rows.broadcast_div(&deviation)?.to_dtype(input.dtype())?.broadcast_mul(weight)?;
    match bias {
        Some(bias) => scaled.broadcast_add(bias),
        None => Ok(scaled),
    }
}

impl Module for LayerNorm {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.on_tape(input, || self.0.forward(input), || self.0.forward(&input.detach()))
    }
}

impl Module for RmsNorm {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let norm = self.as_layer_norm();
        norm.on_tape(input, || self.0.forward(input), || self.0.forward(&input.detach()))
    }
}

/// As [`candle_nn::layer_norm()`].
///
/// # Errors
///
/// If `vb` has a parameter of this name with another shape.
pub fn layer_norm<C: Into<LayerNormConfig>>(
    size: usize,
    config: C,
    vb: VarBuilder,
) -> Result<LayerNorm> {
    candle_nn::layer_norm(size, config, vb).map(LayerNorm)
}

/// As [`candle_nn::layer_norm_no_bias`].
///
/// # Errors
///
/// If `vb` has a parameter of this name with another shape.
pub fn layer_norm_no_bias(size: usize, eps: f64, vb: VarBuilder) -> Result<LayerNorm> {
    candle_nn::layer_norm_no_bias(size, eps, vb).map(LayerNorm)
}

/// As [`candle_nn::rms_norm`].
///
/// # Errors
///
/// If `vb` has a parameter of this name with another shape.
pub fn rms_norm(size: usize, eps: f64, vb: VarBuilder) -> Result<RmsNorm> {
    candle_nn::rms_norm(size, eps, vb).map(RmsNorm)
}
