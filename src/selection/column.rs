//! One score of a set of examples: the input of every selection.

use super::ids::Ids;
use super::selection_state::{Action, SelectionState};
use super::{Classes, Rule, Selection};
use crate::error::{Error, Result};

/// One score for each of a set of examples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoreColumn {
    examples: Vec<i64>,
    labels: Vec<i32>,
    scores: Vec<f64>,
}

impl ScoreColumn {
    /// Makes a column from ids, labels and scores, in any order of the ids. Ids that are already in
    /// ascending order are not copied.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the lengths differ or exceed the
    /// largest `u32`, or an id is negative or occurs twice.
    pub fn new(examples: Vec<i64>, labels: Vec<i32>, scores: Vec<f64>) -> Result<Self> {
        let (ids, names, values) = (examples.len(), labels.len(), scores.len());
        if names != ids || values != ids {
            return Err(Error::invalid(format!(
                "scores: expected one label and one score for each of {ids} ids, got {names} labels \
                 and {values} scores"
            )));
        }
        if u32::try_from(ids).is_err() {
            let most = u32::MAX;
            return Err(Error::invalid(format!("scores: expected at most {most} ids, got {ids}")));
        }
        let column = if examples.is_sorted_by(|a, b| a < b) {
            Self { examples, labels, scores }
        } else {
            let mut order: Vec<u32> = (0..ids as u32).collect();
            order.sort_unstable_by_key(|&row| examples[row as usize]);
            let id = |row: u32| examples[row as usize];
            if let Some(pair) = order.windows(2).find(|pair| id(pair[0]) == id(pair[1])) {
                let example = id(pair[0]);
                return Err(Error::invalid(format!("scores: example {example} occurs twice")));
            }
            Self {
                labels: order.iter().map(|&row| labels[row as usize]).collect(),
                scores: order.iter().map(|&row| scores[row as usize]).collect(),
                examples: order.iter().map(|&row| id(row)).collect(),
            }
        };
        match column.examples.first() {
            Some(id) if *id < 0 => {
                Err(Error::invalid(format!("scores: expected ids in 0..2^63, got {id}")))
            }
            _ => Ok(column),
        }
    }

    /// Returns the score of an example; `None` if it has none or NaN.
    #[must_use]
    pub fn of(&self, example: i64) -> Option<f64> {
        let guess = usize::try_from(example).ok()?;
        let place = match self.examples.get(guess) {
            Some(&found) if found == example => guess,
            _ => self.examples.binary_search(&example).ok()?,
        };
        Some(self.scores[place]).filter(|score| !score.is_nan())
    }

    /// Returns the example ids, ascending.
    #[must_use]
    pub fn examples(&self) -> &[i64] {
        &self.examples
    }

    /// Returns the class of each example.
    #[must_use]
    pub fn labels(&self) -> &[i32] {
        &self.labels
    }

    /// Returns the score of each example; NaN for an example without a score.
    #[must_use]
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// Chooses examples by a rule.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a fraction outside `0..=1`, a
    /// count above the number of scored examples, a threshold that is NaN or has no side, zero
    /// strata, or strata over an infinite score; [`Empty`](crate::ErrorKind::Empty) if nothing
    /// would be kept, with the range of the scores.
    ///
    /// # Examples
    ///
    /// ```
    /// use data_diet::{Amount, Rule};
    /// use data_diet::selection::ScoreColumn;
    ///
    /// let el2n = ScoreColumn::new(vec![10, 11, 12], vec![0, 1, 0], vec![0.9, 0.1, 0.4])?;
    /// let kept = el2n.select(Rule::Highest(Amount::Count(2)))?;
    /// assert_eq!(kept.examples().collect::<Vec<_>>(), [10, 12]);
    /// assert!(!kept.contains(11));
    /// # Ok::<(), data_diet::Error>(())
    /// ```
    pub fn select(self, rule: Rule) -> Result<Selection> {
        self.select_with_classes(rule, Classes::Ignored)
    }

    /// Chooses examples by a rule, balanced between classes. For several steps or scores use a
    /// [`Recipe`](crate::manifest::recipe::Recipe).
    ///
    /// # Errors
    ///
    /// As for [`select`](Self::select); also [`InvalidArgument`](crate::ErrorKind::InvalidArgument)
    /// for a threshold, whose amount cannot be divided, and for class floors that exceed the
    /// amount.
    ///
    /// # Examples
    ///
    /// ```
    /// use data_diet::{Amount, Rule};
    /// use data_diet::selection::{Classes, ScoreColumn};
    ///
    /// let labels = vec![0, 0, 0, 1];
    /// let el2n = ScoreColumn::new(vec![0, 1, 2, 3], labels, vec![0.9, 0.8, 0.7, 0.1])?;
    /// let kept = el2n.select_with_classes(Rule::Highest(Amount::Count(2)), Classes::Balanced)?;
    /// assert_eq!(kept.examples().collect::<Vec<_>>(), [0, 3]);
    /// # Ok::<(), data_diet::Error>(())
    /// ```
    pub fn select_with_classes(self, rule: Rule, classes: Classes) -> Result<Selection> {
        let (ids, labels, scores) = self.into_parts();
        let mut selection_state = SelectionState::new(labels, &[&scores]);
        selection_state.step(Action::Keep, rule, classes, &scores, None, &ids)?;
        Ok(selection_state.finish(ids))
    }

    /// Takes the column apart into ids, labels and scores.
    pub(crate) fn into_parts(self) -> (Ids, Vec<i32>, Vec<f64>) {
        (Ids::new(self.examples), self.labels, self.scores)
    }
}
