//! The options of a hook: what is recorded, and how the recorder behaves.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use candle_core::Device;
use candle_nn::VarMap;
use data_diet::observe::{BatchFormat, Clock, LogitsFormat, ModelKind, Schedule, Signal};
use data_diet::record::{OnFailure, Recorder, RecorderBuilder, WhenFull};
use data_diet::run::Durability;

use crate::error::{Error, Result};
use crate::hook::DataDietHook;
use crate::weights::{SnapshotSource, Snapshots};

/// The options of a [`DataDietHook`]. Only what the model learns is required: one of
/// [`classes`](Self::classes), [`tokens`](Self::tokens), [`multi_label`](Self::multi_label),
/// [`binary`](Self::binary), [`regression`](Self::regression) and [`loss_only`](Self::loss_only).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use data_diet_candle::{DataDietHook, LogitsFormat, Signal};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path();
/// let hook = DataDietHook::builder(path, "seed-0")
///     .classes(1000)
///     .examples(1_281_167)
///     .seed(0)
///     .signals([Signal::El2n, Signal::Loss, Signal::Margin, Signal::Confidence])
///     .logits(LogitsFormat::TopK(5))
///     .flush_interval(Duration::from_secs(30))
///     .build()?;
/// # hook.finish()?.check()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "nothing is recorded before `build`"]
pub struct DataDietHookBuilder {
    recorder: RecorderBuilder,
    kind: Option<ModelKind>,
    examples: Option<u64>,
    ignore_index: Option<i64>,
    signals: Option<Vec<Signal>>,
    logits: Option<LogitsFormat>,
    device: Option<Device>,
    heads: Vec<(String, ModelKind)>,
    every: u64,
    /// The step and epoch at which a resumed run starts.
    resumed: Option<(u64, u32)>,
    experiment: PathBuf,
    rank: u32,
    snapshots: Option<(VarMap, Schedule)>,
    snapshot_filter: Option<Filter>,
    parent: Option<Parent>,
}

/// Whether a variable of this name is copied.
type Filter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The run whose weights a run starts with.
#[derive(Clone)]
struct Parent {
    variables: VarMap,
    run: String,
    step: u64,
}

impl DataDietHook {
    /// Returns options for recording `run` into the directory `experiment`.
    ///
    /// Give each seed its own run: scores are means over runs.
    pub fn builder(experiment: impl Into<PathBuf>, run: impl Into<String>) -> DataDietHookBuilder {
        DataDietHookBuilder::new(experiment.into(), run.into())
    }
}

impl DataDietHookBuilder {
    pub(crate) fn new(experiment: PathBuf, run: String) -> Self {
        let hook = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
        // Set when the hook is built.
        let format = BatchFormat {
            kind: ModelKind::LossOnly,
            examples: None,
            ignore_index: None,
            signals: Vec::new(),
            logits: LogitsFormat::Off,
        };
        let recorder = Recorder::builder(&experiment, run, format).recorded_by(hook);
        Self {
            recorder,
            kind: None,
            examples: None,
            ignore_index: None,
            signals: None,
            logits: None,
            device: None,
            heads: Vec::new(),
            every: 1,
            resumed: None,
            experiment,
            rank: 0,
            snapshots: None,
            snapshot_filter: None,
            parent: None,
        }
    }

    /// One label out of this many classes, at least 2, by softmax: logits `[batch, classes]`, labels
    /// `[batch]`, or soft targets `[batch, classes]`.
    pub fn classes(self, classes: usize) -> Self {
        self.model(ModelKind::Classes { classes: outputs(classes) })
    }

