//! Makes rows of sequences out of their tokens.

use super::ObservationColumns;
use super::format::BatchFormat;
use super::ids::BatchIds;
use crate::observe::definitions::TokenMeans;

/// What was computed for each token that counts.
pub(super) trait TokenSignals {
    /// Returns the signals of the `at`-th counted token, in the order of the format.
    fn signals(&self, at: usize) -> impl Iterator<Item = f32> + '_;
    fn is_correct(&self, at: usize) -> bool;
    fn is_finite(&self, at: usize) -> bool;
}

/// The rows of a batch's sequences.
pub(super) struct Sequences {
    pub(super) examples: Vec<i64>,
    pub(super) columns: ObservationColumns,
    pub(super) non_finite: u64,
    /// Sequences of which no token counts.
    pub(super) without_tokens: u64,
}

impl Sequences {
    /// Takes the mean of each sequence over its counted tokens, which are the rows `counted` out of
    /// `rows`, ascending.
    pub(super) fn new(
        format: &BatchFormat,
        ids: BatchIds<'_>,
        rows: usize,
        counted: &[usize],
        tokens: &impl TokenSignals,
    ) -> Self {
        let signals = format.signals.len();
        let mut sequences = Self {
            examples: Vec::new(),
            columns: ObservationColumns {
                correct: Vec::new(),
                tokens: Some(TokenColumns::default()),
                signals: vec![Vec::new(); signals],
                logits: None,
            },
            non_finite: 0,
            without_tokens: 0,
        };
        let mut means = TokenMeans::new(signals);
        let mut current = None;
        for (at, &row) in counted.iter().enumerate() {
            let sequence = ids.sequence_of_row(row, rows);
            if let Some((_, example)) = current.filter(|&current| current != sequence) {
                sequences.push(example, &means);
                means.clear();
            }
            current = Some(sequence);
            means.add(tokens.signals(at), tokens.is_correct(at), tokens.is_finite(at));
        }
        if let Some((_, example)) = current {
            sequences.push(example, &means);
        }
        if let BatchIds::Examples(ids) = ids {
            sequences.without_tokens = (ids.len() - sequences.examples.len()) as u64;
        }
        sequences
    }

    fn push(&mut self, example: i64, means: &TokenMeans) {
        self.examples.push(example);
        self.columns.correct.push(means.is_correct());
        if let Some(columns) = &mut self.columns.tokens {
            columns.tokens.push(means.tokens() as i32);
            columns.accuracy.push(means.accuracy());
        }
        for (column, mean) in self.columns.signals.iter_mut().zip(means.means()) {
            column.push(mean);
        }
        self.non_finite += u64::from(!means.is_finite());
    }
}

/// The columns that only sequences have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TokenColumns {
    /// How many tokens count.
    pub(crate) tokens: Vec<i32>,
    /// The share of them that is right.
    pub(crate) accuracy: Vec<f32>,
}
