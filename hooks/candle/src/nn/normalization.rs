//! What normalizations share on a tape: scale and shift of normalized values.

use candle_core::{Result, Tensor};

use crate::gradients::contribution::Contribution;
use crate::gradients::squares::product_dtype;
use crate::gradients::tape::OutputGradient;
use crate::nn::activation::after;

/// A scale and an optional shift, one for each channel.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
    /// The dimension of the input that holds the channels.
    pub(super) channels: usize,
}

impl Affine {
    /// Records the contributions of the parameters; `normalized` is what was scaled, in f32 at
    /// least. Returns the gradient of `normalized`, in its shape.
    pub(super) fn backward(
        &self,
        output: &OutputGradient<'_>,
        normalized: &Tensor,
    ) -> Result<Tensor> {
        let dims = normalized.dims();
        let (channels, inner) = (dims[self.channels], after(normalized, self.channels + 1));
        let shape = (output.tape.batch(), (), channels, inner);
        let gradient = output.gradient.to_dtype(product_dtype(&output.gradient))?.reshape(shape)?;
        output.tape.add(&self.weight, || {
            by_channel(&(&gradient * normalized.reshape(shape)?)?).map(Contribution::Gradient)
        })?;
        if let Some(bias) = &self.bias {
            output.tape.add(bias, || by_channel(&gradient).map(Contribution::Gradient))?;
        }
        let weight = self.weight.detach().to_dtype(gradient.dtype())?.reshape((channels, 1))?;
        gradient.broadcast_mul(&weight)?.reshape(dims)
    }
}

/// Sums `[batch, outer, channels, inner]` to `[batch, channels]`.
fn by_channel(values: &Tensor) -> Result<Tensor> {
    let values = values.sum(3)?;
    if values.dim(1)? == 1 { values.squeeze(1) } else { values.sum(1) }
}

/// Rows that are each normalized separately.
#[derive(Debug)]
pub(super) struct NormalizedRows {
    /// `[rows, values]`, in f32 at least.
    pub(super) values: Tensor,
    /// What the values were multiplied by, `[rows, 1]`.
    pub(super) inverse: Tensor,
    remove_mean: bool,
}

impl NormalizedRows {
    /// Divides each row `[rows, values]` by its root mean square, after removing its mean if asked
    /// to.
    pub(super) fn new(rows: &Tensor, remove_mean: bool, eps: f64) -> Result<Self> {
        let rows = rows.to_dtype(product_dtype(rows))?;
        let rows = if remove_mean { rows.broadcast_sub(&rows.mean_keepdim(1)?)? } else { rows };
        let inverse = (rows.sqr()?.mean_keepdim(1)? + eps)?.sqrt()?.recip()?;
        let values = rows.broadcast_mul(&inverse)?;
        Ok(Self { values, inverse, remove_mean })
    }

    /// Returns the gradient of the rows from that of the normalized rows.
    pub(super) fn backward(&self, gradient: &Tensor) -> Result<Tensor> {
        let gradient = gradient.reshape(self.values.shape())?;
        let along = (&gradient * &self.values)?.mean_keepdim(1)?;
        let rest = (&gradient - self.values.broadcast_mul(&along)?)?;
        let rest =
            if self.remove_mean { rest.broadcast_sub(&gradient.mean_keepdim(1)?)? } else { rest };
        rest.broadcast_mul(&self.inverse)
    }
}
