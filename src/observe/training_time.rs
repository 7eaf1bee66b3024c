//! Training time: steps, epochs, phases, and the clock that a hook drives.
//!
//! A *step* is the number of optimizer updates already applied to the weights that made the logits,
//! so the first batch is step 0. An *epoch* is the number of epochs already completed. All
//! arithmetic on these numbers is in this module.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The kind of pass that made a batch's logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The training step itself. Its logits cost nothing extra, but come from training mode, with
    /// augmentation, and from weights that change during the epoch. Forgetting events are counted
    /// here.
    Train,
    /// A pass over the data set with the weights held still and the model in evaluation mode, as the
    /// Data Diet paper computes EL2N at an epoch.
    Score,
    /// As [`Score`](Self::Score), on examples that this run does not train on. With k runs over k
    /// folds, every example has one out-of-sample prediction, which the detection of wrong labels
    /// needs.
    HeldOut,
}

impl Phase {
    /// Every phase, in the order in which results list them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Score, Self::HeldOut];

    /// Returns the name used in paths, columns and the names of scores: `train`, `score` or
    /// `held_out`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Score => "score",
            Self::HeldOut => "held_out",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Phase {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::invalid(format!("phase: expected one of {names}, got `{name}`"))
        })
    }
}

/// The point in training that a batch belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The kind of pass that made the logits.
    pub phase: Phase,
    /// Optimizer updates already applied to the weights that made the logits.
    pub step: u64,
    /// Epochs already completed.
    pub epoch: u32,
}

/// Counts steps and epochs for a training loop; time never runs backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    step: u64,
    epoch: u32,
}

impl Clock {
    /// The largest step that fits the `step` column.
    pub const MAX_STEP: u64 = i64::MAX as u64;
    /// The largest epoch that fits the `epoch` column.
    pub const MAX_EPOCH: u32 = i32::MAX as u32;

    /// Returns the step of the next training batch.
    #[must_use]
    pub fn step(self) -> u64 {
        self.step
    }

    /// Returns the number of completed epochs.
    #[must_use]
    pub fn epoch(self) -> u32 {
        self.epoch
    }

    /// Returns the current moment, in this phase.
    #[must_use]
    pub fn moment(self, phase: Phase) -> Moment {
        Moment { phase, step: self.step, epoch: self.epoch }
    }

    /// Counts one optimizer update.
    pub fn advance_step(&mut self) {
        self.step += 1;
    }

    /// Counts one completed epoch.
    pub fn advance_epoch(&mut self) {
        self.epoch += 1;
    }

    /// Sets the step of the next training batch.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the step lies in the past or beyond
    /// [`MAX_STEP`](Self::MAX_STEP): forgetting events are defined by the order of presentations.
    pub fn set_step(&mut self, step: u64) -> Result<()> {
        if step < self.step || step > Self::MAX_STEP {
            let now = self.step;
            return Err(Error::invalid(format!(
                "step: expected {now} or later, below 2^63, got {step}"
            )));
        }
        self.step = step;
        Ok(())
    }

    /// Sets the number of completed epochs.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the epoch lies in the past or beyond
    /// [`MAX_EPOCH`](Self::MAX_EPOCH).
    pub fn set_epoch(&mut self, epoch: u32) -> Result<()> {
        if epoch < self.epoch || epoch > Self::MAX_EPOCH {
            let now = self.epoch;
            return Err(Error::invalid(format!(
                "epoch: expected {now} or later, below 2^31, got {epoch}"
            )));
        }
        self.epoch = epoch;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_counts_applied_updates_and_refuses_the_past() {
        let mut clock = Clock::default();
        assert_eq!(clock.moment(Phase::Train).step, 0);
        clock.advance_step();
        clock.advance_epoch();
        assert_eq!((clock.step(), clock.epoch()), (1, 1));
        clock.set_step(10).unwrap();
        let error = clock.set_step(9).unwrap_err();
        assert!(error.to_string().starts_with("step: expected 10 or later"), "{error}");
        assert!(clock.set_epoch(0).is_err());
        assert!(clock.set_step(u64::MAX).is_err());
        assert_eq!((clock.step(), clock.epoch()), (10, 1));
    }

    #[test]
    fn phase_names_round_trip() {
        for phase in Phase::ALL {
            assert_eq!(phase.name().parse::<Phase>().unwrap(), phase);
        }
        assert!("test".parse::<Phase>().is_err());
    }
}
