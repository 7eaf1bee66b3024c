//! A choice in steps: each keeps or drops some of the examples that earlier steps have left.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::beta_sampling::BetaSampling;
use super::classes::ClassSizes;
use super::ids::Ids;
use super::row_chooser::{RowChooser, RowOrder};
use super::{Classes, Decision, Rule, Selection};
use crate::error::{Error, ErrorKind, Result};

/// What a step does with the examples that its rule chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    Keep,
    Drop,
}

/// The examples that no step has dropped.
#[derive(Debug)]
pub(crate) struct SelectionState {
    labels: Vec<i32>,
    decisions: Vec<Decision>,
    /// How many examples have all scores, before any step.
    scored: usize,
    left: usize,
}

impl SelectionState {
    /// Starts with all examples that have every one of these scores.
    pub(crate) fn new(labels: Vec<i32>, scores: &[&[f64]]) -> Self {
        let decision = |row: usize| {
            let unscored = scores.iter().any(|scores| scores[row].is_nan());
            if unscored { Decision::Unscored } else { Decision::Kept }
        };
        let decisions: Vec<Decision> = (0..labels.len()).map(decision).collect();
        let scored = decisions.iter().filter(|&&decision| decision == Decision::Kept).count();
        Self { labels, decisions, scored, left: scored }
    }

    /// Keeps or drops the examples that a rule chooses among those that are left. `prediction_means` is a
    /// second score, which only Beta sampling needs.
    pub(crate) fn step(
        &mut self,
        action: Action,
        rule: Rule,
        classes: Classes,
        scores: &[f64],
        prediction_means: Option<&[f64]>,
        ids: &Ids,
    ) -> Result<()> {
        rule.validate()?;
        classes.validate(rule)?;
        if self.scored == 0 {
            let message = "no example has a score, so nothing is kept";
            return Err(Error::new(ErrorKind::Empty, message));
        }
        let choice = Choice { rule, classes, scores, prediction_means, ids, state: self };
        let chosen = choice.among(self.rows())?;
        let left = match action {
            Action::Keep => chosen.len(),
            Action::Drop => self.left - chosen.len(),
        };
        if left == 0 {
            return Err(self.nothing_left(action, rule, scores));
        }
        if action == Action::Keep {
            let undecided =
                self.decisions.iter_mut().filter(|decision| **decision == Decision::Kept);
            undecided.for_each(|decision| *decision = Decision::Pruned);
        }
        let decision = if action == Action::Keep { Decision::Kept } else { Decision::Pruned };
        for row in chosen {
            self.decisions[row as usize] = decision;
        }
        self.left = left;
        Ok(())
    }

    pub(crate) fn finish(self, ids: Ids) -> Selection {
        Selection {
            without_score: self.decisions.len() - self.scored,
            ids,
            labels: self.labels,
            decisions: self.decisions,
            count: self.left,
        }
    }

    /// Returns the rows that are left, ascending.
    fn rows(&self) -> Vec<u32> {
        let mut rows = Vec::with_capacity(self.left);
        let left = (0..).zip(&self.decisions).filter(|&(_, &decision)| decision == Decision::Kept);
        rows.extend(left.map(|(row, _): (u32, _)| row));
        rows
    }

    fn nothing_left(&self, action: Action, rule: Rule, scores: &[f64]) -> Error {
        let of_left = self.rows().into_iter().map(|row| scores[row as usize]);
        let (low, high) = of_left.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), score| {
            (low.min(score), high.max(score))
        });
        let rule = match rule {
            Rule::Threshold { min, max } => {
                let side = |name, value: Option<f64>| {
                    value.map(|value| format!("{name} {value}")).into_iter()
                };
                side("min", min).chain(side("max", max)).collect::<Vec<_>>().join(", ")
            }
            _ => "this amount".to_owned(),
        };
        let (does, left) = match action {
            Action::Keep => ("keeps none of", self.left),
            Action::Drop => ("drops all of", self.left),
        };
        let message = format!(
            "{rule} {does} {left} examples, whose scores lie between {} and {}",
            readable(low),
            readable(high)
        );
        Error::new(ErrorKind::Empty, message)
    }
}

/// One step's rule, and what it needs to choose rows.
struct Choice<'a> {
    rule: Rule,
    classes: Classes,
    scores: &'a [f64],
    prediction_means: Option<&'a [f64]>,
    ids: &'a Ids,
    state: &'a SelectionState,
}

