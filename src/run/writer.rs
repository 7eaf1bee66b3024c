//! Writes a run while it is recorded: batches in, a log that becomes Parquet parts out.
//!
//! Does nothing by itself and knows no thread: the caller says when to commit and when to publish,
//! and decides what a failure means.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::layout::{ExperimentLayout, RunLayout};
use super::lock::RankLock;
use super::log::{LogReader, OpenLog, encode_frame};
use super::metadata::{RunMetadata, SpawnPoint};
use super::name::check_new_run_name;
use super::pending_rows::PendingRows;
use super::recovery::{
    cut, erase, last_epoch, publish_leftovers, published_rows, published_snapshots,
};
use super::seal::seal;
use super::snapshots;
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Batch, BatchFormat, ModelKind, Snapshot};
use crate::storage::Disk;

/// What committed rows survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Durability {
    /// The death of the process, by any signal. Rows are in the operating system's page cache.
    #[default]
    Process,
    /// A power cut, too. Every flush waits, on the recorder's thread, until the disk has the rows.
    PowerCut,
}

/// What to do if a run of this name already exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfRunExists {
    Refuse,
    Erase,
    /// Keep the rows before this step and continue, from this epoch on.
    ResumeAt {
        step: u64,
        epoch: u32,
    },
}

/// How a run is written.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    pub(crate) experiment: PathBuf,
    pub(crate) run: String,
    pub(crate) rank: u32,
    pub(crate) format: BatchFormat,
    pub(crate) seed: Option<u64>,
    pub(crate) recorded_by: Option<String>,
    pub(crate) spawned_from: Option<SpawnPoint>,
    pub(crate) existing: IfRunExists,
    pub(crate) durability: Durability,
    /// A log of this many bytes is published.
    pub(crate) segment_bytes: u64,
    /// A log of this age is published.
    pub(crate) publish_interval: Duration,
}

/// What is not committed yet, and the size of its rows in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) rows: u64,
    pub(crate) bytes: usize,
    pub(crate) snapshots: usize,
}

/// Writes one rank of one run, whose lock it holds.
#[derive(Debug)]
pub(crate) struct RunWriter {
    disk: Arc<dyn Disk>,
    layout: RunLayout,
    durability: Durability,
    segment_bytes: u64,
    publish_interval: Duration,
    pending: PendingRows,
    /// Encoded flushes that are not written yet.
    frames: VecDeque<Frame>,
    snapshots: VecDeque<Snapshot>,
    /// The last snapshot that was written, whose memory can be reused.
    spare: Option<Snapshot>,
    log: Option<(OpenLog, u64, Instant)>,
    /// Complete logs that are not published yet.
    unsealed: Vec<CompleteLog>,
    /// A sync has failed. Whether its log will hold the next frame after a power cut is unknown
    /// until that log is published and removed.
    in_doubt: bool,
    next_number: u32,
    _lock: RankLock,
}

#[derive(Debug)]
struct CompleteLog {
    number: u32,
    path: PathBuf,
    /// Whatever follows this length is not part of the log.
    length: u64,
    rows: u64,
}

#[derive(Debug)]
struct Frame {
    bytes: Vec<u8>,
    rows: u64,
}

