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
    /// Checks that soft targets are not negative and sum to 1 in each row within 0.01, the
    /// precision of half floats. Class indices always pass.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the first row that fails.
    pub fn check_soft(&self, classes: usize) -> Result<()> {
        match self {
            Self::Classes(_) => Ok(()),
            Self::Soft(weights) => check::soft_targets(weights, classes),
        }
    }

    /// The class of a row: its index, or the most likely class.
    pub(super) fn label(&self, row: usize, classes: usize) -> i32 {
        match self {
            Self::Classes(labels) => labels[row] as i32,
            Self::Soft(weights) => argmax(&weights[row * classes..][..classes]) as i32,
        }
    }
}
