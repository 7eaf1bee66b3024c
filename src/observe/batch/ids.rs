//! Which example each row of a batch belongs to.

use super::format::BatchFormat;
use crate::error::{Error, Result};

/// The example ids of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchIds<'a> {
    /// One id per example. A sequence of the kind `tokens` has as many tokens as the batch has rows of
    /// logits per id.
    Examples(&'a [i64]),
    /// One id per token, for several sequences packed into one row. Consecutive counted tokens of a row
    /// with the same id are one example; tokens that are ignored may have any id.
    Tokens {
        /// One id per token.
        ids: &'a [i64],
        /// The tokens of a row, which no example reaches beyond.
        row_length: usize,
    },
}

impl<'a> From<&'a [i64]> for BatchIds<'a> {
    fn from(ids: &'a [i64]) -> Self {
        Self::Examples(ids)
    }
}

impl<'a, const N: usize> From<&'a [i64; N]> for BatchIds<'a> {
    fn from(ids: &'a [i64; N]) -> Self {
        Self::Examples(ids)
    }
}

impl<'a> From<&'a Vec<i64>> for BatchIds<'a> {
    fn from(ids: &'a Vec<i64>) -> Self {
        Self::Examples(ids)
    }
}

impl BatchIds<'_> {
    /// Checks the number of ids against that of the rows of outputs.
    pub(super) fn check(&self, format: &BatchFormat, rows: usize) -> Result<()> {
        let (ids, has_tokens) = (self.len(), format.kind.has_tokens());
        match self {
            Self::Tokens { .. } if !has_tokens => Err(Error::invalid(format!(
                "ids: expected one per example, which is what `{}` has, got one per token",
                format.kind.name()
            ))),
            &Self::Tokens { row_length, .. } => {
                if ids != rows || (rows > 0 && !rows.is_multiple_of(row_length.max(1))) {
                    return Err(Error::invalid(format!(
                        "ids: expected {rows}, one per token in rows of {row_length}, got {ids}"
                    )));
                }
                Ok(())
            }
            Self::Examples(_) if has_tokens => {
                let is_whole = if ids == 0 { rows == 0 } else { rows.is_multiple_of(ids) };
                if !is_whole || (ids > 0 && rows == 0) {
                    return Err(Error::invalid(format!(
                        "ids: expected one for each of equally long sequences, got {ids} for {rows} \
                         tokens"
                    )));
                }
                Ok(())
            }
            Self::Examples(_) if ids != rows => Err(Error::invalid(format!(
                "ids: expected {rows}, one per row of logits, got {ids}"
            ))),
            Self::Examples(_) => Ok(()),
        }
    }

    /// Returns the id of a row, out of `rows`.
    pub(super) fn of_row(&self, row: usize, rows: usize) -> i64 {
        self.ids()[self.place_of_row(row, rows)]
    }

    /// Returns the place of a row's id among the ids.
    pub(super) fn place_of_row(&self, row: usize, rows: usize) -> usize {
        match self {
            // Checked: a whole number of rows for each id.
            Self::Examples(ids) => row / (rows / ids.len().max(1)).max(1),
            Self::Tokens { .. } => row,
        }
    }

    /// Returns what tells a row's sequence from that of the row before: the row of the batch, and the id.
    pub(super) fn sequence_of_row(&self, row: usize, rows: usize) -> (usize, i64) {
        let place = self.place_of_row(row, rows);
        match self {
            Self::Examples(ids) => (place, ids[place]),
            Self::Tokens { ids, row_length } => (row / (*row_length).max(1), ids[place]),
        }
    }

    fn ids(&self) -> &[i64] {
        match self {
            Self::Examples(ids) | Self::Tokens { ids, .. } => ids,
        }
    }

    /// Returns the number of ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids().len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids().is_empty()
    }
}
