//! The training thread's side of the recorder: accepts batches, never touches a file.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::channel::MessageSender;
use super::message::{Message, PendingBatch, PendingSnapshot};
use super::policy::{OnFailure, WhenFull};
use super::report::{RecorderStatus, RunReport};
use super::shared::Shared;
use super::worker::{WorkerOutcome, stopped};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Batch, BatchFormat, Measured, Moment, Snapshot};
use crate::run::{RowCounts, RunStatus, SnapshotCounts};

/// Records the batches of one rank of one run on a thread of its own.
///
/// Framework hooks wrap it, and it can be driven directly. End it with [`finish`](Self::finish).
/// Dropping it instead, as a failing training loop does, records as much of what was handed over as
/// a bounded time allows, and marks the run as failed.
///
/// # Examples
///
/// ```
/// use data_diet::observe::{Batch, BatchFormat, Moment, Phase, Targets};
/// use data_diet::record::Recorder;
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path();
/// let format = BatchFormat::classes(2)?;
/// let mut recorder = Recorder::builder(path, "seed-0", format.clone()).start()?;
/// let moment = Moment { phase: Phase::Train, step: 0, epoch: 0 };
/// let batch = Batch::new(&format, moment, &[7, 8], &[2.0_f32, 0.0, 1.0, 3.0], Targets::Classes(&[0, 0]))?;
/// recorder.record(batch)?;
/// let report = recorder.finish()?;
/// assert_eq!(report.rows.written, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Recorder {
    experiment: PathBuf,
    run: String,
    rank: u32,
    format: BatchFormat,
    /// The latest step and epoch that were handed over.
    latest: (u64, u32),
    when_full: WhenFull,
    on_failure: OnFailure,
    shared: Arc<Shared>,
    outbox: Option<MessageSender<Message>>,
    ended: Receiver<WorkerOutcome>,
    thread: Option<JoinHandle<()>>,
}

/// What the builder passes on.
pub(super) struct Parts {
    pub(super) experiment: PathBuf,
    pub(super) run: String,
    pub(super) rank: u32,
    pub(super) format: BatchFormat,
    pub(super) when_full: WhenFull,
    pub(super) on_failure: OnFailure,
    pub(super) shared: Arc<Shared>,
    pub(super) outbox: MessageSender<Message>,
    pub(super) ended: Receiver<WorkerOutcome>,
    pub(super) thread: JoinHandle<()>,
}

impl Recorder {
    /// How long dropping a recorder waits for its thread.
    pub const DROP_TIMEOUT: Duration = Duration::from_secs(10);

    pub(super) fn new(parts: Parts) -> Self {
        Self {
            experiment: parts.experiment,
            run: parts.run,
            rank: parts.rank,
            format: parts.format,
            latest: (0, 0),
            when_full: parts.when_full,
            on_failure: parts.on_failure,
            shared: parts.shared,
            outbox: Some(parts.outbox),
            ended: parts.ended,
            thread: Some(parts.thread),
        }
    }

    /// Returns the format that batches must have.
    #[must_use]
    pub fn format(&self) -> &BatchFormat {
        &self.format
    }

    /// Hands over a batch. Returns at once unless the queue is full and the recorder is set to
    /// wait.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the batch was made with another format,
    /// or belongs to an earlier step or epoch than the last one. [`Stopped`](ErrorKind::Stopped)
    /// once recording has stopped at a failure, if the recorder is set to fail; otherwise training
    /// goes on and the rows are counted as lost.
    pub fn record(&mut self, batch: Batch) -> Result<()> {
        if let Measured::Observations(columns) = &batch.measured
            && columns.signals.len() != self.format.signals.len()
        {
            let (expected, got) = (self.format.signals.len(), columns.signals.len());
            return Err(Error::invalid(format!("batch: expected {expected} signals, got {got}")));
        }
        let (moment, rows, bytes) = (batch.moment, batch.len() as u64, batch.bytes());
        if batch.is_empty() {
            // Not sent, so that the thread cannot count them.
            self.shared.without_tokens.fetch_add(batch.without_tokens(), Ordering::Relaxed);
        }
        self.hand_over(moment, rows, bytes, || Ok(Message::Batch(Box::new(batch))))
    }

