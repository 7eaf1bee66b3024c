//! What is differentiated: a scalar whose gradient is the sum of the gradients of each example's
//! own loss.

use candle_core::Tensor;

use super::residuals::residuals;
use crate::error::{Error, Result};
use crate::kind_targets::KindTargets;

/// The loss of the examples of a batch.
pub(crate) enum Objective<'a> {
    /// The loss of a kind of model.
    OfKind(KindTargets<'a>),
    /// A loss of outputs and targets, `[batch]`.
    Custom {
        targets: &'a Tensor,
        loss: &'a dyn Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
    },
}

impl Objective<'_> {
    /// Returns the scalar for `count` examples from `start` on, of which these are the outputs.
    pub(crate) fn scalar(&self, outputs: &Tensor, start: usize, count: usize) -> Result<Tensor> {
        match self {
            Self::OfKind(targets) => {
                targets.shape(outputs, count).map_err(|error| error.context("forward"))?;
                // The scalar sum(z * r), with the gradient r of the losses in z held constant, has
                // their gradient.
                let residuals = residuals(&outputs.detach(), targets, start..start + count)?;
                let residuals = residuals.reshape(outputs.shape())?;
                Ok((outputs.to_dtype(residuals.dtype())? * residuals)?.sum_all()?)
            }
            Self::Custom { targets, loss } => {
                if outputs.dims().first() != Some(&count) {
                    return Err(Error::Argument(format!(
                        "forward: expected a row for each of {count} examples, got {:?}",
                        outputs.dims()
                    )));
                }
                let losses = loss(outputs, &targets.narrow(0, start, count)?)?;
                if losses.dims() != [count] {
                    return Err(Error::Argument(format!(
                        "loss: expected a loss for each of {count} examples, [{count}], got {:?}",
                        losses.dims()
                    )));
                }
                Ok(losses.sum_all()?)
            }
        }
    }

    /// Checks that there is a target for every example.
    pub(crate) fn check(&self, batch: usize) -> Result<()> {
        let Self::Custom { targets, .. } = self else { return Ok(()) };
        let got = targets.dims().first().copied().unwrap_or(0);
        if got == batch {
            return Ok(());
        }
        Err(Error::Argument(format!(
            "targets: expected one for each of {batch} examples, got {got}"
        )))
    }

    /// Returns whether an example has a loss: its label, or that of one of its tokens, is not ignored.
    pub(crate) fn counts(&self, example: usize) -> bool {
        match self {
            Self::OfKind(targets) => targets.counts(example),
            Self::Custom { .. } => true,
        }
    }
}
