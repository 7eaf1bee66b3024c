//! The options of a recorder, and how it starts.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::channel::channel;
use super::handle::{Parts, Recorder};
use super::policy::{OnFailure, WhenFull};
use super::shared::Shared;
use super::sink::Sink;
use super::worker::{FlushPolicy, Worker};
use crate::error::{Error, Result};
use crate::observe::BatchFormat;
use crate::run::{
    Durability, ExperimentLayout, IfRunExists, RunMetadata, RunOptions, RunWriter, SpawnPoint,
    check_run_name,
};
use crate::storage::{Disk, LocalDisk};

/// The options of a [`Recorder`]. Every default is a named constant.
#[derive(Clone, Debug)]
#[must_use = "nothing is recorded before `start`"]
pub struct RecorderBuilder {
    options: RunOptions,
    pace: FlushPolicy,
    when_full: WhenFull,
    queue_bytes: usize,
    snapshot_bytes: usize,
    disk: Arc<dyn Disk>,
}

impl Recorder {
    /// Returns options for recording a run into an experiment directory.
    pub fn builder(
        experiment: impl Into<PathBuf>,
        run: impl Into<String>,
        format: BatchFormat,
    ) -> RecorderBuilder {
        RecorderBuilder::new(experiment.into(), run.into(), format)
    }
}

impl RecorderBuilder {
    /// The number of rows after which a flush makes them safe from a crash.
    pub const DEFAULT_FLUSH_ROWS: u64 = 65_536;
    /// The time after which pending rows are flushed, however few.
    pub const DEFAULT_FLUSH_INTERVAL: Duration = Duration::from_secs(5);
    /// The time after which flushed rows become a Parquet part that readers see.
    pub const DEFAULT_PUBLISH_INTERVAL: Duration = Duration::from_secs(60);
    /// The number of bytes of flushed rows, before compression, after which they become a part.
    pub const DEFAULT_SEGMENT_BYTES: u64 = 64 << 20;
    /// The number of bytes of batches that may wait for the recorder's thread.
    pub const DEFAULT_QUEUE_BYTES: usize = 64 << 20;
    /// The number of bytes of copied weights that may wait for the disk.
    pub const DEFAULT_SNAPSHOT_BYTES: usize = 1 << 30;
    /// The number of bytes that may pile up while the disk is full.
    pub const DEFAULT_RETRY_BUFFER_BYTES: usize = 256 << 20;
    /// How long `finish` and `flush` wait while the disk is full.
    pub const DEFAULT_RETRY_TIMEOUT: Duration = Duration::from_secs(10);
    /// The number of pending bytes after which rows are flushed early.
    const FLUSH_BYTES: usize = 8 << 20;
    /// The number of messages that may wait, however small.
    const QUEUE_MESSAGES: usize = 4096;

    fn new(experiment: PathBuf, run: String, format: BatchFormat) -> Self {
        Self {
            options: RunOptions {
                experiment,
                run,
                rank: 0,
                format,
                seed: None,
                recorded_by: None,
                spawned_from: None,
                existing: IfRunExists::Refuse,
                durability: Durability::default(),
                segment_bytes: Self::DEFAULT_SEGMENT_BYTES,
                publish_interval: Self::DEFAULT_PUBLISH_INTERVAL,
            },
            pace: FlushPolicy {
                flush_rows: Self::DEFAULT_FLUSH_ROWS,
                flush_bytes: Self::FLUSH_BYTES,
                flush_interval: Self::DEFAULT_FLUSH_INTERVAL,
                retry_buffer_bytes: Self::DEFAULT_RETRY_BUFFER_BYTES,
                retry_timeout: Self::DEFAULT_RETRY_TIMEOUT,
                on_failure: OnFailure::default(),
            },
            when_full: WhenFull::default(),
            queue_bytes: Self::DEFAULT_QUEUE_BYTES,
            snapshot_bytes: Self::DEFAULT_SNAPSHOT_BYTES,
            disk: Arc::new(LocalDisk),
        }
    }

    /// Sets the format of the batches.
    pub fn format(mut self, format: BatchFormat) -> Self {
        self.options.format = format;
        self
    }

    /// Records another head of the same model, such as a box beside a class: into the directory
    /// `heads/NAME` of the experiment, which is an experiment directory of its own.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the name cannot be that of a directory.
    pub fn head(mut self, name: &str) -> Result<Self> {
        check_run_name(name).map_err(|_run| {
            Error::invalid(format!(
                "head: expected 1 to 128 letters, digits, `-`, `_` or `.`, a letter or digit first, got \
                 `{name}`"
            ))
        })?;
        self.options.experiment = ExperimentLayout::new(&self.options.experiment).head(name);
        Ok(self)
    }

    /// Sets this process's number among those that record the same run, counted from 0.
    pub fn rank(mut self, rank: u32) -> Self {
        self.options.rank = rank;
        self
    }

