//! Gradient norms, and how they were computed.

use std::borrow::Cow;
use std::fmt;

use candle_core::{Device, Tensor};

use crate::arguments::{Norms, sealed};
use crate::error::Result;

/// The gradient norms of the examples of a batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExampleNorms {
    /// One per example: the L2 norm of the gradient of its loss in all parameters. NaN where the
    /// gradient is not finite, and where the example is ignored and has no loss.
    pub values: Vec<f32>,
    /// How they were computed.
    pub report: NormsReport,
}

impl ExampleNorms {
    /// Returns the values as a tensor `[batch]` of f32.
    ///
    /// # Errors
    ///
    /// If the device has no room.
    pub fn to_tensor(&self, device: &Device) -> candle_core::Result<Tensor> {
        Tensor::new(self.values.as_slice(), device)
    }

    /// Sets the norms of examples without a loss to NaN.
    pub(super) fn leave_out(&mut self, is_ignored: impl Fn(usize) -> bool) {
        for (row, value) in self.values.iter_mut().enumerate() {
            if is_ignored(row) {
                self.report.ignored += 1;
                self.report.non_finite -= usize::from(value.is_nan());
                *value = f32::NAN;
            }
        }
    }
}

impl sealed::Sealed for ExampleNorms {}

impl Norms for ExampleNorms {
    fn to_norms(&self) -> Result<Cow<'_, [f32]>> {
        Ok(Cow::Borrowed(&self.values))
    }
}

/// How gradient norms were computed. `Display` gives a one-line summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NormsReport {
    /// The number of parameters covered by the one backward pass of the batch.
    pub batched: usize,
    /// The parameters that took a backward pass per example, by name, and why.
    pub per_example: Vec<PerExampleParameter>,
    /// Parameters that no gradient reaches, by name; empty unless [allowed].
    ///
    /// [allowed]: crate::gradients::GradientNorms::allow_unused
    pub unused: Vec<String>,
    /// How many examples have a gradient that is not finite.
    pub non_finite: usize,
    /// How many examples have no loss, because their label, or those of all their tokens, are
    /// [ignored].
    ///
    /// [ignored]: crate::gradients::GradientNorms::ignore_index
    pub ignored: usize,
    /// How many examples were also computed alone, to check that the batch gives the same norms.
    pub checked: usize,
}

/// A parameter that took a backward pass per example.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PerExampleParameter {
    /// Its name.
    pub parameter: String,
    /// Why.
    pub reason: String,
}

impl NormsReport {
    /// Returns whether every parameter was covered by the one backward pass of the batch.
    #[must_use]
    pub fn is_batched(&self) -> bool {
        self.per_example.is_empty()
    }
}

impl fmt::Display for NormsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per_example.as_slice() {
            [] => write!(f, "one backward pass for all {} parameters", self.batched)?,
            [first, rest @ ..] => {
                write!(f, "a backward pass per example for {} of ", self.per_example.len())?;
                write!(f, "{} parameters: ", self.batched + self.per_example.len())?;
                write!(f, "{} ({})", first.parameter, first.reason)?;
                for other in rest {
                    write!(f, ", {}", other.parameter)?;
                }
            }
        }
        if !self.unused.is_empty() {
            write!(f, "; no gradient reaches {}", self.unused.join(", "))?;
        }
        if self.non_finite > 0 {
            write!(f, "; {} examples are not finite", self.non_finite)?;
        }
        if self.ignored > 0 {
            write!(f, "; {} examples are ignored", self.ignored)?;
        }
        Ok(())
    }
}
