//! Batch normalization: over the batch in training, by running statistics in evaluation.

use std::ops::Deref;

use candle_core::{ModuleT, Result, Tensor};
pub use candle_nn::BatchNormConfig;
use candle_nn::VarBuilder;

use crate::gradients::squares::product_dtype;
use crate::gradients::tape::Tape;
use crate::nn::normalization::Affine;

/// [`candle_nn::BatchNorm`], with the same methods: inputs `[batch, channels, ...]`.
///
/// It refuses training mode while gradient norms are computed: there an example's loss depends on
/// its batch, and the forward pass would change the running statistics.
#[derive(Clone, Debug)]
pub struct BatchNorm(candle_nn::BatchNorm);

impl BatchNorm {
    /// Makes a layer from running statistics, scales and shifts, `[features]` each.
    ///
    /// # Errors
    ///
    /// If a shape is not `[num_features]`, or `eps` is negative.
    pub fn new(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: f64,
    ) -> Result<Self> {
        candle_nn::BatchNorm::new(num_features, running_mean, running_var, weight, bias, eps)
            .map(Self)
    }

    /// Makes a layer from running statistics `[features]`, without a scale.
    ///
    /// # Errors
    ///
    /// If a shape is not `[num_features]`, or `eps` is negative.
    pub fn new_no_bias(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        eps: f64,
    ) -> Result<Self> {
        candle_nn::BatchNorm::new_no_bias(num_features, running_mean, running_var, eps).map(Self)
    }

    /// As [`new`](Self::new), with the weight of a batch in the running statistics.
    ///
    /// # Errors
    ///
    /// If a shape is not `[num_features]`, `eps` is negative, or `momentum` is not in 0 to 1.
    pub fn new_with_momentum(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: f64,
        momentum: f64,
    ) -> Result<Self> {
        let inner = candle_nn::BatchNorm::new_with_momentum(
            num_features,
            running_mean,
            running_var,
            weight,
            bias,
            eps,
            momentum,
        )?;
        Ok(Self(inner))
    }

    /// As [`new_no_bias`](Self::new_no_bias), with the weight of a batch in the running statistics.
    ///
    /// # Errors
    ///
    /// If a shape is not `[num_features]`, `eps` is negative, or `momentum` is not in 0 to 1.
    pub fn new_no_bias_with_momentum(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        eps: f64,
        momentum: f64,
    ) -> Result<Self> {
        let inner = candle_nn::BatchNorm::new_no_bias_with_momentum(
            num_features,
            running_mean,
            running_var,
            eps,
            momentum,
        )?;
        Ok(Self(inner))
    }

    /// Training mode: normalizes by the batch and updates the running statistics.
    ///
    /// # Errors
    ///
    /// If candle cannot compute it, or while gradient norms are computed.
    pub fn forward_train(&self, x: &Tensor) -> Result<Tensor> {
        match Tape::running() {
            Some(tape) => Err(tape.refuse(
                "forward: expected evaluation mode, got BatchNorm in training mode, where an \
                 example's loss depends on its batch",
            )),
            None => self.0.forward_train(x),
        }
    }

    fn forward_eval(&self, input: &Tensor) -> Result<Tensor> {
        let Some(tape) = Tape::running() else { return self.0.forward_t(input, false) };
        let (mean, variance) = (self.0.running_mean(), self.0.running_var());
        tape.add_buffer(mean);
        tape.add_buffer(variance);
        let parameters = self.0.weight_and_bias();
        let (weight, bias) = parameters.unzip();
        // Without parameters there is nothing to record, and candle's operations have gradients.
        let Some(weight) = weight else { return self.0.forward_t(input, false) };
        if input.rank() < 2 || !tape.takes(input, &[Some(weight), bias]) {
            return self.0.forward_t(input, false);
        }
        let output = self.0.forward_t(&input.detach(), false)?;
        let mut shape = vec![1; input.rank()];
        shape[1] = input.dim(1)?;
        let mean = mean.detach().reshape(shape.as_slice())?;
        let deviation = (variance.detach().reshape(shape.as_slice())? + self.0.eps())?.sqrt()?;
        let affine = Affine { weight: weight.clone(), bias: bias.cloned(), channels: 1 };
        let images = input.detach();
        tape.attach(input, &output, move |output| {
            let normalized = images.broadcast_sub(&mean)?.broadcast_div(&deviation)?;
            let normalized = normalized.to_dtype(product_dtype(&normalized))?;
            let gradient = affine.backward(output, &normalized)?;
            if !output.needs_input_gradient {
                return Ok(None);
            }
            let deviation = deviation.to_dtype(gradient.dtype())?;
            gradient.broadcast_div(&deviation)?.to_dtype(images.dtype()).map(Some)
        })
    }
}

impl Deref for BatchNorm {
    type Target = candle_nn::BatchNorm;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<candle_nn::BatchNorm> for BatchNorm {
    fn from(inner: candle_nn::BatchNorm) -> Self {
        Self(inner)
    }
}

impl ModuleT for BatchNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        if train { self.forward_train(x) } else { self.forward_eval(x) }
    }
}

/// As [`candle_nn::batch_norm()`].
///
/// # Errors
///
/// If `eps` is negative, or if `vb` has a parameter of this name and of another shape.
pub fn batch_norm<C: Into<BatchNormConfig>>(
    num_features: usize,
    config: C,
    vb: VarBuilder,
) -> Result<BatchNorm> {
    candle_nn::batch_norm(num_features, config, vb).map(BatchNorm)
}
