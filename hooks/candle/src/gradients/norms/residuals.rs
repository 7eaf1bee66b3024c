//! The gradient of each example's loss in the model's outputs, `p - y` in the notation of softmax.
//!
//! It keeps its relative precision for examples that are almost learned: where an output is within
//! rounding of its target, the difference is computed from what is left over, not as a difference.

use std::ops::Range;

use candle_core::{D, DType, Tensor};
use data_diet::observe::ModelKind;

use crate::error::{Error, Result};
use crate::kind_targets::{KindTargets, RowTargets};

/// Returns the gradient of the loss of these examples in their outputs, a row for each row of outputs, in
/// f32 at least:
///
/// - under a softmax `p - y`; for tokens divided by the number of tokens that count;
/// - under sigmoids `sigmoid(z) - y`;
/// - of half the squared error `z - y`.
///
/// 0 in rows that are ignored, whatever their outputs are.
pub(super) fn residuals(
    outputs: &Tensor,
    targets: &KindTargets<'_>,
    examples: Range<usize>,
) -> Result<Tensor> {
    let (kind, shape) = targets.shape(outputs, examples.len())?;
    let dtype = if outputs.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let size = (shape.rows(), shape.width);
    let outputs = outputs.to_dtype(dtype)?.reshape(size)?;
    let numbers = |numbers: &[f32]| -> Result<Tensor> {
        Ok(Tensor::from_slice(numbers, size, outputs.device())?.to_dtype(dtype)?)
    };
    let per_example = targets.rows_per_example();
    match (kind, targets.rows(kind, examples)?) {
        (ModelKind::Classes { .. } | ModelKind::Tokens { .. }, RowTargets::Classes(classes)) => {
            mean_of_counted(of_classes(&outputs, &classes)?, &classes, per_example)
        }
        (ModelKind::Classes { .. }, RowTargets::Numbers(weights)) => {
            of_distributions(&outputs, &numbers(weights)?)
        }
        (ModelKind::Binary, RowTargets::Classes(classes)) => {
            let positive = |class: &Option<u32>| if *class == Some(1) { 1.0 } else { 0.0 };
            let positives: Vec<f32> = classes.iter().map(positive).collect();
            let residuals = under_sigmoids(&outputs, &numbers(&positives)?)?;
            mean_of_counted(residuals, &classes, per_example)
        }
        (ModelKind::Binary | ModelKind::MultiLabel { .. }, RowTargets::Numbers(probabilities)) => {
            under_sigmoids(&outputs, &numbers(probabilities)?)
        }
        (ModelKind::Regression { .. }, RowTargets::Numbers(targets)) => {
            Ok((&outputs - numbers(targets)?)?)
        }
        (kind, _) => Err(unknown_loss(kind)),
    }
}

/// The refusal of a kind of model whose loss is not known.
pub(super) fn unknown_loss(kind: ModelKind) -> Error {
    Error::Argument(format!(
        "kind: expected one whose loss is known, got `{}`: use `GradientNorms::custom_loss`",
        kind.name()
    ))
}

/// `exp(z)` of each row, divided by the largest, and their sums.
fn powers(logits: &Tensor) -> Result<(Tensor, Tensor)> {
    let powers = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?.exp()?;
    let sums = powers.sum_keepdim(D::Minus1)?;
    Ok((powers, sums))
}

/// `p_k` for the other classes, and minus their sum for the class of the row, which is `p_y - 1`.
fn of_classes(logits: &Tensor, classes: &[Option<u32>]) -> Result<Tensor> {
    let (powers, sums) = powers(logits)?;
    let size = powers.shape();
    let known: Vec<u32> = classes.iter().map(|class| class.unwrap_or(0)).collect();
    let known = Tensor::from_vec(known, (classes.len(), 1), logits.device())?;
    let columns = Tensor::arange(0_u32, logits.dim(1)? as u32, logits.device())?.unsqueeze(0)?;
    let is_class = columns.broadcast_as(size)?.eq(&known.broadcast_as(size)?)?;
    let others = is_class.where_cond(&powers.zeros_like()?, &powers)?;
    let missed = others.sum_keepdim(D::Minus1)?.neg()?.broadcast_as(size)?;
    Ok(is_class.where_cond(&missed, &others)?.broadcast_div(&sums)?)
}

/// `d/dz` of `-sum(y log p)` is `p sum(y) - y`, and rounded targets do not sum to exactly 1.
fn of_distributions(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (powers, sums) = powers(logits)?;
    let mass = targets.sum_keepdim(D::Minus1)?;
    let probabilities = powers.broadcast_div(&sums)?.broadcast_mul(&mass)?;
    Ok((probabilities - targets)?)
}

/// `sigmoid(z) - y`, near a target of 1 as `(1 - y) - sigmoid(-z)`.
fn under_sigmoids(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let tail = logits.abs()?.neg()?.exp()?;
    let total = (&tail + 1.0)?;
    let (likely, unlikely) = (total.recip()?, (tail / total)?);
    let is_positive = logits.gt(0.0)?;
    let yes = is_positive.where_cond(&likely, &unlikely)?;
    let no = is_positive.where_cond(&unlikely, &likely)?;
    let from_above = (targets.affine(-1.0, 1.0)? - no)?;
    Ok(targets.gt(0.5)?.where_cond(&from_above, &(yes - targets)?)?)
}

/// Divides the rows of an example by the number of them that count, and sets the others to 0.
fn mean_of_counted(
    residuals: Tensor,
    classes: &[Option<u32>],
    rows_per_example: usize,
) -> Result<Tensor> {
    let shares = classes.chunks(rows_per_example.max(1)).flat_map(|example| {
        let counted = example.iter().flatten().count() as f64;
        example.iter().map(move |class| if class.is_some() { 1.0 / counted } else { 0.0 })
    });
    let shares: Vec<f64> = shares.collect();
    if shares.iter().all(|&share| share == 1.0) {
        return Ok(residuals);
    }
    let (size, device) = ((shares.len(), 1), residuals.device());
    let shares = match residuals.dtype() {
        DType::F64 => Tensor::from_vec(shares, size, device)?,
        _ => Tensor::from_vec(shares.iter().map(|&it| it as f32).collect(), size, device)?,
    };
    let shares = shares.broadcast_as(residuals.shape())?;
    let weighed = (residuals * &shares)?;
    // Selected, since 0 times an output that is not finite is not 0.
    Ok(shares.ne(0.0)?.where_cond(&weighed, &weighed.zeros_like()?)?)
}
