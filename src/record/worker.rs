//! The recorder's thread: takes batches, and decides when to commit and what a failure means.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender};

use super::channel::MessageReceiver;
use super::first_labels::FirstLabels;
use super::message::{Message, PendingBatch, PendingSnapshot};
use super::policy::OnFailure;
use super::shared::{Shared, SnapshotCounters};
use super::sink::Sink;
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Batch, Moment, Snapshot};
use crate::run::{LabelCounts, RowCounts, RunMetadata, RunStatus, SnapshotCounts};
use crate::storage::{Retry, is_transient, retry_until};

/// When the worker commits, and how long it retries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlushPolicy {
    pub(crate) flush_rows: u64,
    pub(crate) flush_bytes: usize,
    pub(crate) flush_interval: Duration,
    /// The number of pending bytes above which a write that keeps failing ends the recording.
    pub(crate) retry_buffer_bytes: usize,
    /// How long the end of a run waits for a write that keeps failing.
    pub(crate) retry_timeout: Duration,
    pub(crate) on_failure: OnFailure,
}

/// What the thread returns when it ends.
pub(crate) struct WorkerOutcome {
    pub(crate) status: RunStatus,
    pub(crate) rows: RowCounts,
    pub(crate) snapshots: SnapshotCounts,
    pub(crate) failure: Option<Error>,
}

pub(crate) struct Worker<S> {
    sink: S,
    inbox: MessageReceiver<Message>,
    shared: Arc<Shared>,
    pace: FlushPolicy,
    metadata: RunMetadata,
    /// What the run had recorded before a resume.
    earlier: RowCounts,
    earlier_snapshots: SnapshotCounts,
    earlier_waited: f64,
    earlier_gaps: usize,
    /// Rows taken from the channel while recording.
    received: u64,
    /// The budgets of the snapshots that the sink has not written yet.
    snapshots: VecDeque<usize>,
    /// When the oldest pending row arrived.
    pending_since: Option<Instant>,
    retry: Option<Retry>,
    /// Whether `run.json` does not say yet what the targets are, or that labels change.
    metadata_changed: bool,
    labels: FirstLabels,
    earlier_changed_labels: u64,
}

impl<S: Sink> Worker<S> {
    pub(crate) fn new(
        sink: S,
        inbox: MessageReceiver<Message>,
        shared: Arc<Shared>,
        pace: FlushPolicy,
        metadata: RunMetadata,
    ) -> Self {
        let metadata_labels_changed = metadata.labels.changed;
        shared.set_labels(metadata.labels);
        for warning in &metadata.warnings {
            shared.warn(warning);
        }
        Self {
            sink,
            inbox,
            shared,
            pace,
            earlier: metadata.rows,
            earlier_snapshots: metadata.snapshots,
            earlier_waited: metadata.waited_seconds,
            earlier_gaps: metadata.gaps.len(),
            metadata,
            received: 0,
            snapshots: VecDeque::new(),
            pending_since: None,
            retry: None,
            metadata_changed: false,
            labels: FirstLabels::default(),
            earlier_changed_labels: metadata_labels_changed,
        }
    }

