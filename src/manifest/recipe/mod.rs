//! Recipes: selections in several steps that can be stored and replayed. A recipe knows scores by
//! name only; the caller reads them.
//!
//! ```text
//! Step, Step, ... -> Recipe -> Selection
//!                      \-> RecipeFile (with where the scores and the manifest came from) <-> JSON
//! ```

mod file;
mod origin;
mod step;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::selection::{Amount, HardEnd, Rule, ScoreColumn, Selection, SelectionState};

pub use file::RecipeFile;
pub use origin::{KeyMapOrigin, ManifestOrigin, Outcome, ScoresOrigin};
pub use step::Step;

/// A selection in steps. Each step keeps or drops examples by one score, among those that earlier
/// steps have left.
///
/// A share is always of all examples that have a score before the first step, not of what earlier
/// steps have left: 0.5 is the size of the outcome, whatever was dropped before. An example that
/// lacks one of the recipe's scores counts as having no score.
///
/// # Examples
///
/// Drop what is probably mislabeled, then keep the hard half:
///
/// ```
/// use data_diet::{Amount, Rule};
/// use data_diet::manifest::recipe::{Recipe, Step};
/// use data_diet::selection::ScoreColumn;
///
/// let recipe = Recipe::new()
///     .then(Step::drop("aum", Rule::Lowest(Amount::Fraction(0.25))))
///     .then(Step::keep("el2n", Rule::Highest(Amount::Fraction(0.5))));
///
/// let column = |scores| ScoreColumn::new(vec![0, 1, 2, 3], vec![0; 4], scores);
/// let selection = recipe.select(|name| match name {
///     "aum" => column(vec![-3.0, 2.0, 5.0, 4.0]),
///     _ => column(vec![1.3, 0.9, 0.1, 0.2]),
/// })?;
/// assert_eq!(selection.examples().collect::<Vec<_>>(), [1, 3]);
/// # Ok::<(), data_diet::Error>(())
/// ```
///
/// Read the scores from a file with
/// `recipe.select(|name| ScoreColumn::read("scores.parquet", name))`, or from a table in memory
/// with `recipe.select(|name| table.column(name))`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Recipe {
    steps: Vec<Step>,
}

impl Recipe {
    /// Makes a recipe without steps. It keeps nothing until one is added.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Coverage-centric coreset selection (Zheng et al. 2023, algorithm 1): drops the share or
    /// number `beta` of hardest examples, then chooses `amount` from strata of equal width over the
    /// scores of the rest; see [`Rule::Stratified`].
    ///
    /// The authors' program always drops by AUM, whatever the score of the strata; write that as
    /// two steps. It rounds counts down, where a fraction here is rounded to the nearest, and it
    /// widens the range of scores by a ten-thousandth of the highest, which moves the borders of
    /// the strata by as much.
    ///
    /// # Examples
    ///
    /// ```
    /// use data_diet::Amount;
    /// use data_diet::manifest::recipe::Recipe;
    /// use data_diet::selection::HardEnd;
    ///
    /// // A tenth of CIFAR-10 as in the paper: beta 30 %, 50 strata, low AUM is hard.
    /// let (beta, tenth) = (Amount::Fraction(0.3), Amount::Fraction(0.1));
    /// let recipe = Recipe::coverage_centric("aum", HardEnd::Low, beta, 50, tenth, 0);
    /// assert_eq!(recipe.steps().len(), 2);
    /// ```
    #[must_use]
    pub fn coverage_centric(
        score: &str,
        hard: HardEnd,
        beta: Amount,
        strata: usize,
        amount: Amount,
        seed: u64,
    ) -> Self {
        Self::new()
            .then(Step::drop(score, hard.hardest(beta)))
            .then(Step::keep(score, Rule::Stratified { amount, strata, seed }))
    }

    /// Returns the steps in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns the names of the scores that it needs, in the order in which they are first needed.
    #[must_use]
    pub fn scores(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for step in &self.steps {
            for name in step.scores() {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// Chooses examples. `read` returns the score of a name, and is called once for each of
    /// [`scores`](Self::scores).
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a recipe without steps, for
    /// columns of different examples, and as for [`ScoreColumn::select_with_classes`];
    /// [`Empty`](crate::ErrorKind::Empty) if a step leaves nothing; any error of `read`. If there
    /// are several steps, the message says which.
    pub fn select(&self, mut read: impl FnMut(&str) -> Result<ScoreColumn>) -> Result<Selection> {
        self.validate()?;
        let names = self.scores();
        let (ids, labels, first) = read(names[0])?.into_parts();
        let mut columns = vec![first];
        for name in &names[1..] {
            let column = read(name)?;
            if !ids.are(column.examples()) {
                return Err(Error::invalid(format!(
                    "scores: expected `{}` and `{name}` of the same examples",
                    names[0]
                )));
            }
            columns.push(column.into_parts().2);
        }
        let scores: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let mut selection_state = SelectionState::new(labels, &scores);
        for (number, step) in self.steps.iter().enumerate() {
            // Every step's scores are among the names.
            let score =
                |name: &str| scores[names.iter().position(|other| *other == name).unwrap_or(0)];
            let prediction_means = step.prediction_mean.as_deref().map(score);
            let by = score(step.by());
            selection_state
                .step(step.action, step.rule, step.classes, by, prediction_means, &ids)
                .map_err(|error| self.name_step(number, error))?;
        }
        Ok(selection_state.finish(ids))
    }

    /// Reads the steps of a recipe file. [`RecipeFile::read`] returns the rest of the file, too.
    ///
    /// # Errors
    ///
    /// As for [`RecipeFile::read`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        RecipeFile::read(path).map(|file| file.recipe)
    }

    /// Writes the steps only. A [`RecipeFile`] can hold the origin of the scores, too.
    ///
    /// # Errors
    ///
    /// As for [`RecipeFile::write`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        RecipeFile::new(self.clone()).write(path)
    }

    /// Checks what can be checked without the scores.
    fn validate(&self) -> Result<()> {
        if self.steps.is_empty() {
            return Err(Error::invalid("steps: expected at least one, got none"));
        }
        for (number, step) in self.steps.iter().enumerate() {
            step.validate().map_err(|error| self.name_step(number, error))?;
        }
        Ok(())
    }

    fn name_step(&self, number: usize, error: Error) -> Error {
        if self.steps.len() == 1 {
            return error;
        }
        error.context(format!("step {} ({})", number + 1, self.steps[number]))
    }
}
