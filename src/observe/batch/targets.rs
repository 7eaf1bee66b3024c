//! The targets of a batch on the host: labels, distributions, numbers, or none.

use serde::{Deserialize, Serialize};

use super::check;
use super::format::BatchFormat;
use crate::error::Result;
use crate::observe::definitions::{Target, argmax};
use crate::observe::model_kind::ModelKind;

/// The targets of a batch on the host.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// One class index per row; for `tokens` one per token.
    Classes(&'a [i64]),
    /// Numbers, row-major `[batch, outputs]`: a distribution over the classes, a number in 0 to 1 for
    /// each label of `multi_label` or of `binary`, or what a `regression` predicts.
    Soft(&'a [f32]),
    /// No targets, of `loss_only`.
    None,
}

/// What the targets of a run were, where a class can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TargetForm {
    /// Class indices: `confidence` is exp(-`loss`).
    Classes,
    /// Distributions, of which only the likeliest class is recorded.
    Soft,
    /// Some batches had class indices, others distributions.
    Mixed,
}

impl TargetForm {
    /// Returns the form of a run that has had both.
    pub(crate) fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Mixed }
    }
}

impl Targets<'_> {
    /// Checks that soft targets are not negative and sum to 1 in each row within 0.01, the
    /// precision of half floats. Class indices always pass.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the first row that fails.
    pub fn check_soft(&self, classes: usize) -> Result<()> {
        match self {
            Self::Classes(_) | Self::None => Ok(()),
            Self::Soft(weights) => check::soft_targets(weights, classes),
        }
    }

    /// Returns what a row's column `label` holds: its class, the likeliest one of a soft target, or -1
    /// where an example has no class.
    pub(super) fn label(&self, format: &BatchFormat, row: usize) -> i32 {
        match (format.kind, self) {
            (ModelKind::Classes { .. } | ModelKind::Binary, Self::Classes(labels)) => {
                labels[row] as i32
            }
            (ModelKind::Classes { classes }, Self::Soft(weights)) => {
                let classes = classes as usize;
                argmax(&weights[row * classes..][..classes]) as i32
            }
            (ModelKind::Binary, Self::Soft(weights)) => i32::from(weights[row] >= 0.5),
            _ => -1,
        }
    }

    /// Returns the form, where an example has a class.
    pub(super) fn form(&self, format: &BatchFormat) -> Option<TargetForm> {
        match self {
            _ if !format.kind.has_class() && !format.kind.has_tokens() => None,
            Self::Classes(_) => Some(TargetForm::Classes),
            Self::Soft(weights) if format.kind == ModelKind::Binary => {
                let is_class = weights.iter().all(|&weight| weight == 0.0 || weight == 1.0);
                Some(if is_class { TargetForm::Classes } else { TargetForm::Soft })
            }
            Self::Soft(_) => Some(TargetForm::Soft),
            Self::None => None,
        }
    }

    /// Returns the target of a row under a softmax.
    pub(super) fn of_softmax(&self, row: usize, classes: usize) -> Target<'_> {
        match self {
            Self::Classes(labels) => Target::Class(labels[row] as usize),
            Self::Soft(weights) => Target::Soft(&weights[row * classes..][..classes]),
            // Checked before: these have no softmax.
            Self::None => Target::Soft(&[]),
        }
    }

    /// Returns the numbers of a row, as `multi_label` and `regression` have them.
    pub(super) fn numbers(&self, row: usize, outputs: usize) -> &[f32] {
        match self {
            Self::Soft(numbers) => &numbers[row * outputs..][..outputs],
            Self::Classes(_) | Self::None => &[],
        }
    }
}
