//! How many examples to choose: a share or a count.

use serde::{Deserialize, Serialize};

use super::json_float;
use crate::error::{Error, Result};

/// How many of the scored examples to choose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Amount {
    /// A share of the examples that have a score, in `0..=1`. The count is rounded to the nearest
    /// whole number, a half upwards. In a recipe the share is of all examples that have a score
    /// before its first step, so it is the size of the outcome.
    Fraction(#[serde(with = "json_float")] f64),
    /// A number of examples.
    Count(usize),
}

impl Amount {
    /// Checks that a share is a share.
    pub(super) fn validate(self) -> Result<()> {
        match self {
            Self::Fraction(fraction) if !(0.0..=1.0).contains(&fraction) => {
                Err(Error::invalid(format!("fraction: expected between 0 and 1, got {fraction}")))
            }
            _ => Ok(()),
        }
    }

    /// The count among `scored` examples, for a [valid](Self::validate) amount.
    pub(super) fn count_of(self, scored: usize) -> usize {
        match self {
            Self::Fraction(fraction) => {
                // A product that is a half in decimals can be just below it in binary: 0.7 * 45.
                let count = fraction * scored as f64;
                ((count * (1.0 + 2.0 * f64::EPSILON)).round() as usize).min(scored)
            }
            Self::Count(count) => count,
        }
    }

    /// The count among `scored` examples, of which `left` can still be chosen.
    pub(crate) fn of(self, scored: usize, left: usize) -> Result<usize> {
        self.validate()?;
        let count = self.count_of(scored);
        if count <= left {
            return Ok(count);
        }
        let most = if left == scored {
            format!("{scored}, the examples that have a score")
        } else {
            format!("{left}, what is left of {scored} examples that have a score")
        };
        Err(Error::invalid(match self {
            Self::Count(count) => format!("count: expected at most {most}, got {count}"),
            Self::Fraction(fraction) => {
                format!("fraction: expected at most {most}, got {fraction}, which is {count}")
            }
        }))
    }
}
