//! `DataDietHook`: what a training loop calls. Delegates all computation and file writing. It takes
//! shared references to tensors and no optimizer, so it cannot alter training.

mod builder;

use std::fmt;

use candle_core::{Device, Tensor};
use data_diet::observe::{Batch, BatchFormat, Clock, LogitsFormat, ModelKind, Phase, Targets};
use data_diet::record::{Recorder, RecorderStatus, RunReport};

pub use builder::DataDietHookBuilder;

use crate::arguments::{ExampleIds, Labels, Norms, batch_ids, ids_per_token};
use crate::error::{Error, Result};
use crate::output_shape::OutputShape;
use crate::signals::operations;
use crate::transfer::{batch_from_host, contiguous_on_host};
use crate::weights::SnapshotSource;

/// Records per-example signals from a candle training loop.
///
/// See the [crate documentation](crate) for a complete loop. The calls of every step are cheap and
/// never modify a tensor; the recorder's thread writes the files.
pub struct DataDietHook {
    recording: Option<Recording>,
    /// By name.
    heads: Vec<(String, Recording)>,
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
    /// Returns a hook that records nothing and costs nothing, to switch recording off without
    /// changing the loop.
    #[must_use]
    pub fn disabled() -> Self {
        Self { recording: None, heads: Vec::new(), clock: Clock::default() }
    }

    pub(crate) fn recording(
        recorder: Recorder,
        clock: Clock,
        every: u64,
        snapshots: Option<SnapshotSource>,
        device: Option<&Device>,
    ) -> Result<Self> {
        let recording = Recording::new(recorder, every, snapshots, device)?;
        Ok(Self { recording: Some(recording), heads: Vec::new(), clock })
    }

    pub(crate) fn add_head(
        &mut self,
        name: String,
        recorder: Recorder,
        every: u64,
        device: Option<&Device>,
    ) -> Result<()> {
        self.heads.push((name, Recording::new(recorder, every, None, device)?));
        Ok(())
    }

    /// Records a training step, then increments the step counter. Call it after every optimizer
    /// update, with the logits that its loss was computed from.
    ///
    /// `ids` are the examples of the batch. `logits` are the model's outputs in f32, f16, bf16 or f64,
    /// and may be a view; `labels` are the targets of its loss. Their shapes are those of the
    /// [kind of model](ModelKind): for classes `[batch, classes]`, and class indices `[batch]` or soft
    /// targets `[batch, classes]`. An empty batch records nothing.
    ///
    /// On a CUDA device nothing waits: the signals are computed there, after the work that this
    /// thread has queued. Call the hook on the thread that computed the logits.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`](crate::Error::Argument), naming the argument, what was expected and what
    /// was received. None of that batch is recorded, but the step still advances, because the
    /// optimizer update has already happened. Errors in ids or labels on a CUDA device are found
    /// when they arrive on the host: a later call then returns the error, naming the step it
    /// belongs to, and still records its own batch. With
    /// [`OnFailure::Fail`](data_diet::record::OnFailure::Fail), also returns the recorder's
    /// failure.
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

    /// Records a batch of a gradient accumulation without incrementing the step. Call it for every
    /// batch but the last, and [`on_step_end`](Self::on_step_end) for the last.
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

    /// Records a batch of a scoring pass: a pass over the data set with the weights held still and
    /// the model in evaluation mode, as the Data Diet paper scores examples at an epoch.
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

    /// Records a batch of examples that this run does not train on, with the weights held still and
    /// the model in evaluation mode. With k runs over k folds, in which run i leaves out fold i and
    /// passes it to this method, every example has one out-of-sample prediction.
    ///
    /// # Errors
    ///
    /// As for [`on_step_end`](Self::on_step_end).
    pub fn on_held_out_batch<I, L>(&mut self, ids: &I, logits: &Tensor, labels: &L) -> Result<()>
    where
        I: ExampleIds + ?Sized,
        L: Labels + ?Sized,
    {
        self.record(Phase::HeldOut, ids, logits, labels)
    }

    /// Records what another head of the model put out in a training step, under the name that it was
    /// [declared](DataDietHookBuilder::head) with. Call it before [`on_step_end`](Self::on_step_end), which
    /// records the first head and increments the step. The batch need not have the same examples.
    ///
    /// # Errors
    ///
    /// As for [`on_step_end`](Self::on_step_end), and if no head has this name.
    pub fn on_head_batch<I, L>(
        &mut self,
        head: &str,
        ids: &I,
        logits: &Tensor,
        labels: &L,
    ) -> Result<()>
    where
        I: ExampleIds + ?Sized,
        L: Labels + ?Sized,
    {
        self.record_head(Phase::Train, head, ids, logits, labels)
    }

