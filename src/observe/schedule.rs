//! The schedule of weight snapshots.

use std::collections::BTreeSet;

use crate::error::{Error, Result};

/// The steps and epochs at which weights are copied.
///
/// The first step of a run is always included. A step counts the optimizer updates already applied,
/// an epoch the epochs completed.
///
/// # Examples
///
/// ```
/// use data_diet::observe::Schedule;
///
/// let dense_early = Schedule::log_spaced(1).and(Schedule::every_epochs(10)).at_end();
/// assert_eq!(dense_early.next_step(0), Some(1));
/// assert_eq!(dense_early.next_step(4), Some(8));
/// assert_eq!(dense_early.next_epoch(10), Some(20));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a schedule does nothing by itself"]
pub struct Schedule {
    rules: Vec<Rule>,
    at_end: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    EverySteps(u64),
    EveryEpochs(u32),
    Steps(BTreeSet<u64>),
    LogSpaced { per_doubling: u32 },
}

impl Schedule {
    /// The first step only.
    pub fn first_step() -> Self {
        Self::default()
    }

    /// Every step that is a multiple of `steps`.
    pub fn every_steps(steps: u64) -> Self {
        Self::of(Rule::EverySteps(steps))
    }

    /// Whenever the number of completed epochs becomes a multiple of `epochs`.
    pub fn every_epochs(epochs: u32) -> Self {
        Self::of(Rule::EveryEpochs(epochs))
    }

    /// These steps.
    pub fn at_steps(steps: impl IntoIterator<Item = u64>) -> Self {
        Self::of(Rule::Steps(steps.into_iter().collect()))
    }

    /// Steps that grow geometrically, `2^(i / per_doubling)` rounded for i = 0, 1, 2, ...: dense early
    /// in training, where the network changes most, and sparse later. One per doubling gives 1, 2, 4,
    /// 8, ...
    pub fn log_spaced(per_doubling: u32) -> Self {
        Self::of(Rule::LogSpaced { per_doubling })
    }

    /// Adds the moments of another schedule.
    pub fn and(mut self, other: Self) -> Self {
        self.rules.extend(other.rules);
        self.at_end |= other.at_end;
        self
    }

    /// Adds the end of the run.
    pub fn at_end(mut self) -> Self {
        self.at_end = true;
        self
    }

    /// Returns the first scheduled step after this one, if any.
    #[must_use]
    pub fn next_step(&self, after: u64) -> Option<u64> {
        self.rules.iter().filter_map(|rule| rule.next_step(after)).min()
    }

    /// Returns the first scheduled epoch after this one, if any.
    #[must_use]
    pub fn next_epoch(&self, after: u32) -> Option<u32> {
        let next = |rule: &Rule| match rule {
            Rule::EveryEpochs(epochs) => (after / epochs + 1).checked_mul(*epochs),
            _ => None,
        };
        self.rules.iter().filter_map(next).min()
    }

    /// Returns whether the end of the run is included.
    #[must_use]
    pub fn includes_end(&self) -> bool {
        self.at_end
    }

    /// Checks the schedule.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if an interval is zero.
    pub fn check(&self) -> Result<()> {
        for rule in &self.rules {
            let (what, interval) = match rule {
                Rule::EverySteps(steps) => ("every_steps", *steps),
                Rule::EveryEpochs(epochs) => ("every_epochs", u64::from(*epochs)),
                Rule::LogSpaced { per_doubling } => ("log_spaced", u64::from(*per_doubling)),
                Rule::Steps(_) => continue,
            };
            if interval == 0 {
                return Err(Error::invalid(format!("schedule: expected {what} above 0, got 0")));
            }
        }
        Ok(())
    }

    fn of(rule: Rule) -> Self {
        Self { rules: vec![rule], at_end: false }
    }
}

impl Rule {
    fn next_step(&self, after: u64) -> Option<u64> {
        match self {
            Self::EverySteps(steps) => (after / steps + 1).checked_mul(*steps),
            Self::EveryEpochs(_) => None,
            Self::Steps(steps) => steps.range(after + 1..).next().copied(),
            Self::LogSpaced { per_doubling } => {
                let per_doubling = f64::from(*per_doubling);
                // Starts a little below the answer, to allow for rounding.
                let place = (after.max(1) as f64).log2() * per_doubling;
                let mut index = (place - 1.0).floor().max(0.0);
                loop {
                    let step = (index / per_doubling).exp2().round();
                    if step >= u64::MAX as f64 {
                        return None;
                    }
                    if step as u64 > after {
                        return Some(step as u64);
                    }
                    index += 1.0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(schedule: &Schedule, last: u64) -> Vec<u64> {
        let next = |&step: &u64| schedule.next_step(step);
        std::iter::successors(Some(0), next).take_while(|&step| step <= last).collect()
    }

    #[test]
    fn steps_come_in_order_and_once() {
        assert_eq!(steps(&Schedule::first_step(), 100), [0]);
        assert_eq!(steps(&Schedule::every_steps(40), 100), [0, 40, 80]);
        assert_eq!(steps(&Schedule::at_steps([7, 3, 3, 0]), 100), [0, 3, 7]);
        assert_eq!(steps(&Schedule::log_spaced(1), 40), [0, 1, 2, 4, 8, 16, 32]);
        assert_eq!(steps(&Schedule::log_spaced(2), 17), [0, 1, 2, 3, 4, 6, 8, 11, 16]);
        let both = Schedule::every_steps(5).and(Schedule::at_steps([5, 6]));
        assert_eq!(steps(&both, 15), [0, 5, 6, 10, 15]);
        assert_eq!(Schedule::every_steps(4).next_step(u64::MAX - 1), None);
        assert_eq!(Schedule::log_spaced(3).next_step(u64::MAX / 2 * 2), None);
    }

    #[test]
    fn epochs_and_the_end_are_asked_for() {
        let schedule = Schedule::every_epochs(2).at_end();
        assert_eq!((schedule.next_epoch(0), schedule.next_epoch(2)), (Some(2), Some(4)));
        assert_eq!(schedule.next_step(0), None);
        assert!(schedule.includes_end() && !Schedule::first_step().includes_end());
        assert!(Schedule::first_step().and(schedule).includes_end());
    }

    #[test]
    fn an_interval_of_zero_is_refused_before_it_divides() {
        for (schedule, name) in [
            (Schedule::every_steps(0), "every_steps"),
            (Schedule::every_epochs(0), "every_epochs"),
            (Schedule::log_spaced(0), "log_spaced"),
        ] {
            let message = schedule.check().unwrap_err().to_string();
            assert_eq!(message, format!("schedule: expected {name} above 0, got 0"));
        }
        Schedule::log_spaced(2).and(Schedule::every_steps(1)).check().unwrap();
    }
}