    /// Hands over a batch that a device may still be computing. `start` starts the computation and
    /// returns a closure that waits for it on the recorder's thread. If the queue has no room for
    /// `bytes`, training waits, or the batch is dropped without being started, as the recorder is
    /// set.
    ///
    /// `rows` is the number of rows before ignored ones are left out. What is wrong with the batch
    /// is found only when it arrives. The first call after that ([`record`](Self::record),
    /// [`flush`](Self::flush), this method, or the report at the end) returns the error, naming the
    /// step. Nothing of that batch is recorded, and its rows count as lost.
    ///
    /// # Errors
    ///
    /// What `start` returns; otherwise as for [`record`](Self::record).
    pub fn record_pending<E, W>(
        &mut self,
        moment: Moment,
        rows: usize,
        bytes: usize,
        start: impl FnOnce() -> Result<W, E>,
    ) -> Result<(), E>
    where
        E: From<Error>,
        W: FnOnce() -> Result<Batch> + Send + 'static,
    {
        let rows = rows as u64;
        self.hand_over(moment, rows, bytes, || {
            let wait = Box::new(start()?);
            Ok(Message::PendingBatch(PendingBatch { moment, rows, bytes, wait }))
        })
    }

    fn hand_over<E: From<Error>>(
        &mut self,
        moment: Moment,
        rows: u64,
        bytes: usize,
        message: impl FnOnce() -> Result<Message, E>,
    ) -> Result<(), E> {
        let refusal = self.shared.take_rejection();
        let handed_over = self.send(moment, rows, bytes, message);
        match refusal {
            Some(refusal) => Err(refusal.into()),
            None => handed_over,
        }
    }

    fn send<E: From<Error>>(
        &mut self,
        moment: Moment,
        rows: u64,
        bytes: usize,
        message: impl FnOnce() -> Result<Message, E>,
    ) -> Result<(), E> {
        let Moment { step, epoch, .. } = moment;
        if step < self.latest.0 || epoch < self.latest.1 {
            let (latest_step, latest_epoch) = self.latest;
            return Err(E::from(Error::invalid(format!(
                "batch: expected step {latest_step} or later in epoch {latest_epoch} or later, got step \
                 {step} in epoch {epoch}"
            ))));
        }
        self.latest = (step, epoch);
        if rows == 0 {
            return Ok(());
        }
        self.shared.rows.fetch_add(rows, Ordering::Relaxed);
        if self.shared.stopped.load(Ordering::Acquire) {
            return Ok(self.lose(rows)?);
        }
        let Some(outbox) = &self.outbox else { return Ok(self.lose(rows)?) };
        if !self.shared.gate.try_enter(bytes) {
            outbox.wake();
            if self.when_full == WhenFull::Drop {
                self.shared.add_gap(step, rows);
                return Ok(());
            }
            self.count_wait(self.shared.gate.enter(bytes));
        }
        let message = message().inspect_err(|_| {
            self.shared.rows.fetch_sub(rows, Ordering::Relaxed);
            self.shared.gate.leave(bytes);
        })?;
        let sent = match outbox.try_send(message) {
            Err(TrySendError::Full(_)) if self.when_full == WhenFull::Drop => {
                self.shared.gate.leave(bytes);
                self.shared.add_gap(step, rows);
                return Ok(());
            }
            Err(TrySendError::Full(message)) => {
                let since = Instant::now();
                let sent = outbox.send(message).is_ok();
                self.count_wait(since.elapsed());
                sent
            }
            result => result.is_ok(),
        };
        if self.shared.gate.is_half_full() {
            outbox.wake();
        }
        if sent { Ok(()) } else { Ok(self.lose(rows)?) }
    }

