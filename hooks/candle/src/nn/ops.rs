//! [`candle_nn::ops`], whose fused operations have a gradient while gradient norms are computed.

use candle_core::{D, Result, Tensor};
pub use candle_nn::ops::*;

use crate::gradients::tape::Tape;

/// As [`candle_nn::ops::softmax_last_dim`].
///
/// # Errors
///
/// If candle cannot compute it.
pub fn softmax_last_dim(xs: &Tensor) -> Result<Tensor> {
    match Tape::running() {
        Some(_) => softmax(xs, D::Minus1),
        None => candle_nn::ops::softmax_last_dim(xs),
    }
}

/// As [`candle_nn::ops::rms_norm`].
///
/// # Errors
///
/// If candle cannot compute it.
pub fn rms_norm(xs: &Tensor, alpha: &Tensor, eps: f32) -> Result<Tensor> {
    match Tape::running() {
        Some(_) => rms_norm_slow(xs, alpha, eps),
        None => candle_nn::ops::rms_norm(xs, alpha, eps),
    }
}

/// As [`candle_nn::ops::layer_norm`].
///
/// # Errors
///
/// If candle cannot compute it.
pub fn layer_norm(xs: &Tensor, alpha: &Tensor, beta: &Tensor, eps: f32) -> Result<Tensor> {
    match Tape::running() {
        Some(_) => layer_norm_slow(xs, alpha, beta, eps),
        None => candle_nn::ops::layer_norm(xs, alpha, beta, eps),
    }
}
