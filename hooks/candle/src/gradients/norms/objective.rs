//! What is differentiated: a scalar whose gradient is the sum of the gradients of each example's
//! own loss.

use candle_core::{D, DType, Tensor};
use data_diet::observe::Targets;

use crate::arguments::HostLabels;
use crate::error::{Error, Result};

/// The loss of the examples of a batch.
pub(crate) enum Objective<'a> {
    CrossEntropy(HostLabels<'a>),
    /// A loss of logits and targets, `[batch]`.
    Custom {
        targets: &'a Tensor,
        loss: &'a dyn Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
    },
}

impl Objective<'_> {
    /// Returns the scalar for these examples, which are the rows of `logits`.
    pub(crate) fn scalar(&self, logits: &Tensor, start: usize, count: usize) -> Result<Tensor> {
        if logits.dims().first() != Some(&count) {
            return Err(Error::Argument(format!(
                "forward: expected a row for each of {count} examples, got {:?}",
                logits.dims()
            )));
        }
        match self {
            Self::CrossEntropy(labels) => {
                if logits.rank() != 2 {
                    return Err(Error::Argument(format!(
                        "forward: expected logits [{count}, classes], got {:?}",
                        logits.dims()
                    )));
                }
                if !crate::transfer::is_float(logits.dtype()) {
                    return Err(crate::transfer::unsupported_logits(logits.dtype()));
                }
                // The scalar sum(z * (p - y)), with p - y held constant, has the gradient p - y of
                // the summed cross-entropies.
                let residuals = residuals(&logits.detach(), labels, start)?;
                Ok((logits.to_dtype(residuals.dtype())? * residuals)?.sum_all()?)
            }
            Self::Custom { targets, loss } => {
                let losses = loss(logits, &targets.narrow(0, start, count)?)?;
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

    /// Checks that there is a label for every example, and that soft labels are distributions.
    pub(crate) fn check(&self, batch: usize) -> Result<()> {
        let (got, what) = match self {
            Self::CrossEntropy(labels) => (labels.rows(), "labels"),
            Self::Custom { targets, .. } => {
                (targets.dims().first().copied().unwrap_or(0), "targets")
            }
        };
        if got != batch {
            return Err(Error::Argument(format!(
                "{what}: expected one for each of {batch} examples, got {got}"
            )));
        }
        match self {
            Self::CrossEntropy(labels) => check_soft(labels),
            Self::Custom { .. } => Ok(()),
        }
    }
}

/// Checks that soft labels are distributions, with the tolerance of the recorder.
pub(crate) fn check_soft(labels: &HostLabels<'_>) -> Result<()> {
    if let HostLabels::Soft { weights, width } = labels {
        Targets::Soft(weights).check_soft(*width)?;
    }
    Ok(())
}

/// Returns `p - y`, `[batch, classes]`, in f32 at least. It keeps its relative precision for
/// examples that are almost learned: for a class index y it is `p_k` for the other classes, and
/// `p_y - 1` is computed as minus their sum. `logits` belong to the labels from `start` on.
pub(crate) fn residuals(logits: &Tensor, labels: &HostLabels<'_>, start: usize) -> Result<Tensor> {
    let (count, classes) = logits.dims2()?;
    let dtype = if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let logits = logits.to_dtype(dtype)?;
    let device = logits.device();
    let powers = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?.exp()?;
    let sums = powers.sum_keepdim(D::Minus1)?;
    match labels {
        HostLabels::Classes { labels, width: 1 } => {
            let mut hot = vec![0.0_f32; count * classes];
            for (row, &label) in labels[start..start + count].iter().enumerate() {
                let class = usize::try_from(label).ok().filter(|&class| class < classes);
                let class = class.ok_or_else(|| {
                    Error::Argument(format!(
                        "labels: expected class indices in 0..{classes}, got {label} in row {}",
                        start + row
                    ))
                })?;
                hot[row * classes + class] = 1.0;
            }
            let hot = Tensor::from_vec(hot, (count, classes), device)?;
            // Selected, not multiplied by 0, so that an infinite power does not become NaN
            // elsewhere.
            let others = hot.ne(0.0)?.where_cond(&powers.zeros_like()?, &powers)?;
            let all_others = others.sum_keepdim(D::Minus1)?;
            let hot = hot.to_dtype(dtype)?;
            Ok(others.sub(&hot.broadcast_mul(&all_others)?)?.broadcast_div(&sums)?)
        }
        HostLabels::Soft { weights, width } if *width == classes => {
            let weights = &weights[start * classes..(start + count) * classes];
            let targets = Tensor::from_slice(weights, (count, classes), device)?.to_dtype(dtype)?;
            // d/dz of -sum(y log p) is p sum(y) - y, and rounded targets do not sum to exactly 1.
            let mass = targets.sum_keepdim(D::Minus1)?;
            let probabilities = powers.broadcast_div(&sums)?.broadcast_mul(&mass)?;
            Ok((probabilities - targets)?)
        }
        HostLabels::Classes { width, .. } | HostLabels::Soft { width, .. } => {
            let rows = labels.rows();
            Err(Error::Argument(format!(
                "labels: expected class indices [{rows}] or soft targets [{rows}, {classes}], got \
                 [{rows}, {width}]"
            )))
        }
        HostLabels::None => Err(Error::Argument("labels: expected some, got none".to_owned())),
    }
}