impl RunWriter {
    /// Locks the run for this process, and prepares the directory for recording. Returns the
    /// metadata to keep.
    pub(crate) fn open(disk: Arc<dyn Disk>, options: RunOptions) -> Result<(Self, RunMetadata)> {
        options.format.check()?;
        let layout = RunLayout::new(&options.experiment, &options.run, options.rank)?;
        // A directory that cannot be listed cannot be made either, which is told below.
        let existing = ExperimentLayout::new(&options.experiment).run_names().unwrap_or_default();
        // A run that exists can go on, whatever it is called.
        if !existing.contains(&options.run) {
            check_new_run_name(&options.run, &existing)?;
        }
        check_same_kind(&layout, &existing, options.format.kind)?;
        let open = layout.open();
        disk.create_dir_all(&open).map_err(|error| Error::io("create", &open, error))?;
        let lock = RankLock::take(&layout)?;
        let earlier = RunMetadata::read(&layout.metadata())?;
        let is_new = earlier.is_none() && layout.next_number()? == 0;
        let mut metadata = RunMetadata::new(&layout, options.format.clone());
        match options.existing {
            _ if is_new => {
                metadata.first_step = match options.existing {
                    IfRunExists::ResumeAt { step, .. } => step,
                    _ => options.spawned_from.as_ref().map_or(0, |parent| parent.step),
                };
            }
            IfRunExists::Refuse => return Err(exists(&layout, earlier.as_ref())),
            IfRunExists::Erase => erase(&layout)?,
            IfRunExists::ResumeAt { step, epoch } => {
                if let Some(earlier) = earlier {
                    check_same_format(&layout, &earlier.format, &options.format)?;
                    metadata.started_unix_ms = earlier.started_unix_ms;
                    metadata.first_step = earlier.first_step;
                    metadata.gaps = earlier.gaps;
                    metadata.targets = earlier.targets;
                    metadata.labels.changed = earlier.labels.changed;
                    metadata.warnings = earlier.warnings;
                    metadata.seed = earlier.seed;
                    metadata.rows = earlier.rows;
                    metadata.spawned_from = earlier.spawned_from;
                    metadata.snapshots = earlier.snapshots;
                    metadata.waited_seconds = earlier.waited_seconds;
                }
                publish_leftovers(disk.as_ref(), &layout)?;
                check_epoch(&layout, step, epoch)?;
                cut(disk.as_ref(), &layout, step)?;
                metadata.rows.written = published_rows(&layout)?;
                metadata.snapshots.written = published_snapshots(&layout)?;
            }
        }
        metadata.seed = options.seed.or(metadata.seed);
        metadata.recorded_by = options.recorded_by;
        metadata.spawned_from = options.spawned_from.or(metadata.spawned_from);
        metadata.write(disk.as_ref(), &layout.metadata())?;
        if options.durability == Durability::PowerCut {
            // What was moved aside must not be recovered after the rows that replace it.
            layout.directories().iter().try_for_each(|path| sync_dir(disk.as_ref(), path))?;
        }
        let writer = Self {
            pending: PendingRows::new(options.format),
            next_number: layout.next_number()?,
            disk,
            layout,
            durability: options.durability,
            segment_bytes: options.segment_bytes,
            publish_interval: options.publish_interval,
            frames: VecDeque::new(),
            snapshots: VecDeque::new(),
            spare: None,
            log: None,
            unsealed: Vec::new(),
            in_doubt: false,
            _lock: lock,
        };
        Ok((writer, metadata))
    }

    /// Takes a snapshot into memory; cannot fail.
    pub(crate) fn push_snapshot(&mut self, snapshot: Snapshot) {
        self.snapshots.push_back(snapshot);
    }

    /// Takes a batch into memory; cannot fail.
    pub(crate) fn push(&mut self, batch: Batch) {
        self.pending.push(batch);
    }

    /// Returns the last snapshot that was written, so that its memory can be reused.
    pub(crate) fn take_reusable_snapshot(&mut self) -> Option<Snapshot> {
        self.spare.take()
    }

    pub(crate) fn pending(&self) -> Pending {
        Pending {
            rows: self.pending.rows() + self.frames.iter().map(|frame| frame.rows).sum::<u64>(),
            bytes: self.pending.bytes()
                + self.frames.iter().map(|frame| frame.bytes.len()).sum::<usize>(),
            snapshots: self.snapshots.len(),
        }
    }

    /// Makes every pending row and snapshot survive what the run's [`Durability`] promises. What
    /// cannot be written stays pending, and the next call retries it.
    pub(crate) fn commit(&mut self) -> Result<()> {
        if self.pending.rows() > 0 {
            let bytes = encode_frame(&self.pending.sections()?)?;
            self.frames.push_back(Frame { bytes, rows: self.pending.rows() });
        }
        self.pending.clear();
        if self.in_doubt && !self.frames.is_empty() {
            self.publish()?;
            sync_dir(self.disk.as_ref(), &self.layout.open())?;
            self.in_doubt = false;
        }
        while let Some(frame) = self.frames.front() {
            if self.log.is_none() {
                // The number of a log that could not be created is not reused: its file may exist.
                let number = self.next_number;
                self.next_number += 1;
                let path = self.layout.log(number);
                let log = OpenLog::create(self.disk.as_ref(), path, number)?;
                if self.durability == Durability::PowerCut
                    && let Err(error) = sync_dir(self.disk.as_ref(), &self.layout.open())
                {
                    // If this fails too, an empty log is left for recovery to remove.
                    let _ = self.disk.remove(log.path());
                    return Err(error);
                }
                self.log = Some((log, 0, Instant::now()));
            }
            // The line above leaves a log in place.
            let Some((log, rows, _)) = self.log.as_mut() else { break };
            log.append(&frame.bytes)?;
            if self.durability == Durability::PowerCut
                && let Err(error) = log.sync()
            {
                // A second sync of the same file can succeed without having written anything, so
                // this log ends before the frame, and the frame goes to a new one.
                log.undo_append(&frame.bytes);
                let failure = Error::io("sync", log.path(), error);
                self.in_doubt = true;
                self.close_log();
                return Err(failure);
            }
            *rows += frame.rows;
            self.frames.pop_front();
        }
        // Last, since rows cannot be put back.
        while let Some(snapshot) = self.snapshots.front() {
            snapshots::publish(self.disk.as_ref(), &self.layout, snapshot)?;
            self.spare = self.snapshots.pop_front();
        }
        Ok(())
    }

