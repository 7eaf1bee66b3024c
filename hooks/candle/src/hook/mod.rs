//! `DataDietHook`: the life cycle of a recording as a training loop sees it. No mathematics, no input
//! or output; it takes shared references to tensors and no optimizer, so it cannot alter training.

mod builder;

use std::fmt;

use candle_core::Tensor;
use data_diet::observe::{Batch, BatchFormat, Clock, LogitsFormat, Phase};
use data_diet::record::{Recorder, RecorderStatus, RunReport};

pub use builder::DataDietHookBuilder;

use crate::arguments::{ExampleIds, Labels, Norms, check_logits};
use crate::error::Result;
use crate::signals::operations;
use crate::transfer::HostTensor;
use crate::weights::SnapshotSource;

/// Records per-example signals from a candle training loop.
///
/// The crate's front page shows a whole loop. Every call is cheap and none of them changes a tensor;
/// files are written by a thread of the recorder's own.
pub struct DataDietHook {
    recording: Option<Recording>,
    clock: Clock,
}

struct Recording {
    recorder: Recorder,
    format: BatchFormat,
    every: u64,
    snapshots: Option<SnapshotSource>,
    #[cfg(feature = "cuda")]
    device: crate::signals::cuda::DeviceBatches,
}

impl DataDietHook {
    /// A hook that records nothing and costs nothing: switch recording off without touching the loop.
    #[must_use]
    pub fn disabled() -> Self {
        Self { recording: None, clock: Clock::default() }
    }

    pub(crate) fn recording(
        recorder: Recorder,
        clock: Clock,
        every: u64,
        snapshots: Option<SnapshotSource>,
    ) -> Self {
        let format = recorder.format().clone();
        let recording = Recording {
            #[cfg(feature = "cuda")]
            device: crate::signals::cuda::DeviceBatches::new(&format),
            recorder,
            format,
            every,
            snapshots,
        };
        Self { recording: Some(recording), clock }
    }

    /// Call after every optimizer update, with the logits that its loss was computed from.
    ///
    /// `ids` are the examples of the batch, `logits` is `[batch, classes]` in f32, f16, bf16 or f64
    /// and may be a view, `labels` are class indices `[batch]` or soft targets `[batch, classes]`.
    /// Afterwards the step counts one more.
    ///
    /// On a CUDA device nothing waits: the signals are computed there, behind the work that the thread
    /// has handed to the device so far. Call the hook on the thread that computed the logits.
    ///
    /// # Errors
    ///
    /// An argument that does not fit, named, with what was expected and what came; nothing of the
    /// batch is recorded then, and the step counts all the same, since the update was made. What is
    /// wrong with ids or labels that are on a CUDA device is found when they have arrived: a later call
    /// then returns it, naming the step, and does its own work all the same. If the hook was built with [`OnFailure::Fail`](data_diet::record::OnFailure::Fail), the recorder's failure.
    pub fn on_step_end<I, L>(&mut self, ids: &I, logits: &Tensor, labels: &L) -> Result<()>
    where
        I: ExampleIds + ?Sized,
        L: Labels + ?Sized,
    {
        let recorded = self.record(Phase::Train, ids, logits, labels);
        self.clock.advance_step();
        let copied = self.copy_weights_if_due();
        recorded.and(copied)
    }

    /// Call for every batch of a gradient accumulation but the last, whose update is still to come:
    /// records like [`on_step_end`](Self::on_step_end) and leaves the step as it is.
    ///
    /// # Errors
    ///
    /// As for [`on_step_end`](Self::on_step_end).
    pub fn on_micro_batch<I, L>(&mut self, ids: &I, logits: &Tensor, labels: &L) -> Result<()>
    where
        I: ExampleIds + ?Sized,
        L: Labels + ?Sized,
    {
        self.record(Phase::Train, ids, logits, labels)
    }

    /// Call for every batch of a pass over the data set with the weights held still and the model in
    /// evaluation mode: the way in which the Data Diet paper scores examples at an epoch.
    ///
    /// # Errors
    ///
    /// As for [`on_step_end`](Self::on_step_end).
    pub fn on_score_batch<I, L>(&mut self, ids: &I, logits: &Tensor, labels: &L) -> Result<()>
    where
        I: ExampleIds + ?Sized,
        L: Labels + ?Sized,
    {
        self.record(Phase::Score, ids, logits, labels)
    }

    /// Records gradient norms (`GraNd`) of some examples at the weights of this moment, in the table
    /// `grand`. Call it where `on_score_batch` would be called, with what
    /// [`GradientNorms`](crate::gradients::GradientNorms) gives, or other numbers of at least 0, one per example; NaN
    /// where a gradient is not finite.
    ///
    /// At initialisation `GraNd` follows the norm of the input and prunes badly (Kirsch 2023): take it
    /// after some epochs.
    ///
    /// # Errors
    ///
    /// As for [`on_step_end`](Self::on_step_end).
    pub fn on_grand_batch<I, N, L>(&mut self, ids: &I, norms: &N, labels: &L) -> Result<()>
    where
        I: ExampleIds + ?Sized,
        N: Norms + ?Sized,
        L: Labels + ?Sized,
    {
        let Some(recording) = &mut self.recording else { return Ok(()) };
        let examples = ids.to_examples()?;
        let norms = norms.to_norms()?;
        let labels = labels.to_labels()?;
        let targets = labels.targets(examples.len(), recording.format.classes as usize)?;
        let moment = self.clock.moment(Phase::Score);
        let batch = Batch::grand(&recording.format, moment, &examples, &norms, targets)?;
        Ok(recording.recorder.record(batch)?)
    }

