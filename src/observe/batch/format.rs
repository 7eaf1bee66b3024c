//! The format of a run's batches: classes, signals, and how logits are recorded.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::observe::signal::Signal;

/// How the logits themselves are recorded. They have a table of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LogitsFormat {
    /// Logits are not recorded.
    Off,
    /// Every logit as `f32`.
    #[default]
    F32,
    /// Every logit rounded to `f16`, as fixed-size binary of `2 * classes` little-endian bytes.
    F16,
    /// The `k` largest logits as `f32` with their class indices, largest first; ties by the lower
    /// class index.
    TopK(u32),
}

/// The format of a run's batches: what they must look like and what is recorded of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchFormat {
    /// The number of classes, at least 2.
    pub classes: u32,
    /// The number of examples, if ids are row numbers below it; `None` for arbitrary ids.
    pub examples: Option<u64>,
    /// Rows with this label are not recorded.
    pub ignore_index: Option<i64>,
    /// The signals to record, in the order of [`Signal::ALL`].
    pub signals: Vec<Signal>,
    /// How to record the logits.
    pub logits: LogitsFormat,
}

impl BatchFormat {
    /// The signals that are recorded by default.
    pub const DEFAULT_SIGNALS: [Signal; 3] = [Signal::El2n, Signal::Loss, Signal::Margin];

    /// Returns the default format for a number of classes: EL2N, loss, margin, and every logit as
    /// `f32`.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for fewer than 2 or more than 2^24
    /// classes.
    pub fn new(classes: usize) -> Result<Self> {
        let format = Self {
            classes: u32::try_from(classes).unwrap_or(u32::MAX),
            examples: None,
            ignore_index: None,
            signals: Self::DEFAULT_SIGNALS.to_vec(),
            logits: LogitsFormat::default(),
        };
        format.check()?;
        Ok(format)
    }

    /// Returns whether rows with this class index are left out.
    pub(crate) fn ignores(&self, label: i64) -> bool {
        self.ignore_index == Some(label)
    }

    /// Checks the format.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) names the field that is out of range.
    pub fn check(&self) -> Result<()> {
        let classes = self.classes;
        if !(2..=1 << 24).contains(&classes) {
            return Err(Error::invalid(format!(
                "classes: expected between 2 and 2^24, got {classes}"
            )));
        }
        if let LogitsFormat::TopK(k) = self.logits
            && !(1..=classes).contains(&k)
        {
            return Err(Error::invalid(format!(
                "logits: expected the top 1 to {classes}, got the top {k}"
            )));
        }
        if self.examples.is_some_and(|examples| examples > i64::MAX as u64) {
            return Err(Error::invalid("examples: expected at most 2^63 - 1".to_owned()));
        }
        Ok(())
    }
}
