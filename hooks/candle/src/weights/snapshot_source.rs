//! Which weights to snapshot, and when.

use std::fmt;
use std::sync::{Arc, PoisonError};

use candle_core::{Tensor, Var};
use candle_nn::VarMap;
use data_diet::observe::{Clock, Schedule, Snapshot, SnapshotTensor, TensorValues};
use data_diet::record::Recorder;

use crate::error::{Error, Result};
use crate::transfer::HostTensor;

/// Whether a variable of this name is copied.
type Filter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The variables to copy, and the moments at which to copy them.
#[derive(Clone)]
pub(crate) struct SnapshotSource {
    variables: VarMap,
    schedule: Schedule,
    filter: Option<Filter>,
    /// The step of the last snapshot.
    latest: Option<u64>,
    next_step: Option<u64>,
    next_epoch: Option<u32>,
    #[cfg(feature = "cuda")]
    device: super::device_snapshots::DeviceSnapshots,
}

impl SnapshotSource {
    pub(crate) fn new(variables: VarMap, schedule: Schedule, filter: Option<Filter>) -> Self {
        Self {
            variables,
            schedule,
            filter,
            latest: None,
            next_step: None,
            next_epoch: None,
            #[cfg(feature = "cuda")]
            device: super::device_snapshots::DeviceSnapshots::default(),
        }
    }

    /// Checks the schedule, and that the filter takes some of the model's variables.
    pub(crate) fn check(&self) -> Result<()> {
        self.schedule.check()?;
        let data = self.variables.data().lock().unwrap_or_else(PoisonError::into_inner);
        if data.is_empty() {
            return Err(Error::Argument(
                "snapshots: the VarMap holds no variables; build the model before the hook".into(),
            ));
        }
        let copied = |name: &String| self.filter.as_ref().is_none_or(|filter| filter(name));
        if !data.keys().any(copied) {
            let mut names: Vec<&str> = data.keys().map(String::as_str).collect();
            names.sort_unstable();
            return Err(Error::Argument(format!(
                "snapshot_parameters: expected at least one of {}, the filter takes none",
                names.join(", ")
            )));
        }
        Ok(())
    }

    /// Copies the weights at the beginning of a run.
    pub(crate) fn begin(&mut self, clock: Clock, recorder: &mut Recorder) -> Result<()> {
        self.plan(clock);
        self.copy(clock, recorder)
    }

    /// Continues the schedule after this moment, in a resumed run.
    pub(crate) fn resume(&mut self, clock: Clock) {
        self.plan(clock);
        self.latest = Some(clock.step());
    }

    /// Copies the weights if a scheduled moment has come since the last call.
    pub(crate) fn copy_if_due(&mut self, clock: Clock, recorder: &mut Recorder) -> Result<()> {
        let is_due = self.next_step.is_some_and(|step| step <= clock.step())
            || self.next_epoch.is_some_and(|epoch| epoch <= clock.epoch());
        if !is_due {
            return Ok(());
        }
        self.plan(clock);
        self.copy(clock, recorder)
    }

    /// Copies the weights at the end of a run, if scheduled.
    pub(crate) fn end(&mut self, clock: Clock, recorder: &mut Recorder) -> Result<()> {
        if self.schedule.includes_end() { self.copy(clock, recorder) } else { Ok(()) }
    }

    fn plan(&mut self, clock: Clock) {
        self.next_step = self.schedule.next_step(clock.step());
        self.next_epoch = self.schedule.next_epoch(clock.epoch());
    }

    fn copy(&mut self, clock: Clock, recorder: &mut Recorder) -> Result<()> {
        if self.latest.replace(clock.step()) == Some(clock.step()) {
            return Ok(());
        }
        let variables = self.variables();
        #[cfg(feature = "cuda")]
        if self.device.copy(clock, &variables, recorder)? {
            return Ok(());
        }
        let bytes = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        let all = variables.iter().map(|(_, variable)| bytes(variable)).sum();
        recorder.record_snapshot(all, |spare| {
            let mut spares = spare.map(Snapshot::into_tensors).unwrap_or_default().into_iter();
            let tensors = variables.iter().map(|(name, variable)| {
                host_copy(name, variable, spares.next().map(SnapshotTensor::into_values))
            });
            let tensors = tensors.collect::<Result<Vec<_>>>()?;
            Ok::<_, Error>(Snapshot::new(clock.step(), clock.epoch(), tensors)?)
        })?;
        Ok(())
    }

    /// Returns the variables to copy: handles, whose contents the next update will change.
    fn variables(&self) -> Vec<(String, Var)> {
        let data = self.variables.data().lock().unwrap_or_else(PoisonError::into_inner);
        let copied = |name: &str| self.filter.as_ref().is_none_or(|filter| filter(name));
        let mut variables: Vec<(String, Var)> = data
            .iter()
            .filter(|(name, _)| copied(name))
            .map(|(name, variable)| (name.clone(), variable.clone()))
            .collect();
        variables.sort_by(|(a, _), (b, _)| a.cmp(b));
        variables
    }
}

/// Copies the current elements, into the memory of an earlier snapshot where it fits.
fn host_copy(name: &str, variable: &Tensor, spare: Option<TensorValues>) -> Result<SnapshotTensor> {
    let values = HostTensor::new(variable)?.values(name, spare)?;
    Ok(SnapshotTensor::new(name, variable.dims().to_vec(), values)?)
}

impl fmt::Debug for SnapshotSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotSource")
            .field("schedule", &self.schedule)
            .field("is_filtered", &self.filter.is_some())
            .field("latest", &self.latest)
            .finish_non_exhaustive()
    }
}
