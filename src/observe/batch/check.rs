//! Checks ids and targets against the format, and finds the rows to record.

use std::fmt;

use super::Targets;
use super::format::BatchFormat;
use super::ids::BatchIds;
use crate::error::{Error, Result};
use crate::observe::model_kind::ModelKind;

/// How far the weights of a soft target may sum from 1. A label-smoothed row of bf16, which has 8
/// bits of precision, is within it.
const SOFT_TARGET_TOLERANCE: f64 = 0.01;

impl BatchFormat {
    /// Checks whether a batch with these ids and targets can be recorded. `rows` is the number of rows
    /// of outputs; for `tokens`, that of all tokens.
    ///
    /// # Errors
    ///
    /// As [`Batch::new`](crate::observe::Batch::new) for ids and targets.
    pub fn check_rows(&self, ids: BatchIds<'_>, rows: usize, targets: Targets<'_>) -> Result<()> {
        checked_rows(self, ids, rows, targets).map(drop)
    }
}

/// Checks ids and targets on the host, and returns the rows to record; for tokens, those that count.
pub(super) fn checked_rows(
    format: &BatchFormat,
    ids: BatchIds<'_>,
    rows: usize,
    targets: Targets<'_>,
) -> Result<Vec<usize>> {
    ids.check(format, rows)?;
    check_targets(format, rows, targets)?;
    let ignored = |row: usize| match targets {
        Targets::Classes(labels) => format.ignores(labels[row]),
        Targets::Soft(_) | Targets::None => false,
    };
    kept_rows(format, ids, rows, ignored)
}

/// Checks the targets of this many rows of outputs.
fn check_targets(format: &BatchFormat, rows: usize, targets: Targets<'_>) -> Result<()> {
    let outputs = format.kind.outputs();
    let per = if format.kind.has_tokens() { "token" } else { "id" };
    match (format.kind, targets) {
        (
            ModelKind::Classes { .. } | ModelKind::Tokens { .. } | ModelKind::Binary,
            Targets::Classes(labels),
        ) => {
            if labels.len() != rows {
                let got = labels.len();
                let message = format!("labels: expected {rows}, one per {per}, got {got}");
                return Err(Error::invalid(message));
            }
            class_labels(format, labels)
        }
        (
            ModelKind::Classes { .. }
            | ModelKind::Binary
            | ModelKind::MultiLabel { .. }
            | ModelKind::Regression { .. },
            Targets::Soft(numbers),
        ) => {
            if numbers.len() != rows * outputs {
                let got = numbers.len();
                let what = if matches!(format.kind, ModelKind::Classes { .. }) {
                    "soft targets"
                } else {
                    "targets"
                };
                return Err(Error::invalid(format!(
                    "labels: expected {what} [{rows}, {outputs}], got {got} values"
                )));
            }
            match format.kind {
                ModelKind::Classes { .. } => soft_targets(numbers, outputs),
                ModelKind::Regression { .. } => {
                    numbers_within(numbers, outputs, "finite targets", f32::is_finite)
                }
                _ => numbers_within(numbers, outputs, "targets in 0 to 1", |y| {
                    (0.0..=1.0).contains(&y)
                }),
            }
        }
        (ModelKind::LossOnly, Targets::None) => Ok(()),
        (kind, _) => {
            let expected = match kind {
                ModelKind::Classes { .. } => "class indices or soft targets",
                ModelKind::Tokens { .. } => "a class index per token",
                ModelKind::Binary => "0 and 1, or probabilities",
                ModelKind::MultiLabel { .. } => "a number in 0 to 1 per label",
                ModelKind::Regression { .. } => "a number per output",
                ModelKind::LossOnly => "none",
            };
            let got = match targets {
                Targets::Classes(_) => "class indices",
                Targets::Soft(_) => "numbers",
                Targets::None => "none",
            };
            Err(Error::invalid(format!(
                "labels: expected {expected}, which is what `{}` has, got {got}",
                kind.name()
            )))
        }
    }
}

/// Checks that every label is a class index or ignored.
pub(super) fn class_labels(format: &BatchFormat, labels: &[i64]) -> Result<()> {
    // Of one logit, there are two classes.
    let classes = (format.kind.outputs() as i64).max(2);
    let is_class = |label: i64| (0..classes).contains(&label);
    match labels.iter().position(|&label| !is_class(label) && !format.ignores(label)) {
        Some(row) => {
            let got = labels[row];
            let hint =
                if got == -100 { "; to leave such rows out, set `ignore_index`" } else { "" };
            Err(Error::invalid(format!(
                "labels: expected class indices in 0..{classes}, got {got} in row {row}{hint}"
            )))
        }
        None => Ok(()),
    }
}

fn numbers_within(
    numbers: &[f32],
    outputs: usize,
    expected: &str,
    is_valid: impl Fn(f32) -> bool,
) -> Result<()> {
    match numbers.iter().position(|&number| !is_valid(number)) {
        Some(at) => Err(Error::invalid(format!(
            "labels: expected {expected}, got {} in row {}",
            numbers[at],
            at / outputs.max(1)
        ))),
        None => Ok(()),
    }
}

/// Checks that each row of `classes` weights is a distribution.
pub(super) fn soft_targets(weights: &[f32], classes: usize) -> Result<()> {
    for (row, weights) in weights.chunks_exact(classes.max(1)).enumerate() {
        let sum = weights.iter().map(|&weight| f64::from(weight)).sum();
        soft_target(row, sum, weights.iter().find(|&&weight| weight < 0.0))?;
    }
    Ok(())
}

/// Checks the sum of a row's weights. `fault` is a weight that no distribution has.
pub(super) fn soft_target(row: usize, sum: f64, fault: Option<impl fmt::Display>) -> Result<()> {
    let got = match fault {
        Some(fault) => fault.to_string(),
        None if (sum - 1.0).abs() <= SOFT_TARGET_TOLERANCE => return Ok(()),
        // Four decimals: the rest is the rounding of `f32`.
        None => format!("a sum of {}", (sum * 1e4).round() / 1e4),
    };
    Err(Error::invalid(format!(
        "labels: expected soft targets that are >= 0 and sum to 1, got {got} in row {row}"
    )))
}

/// Returns the rows that are not ignored, after checking their ids.
pub(super) fn kept_rows(
    format: &BatchFormat,
    ids: BatchIds<'_>,
    rows: usize,
    ignored: impl Fn(usize) -> bool,
) -> Result<Vec<usize>> {
    let limit = format.examples.unwrap_or(i64::MAX as u64 + 1);
    let keep: Vec<usize> = (0..rows).filter(|&row| !ignored(row)).collect();
    for &row in &keep {
        let example = ids.of_row(row, rows);
        if u64::try_from(example).is_ok_and(|example| example < limit) {
            continue;
        }
        let declared = format.examples.map_or("2^63".to_owned(), |examples| examples.to_string());
        return Err(Error::invalid(format!(
            "ids: expected example ids in 0..{declared}, got {example} in row {}",
            ids.place_of_row(row, rows)
        )));
    }
    Ok(keep)
}