    /// Call when an epoch has been completed.
    ///
    /// # Errors
    ///
    /// If the hook was built with [`OnFailure::Fail`](data_diet::record::OnFailure::Fail), the recorder's
    /// failure.
    pub fn on_epoch_end(&mut self) -> Result<()> {
        self.clock.advance_epoch();
        self.copy_weights_if_due()
    }

    /// Makes the next batch belong to this step, for loops that count their own. Call it when the
    /// weights have received all updates before that step.
    ///
    /// # Errors
    ///
    /// If the step lies in the past: the order of presentations is what forgetting is defined by. If a
    /// snapshot is due, what copying it meets.
    pub fn set_step(&mut self, step: u64) -> Result<()> {
        self.clock.set_step(step)?;
        self.copy_weights_if_due()
    }

    /// Sets the number of completed epochs, for loops that count their own.
    ///
    /// # Errors
    ///
    /// If the epoch lies in the past.
    pub fn set_epoch(&mut self, epoch: u32) -> Result<()> {
        self.clock.set_epoch(epoch)?;
        self.copy_weights_if_due()
    }

    /// The optimizer updates made so far, which is the step of the next batch.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.clock.step()
    }

    /// The epochs completed so far.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.clock.epoch()
    }

    /// Whether anything is recorded at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.recording.is_some()
    }

    /// Counters to show beside a progress bar, and the first failure if recording has stopped. All
    /// zero for a disabled hook.
    #[must_use]
    pub fn status(&self) -> RecorderStatus {
        self.recording.as_ref().map(|recording| recording.recorder.status()).unwrap_or_default()
    }

    /// Waits until every batch so far would survive a crash; call it before saving a checkpoint that
    /// training may be resumed from.
    ///
    /// # Errors
    ///
    /// What keeps the rows from being written.
    pub fn flush(&mut self) -> Result<()> {
        match &mut self.recording {
            Some(recording) => Ok(recording.recorder.flush()?),
            None => Ok(()),
        }
    }

    /// Ends the recording: everything is written and published, and the report tells how it went. A
    /// disabled hook has no report.
    ///
    /// # Errors
    ///
    /// If the hook was built with [`OnFailure::Fail`](data_diet::record::OnFailure::Fail), the recorder's
    /// first failure. Otherwise a failure is in the report.
    pub fn finish(self) -> Result<RunReport> {
        let Some(Recording { mut recorder, snapshots, .. }) = self.recording else {
            return Ok(RunReport::disabled());
        };
        if let Some(mut snapshots) = snapshots {
            snapshots.end(self.clock, &mut recorder)?;
        }
        Ok(recorder.finish()?)
    }

    fn copy_weights_if_due(&mut self) -> Result<()> {
        match &mut self.recording {
            Some(Recording { recorder, snapshots: Some(snapshots), .. }) => {
                snapshots.copy_if_due(self.clock, recorder)
            }
            _ => Ok(()),
        }
    }

    fn record<I, L>(&mut self, phase: Phase, ids: &I, logits: &Tensor, labels: &L) -> Result<()>
    where
        I: ExampleIds + ?Sized,
        L: Labels + ?Sized,
    {
        let Some(recording) = &mut self.recording else { return Ok(()) };
        if phase == Phase::Train && !self.clock.step().is_multiple_of(recording.every) {
            return Ok(());
        }
        let moment = self.clock.moment(phase);
        #[cfg(feature = "cuda")]
        if logits.device().is_cuda() {
            return recording.device.record(&mut recording.recorder, moment, ids, logits, labels);
        }
        let classes = recording.format.classes as usize;
        let examples = ids.to_examples()?;
        let rows = examples.len();
        check_logits(logits, rows, classes)?;
        let labels = labels.to_labels()?;
        let targets = labels.targets(rows, classes)?;
        let format = &recording.format;
        let batch = if logits.device().is_cpu() || format.logits != LogitsFormat::Off {
            HostTensor::new(logits)?.into_batch(format, moment, &examples, targets)?
        } else {
            // Less to copy than the logits.
            format.check_rows(&examples, targets)?;
            Batch::observed(
                format,
                moment,
                &examples,
                operations::observe(format, logits, targets)?,
            )?
        };
        Ok(recording.recorder.record(batch)?)
    }
}

impl fmt::Debug for DataDietHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataDietHook")
            .field("enabled", &self.is_enabled())
            .field("clock", &self.clock)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