    /// Publishes what is due: a log that is large or old enough, and logs whose publication failed
    /// before. Cheap if nothing is due. Returns whether parts appeared.
    pub(crate) fn maintain(&mut self) -> Result<bool> {
        if let Some((log, rows, since)) = &self.log
            && *rows > 0
            && (log.committed() >= self.segment_bytes || since.elapsed() >= self.publish_interval)
        {
            self.close_log();
        }
        self.publish()
    }

    /// Returns when the open log will be old enough to be published.
    pub(crate) fn publication_due(&self) -> Option<Instant> {
        self.log.as_ref().map(|(_, _, since)| *since + self.publish_interval)
    }

    /// Publishes every committed row.
    pub(crate) fn publish_all(&mut self) -> Result<bool> {
        self.close_log();
        self.publish()
    }

    /// Discards what is pending and returns how many rows that were.
    pub(crate) fn discard_pending(&mut self) -> u64 {
        let rows = self.pending().rows;
        self.pending.clear();
        self.frames.clear();
        self.snapshots.clear();
        rows
    }

    /// Returns the number of committed rows that are in no published part yet.
    pub(crate) fn unpublished(&self) -> u64 {
        self.unsealed.iter().map(|log| log.rows).sum::<u64>()
            + self.log.as_ref().map_or(0, |(_, rows, _)| *rows)
    }

    pub(crate) fn write_metadata(&self, metadata: &mut RunMetadata) -> Result<()> {
        metadata.write(self.disk.as_ref(), &self.layout.metadata())
    }

    fn close_log(&mut self) {
        if let Some((log, rows, _)) = self.log.take() {
            self.unsealed.push(CompleteLog {
                number: log.number(),
                path: log.path().to_owned(),
                length: log.committed(),
                rows,
            });
        }
    }

    fn publish(&mut self) -> Result<bool> {
        let mut published = false;
        while let Some(log) = self.unsealed.first() {
            let content = LogReader::open_up_to(&log.path, log.length)?;
            let sealed = seal(self.disk.as_ref(), &self.layout, log.number, content)?;
            let log = self.unsealed.remove(0);
            published = true;
            let lost = log.rows.saturating_sub(sealed.rows);
            if lost > 0 {
                let what = format!("{lost} committed rows could not be read back");
                return Err(Error::corrupt(&log.path, what));
            }
        }
        Ok(published)
    }
}

fn sync_dir(disk: &dyn Disk, path: &Path) -> Result<()> {
    disk.sync_dir(path).map_err(|error| Error::io("sync", path, error))
}

fn exists(layout: &RunLayout, earlier: Option<&RunMetadata>) -> Error {
    let (run, experiment) = (layout.run(), layout.experiment().display());
    let status = earlier.map_or("unknown", |metadata| metadata.status.name());
    let message = format!(
        "run `{run}` (rank {}) already exists in {experiment}, status {status}: choose another name, \
         resume from a checkpoint with `resume_at(step, epoch)`, or start over with `overwrite()`",
        layout.rank()
    );
    Error::new(ErrorKind::AlreadyExists, message)
}

/// Epochs of a run never decrease: readers fold it epoch by epoch.
fn check_epoch(layout: &RunLayout, step: u64, epoch: u32) -> Result<()> {
    match last_epoch(layout, step)? {
        Some(last) if i64::from(last) > i64::from(epoch) => Err(Error::invalid(format!(
            "epoch: run `{}` is in epoch {last} before step {step}, expected to go on from there or \
             later, got {epoch}",
            layout.run()
        ))),
        _ => Ok(()),
    }
}

fn check_same_format(layout: &RunLayout, old: &BatchFormat, new: &BatchFormat) -> Result<()> {
    // A resumed run may check rows differently, but its tables must look the same.
    let shape = |format: &BatchFormat| (format.kind, format.signals.clone(), format.logits);
    if shape(old) == shape(new) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "run `{}` was recorded with {:?} and cannot be resumed with {:?}",
        layout.run(),
        shape(old),
        shape(new)
    )))
}

/// Scores are means over the runs of an experiment, so all of them must be of one kind.
fn check_same_kind(layout: &RunLayout, names: &[String], kind: ModelKind) -> Result<()> {
    let experiment = ExperimentLayout::new(layout.experiment());
    for name in names.iter().filter(|name| name.as_str() != layout.run()) {
        for rank in experiment.ranks(name).unwrap_or_default() {
            // What cannot be read is told by whoever reads the experiment.
            let other = RunMetadata::read(&experiment.rank(name, rank)?.metadata());
            if let Ok(Some(other)) = other
                && other.format.kind != kind
            {
                let (path, other) = (layout.experiment().display(), other.format.kind);
                return Err(Error::invalid(format!(
                    "run `{}`: expected {other}, as run `{name}` of {path} has, got {kind}; another \
                     model needs an experiment directory of its own",
                    layout.run()
                )));
            }
        }
    }
    Ok(())
}