    /// Records what another head put out in a scoring pass, as [`on_score_batch`](Self::on_score_batch).
    ///
    /// # Errors
    ///
    /// As for [`on_head_batch`](Self::on_head_batch).
    pub fn on_head_score_batch<I, L>(
        &mut self,
        head: &str,
        ids: &I,
        logits: &Tensor,
        labels: &L,
    ) -> Result<()>
    where
        I: ExampleIds + ?Sized,
        L: Labels + ?Sized,
    {
        self.record_head(Phase::Score, head, ids, logits, labels)
    }

    /// Records the loss of each example of a training step, then increments the step counter, for a
    /// model that was declared [`loss_only`](DataDietHookBuilder::loss_only): `losses` is `[batch]` or
    /// `[batch, 1]`. Short for [`on_step_end`](Self::on_step_end) with the losses as logits and no labels,
    /// `&()`, as which the other methods take them.
    ///
    /// # Errors
    ///
    /// As for [`on_step_end`](Self::on_step_end).
    pub fn on_loss_batch<I>(&mut self, ids: &I, losses: &Tensor) -> Result<()>
    where
        I: ExampleIds + ?Sized,
    {
        self.on_step_end(ids, losses, &())
    }

    /// Records gradient norms (`GraNd`) of some examples at the current weights, in the table
    /// `grand`. Call it where `on_score_batch` would be called, with the result of
    /// [`GradientNorms`](crate::gradients::GradientNorms), or any numbers of at least 0, one per
    /// example; NaN where a gradient is not finite.
    ///
    /// At initialization `GraNd` follows the norm of the input and prunes badly (Kirsch 2023):
    /// record it after some epochs.
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
        let examples = ids.to_ids()?;
        let norms = norms.to_norms()?;
        let kind = recording.format.kind;
        let labels = labels.to_labels()?;
        // Other kinds have no class, which is all that is recorded of a label here.
        let targets = if kind.has_class() { labels.targets(kind)? } else { Targets::None };
        let moment = self.clock.moment(Phase::Score);
        let batch = Batch::grand(&recording.format, moment, &examples, &norms, targets)?;
        Ok(recording.recorder.record(batch)?)
    }

    /// Increments the epoch. Call it when an epoch has been completed.
    ///
    /// # Errors
    ///
    /// If the hook was built with [`OnFailure::Fail`](data_diet::record::OnFailure::Fail), the recorder's
    /// failure.
    pub fn on_epoch_end(&mut self) -> Result<()> {
        self.clock.advance_epoch();
        self.copy_weights_if_due()
    }

    /// Sets the step of the next batch, for loops that count their own. Call it when the weights
    /// have received all updates before that step.
    ///
    /// # Errors
    ///
    /// If the step is in the past: forgetting is defined by the order of presentations. When a
    /// snapshot is due, also returns any error from copying it.
    pub fn set_step(&mut self, step: u64) -> Result<()> {
        self.clock.set_step(step)?;
        self.copy_weights_if_due()
    }

    /// Sets the number of completed epochs, for loops that count their own.
    ///
    /// # Errors
    ///
    /// If the epoch is in the past.
    pub fn set_epoch(&mut self, epoch: u32) -> Result<()> {
        self.clock.set_epoch(epoch)?;
        self.copy_weights_if_due()
    }

    /// Returns the number of optimizer updates so far, which is the step of the next batch.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.clock.step()
    }

    /// Returns the number of completed epochs.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.clock.epoch()
    }

    /// Returns whether anything is recorded.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.recording.is_some()
    }

    /// Returns counters to show beside a progress bar, and the first failure if recording has
    /// stopped. All zero for a disabled hook.
    #[must_use]
    pub fn status(&self) -> RecorderStatus {
        self.recording.as_ref().map(|recording| recording.recorder.status()).unwrap_or_default()
    }

    /// Waits until every batch so far would survive a crash of the process. Call it before saving a
    /// checkpoint from which training may be resumed.
    ///
    /// # Errors
    ///
    /// The failure that keeps the rows from being written.
    pub fn flush(&mut self) -> Result<()> {
        self.recorders().try_for_each(|recorder| Ok(recorder.flush()?))
    }

    /// Waits until everything so far can be read by others, and goes on recording: to score the examples
    /// after a few epochs and train on with some of them. Other readers see rows once a minute anyway.
    ///
    /// ```no_run
    /// # use data_diet::{Amount, Experiment, Rule, ScoreOptions, ScoreTable};
    /// # fn train(hook: &mut data_diet_candle::DataDietHook) -> data_diet_candle::Result<()> {
    /// hook.publish()?;
    /// let experiment = Experiment::open("runs/digits")?;
    /// let scores = ScoreTable::fold(&experiment, &ScoreOptions::default())?;
    /// let kept = scores.column("el2n")?.select(Rule::Highest(Amount::Fraction(0.7)))?;
    /// // ... train on with `kept`, and the same hook ...
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The failure that keeps the rows from being written.
    pub fn publish(&mut self) -> Result<()> {
        self.recorders().try_for_each(|recorder| Ok(recorder.publish()?))
    }

    /// Ends the recording: writes and publishes everything, and returns a report. The report of a
    /// disabled hook is empty.
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
        let heads: Vec<_> =
            self.heads.into_iter().map(|(name, head)| (name, head.recorder.finish())).collect();
        let mut report = recorder.finish()?;
        for (name, head) in heads {
            report.add_head(&name, head?);
        }
        Ok(report)
    }

    fn recorders(&mut self) -> impl Iterator<Item = &mut Recorder> {
        let heads = self.heads.iter_mut().map(|(_, head)| &mut head.recorder);
        self.recording.iter_mut().map(|recording| &mut recording.recorder).chain(heads)
    }

    fn copy_weights_if_due(&mut self) -> Result<()> {
        match &mut self.recording {
            Some(Recording { recorder, snapshots: Some(snapshots), .. }) => {
                snapshots.copy_if_due(self.clock, recorder)
            }
            _ => Ok(()),
        }
    }

    fn record<I, L>(&mut self, phase: Phase, ids: &I, outputs: &Tensor, labels: &L) -> Result<()>
    where
        I: ExampleIds + ?Sized,
        L: Labels + ?Sized,
    {
        let clock = self.clock;
        match &mut self.recording {
            Some(recording) => recording.record(clock, phase, ids, outputs, labels),
            None => Ok(()),
        }
    }

    fn record_head<I, L>(
        &mut self,
        phase: Phase,
        head: &str,
        ids: &I,
        outputs: &Tensor,
        labels: &L,
    ) -> Result<()>
    where
        I: ExampleIds + ?Sized,
        L: Labels + ?Sized,
    {
        if !self.is_enabled() {
            return Ok(());
        }
        let Some(place) = self.heads.iter().position(|(name, _)| name == head) else {
            let names: Vec<&str> = self.heads.iter().map(|(name, _)| name.as_str()).collect();
            return Err(Error::Argument(format!(
                "head: expected one that was declared on the builder ({}), got `{head}`",
                names.join(", ")
            )));
        };
        self.heads[place].1.record(self.clock, phase, ids, outputs, labels)
    }
}

