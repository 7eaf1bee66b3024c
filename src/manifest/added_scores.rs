//! Scores that are added to kept rows as further columns.

use std::sync::Arc;

use super::Manifest;
use crate::selection::ScoreColumn;

/// A score to add to every row that is kept.
#[derive(Clone, Debug)]
pub(super) struct AddedScore {
    pub(super) name: String,
    pub(super) scores: Arc<ScoreColumn>,
}

impl AddedScore {
    /// Returns the score of an example; `None` if it has none or NaN.
    fn of(&self, example: i64) -> Option<f64> {
        self.scores.of(example)
    }
}

/// The columns to add.
pub(super) struct Added<'a> {
    scores: &'a [AddedScore],
}

impl<'a> Added<'a> {
    /// Returns `None` if nothing is added.
    pub(super) fn of(manifest: &'a Manifest) -> Option<Self> {
        let scores = manifest.added.as_slice();
        (!scores.is_empty()).then_some(Self { scores })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.scores.iter().map(|score| score.name.as_str())
    }

    /// Returns the values for a row of this id.
    pub(super) fn values(&self, example: i64) -> impl Iterator<Item = Option<f64>> + use<'a> {
        self.scores.iter().map(move |score| score.of(example))
    }
}