impl Choice<'_> {
    /// Returns the rows that the rule chooses among these.
    fn among(&self, mut rows: Vec<u32>) -> Result<Vec<u32>> {
        let (scored, left) = (self.state.scored, rows.len());
        let mut skip = 0;
        let mut keys = Vec::new();
        let (amount, preference, seed) = match self.rule {
            Rule::Highest(amount) => (amount, RowOrder::Highest, 0),
            Rule::Lowest(amount) => (amount, RowOrder::Lowest, 0),
            Rule::Window { offset, keep } => {
                skip = offset.of(scored, left).map_err(|error| error.context("offset"))?;
                (keep, RowOrder::Window, 0)
            }
            Rule::Random { amount, seed } => (amount, RowOrder::Random, seed),
            Rule::Stratified { amount, strata, seed } => {
                self.expect_finite(&rows)?;
                (amount, RowOrder::Stratified { strata }, seed)
            }
            Rule::Beta { amount, c_d, seed } => {
                keys = self.keys(&rows, amount.of(scored, left)?, c_d, seed)?;
                (amount, RowOrder::Lowest, 0)
            }
            Rule::Threshold { min, max } => {
                let range = min.unwrap_or(f64::NEG_INFINITY)..=max.unwrap_or(f64::INFINITY);
                return Ok(self.within(&range, rows));
            }
        };
        let count = amount.of(scored, left - skip)?;
        let scores = if keys.is_empty() { self.scores } else { &keys };
        let mut chooser = RowChooser::new(scores, preference, seed);
        let classes = || ClassSizes::new(&self.state.labels, &self.state.decisions);
        match self.classes {
            Classes::Ignored => {
                chooser.select_best(&mut rows, skip, count);
                rows.truncate(count);
                Ok(rows)
            }
            Classes::Balanced => Ok(classes().divided(&rows, skip, count, &mut chooser, true)),
            Classes::Proportional => Ok(classes().divided(&rows, skip, count, &mut chooser, false)),
            Classes::AtLeast(floor) => {
                chooser.sort_best(&mut rows, skip, count);
                classes().first_with_floors(&rows, count, floor)
            }
        }
    }

    /// Returns keys whose ascending order is that of draws from a Beta distribution.
    fn keys(&self, rows: &[u32], count: usize, c_d: f64, seed: u64) -> Result<Vec<f64>> {
        let prediction_means = self.prediction_means.ok_or_else(|| {
            Error::invalid(
                "beta: expected a second score, the prediction mean of each example; name it in a \
                 recipe's step",
            )
        })?;
        let sampling = BetaSampling { scores: self.scores, prediction_means, c_d, seed };
        sampling.check(rows, self.ids)?;
        Ok(sampling.keys(rows, 1.0 - count as f64 / self.state.scored as f64))
    }

    fn expect_finite(&self, rows: &[u32]) -> Result<()> {
        match rows.iter().find(|&&row| self.scores[row as usize].is_infinite()) {
            None => Ok(()),
            Some(&row) => Err(Error::invalid(format!(
                "stratified: expected finite scores, got {} of example {}; drop it by an earlier \
                 step, or take a score without infinities",
                self.scores[row as usize],
                self.ids.at(row as usize)
            ))),
        }
    }

    /// Chooses the rows whose scores are in a range, and the nearest other rows for classes below a
    /// floor.
    fn within(&self, range: &std::ops::RangeInclusive<f64>, rows: Vec<u32>) -> Vec<u32> {
        let inside = |row: &u32| range.contains(&self.scores[*row as usize]);
        let Classes::AtLeast(floor) = self.classes else {
            return rows.into_iter().filter(inside).collect();
        };
        let classes = ClassSizes::new(&self.state.labels, &self.state.decisions);
        let (mut chosen, mut others): (Vec<u32>, Vec<u32>) = rows.into_iter().partition(inside);
        let mut lacks: Vec<usize> =
            classes.sizes().iter().map(|&size| floor.count_of(size)).collect();
        for &row in &chosen {
            let lack = &mut lacks[classes.of(row)];
            *lack = lack.saturating_sub(1);
        }
        others.sort_unstable_by(|&a, &b| self.nearer(range, a, b));
        for row in others {
            let lack = &mut lacks[classes.of(row)];
            if *lack > 0 {
                *lack -= 1;
                chosen.push(row);
            }
        }
        chosen
    }

    /// Orders rows outside a range: the nearest first, those below before those above, then by id.
    fn nearer(&self, range: &std::ops::RangeInclusive<f64>, a: u32, b: u32) -> Ordering {
        let score = |row: u32| self.scores[row as usize];
        let distance = |row: u32| {
            let (below, above) = (range.start() - score(row), score(row) - range.end());
            if score(row) < *range.start() { (below, false) } else { (above, true) }
        };
        let ((far_a, above_a), (far_b, above_b)) = (distance(a), distance(b));
        far_a.total_cmp(&far_b).then(above_a.cmp(&above_b)).then_with(|| {
            // Distances to an infinite end are equal, but the scores differ.
            let (a_score, b_score) = (score(a) + 0.0, score(b) + 0.0);
            let upwards = a_score.total_cmp(&b_score);
            if above_a { upwards } else { upwards.reverse() }.then(a.cmp(&b))
        })
    }
}

/// A score for people: four decimals at most, or four significant digits where that would be 0.
fn readable(score: f64) -> String {
    let is_small = score != 0.0 && score.abs() < 1e-3;
    if is_small || score.abs() >= 1e9 {
        return if score.is_finite() { format!("{score:.3e}") } else { score.to_string() };
    }
    let text = format!("{score:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn scores_in_messages_have_few_digits() {
        let cases = [
            (0.0, "0"),
            (0.453_712_345, "0.4537"),
            (-12.0, "-12"),
            (1.5, "1.5"),
            (0.000_012_345, "1.234e-5"),
            (3e300, "3.000e300"),
            (f64::INFINITY, "inf"),
        ];
        for (score, text) in cases {
            assert_eq!(readable(score), text);
        }
    }
}
