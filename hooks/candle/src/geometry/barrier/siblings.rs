//! Finds runs that started from the same weights of one parent.

use std::path::PathBuf;

use data_diet::Experiment;
use data_diet::run::SpawnPoint;

use super::branch::{Branch, describe_steps};
use crate::error::{Error, Result};
use crate::weights::Snapshots;

/// Runs that were spawned from the same weights, according to their recordings. The parent may be
/// one of them.
///
/// # Examples
///
/// ```no_run
/// # use candle_core::Tensor;
/// # use data_diet_candle::geometry::barrier::ErrorBarrier;
/// # fn measure(mut barrier: ErrorBarrier<'_>, forward: impl Fn(&Tensor) -> candle_core::Result<Tensor>)
/// # -> Result<(), data_diet_candle::Error> {
/// use data_diet::geometry::ErrorBarrierTable;
/// use data_diet_candle::geometry::barrier::Siblings;
///
/// let siblings = Siblings::open("runs/digits", &["child-1", "child-2"])?;
/// let mut table = ErrorBarrierTable::open("runs/digits")?;
/// let last = siblings.branches_at(siblings.last_common_step()?)?;
/// barrier.run(Some(siblings.spawn_step()), last, forward, &mut table, |_row| {})?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Siblings {
    point: SpawnPoint,
    runs: Vec<(String, Snapshots)>,
}

impl Siblings {
    /// Opens runs of an experiment. Changes nothing on disk.
    ///
    /// # Errors
    ///
    /// If the runs did not start from the same weights of one parent (the message lists what each
    /// started from), or if there is no such experiment or run.
    pub fn open(experiment: impl Into<PathBuf>, runs: &[impl AsRef<str>]) -> Result<Self> {
        let experiment = Experiment::open_read_only(experiment)?;
        let point = experiment.common_spawn_point(runs)?;
        let snapshots = runs.iter().map(|run| {
            let name = run.as_ref();
            Ok((name.to_owned(), Snapshots::from(experiment.run(name)?.snapshots()?)))
        });
        Ok(Self { point, runs: snapshots.collect::<Result<_>>()? })
    }

    /// Returns the name of the parent.
    #[must_use]
    pub fn parent(&self) -> &str {
        &self.point.run
    }

    /// Returns the step at which all of them had the same weights.
    #[must_use]
    pub fn spawn_step(&self) -> u64 {
        self.point.step
    }

    /// Returns the last step at which every run has a snapshot.
    ///
    /// # Errors
    ///
    /// If there is none since the spawn step; the message lists the steps of each run.
    pub fn last_common_step(&self) -> Result<u64> {
        let (_, first) = &self.runs[0];
        let everywhere =
            |step: &&u64| self.runs.iter().all(|(_, snapshots)| snapshots.steps().contains(step));
        let last = first.steps().iter().rev().find(everywhere).copied();
        last.filter(|&step| step >= self.point.step).ok_or_else(|| {
            let steps =
                self.runs.iter().map(|(run, snapshots)| describe_steps(run, snapshots.steps()));
            let steps = steps.collect::<Vec<_>>().join("; ");
            let spawn = self.point.step;
            Error::Argument(format!(
                "runs: expected a step since {spawn} at which every run has a snapshot, but {steps}"
            ))
        })
    }

    /// Returns all snapshots since the spawn step.
    #[must_use]
    pub fn branches(&self) -> Vec<Branch<'_>> {
        let since = |snapshots: &'_ Snapshots| {
            let place = snapshots.steps().partition_point(|&step| step < self.point.step);
            snapshots.steps()[place..].to_vec()
        };
        let branch = |(run, snapshots): &'_ (String, Snapshots)| {
            let (steps, snapshots) = (since(snapshots), snapshots.clone());
            Branch::new(run.clone(), steps.into_iter().map(move |step| snapshots.at(step)))
        };
        self.runs.iter().map(branch).collect()
    }

    /// Returns the snapshots of one step.
    ///
    /// # Errors
    ///
    /// If a run has no snapshot of this step; the message lists its steps.
    pub fn branches_at(&self, step: u64) -> Result<Vec<Branch<'_>>> {
        let branch = |(run, snapshots): &'_ (String, Snapshots)| {
            if !snapshots.steps().contains(&step) {
                // Fails with the same message as reading it would, before anything else is read.
                snapshots.at(step)?;
            }
            let snapshots = snapshots.clone();
            Ok(Branch::new(run.clone(), std::iter::once_with(move || snapshots.at(step))))
        };
        self.runs.iter().map(branch).collect()
    }
}
