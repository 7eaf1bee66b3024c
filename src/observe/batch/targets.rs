//! The labels of a batch on the host.

use super::check;
use crate::error::Result;
use crate::observe::signal::argmax;

/// The labels of a batch on the host.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// One class index per row.
    Classes(&'a [i64]),
    /// One distribution over the classes per row, row-major `[batch, classes]`.
    Soft(&'a [f32]),
}

impl Targets<'_> {
    /// Checks soft targets: weights that are not negative and sum to 1 in each row, up to 0.01, as those of
    /// half floats do. Of class indices there is nothing to check here.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), with the first row that breaks this.
    pub fn check_soft(&self, classes: usize) -> Result<()> {
        match self {
            Self::Classes(_) => Ok(()),
            Self::Soft(weights) => check::soft_targets(weights, classes),
        }
    }

    /// The class of a row: its index, or the most likely one.
    pub(super) fn label(&self, row: usize, classes: usize) -> i32 {
        match self {
            Self::Classes(labels) => labels[row] as i32,
            Self::Soft(weights) => argmax(&weights[row * classes..][..classes]) as i32,
        }
    }
}