    /// Hands over a copy of the weights of `bytes` bytes, made by `copy`. If the copies that wait
    /// for the disk leave no room for it, training waits, or the snapshot is skipped without
    /// copying, as the recorder is set. Returns whether a copy was made.
    ///
    /// `copy` receives an earlier snapshot that is already on disk, if there is one: reusing its
    /// memory takes a fraction of the time of fresh memory. One snapshot is kept for that.
    ///
    /// # Errors
    ///
    /// What `copy` returns; [`InvalidArgument`](ErrorKind::InvalidArgument) for a snapshot of an
    /// earlier step than the last batch; once recording has stopped, as for
    /// [`record`](Self::record).
    pub fn record_snapshot<E: From<Error>>(
        &mut self,
        bytes: usize,
        copy: impl FnOnce(Option<Snapshot>) -> Result<Snapshot, E>,
    ) -> Result<bool, E> {
        let latest = self.latest.0;
        let shared = Arc::clone(&self.shared);
        self.hand_over_snapshot(bytes, || {
            let snapshot = copy(shared.take_reusable_snapshot())?;
            check_order(snapshot.step(), latest)?;
            Ok(Message::Snapshot(snapshot, bytes))
        })
    }

    /// Hands over a copy of the weights at `step` that a device may still be making. `start` starts
    /// the copy and returns a closure that waits for it on the recorder's thread and receives an
    /// earlier snapshot as in [`record_snapshot`](Self::record_snapshot). A failure by then is
    /// reported as for [`record_pending`](Self::record_pending), and counts as a lost snapshot.
    ///
    /// # Errors
    ///
    /// What `start` returns; otherwise as for [`record_snapshot`](Self::record_snapshot).
    pub fn record_pending_snapshot<E, W>(
        &mut self,
        step: u64,
        bytes: usize,
        start: impl FnOnce() -> Result<W, E>,
    ) -> Result<bool, E>
    where
        E: From<Error>,
        W: FnOnce(Option<Snapshot>) -> Result<Snapshot> + Send + 'static,
    {
        check_order(step, self.latest.0)?;
        self.hand_over_snapshot(bytes, || {
            let wait = Box::new(start()?);
            Ok(Message::PendingSnapshot(PendingSnapshot { step, bytes, wait }))
        })
    }

    fn hand_over_snapshot<E: From<Error>>(
        &mut self,
        bytes: usize,
        message: impl FnOnce() -> Result<Message, E>,
    ) -> Result<bool, E> {
        if self.shared.stopped.load(Ordering::Acquire) {
            return Ok(self.count_lost_snapshot().map(|()| false)?);
        }
        if !self.shared.snapshot_budget.try_enter(bytes) {
            if self.when_full == WhenFull::Drop {
                self.shared.snapshots.skipped.fetch_add(1, Ordering::Relaxed);
                return Ok(false);
            }
            self.count_wait(self.shared.snapshot_budget.enter(bytes));
        }
        let message = message().inspect_err(|_| self.shared.snapshot_budget.leave(bytes))?;
        match self.outbox.as_ref().map(|outbox| outbox.send(message).is_ok()) {
            Some(true) => Ok(true),
            _ => Ok(self.count_lost_snapshot().map(|()| false)?),
        }
    }

    /// Waits until everything handed over so far would survive a crash of the process.
    ///
    /// # Errors
    ///
    /// The failure that keeps rows from being written, that stopped the recording earlier, or that
    /// a batch still being computed turned out to have.
    pub fn flush(&mut self) -> Result<()> {
        self.ask(Message::Flush)
    }

    /// Waits until everything handed over so far can be read by others, in parts of the tables, and goes on
    /// recording. Parts of their own cost readers time: call it now and then, such as after an epoch, not
    /// at every step.
    ///
    /// # Errors
    ///
    /// As for [`flush`](Self::flush); what could not be made visible is tried again later.
    pub fn publish(&mut self) -> Result<()> {
        self.ask(Message::Publish)
    }

    /// Keeps a warning in the run's metadata and in its report, once however often it is given.
    pub fn warn(&self, warning: &str) {
        self.shared.warn(warning);
    }

