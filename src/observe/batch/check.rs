//! Checks ids and labels against the format, and finds the rows to record.

use std::fmt;

use super::Targets;
use super::format::BatchFormat;
use crate::error::{Error, Result};

/// How far the weights of a soft target may sum from 1. A label-smoothed row of bf16, which has 8
/// bits of precision, is within it.
const SOFT_TARGET_TOLERANCE: f64 = 0.01;

impl BatchFormat {
    /// Checks whether a batch with these ids and labels can be recorded.
    ///
    /// # Errors
    ///
    /// As [`Batch::new`](crate::observe::Batch::new) for ids and labels.
    pub fn check_rows(&self, examples: &[i64], targets: Targets<'_>) -> Result<()> {
        checked_rows(self, examples, targets).map(drop)
    }
}

/// Checks ids and labels on the host, and returns the rows to record.
pub(super) fn checked_rows(
    format: &BatchFormat,
    examples: &[i64],
    targets: Targets<'_>,
) -> Result<Vec<usize>> {
    let classes = format.classes as usize;
    let expected = examples.len();
    match targets {
        Targets::Classes(labels) => {
            if labels.len() != expected {
                let got = labels.len();
                return Err(Error::invalid(format!(
                    "labels: expected {expected}, one per id, got {got}"
                )));
            }
            class_labels(format, labels)?;
            kept_rows(format, examples, |row| format.ignores(labels[row]))
        }
        Targets::Soft(weights) => {
            if weights.len() != expected * classes {
                let got = weights.len();
                return Err(Error::invalid(format!(
                    "labels: expected soft targets [{expected}, {classes}], got {got} values"
                )));
            }
            soft_targets(weights, classes)?;
            kept_rows(format, examples, |_row| false)
        }
    }
}

/// Checks that every label is a class index or ignored.
pub(super) fn class_labels(format: &BatchFormat, labels: &[i64]) -> Result<()> {
    let classes = i64::from(format.classes);
    let is_class = |label: i64| (0..classes).contains(&label);
    match labels.iter().position(|&label| !is_class(label) && !format.ignores(label)) {
        Some(row) => Err(Error::invalid(format!(
            "labels: expected class indices in 0..{classes}, got {} in row {row}",
            labels[row]
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
    examples: &[i64],
    ignored: impl Fn(usize) -> bool,
) -> Result<Vec<usize>> {
    let limit = format.examples.unwrap_or(i64::MAX as u64 + 1);
    let keep: Vec<usize> = (0..examples.len()).filter(|&row| !ignored(row)).collect();
    for &row in &keep {
        let example = examples[row];
        if u64::try_from(example).is_ok_and(|example| example < limit) {
            continue;
        }
        let declared = format.examples.map_or("2^63".to_owned(), |examples| examples.to_string());
        return Err(Error::invalid(format!(
            "ids: expected example ids in 0..{declared}, got {example} in row {row}"
        )));
    }
    Ok(keep)
}
