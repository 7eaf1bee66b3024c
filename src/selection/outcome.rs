//! The outcome of a selection, for data loaders and manifests.

use super::ids::Ids;
use crate::error::{Error, Result};

/// The outcome of a choice: whether each example that was considered is kept.
///
/// # Examples
///
/// ```
/// use data_diet::{Amount, Rule};
/// use data_diet::selection::ScoreColumn;
///
/// let el2n = ScoreColumn::new(vec![0, 1, 2, 3], vec![0; 4], vec![0.9, 0.1, 0.4, 0.2])?;
/// let hard = el2n.select(Rule::Highest(Amount::Count(2)))?;
/// for example in &hard {
///     println!("train on {example}");
/// }
/// assert_eq!(hard.indices()?, [0, 2]);
/// # Ok::<(), data_diet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub(super) ids: Ids,
    pub(super) labels: Vec<i32>,
    pub(super) decisions: Vec<Decision>,
    pub(super) count: usize,
    pub(super) without_score: usize,
}

/// What was decided about an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The example is kept.
    Kept,
    /// The example is dropped.
    Pruned,
    /// No rule could decide: one of the scores is NaN.
    Unscored,
}

/// What a selection knows about one example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectedExample {
    /// Its position among all considered examples in ascending order of id.
    pub position: usize,
    /// Its class.
    pub label: i32,
    /// What was decided about it.
    pub decision: Decision,
}

impl Selection {
    /// Makes a selection that keeps these examples, in any order, for examples that were chosen
    /// elsewhere.
    ///
    /// It has considered no other example: in a manifest, rows of other examples have no score, and
    /// [`Unscored`](crate::manifest::Unscored) decides about them. All examples are of class 0.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if an id is negative or occurs twice;
    /// [`Empty`](crate::ErrorKind::Empty) if there are no ids.
    ///
    /// # Examples
    ///
    /// ```
    /// use data_diet::selection::Selection;
    ///
    /// let mine = Selection::from_examples([12, 5, 7])?;
    /// assert!(mine.contains(7) && !mine.contains(6));
    /// assert_eq!(mine.examples().collect::<Vec<_>>(), [5, 7, 12]);
    /// # Ok::<(), data_diet::Error>(())
    /// ```
    pub fn from_examples(examples: impl IntoIterator<Item = i64>) -> Result<Self> {
        let mut ids: Vec<i64> = examples.into_iter().collect();
        ids.sort_unstable();
        if let Some(&[id, _]) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid(format!(
                "examples: expected every id once, got {id} twice"
            )));
        }
        match ids.first() {
            None => Err(Error::new(
                crate::error::ErrorKind::Empty,
                "examples: expected at least one id",
            )),
            Some(&id) if id < 0 => {
                Err(Error::invalid(format!("examples: expected ids in 0..2^63, got {id}")))
            }
            Some(_) => Ok(Self {
                labels: vec![0; ids.len()],
                decisions: vec![Decision::Kept; ids.len()],
                count: ids.len(),
                without_score: 0,
                ids: Ids::new(ids),
            }),
        }
    }

    /// Returns the kept example ids, ascending.
    #[must_use]
    pub fn examples(&self) -> Kept<'_> {
        Kept { selection: self, position: 0, left: self.count }
    }

    /// Returns the kept example ids as row numbers, ascending, for `index_select` on a tensor whose
    /// rows are the examples 0, 1, 2 and so on.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if a kept id exceeds the largest
    /// `u32`.
    pub fn indices(&self) -> Result<Vec<u32>> {
        let mut indices = Vec::with_capacity(self.count);
        for id in self {
            indices.push(u32::try_from(id).map_err(|_too_large| {
                Error::invalid(format!(
                    "indices: expected ids that are row numbers, at most {}, got {id}",
                    u32::MAX
                ))
            })?);
        }
        Ok(indices)
    }

    /// Returns every example that was considered and what was decided about it, by ascending id.
    #[must_use]
    pub fn decisions(&self) -> impl ExactSizeIterator<Item = (i64, SelectedExample)> + '_ {
        (0..self.considered()).map(|position| {
            let (label, decision) = (self.labels[position], self.decisions[position]);
            (self.ids.at(position), SelectedExample { position, label, decision })
        })
    }

    /// Returns the number of kept examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether nothing is kept. Never true of a selection that a rule has made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the number of examples that were considered, whether kept, dropped or without a
    /// score.
    #[must_use]
    pub fn considered(&self) -> usize {
        self.ids.len()
    }

    /// Returns the number of examples that are not kept because one of their scores is NaN.
    #[must_use]
    pub fn without_score(&self) -> usize {
        self.without_score
    }

    /// Returns whether an example is kept; `false` for one that was never considered. Takes
    /// constant time if ids are row numbers, and a binary search otherwise.
    #[must_use]
    pub fn contains(&self, example: i64) -> bool {
        self.ids
            .position(example)
            .is_some_and(|position| self.decisions[position] == Decision::Kept)
    }

    /// Returns what is known about an example, or `None` if it was never considered.
    #[must_use]
    pub fn get(&self, example: i64) -> Option<SelectedExample> {
        let position = self.ids.position(example)?;
        Some(SelectedExample {
            position,
            label: self.labels[position],
            decision: self.decisions[position],
        })
    }
}

#[expect(clippy::into_iter_without_iter, reason = "`examples` is its name")]
impl<'a> IntoIterator for &'a Selection {
    type Item = i64;
    type IntoIter = Kept<'a>;

    fn into_iter(self) -> Kept<'a> {
        self.examples()
    }
}

/// The kept ids of a [`Selection`], ascending.
#[derive(Clone, Debug)]
pub struct Kept<'a> {
    selection: &'a Selection,
    position: usize,
    left: usize,
}

impl Iterator for Kept<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        let decisions = &self.selection.decisions[self.position..];
        let skipped = decisions.iter().position(|&decision| decision == Decision::Kept)?;
        let position = self.position + skipped;
        self.position = position + 1;
        self.left -= 1;
        Some(self.selection.ids.at(position))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Kept<'_> {}
