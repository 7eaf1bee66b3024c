//! Whether ids and labels fit the format, and which rows are recorded.

use super::Targets;
use super::format::BatchFormat;
use crate::error::{Error, Result};

/// How far the weights of a soft target may be from summing to 1: a label-smoothed row of bf16, which
/// carries 8 bits, is within it.
const SOFT_TARGET_TOLERANCE: f64 = 0.01;

/// The rows to record, after everything about ids and labels has been checked.
pub(super) fn kept_rows(
    format: &BatchFormat,
    examples: &[i64],
    targets: Targets<'_>,
) -> Result<Vec<usize>> {
    let classes = format.classes as usize;
    let expected = examples.len();
    let ignored = |row: usize| match targets {
        Targets::Classes(labels) => format.ignore_index == Some(labels[row]),
        Targets::Soft(_) => false,
    };
    match targets {
        Targets::Classes(labels) => {
            if labels.len() != expected {
                let got = labels.len();
                return Err(Error::invalid(format!(
                    "labels: expected {expected}, one per id, got {got}"
                )));
            }
            let outside = |label: i64| label < 0 || label >= classes as i64;
            if let Some(row) = (0..expected).find(|&row| outside(labels[row]) && !ignored(row)) {
                let label = labels[row];
                return Err(Error::invalid(format!(
                    "labels: expected class indices in 0..{classes}, got {label} in row {row}"
                )));
            }
        }
        Targets::Soft(weights) => {
            if weights.len() != expected * classes {
                let got = weights.len();
                return Err(Error::invalid(format!(
                    "labels: expected soft targets [{expected}, {classes}], got {got} values"
                )));
            }
            check_soft(weights, classes)?;
        }
    }
    let limit = format.examples.unwrap_or(i64::MAX as u64 + 1);
    let keep: Vec<usize> = (0..expected).filter(|&row| !ignored(row)).collect();
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

/// Checks rows of `classes` weights each.
pub(super) fn check_soft(weights: &[f32], classes: usize) -> Result<()> {
    for (row, weights) in weights.chunks_exact(classes.max(1)).enumerate() {
        let sum: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        let got = match weights.iter().find(|&&weight| weight < 0.0) {
            Some(negative) => format!("{negative}"),
            None if (sum - 1.0).abs() <= SOFT_TARGET_TOLERANCE => continue,
            None => format!("a sum of {sum}"),
        };
        return Err(Error::invalid(format!(
            "labels: expected soft targets that are >= 0 and sum to 1, got {got} in row {row}"
        )));
    }
    Ok(())
}