    fn ask(&mut self, message: fn(Sender<Result<()>>) -> Message) -> Result<()> {
        let (reply, answer) = bounded(1);
        let asked = self.outbox.as_ref().map(|outbox| outbox.send(message(reply)).is_ok());
        match (asked, answer.recv()) {
            (Some(true), Ok(Ok(()))) => self.shared.take_rejection().map_or(Ok(()), Err),
            (Some(true), Ok(failed)) => failed,
            _ => Err(self.stopped()),
        }
    }

    /// Returns the state of the recording. Takes no lock that the recorder's thread holds while it
    /// works.
    #[must_use]
    pub fn status(&self) -> RecorderStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RecorderStatus {
            rows: count(&self.shared.rows),
            committed: count(&self.shared.committed),
            dropped: count(&self.shared.dropped),
            non_finite: count(&self.shared.non_finite),
            lost: count(&self.shared.lost),
            without_tokens: count(&self.shared.without_tokens),
            bytes_per_row: self.format.bytes_per_row(),
            labels: self.shared.labels(),
            warnings: self.shared.warnings(),
            snapshots: self.shared.snapshots.counts(),
            queued_bytes: self.shared.gate.inside(),
            waited: Duration::from_nanos(count(&self.shared.waited_nanos)),
            retries: count(&self.shared.retries),
            failure: self.shared.failure(),
        }
    }

    /// Records everything that was handed over, publishes it, and ends the thread.
    ///
    /// # Errors
    ///
    /// The first failure, if the recorder is set to fail. Otherwise the failure is in the report,
    /// and [`RunReport::check`] turns it into an error.
    pub fn finish(mut self) -> Result<RunReport> {
        self.shared.finishing.store(true, Ordering::Release);
        self.outbox = None;
        let ending = self.ended.recv().ok();
        if let Some(thread) = self.thread.take() {
            // The thread catches every panic; its result came over the channel.
            let _ = thread.join();
        }
        let ending = ending.unwrap_or_else(|| WorkerOutcome {
            status: RunStatus::Failed,
            rows: RowCounts::default(),
            snapshots: SnapshotCounts::default(),
            failure: Some(Error::new(ErrorKind::Stopped, "the recorder's thread died")),
        });
        let report = RunReport {
            experiment: self.experiment.clone(),
            run: self.run.clone(),
            rank: self.rank,
            status: ending.status,
            rows: ending.rows,
            bytes_per_row: self.format.bytes_per_row(),
            labels: self.shared.labels(),
            warnings: self.shared.warnings(),
            snapshots: ending.snapshots,
            waited: Duration::from_nanos(self.shared.waited_nanos.load(Ordering::Relaxed)),
            failure: ending.failure,
        };
        match self.on_failure {
            OnFailure::Degrade => Ok(report),
            OnFailure::Fail => report.check().map(|()| report),
        }
    }

    fn lose(&self, rows: u64) -> Result<()> {
        self.shared.lost.fetch_add(rows, Ordering::Relaxed);
        match self.on_failure {
            OnFailure::Degrade => Ok(()),
            OnFailure::Fail => Err(self.stopped()),
        }
    }

    fn count_lost_snapshot(&self) -> Result<()> {
        self.shared.snapshots.lost.fetch_add(1, Ordering::Relaxed);
        self.lose(0)
    }

    fn stopped(&self) -> Error {
        let unknown = || Error::new(ErrorKind::Stopped, "the recorder's thread died");
        self.shared.failure().map_or_else(unknown, |failure| stopped(&failure))
    }

    fn count_wait(&self, waited: Duration) {
        if !waited.is_zero() {
            self.shared.waited_nanos.fetch_add(waited.as_nanos() as u64, Ordering::Relaxed);
        }
    }
}

fn check_order(step: u64, latest: u64) -> Result<()> {
    if step < latest {
        return Err(Error::invalid(format!(
            "snapshot: expected step {latest} or later, got step {step}"
        )));
    }
    Ok(())
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.outbox = None;
        if self.thread.is_some() {
            // A hanging disk must not keep the program from exiting.
            let _ = self.ended.recv_timeout(Self::DROP_TIMEOUT);
        }
    }
}