impl Recording {
    #[cfg_attr(
        not(feature = "cuda"),
        allow(clippy::unnecessary_wraps, reason = "preparing a CUDA device can fail")
    )]
    fn new(
        recorder: Recorder,
        every: u64,
        snapshots: Option<SnapshotSource>,
        device: Option<&Device>,
    ) -> Result<Self> {
        let format = recorder.format().clone();
        #[cfg(not(feature = "cuda"))]
        let _ = device;
        Ok(Self {
            #[cfg(feature = "cuda")]
            device: crate::signals::cuda::DeviceBatches::new(&format, device)?,
            recorder,
            format,
            every,
            snapshots,
        })
    }

    fn record<I, L>(
        &mut self,
        clock: Clock,
        phase: Phase,
        ids: &I,
        outputs: &Tensor,
        labels: &L,
    ) -> Result<()>
    where
        I: ExampleIds + ?Sized,
        L: Labels + ?Sized,
    {
        if phase == Phase::Train && !clock.step().is_multiple_of(self.every) {
            return Ok(());
        }
        let moment = clock.moment(phase);
        #[cfg(feature = "cuda")]
        if outputs.device().is_cuda() {
            return self.device.record(&mut self.recorder, moment, ids, outputs, labels);
        }
        if let Some(warning) = warning_of_device(outputs.device().is_cuda()) {
            self.recorder.warn(warning);
        }
        let format = &self.format;
        let kind = format.kind;
        let shape = OutputShape::of(kind, outputs)?;
        let examples = ids.to_ids()?;
        let per_token = ids_per_token(kind, ids.row_length(), examples.len(), &shape);
        let ids = batch_ids(per_token, &examples);
        let labels = labels.to_labels()?.of_kind(kind);
        let targets = labels.targets(kind)?;
        let has_softmax = matches!(kind, ModelKind::Classes { .. } | ModelKind::Tokens { .. });
        let batch = if outputs.device().is_cpu()
            && let Some(layout) = shape.layout(outputs)
        {
            batch_from_host(format, moment, ids, outputs, layout, targets)?
        } else if !outputs.device().is_cpu() && has_softmax && format.logits == LogitsFormat::Off {
            // Copies less than the logits would take.
            format.check_rows(ids, shape.rows(), targets)?;
            let observed = operations::observe(format, &shape, outputs, targets)?;
            Batch::from_device_signals(format, moment, ids, observed)?
        } else {
            let outputs = contiguous_on_host(outputs)?;
            let layout = shape.contiguous_layout(&outputs);
            batch_from_host(format, moment, ids, &outputs, layout, targets)?
        };
        Ok(self.recorder.record(batch)?)
    }
}

/// Returns what is wrong with recording from such a device, if anything.
fn warning_of_device(is_cuda: bool) -> Option<&'static str> {
    (is_cuda && !cfg!(feature = "cuda")).then_some(
        "logits are on a CUDA device, but data-diet-candle was built without its feature `cuda`: training \
         waits for the device at every batch; add features = [\"cuda\"]",
    )
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