    /// Works until the handle is gone. A panic in the sink ends the recording but not the thread,
    /// which keeps draining the channel so that training does not block.
    pub(crate) fn work(mut self) -> WorkerOutcome {
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.drain())) {
            self.stop(&panicked(panic.as_ref()));
        }
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.settle())) {
            if self.shared.stopped.load(Ordering::Acquire) {
                break;
            }
            self.stop(&panicked(panic.as_ref()));
        }
        WorkerOutcome {
            status: self.metadata.status,
            rows: self.metadata.rows,
            snapshots: self.metadata.snapshots,
            failure: self.shared.failure().or_else(|| self.shared.take_rejection()),
        }
    }

    fn drain(&mut self) {
        loop {
            let due = self.due();
            match self.inbox.recv(due) {
                Ok(Message::Batch(batch)) => self.take(*batch),
                Ok(Message::PendingBatch(pending)) => self.take_pending(pending),
                Ok(Message::Snapshot(snapshot, bytes)) => self.take_snapshot(snapshot, bytes),
                Ok(Message::PendingSnapshot(pending)) => self.take_pending_snapshot(pending),
                Ok(Message::Flush(reply)) => self.answer(&reply, Self::flush),
                Ok(Message::Publish(reply)) => self.answer(&reply, Self::publish),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.run_maintenance();
        }
    }

    /// Notes what the targets are, which decides which signals can be derived from others later.
    fn note_targets(&mut self, batch: &Batch) {
        let known = self.metadata.targets;
        let targets = match (known, batch.targets()) {
            (Some(known), Some(these)) => Some(known.and(these)),
            (known, these) => known.or(these),
        };
        if targets != known {
            self.metadata.targets = targets;
            // Written at once: an interrupted run must not say too little.
            self.metadata_changed = true;
        }
    }

    /// Notes whether examples keep their labels.
    fn note_labels(&mut self, batch: &Batch) {
        let before = self.labels.counts().changed;
        self.labels.compare(batch);
        let LabelCounts { examples, changed } = self.labels.counts();
        // The first one is worth a word at once, later ones at the next occasion.
        self.metadata_changed |= before == 0 && changed > 0;
        let changed = changed + self.earlier_changed_labels;
        self.shared.set_labels(LabelCounts { examples, changed });
    }

    fn take(&mut self, batch: Batch) {
        // Released first, so that a sink that panics over the batch does not leave the queue full
        // for ever.
        self.shared.gate.leave(batch.bytes());
        if self.stopped() {
            self.shared.lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
        } else {
            self.push(batch);
        }
    }

    fn push(&mut self, batch: Batch) {
        self.received += batch.len() as u64;
        self.shared.non_finite.fetch_add(batch.non_finite(), Ordering::Relaxed);
        self.shared.without_tokens.fetch_add(batch.without_tokens(), Ordering::Relaxed);
        self.note_targets(&batch);
        self.note_labels(&batch);
        if batch.is_empty() {
            return;
        }
        self.pending_since.get_or_insert_with(Instant::now);
        self.sink.push(batch);
    }

    fn take_pending(&mut self, pending: PendingBatch) {
        let PendingBatch { moment, rows, bytes, wait } = pending;
        let waited = if self.stopped() { None } else { Some(catch_panic(wait)) };
        self.shared.gate.leave(bytes);
        match waited {
            Some(Ok(batch)) => {
                let ignored = rows - rows.min(batch.len() as u64);
                self.shared.rows.fetch_sub(ignored, Ordering::Relaxed);
                self.push(batch);
            }
            refused => {
                self.shared.lost.fetch_add(rows, Ordering::Relaxed);
                if let Some(Err(error)) = refused {
                    let Moment { phase, step, .. } = moment;
                    let phase = phase.name();
                    self.shared.refuse(error.context(format!("{phase} batch at step {step}")));
                }
            }
        }
    }

    fn take_snapshot(&mut self, snapshot: Snapshot, bytes: usize) {
        if self.stopped() {
            self.count_lost_snapshot(bytes);
        } else {
            self.snapshots.push_back(bytes);
            self.pending_since.get_or_insert_with(Instant::now);
            self.sink.push_snapshot(snapshot);
        }
    }

    fn take_pending_snapshot(&mut self, pending: PendingSnapshot) {
        let PendingSnapshot { step, bytes, wait } = pending;
        if self.stopped() {
            return self.count_lost_snapshot(bytes);
        }
        let spare = self.shared.take_reusable_snapshot();
        match catch_panic(|| wait(spare)) {
            Ok(snapshot) => self.take_snapshot(snapshot, bytes),
            Err(error) => {
                self.count_lost_snapshot(bytes);
                self.shared.refuse(error.context(format!("snapshot at step {step}")));
            }
        }
    }

    fn count_lost_snapshot(&self, bytes: usize) {
        self.shared.snapshot_budget.leave(bytes);
        self.shared.snapshots.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the snapshots that the sink no longer holds, and returns their budget.
    fn release_snapshots(&mut self, pending: usize, counter: fn(&SnapshotCounters) -> &AtomicU64) {
        while self.snapshots.len() > pending {
            counter(&self.shared.snapshots).fetch_add(1, Ordering::Relaxed);
            if let Some(bytes) = self.snapshots.pop_front() {
                self.shared.snapshot_budget.leave(bytes);
            }
        }
    }

    /// Returns when there is something to do without a message.
    fn due(&self) -> Option<Instant> {
        if self.stopped() {
            return None;
        }
        if let Some(retry) = self.retry {
            return Some(retry.at());
        }
        let flush = self.pending_since.map(|since| since + self.pace.flush_interval);
        let maintain = self.sink.maintenance_due();
        flush.into_iter().chain(maintain).min()
    }

    fn run_maintenance(&mut self) {
        if self.stopped() {
            return;
        }
        let now = Instant::now();
        if self.retry.is_some_and(|retry| !retry.is_due(now)) {
            let pending = self.sink.pending();
            if pending.bytes > self.pace.retry_buffer_bytes {
                let error = Error::new(
                    ErrorKind::Io,
                    format!("{} bytes are waiting for a disk that cannot take them", pending.bytes),
                );
                self.stop(&error);
            }
            return;
        }
        let pending = self.sink.pending();
        let flush_due = pending.rows >= self.pace.flush_rows
            || pending.bytes >= self.pace.flush_bytes
            || pending.snapshots > 0
            || self.pending_since.is_some_and(|since| now >= since + self.pace.flush_interval)
            || self.retry.is_some();
        if flush_due && let Err(error) = self.commit() {
            return self.handle_write_error(&error);
        }
        let maintenance_due = flush_due
            || self.metadata_changed
            || self.sink.maintenance_due().is_some_and(|due| now >= due);
        if maintenance_due && let Err(error) = self.maintain() {
            return self.handle_write_error(&error);
        }
        if flush_due {
            self.retry = None;
        }
    }

    fn commit(&mut self) -> Result<()> {
        let result = self.sink.commit();
        let pending = self.sink.pending();
        self.shared.committed.store(self.received - pending.rows, Ordering::Relaxed);
        if let Some(spare) = self.sink.take_reusable_snapshot() {
            // Released first, so that a waiting thread finds room.
            self.shared.keep_reusable_snapshot(spare);
        }
        self.release_snapshots(pending.snapshots, |counters| &counters.written);
        if result.is_ok() {
            self.pending_since = None;
        }
        result
    }

    fn maintain(&mut self) -> Result<()> {
        if self.sink.maintain()? || self.metadata_changed {
            self.note(RunStatus::Running)?;
            self.metadata_changed = false;
        }
        Ok(())
    }

    /// Does what the training thread waits for. It is told about a panic, too.
    fn answer(&mut self, reply: &Sender<Result<()>>, action: fn(&mut Self) -> Result<()>) {
        let result = catch_unwind(AssertUnwindSafe(|| action(self)));
        let result = result.unwrap_or_else(|panic| {
            let failure = panicked(panic.as_ref());
            self.stop(&failure);
            Err(failure)
        });
        // The caller may have stopped waiting.
        let _ = reply.send(result);
    }

    /// Makes everything so far visible to readers. What cannot be published now is tried again later.
    fn publish(&mut self) -> Result<()> {
        self.flush()?;
        let deadline = Instant::now() + self.pace.retry_timeout;
        self.persist(deadline, |worker| worker.sink.publish().map(drop))?;
        self.persist(deadline, |worker| worker.note(RunStatus::Running))
    }

    fn flush(&mut self) -> Result<()> {
        if let Some(failure) = self.shared.failure() {
            return Err(stopped(&failure));
        }
        let deadline = Instant::now() + self.pace.retry_timeout;
        self.persist(deadline, Self::commit)
    }

    /// Handles a failed write: retries later if that can help, and otherwise ends the recording.
    fn handle_write_error(&mut self, error: &Error) {
        if !is_transient(error) || self.sink.pending().bytes > self.pace.retry_buffer_bytes {
            return self.stop(error);
        }
        self.shared.retries.fetch_add(1, Ordering::Relaxed);
        self.retry = Some(Retry::schedule(self.retry, Instant::now()));
    }

    /// Repeats an action while it fails with a transient error, until a deadline.
    fn persist(
        &mut self,
        deadline: Instant,
        mut action: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        retry_until(
            deadline,
            || action(self),
            |pause| {
                shared.retries.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(pause);
            },
        )
    }

    fn stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }

    /// Ends the recording: what is pending is lost, and counted.
    fn stop(&mut self, error: &Error) {
        self.shared.fail(error);
        if !self.shared.stopped.swap(true, Ordering::AcqRel) {
            let committed = self.shared.committed.load(Ordering::Relaxed);
            self.shared.lost.fetch_add(self.received - committed, Ordering::Relaxed);
        }
        self.pending_since = None;
        self.retry = None;
        self.release_snapshots(0, |counters| &counters.lost);
        let status = self.status_after_failure();
        let sink = AssertUnwindSafe(&mut self.sink);
        // The sink may be what panicked; its count is not needed.
        let _ = catch_unwind(|| { sink }.discard_pending());
        // The disk may be what failed. The end of the run tries to write this again.
        let _ = catch_unwind(AssertUnwindSafe(|| self.note(status)));
    }

    fn status_after_failure(&self) -> RunStatus {
        match self.pace.on_failure {
            OnFailure::Degrade => RunStatus::Degraded,
            OnFailure::Fail => RunStatus::Failed,
        }
    }

    /// Ends the run: everything committed becomes visible, and `run.json` says how the run ended.
    fn settle(&mut self) {
        let deadline = Instant::now() + self.pace.retry_timeout;
        if !self.stopped()
            && let Err(error) = self.persist(deadline, Self::commit)
        {
            self.stop(&error);
        }
        if let Err(error) = self.persist(deadline, |worker| worker.sink.publish().map(drop)) {
            let rows = self.sink.unpublished();
            self.shared.fail(&error.context(format!(
                "{rows} committed rows could not be published; `data-diet recover` will"
            )));
            self.shared.stopped.store(true, Ordering::Release);
        }
        let status = if self.stopped() {
            self.status_after_failure()
        } else if self.shared.finishing.load(Ordering::Acquire) {
            RunStatus::Finished
        } else {
            self.shared.fail(&Error::new(
                ErrorKind::Stopped,
                "the hook was dropped without `finish`; every row that was handed over is recorded",
            ));
            RunStatus::Failed
        };
        if let Err(error) = self.persist(deadline, |worker| worker.note(status)) {
            self.shared.fail(&error);
        }
    }

    fn note(&mut self, status: RunStatus) -> Result<()> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.metadata.status = status;
        self.metadata.rows = RowCounts {
            written: self.earlier.written + count(&self.shared.committed),
            dropped: self.earlier.dropped + count(&self.shared.dropped),
            non_finite: self.earlier.non_finite + count(&self.shared.non_finite),
            lost: self.earlier.lost + count(&self.shared.lost),
            without_tokens: self.earlier.without_tokens + count(&self.shared.without_tokens),
        };
        let snapshots = self.shared.snapshots.counts();
        self.metadata.snapshots = SnapshotCounts {
            written: self.earlier_snapshots.written + snapshots.written,
            skipped: self.earlier_snapshots.skipped + snapshots.skipped,
            lost: self.earlier_snapshots.lost + snapshots.lost,
        };
        let waited = Duration::from_nanos(count(&self.shared.waited_nanos));
        self.metadata.waited_seconds = self.earlier_waited + waited.as_secs_f64();
        self.metadata.gaps.truncate(self.earlier_gaps);
        self.metadata.gaps.extend(self.shared.gaps());
        self.metadata.labels = self.shared.labels();
        self.metadata.warnings = self.shared.warnings();
        self.metadata.failure = self.shared.failure().map(|failure| failure.to_string());
        self.sink.note(&mut self.metadata)
    }
}

/// The error that later calls return once the recording has ended early.
pub(crate) fn stopped(failure: &Error) -> Error {
    Error::new(ErrorKind::Stopped, format!("recording stopped earlier: {failure}"))
        .with_source(failure.clone())
}

/// Contains a panic of a hook's closure, which must not end the thread.
fn catch_panic<T>(wait: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(wait)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Error::new(ErrorKind::Stopped, format!("the recorder's thread panicked: {text}"))
}