    /// A label for each token, out of a vocabulary of this size: logits `[batch, tokens, vocabulary]`, or
    /// flattened as candle's `cross_entropy` takes them, `[batch * tokens, vocabulary]`; labels `[batch,
    /// tokens]` or `[batch * tokens]`. An example is a sequence, each of its signals the mean over its
    /// tokens that are not [ignored](Self::ignore_index).
    ///
    /// Logits and labels are those of the loss, so a language model's labels are already shifted: the
    /// label of a token is the token after it.
    ///
    /// ```
    /// # use candle_core::{DType, Device, Tensor};
    /// # use data_diet_candle::DataDietHook;
    /// # let directory = tempfile::tempdir()?;
    /// # let (vocabulary, device) = (50, Device::Cpu);
    /// # let tokens = Tensor::zeros((4, 9), DType::U32, &device)?;
    /// # let model = |tokens: &Tensor| Tensor::randn(0.0_f32, 1.0, (4, tokens.dim(1).unwrap(), 50), &device);
    /// let mut hook = DataDietHook::builder(directory.path(), "seed-0").tokens(vocabulary).build()?;
    ///
    /// // The text is shifted before the model sees it ...
    /// let (inputs, labels) = (tokens.narrow(1, 0, 8)?, tokens.narrow(1, 1, 8)?);
    /// let logits = model(&inputs)?;
    /// hook.on_step_end(&(0..4), &logits, &labels)?;
    ///
    /// // ... or the logits after.
    /// let logits = model(&tokens)?.narrow(1, 0, 8)?;
    /// hook.on_step_end(&(0..4), &logits, &labels)?;
    /// # hook.finish()?.check()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tokens(self, vocabulary: usize) -> Self {
        self.model(ModelKind::Tokens { vocabulary: outputs(vocabulary) })
    }

    /// Any number of this many labels at once, by a sigmoid each: logits `[batch, labels]`, targets of
    /// that shape in 0 to 1.
    pub fn multi_label(self, labels: usize) -> Self {
        self.model(ModelKind::MultiLabel { labels: outputs(labels) })
    }

    /// One of two classes, by the sigmoid of one logit: logits and targets `[batch]` or `[batch, 1]`,
    /// targets 0 and 1, or probabilities. Signals are those of two classes with logits (0, z).
    pub fn binary(self) -> Self {
        self.model(ModelKind::Binary)
    }

    /// This many numbers, by squared error: predictions `[batch, outputs]`, or any shape with as many
    /// values per example, and targets of that shape.
    pub fn regression(self, outputs_per_example: usize) -> Self {
        self.model(ModelKind::Regression { outputs: outputs(outputs_per_example) })
    }

    /// Any other objective (contrastive, diffusion, reinforcement, ranking), of which only the loss of
    /// each example is recorded: see [`on_loss_batch`](DataDietHook::on_loss_batch).
    pub fn loss_only(self) -> Self {
        self.model(ModelKind::LossOnly)
    }

    /// Adds another head of the model, such as a box or a score beside a class, under a name: see
    /// [`on_head_batch`](DataDietHook::on_head_batch). It has the same run, steps and epochs, and what is
    /// recorded of it by default is that of its kind. Its tables are in `heads/NAME` of the experiment,
    /// which every command and reader takes like an experiment directory.
    pub fn head(mut self, name: impl Into<String>, kind: ModelKind) -> Self {
        self.heads.push((name.into(), kind));
        self
    }

    fn model(mut self, kind: ModelKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Declares the number of examples if ids are row numbers. Ids at or above it are refused.
    pub fn examples(mut self, examples: u64) -> Self {
        self.examples = Some(examples);
        self
    }

    /// Leaves out rows, or tokens, with this label: padding, prompts, or unlabeled examples. Often -100.
    pub fn ignore_index(mut self, label: i64) -> Self {
        self.ignore_index = Some(label);
        self
    }

    /// Sets the signals to record. Default: EL2N, loss and margin, of those that the
    /// [kind of model](ModelKind) has; where logits are not recorded whole, also confidence and entropy,
    /// which could not be computed later.
    pub fn signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        let mut signals: Vec<Signal> = signals.into_iter().collect();
        signals.sort_unstable();
        signals.dedup();
        self.signals = Some(signals);
        self
    }

    /// Sets how to record the logits. Default: every one as `f32` up to 128 classes; above, the eight
    /// highest with their classes, the label's, and the log-sum-exp; nothing for tokens, regression and
    /// losses.
    ///
    /// A run takes about `examples * epochs * bytes` before compression, where
    /// [`RecorderStatus::bytes_per_row`](data_diet::record::RecorderStatus) are the bytes: 101 with ten
    /// whole logits, 4,069 with a thousand, 141 with the eight highest of a thousand. Observations are
    /// compressed to a third, logits to four fifths.
    pub fn logits(mut self, format: LogitsFormat) -> Self {
        self.logits = Some(format);
        self
    }

    /// Prepares what this device needs, so that the first batch takes no longer than others: on CUDA,
    /// compiles the kernel and takes pinned memory.
    pub fn device(mut self, device: &Device) -> Self {
        self.device = Some(device.clone());
        self
    }

    /// Records only training steps that are multiples of `steps`. Default: 1. Forgetting events
    /// need every step; scores from the score phase do not.
    pub fn every(mut self, steps: u64) -> Self {
        self.every = steps;
        self
    }

    /// Sets the seed of initialization and order, which is kept with the run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.recorder = self.recorder.seed(seed);
        self
    }

    /// Sets this process's rank, counted from 0, when several processes (one per device) record the
    /// same run.
    pub fn rank(mut self, rank: u32) -> Self {
        self.recorder = self.recorder.rank(rank);
        self.rank = rank;
        self
    }

    /// Resumes this run from a checkpoint that was saved after `step` updates and `epoch` epochs.
    /// What was recorded at that step or later is moved aside: it is neither counted twice nor
    /// deleted.
    pub fn resume_at(mut self, step: u64, epoch: u32) -> Self {
        self.recorder = self.recorder.resume_at(step, epoch);
        self.resumed = Some((step, epoch));
        self
    }

    /// Copies the weights in `variables` on a schedule into the table `snapshots`: before the first
    /// update, and whenever a call of the hook reaches a scheduled step or epoch. Build the model
    /// before the hook. `BatchNorm`'s running statistics are among the variables.
    ///
    /// The training thread makes the copy between two updates, since candle's optimizers overwrite
    /// weights in place; the recorder does the rest. Weights are the same on every rank, so only
    /// rank 0 records them.
    pub fn snapshots(mut self, variables: &VarMap, schedule: Schedule) -> Self {
        self.snapshots = Some((variables.clone(), schedule));
        self
    }

    /// Copies only the variables for whose name `filter` returns true. Default: all.
    pub fn snapshot_parameters(
        mut self,
        filter: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.snapshot_filter = Some(Arc::new(filter));
        self
    }

    /// See [`RecorderBuilder::snapshot_bytes`].
    pub fn snapshot_bytes(mut self, bytes: usize) -> Self {
        self.recorder = self.recorder.snapshot_bytes(bytes);
        self
    }

    /// Starts with the weights that another run of this experiment had at `step`: loads its
    /// snapshot into `variables`, continues from that step and epoch, and records the parent in
    /// `run.json`, so that all children of a run can be found. When the run is resumed, no weights
    /// are loaded and the existing link is kept.
    pub fn spawned_from(mut self, variables: &VarMap, run: impl Into<String>, step: u64) -> Self {
        let run = run.into();
        self.recorder = self.recorder.spawned_from(run.clone(), step);
        self.parent = Some(Parent { variables: variables.clone(), run, step });
        self
    }

    /// Removes what a run of this name has recorded before, if anything, and the kernel velocities
    /// measured on its weights.
    pub fn overwrite(mut self) -> Self {
        self.recorder = self.recorder.overwrite();
        self
    }

    /// See [`RecorderBuilder::flush_rows`].
    pub fn flush_rows(mut self, rows: u64) -> Self {
        self.recorder = self.recorder.flush_rows(rows);
        self
    }

    /// See [`RecorderBuilder::flush_interval`].
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.recorder = self.recorder.flush_interval(interval);
        self
    }

    /// See [`RecorderBuilder::publish_interval`].
    pub fn publish_interval(mut self, interval: Duration) -> Self {
        self.recorder = self.recorder.publish_interval(interval);
        self
    }

    /// See [`RecorderBuilder::durability`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.recorder = self.recorder.durability(durability);
        self
    }

    /// See [`RecorderBuilder::segment_bytes`].
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.recorder = self.recorder.segment_bytes(bytes);
        self
    }

    /// See [`RecorderBuilder::retry_buffer_bytes`].
    pub fn retry_buffer_bytes(mut self, bytes: usize) -> Self {
        self.recorder = self.recorder.retry_buffer_bytes(bytes);
        self
    }

    /// See [`RecorderBuilder::retry_timeout`].
    pub fn retry_timeout(mut self, retry_timeout: Duration) -> Self {
        self.recorder = self.recorder.retry_timeout(retry_timeout);
        self
    }

    /// See [`RecorderBuilder::queue_bytes`].
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.recorder = self.recorder.queue_bytes(bytes);
        self
    }

    /// See [`RecorderBuilder::when_full`].
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.recorder = self.recorder.when_full(policy);
        self
    }

    /// See [`RecorderBuilder::on_failure`].
    pub fn on_failure(mut self, policy: OnFailure) -> Self {
        self.recorder = self.recorder.on_failure(policy);
        self
    }

    /// Locks the run and starts the recorder's thread.
    ///
    /// # Errors
    ///
    /// If an option is missing or out of range, if the run exists and neither
    /// [`resume_at`](Self::resume_at) nor [`overwrite`](Self::overwrite) was called, if another
    /// process records it, or if the directory cannot be written.
    pub fn build(self) -> Result<DataDietHook> {
        let format = self.format()?;
        let heads = self.head_formats()?;
        if self.every == 0 {
            return Err(Error::Argument("every: expected at least 1 step, got 0".to_owned()));
        }
        let mut snapshots = match self.snapshots {
            Some((variables, schedule)) if self.rank == 0 => {
                let source = SnapshotSource::new(variables, schedule, self.snapshot_filter);
                source.check()?;
                Some(source)
            }
            _ => None,
        };
        let inherited = match (&self.parent, self.resumed) {
            (Some(parent), None) => {
                Some(Snapshots::open(&self.experiment, &parent.run)?.at(parent.step)?)
            }
            _ => None,
        };
        let spawned = inherited.as_ref().map(|weights| (weights.step, weights.epoch));
        let (step, epoch) = self.resumed.or(spawned).unwrap_or_default();
        let mut clock = Clock::default();
        clock.set_step(step)?;
        clock.set_epoch(epoch)?;
        let mut recorder = self.recorder.clone().format(format).start()?;
        if let (Some(weights), Some(parent)) = (&inherited, &self.parent) {
            weights.load_into(&parent.variables)?;
        }
        if let Some(snapshots) = &mut snapshots {
            match self.resumed {
                // A resumed run may load its weights later, and the weights of this step are
                // already recorded.
                Some((step, _)) if step > 0 => snapshots.resume(clock),
                _ => snapshots.begin(clock, &mut recorder)?,
            }
        }
        let device = self.device.as_ref();
        let mut hook = DataDietHook::recording(recorder, clock, self.every, snapshots, device)?;
        for (name, format) in heads {
            let recorder = self.recorder.clone().head(&name)?.format(format).start();
            let recorder =
                recorder.map_err(|error| Error::from(error).context(format!("head `{name}`")))?;
            hook.add_head(name, recorder, self.every, device)?;
        }
        Ok(hook)
    }

    /// Returns what is recorded of the further heads, each by its name.
    fn head_formats(&self) -> Result<Vec<(String, BatchFormat)>> {
        let mut heads: Vec<(String, BatchFormat)> = Vec::new();
        for (name, kind) in &self.heads {
            // Checked before anything is created.
            let _ = self.recorder.clone().head(name)?;
            if heads.iter().any(|(other, _)| other == name) {
                return Err(Error::Argument(format!(
                    "head: expected each name once, got `{name}`"
                )));
            }
            let format = BatchFormat {
                examples: self.examples,
                ignore_index: self.ignore_index,
                ..BatchFormat::new(*kind)?
            };
            heads.push((name.clone(), format));
        }
        Ok(heads)
    }

    /// Returns what is recorded of a batch.
    fn format(&self) -> Result<BatchFormat> {
        let kind = self.kind.ok_or_else(|| {
            Error::Argument(
                "model: expected `.classes(n)`, `.tokens(vocabulary)`, `.multi_label(n)`, `.binary()`, \
                 `.regression(n)` or `.loss_only()` on the builder, got none"
                    .to_owned(),
            )
        })?;
        kind.check()?;
        let logits = self.logits.unwrap_or(LogitsFormat::default_of(kind));
        let signals = self.signals.clone();
        let format = BatchFormat {
            kind,
            examples: self.examples,
            ignore_index: self.ignore_index,
            signals: signals.unwrap_or_else(|| BatchFormat::default_signals(kind, logits)),
            logits,
        };
        format.check()?;
        Ok(format)
    }
}

/// More than any kind allows, which is told by name when the hook is built.
fn outputs(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl fmt::Debug for DataDietHookBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schedule = self.snapshots.as_ref().map(|(_, schedule)| schedule);
        f.debug_struct("DataDietHookBuilder")
            .field("recorder", &self.recorder)
            .field("kind", &self.kind)
            .field("signals", &self.signals)
            .field("logits", &self.logits)
            .field("every", &self.every)
            .field("snapshots", &schedule)
            .finish_non_exhaustive()
    }
}