    /// Sets the seed of initialization and order, which is kept in `run.json`.
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = Some(seed);
        self
    }

    /// Sets the name and version of the framework hook, which is kept in `run.json`.
    pub fn recorded_by(mut self, hook: impl Into<String>) -> Self {
        self.options.recorded_by = Some(hook.into());
        self
    }

    /// Sets the run and the step whose weights this run starts with, which is kept in `run.json`.
    /// The run's first step is that step.
    pub fn spawned_from(mut self, run: impl Into<String>, step: u64) -> Self {
        self.options.spawned_from = Some(SpawnPoint { run: run.into(), step });
        self
    }

    /// Continues a run from a checkpoint taken after `step` updates and `epoch` epochs. Rows of
    /// that step and later are moved to `_runs/RUN/aside`. Starts the run if it does not exist.
    pub fn resume_at(mut self, step: u64, epoch: u32) -> Self {
        self.options.existing = IfRunExists::ResumeAt { step, epoch };
        self
    }

    /// Removes what a run of this name and rank has recorded before, if anything.
    pub fn overwrite(mut self) -> Self {
        self.options.existing = IfRunExists::Erase;
        self
    }

    /// Flushes after this many rows. Default: [`DEFAULT_FLUSH_ROWS`](Self::DEFAULT_FLUSH_ROWS).
    pub fn flush_rows(mut self, rows: u64) -> Self {
        self.pace.flush_rows = rows.max(1);
        self
    }

    /// Flushes after this time at the latest. A flush can be late by the time it takes to publish
    /// one segment. Default: [`DEFAULT_FLUSH_INTERVAL`](Self::DEFAULT_FLUSH_INTERVAL).
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.pace.flush_interval = interval;
        self
    }

    /// Publishes flushed rows as a Parquet part after this time at the latest. Default:
    /// [`DEFAULT_PUBLISH_INTERVAL`](Self::DEFAULT_PUBLISH_INTERVAL).
    pub fn publish_interval(mut self, interval: Duration) -> Self {
        self.options.publish_interval = interval;
        self
    }

    /// Publishes flushed rows as a Parquet part when they reach this many bytes. Default:
    /// [`DEFAULT_SEGMENT_BYTES`](Self::DEFAULT_SEGMENT_BYTES).
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.options.segment_bytes = bytes;
        self
    }

    /// Sets what flushed rows survive. Default: [`Durability::Process`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options.durability = durability;
        self
    }

    /// Bounds the bytes in the queue. Default: [`DEFAULT_QUEUE_BYTES`](Self::DEFAULT_QUEUE_BYTES).
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Bounds the bytes of copied weights that wait for the disk; a larger copy waits alone. Beyond
    /// the bound, training waits or the snapshot is skipped and counted, as
    /// [`when_full`](Self::when_full) says. Default:
    /// [`DEFAULT_SNAPSHOT_BYTES`](Self::DEFAULT_SNAPSHOT_BYTES).
    pub fn snapshot_bytes(mut self, bytes: usize) -> Self {
        self.snapshot_bytes = bytes;
        self
    }

    /// Sets what happens when the queue is full. Default: [`WhenFull::Wait`].
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.when_full = policy;
        self
    }

    /// Sets what happens when rows cannot be written. Default: [`OnFailure::Degrade`].
    pub fn on_failure(mut self, policy: OnFailure) -> Self {
        self.pace.on_failure = policy;
        self
    }

    /// Bounds the bytes that may pile up in memory while the disk is full. Default:
    /// [`DEFAULT_RETRY_BUFFER_BYTES`](Self::DEFAULT_RETRY_BUFFER_BYTES).
    pub fn retry_buffer_bytes(mut self, bytes: usize) -> Self {
        self.pace.retry_buffer_bytes = bytes;
        self
    }

    /// Sets how long `finish` and `flush` wait while the disk is full. Default:
    /// [`DEFAULT_RETRY_TIMEOUT`](Self::DEFAULT_RETRY_TIMEOUT).
    pub fn retry_timeout(mut self, retry_timeout: Duration) -> Self {
        self.pace.retry_timeout = retry_timeout;
        self
    }

    /// Locks the run and starts the recorder's thread.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a bad name or format;
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if the run exists and neither `resume_at` nor
    /// `overwrite` was asked for; [`Busy`](crate::ErrorKind::Busy) if it is being recorded;
    /// [`Io`](crate::ErrorKind::Io) if the directory cannot be written.
    pub fn start(self) -> Result<Recorder> {
        let (writer, metadata) = RunWriter::open(Arc::clone(&self.disk), self.options.clone())?;
        self.start_with(writer, metadata)
    }

    pub(crate) fn start_with(self, sink: impl Sink, metadata: RunMetadata) -> Result<Recorder> {
        let shared = Arc::new(Shared::new(self.queue_bytes, self.snapshot_bytes));
        let (outbox, inbox) = channel(Self::QUEUE_MESSAGES);
        let (ending, ended) = bounded(1);
        let worker = Worker::new(sink, inbox, Arc::clone(&shared), self.pace, metadata);
        let thread = thread::Builder::new()
            .name("data-diet-recorder".to_owned())
            .spawn(move || {
                // The handle may have stopped waiting and be gone.
                let _ = ending.send(worker.work());
            })
            .map_err(|error| {
                Error::new(crate::error::ErrorKind::Io, "cannot start the recorder's thread")
                    .with_source(error)
            })?;
        Ok(Recorder::new(Parts {
            experiment: self.options.experiment,
            run: self.options.run,
            rank: self.options.rank,
            format: self.options.format,
            when_full: self.when_full,
            on_failure: self.pace.on_failure,
            shared,
            outbox,
            ended,
            thread,
        }))
    }

    #[cfg(test)]
    pub(crate) fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }
}
