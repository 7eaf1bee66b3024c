//! The options of a hook: what is recorded, and how the recorder behaves.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use candle_nn::VarMap;
use data_diet::observe::{BatchFormat, Clock, LogitsFormat, Schedule, Signal};
use data_diet::record::{OnFailure, Recorder, RecorderBuilder, WhenFull};
use data_diet::run::Durability;

use crate::error::{Error, Result};
use crate::hook::DataDietHook;
use crate::weights::{SnapshotSource, Snapshots};

/// The options of a [`DataDietHook`]. Only [`classes`](Self::classes) is required.
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
    format: BatchFormat,
    classes: Option<usize>,
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
        let format = BatchFormat {
            classes: 0,
            examples: None,
            ignore_index: None,
            signals: BatchFormat::DEFAULT_SIGNALS.to_vec(),
            logits: LogitsFormat::default(),
        };
        let hook = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
        let recorder = Recorder::builder(&experiment, run, format.clone()).recorded_by(hook);
        Self {
            recorder,
            format,
            classes: None,
            every: 1,
            resumed: None,
            experiment,
            rank: 0,
            snapshots: None,
            snapshot_filter: None,
            parent: None,
        }
    }

    /// Sets the number of classes, which is the number of logits per example; at least 2.
    pub fn classes(mut self, classes: usize) -> Self {
        self.classes = Some(classes);
        self
    }

    /// Declares the number of examples if ids are row numbers. Ids at or above it are refused.
    pub fn examples(mut self, examples: u64) -> Self {
        self.format.examples = Some(examples);
        self
    }

    /// Leaves out rows with this label: padding, or unlabeled examples. Often -100.
    pub fn ignore_index(mut self, label: i64) -> Self {
        self.format.ignore_index = Some(label);
        self
    }

    /// Sets the signals to record. Default: EL2N, loss and margin.
    pub fn signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.format.signals = signals.into_iter().collect();
        self.format.signals.sort_unstable();
        self.format.signals.dedup();
        self
    }

    /// Sets how to record the logits. Default: every one as `f32`. With a thousand classes they
    /// take most of the space: [`LogitsFormat::F16`] halves it, [`LogitsFormat::TopK`] takes almost
    /// none.
    pub fn logits(mut self, format: LogitsFormat) -> Self {
        self.format.logits = format;
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
    pub fn build(mut self) -> Result<DataDietHook> {
        let classes = self.classes.ok_or_else(|| {
            Error::Argument("classes: expected `.classes(n)` on the builder, got none".to_owned())
        })?;
        if self.every == 0 {
            return Err(Error::Argument("every: expected at least 1 step, got 0".to_owned()));
        }
        self.format.classes = BatchFormat::new(classes)?.classes;
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
        let mut recorder = self.recorder.format(self.format).start()?;
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
        Ok(DataDietHook::recording(recorder, clock, self.every, snapshots))
    }
}

impl fmt::Debug for DataDietHookBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schedule = self.snapshots.as_ref().map(|(_, schedule)| schedule);
        f.debug_struct("DataDietHookBuilder")
            .field("recorder", &self.recorder)
            .field("format", &self.format)
            .field("classes", &self.classes)
            .field("every", &self.every)
            .field("snapshots", &schedule)
            .finish_non_exhaustive()
    }
}
