//! What the handle and the recorder's thread share: budgets, counters, and the first failure.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::byte_budget::ByteBudget;
use crate::error::Error;
use crate::observe::Snapshot;
use crate::run::{Gap, LabelCounts, SnapshotCounts};

/// What the handle and the worker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) gate: ByteBudget,
    /// The budget for copies of weights that are not on disk yet.
    pub(crate) snapshot_budget: ByteBudget,
    pub(crate) snapshots: SnapshotCounters,
    pub(crate) rows: AtomicU64,
    pub(crate) committed: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) non_finite: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) without_tokens: AtomicU64,
    pub(crate) waited_nanos: AtomicU64,
    pub(crate) retries: AtomicU64,
    /// Recording has ended early; rows that still arrive are lost.
    pub(crate) stopped: AtomicBool,
    /// `finish` was called: closing the channel is an orderly end.
    pub(crate) finishing: AtomicBool,
    /// The memory of a written snapshot, to be reused for the next one.
    spare: Mutex<Option<Snapshot>>,
    failure: Mutex<Option<Error>>,
    /// What was wrong with a batch or snapshot that was already handed over. Recording goes on.
    refusal: Mutex<Option<Error>>,
    refused: AtomicBool,
    gaps: Mutex<Vec<Gap>>,
    labels: Mutex<LabelCounts>,
    warnings: Mutex<Vec<String>>,
}

/// Counts of snapshots.
#[derive(Debug, Default)]
pub(crate) struct SnapshotCounters {
    pub(crate) written: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) lost: AtomicU64,
}

impl SnapshotCounters {
    pub(crate) fn counts(&self) -> SnapshotCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SnapshotCounts {
            written: count(&self.written),
            skipped: count(&self.skipped),
            lost: count(&self.lost),
        }
    }
}

impl Shared {
    pub(crate) fn new(queue_bytes: usize, snapshot_bytes: usize) -> Self {
        Self {
            gate: ByteBudget::new(queue_bytes),
            snapshot_budget: ByteBudget::new(snapshot_bytes),
            snapshots: SnapshotCounters::default(),
            rows: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            non_finite: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            without_tokens: AtomicU64::new(0),
            waited_nanos: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            finishing: AtomicBool::new(false),
            spare: Mutex::new(None),
            failure: Mutex::new(None),
            refusal: Mutex::new(None),
            refused: AtomicBool::new(false),
            gaps: Mutex::new(Vec::new()),
            labels: Mutex::default(),
            warnings: Mutex::default(),
        }
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        lock(&self.failure).clone()
    }

    pub(crate) fn take_reusable_snapshot(&self) -> Option<Snapshot> {
        lock(&self.spare).take()
    }

    pub(super) fn keep_reusable_snapshot(&self, spare: Snapshot) {
        *lock(&self.spare) = Some(spare);
    }

    pub(super) fn gaps(&self) -> Vec<Gap> {
        lock(&self.gaps).clone()
    }

    /// Returns the first refusal since the last call.
    pub(crate) fn take_rejection(&self) -> Option<Error> {
        // Almost every call finds none.
        if !self.refused.load(Ordering::Acquire) {
            return None;
        }
        self.refused.store(false, Ordering::Release);
        lock(&self.refusal).take()
    }

    pub(super) fn refuse(&self, error: Error) {
        lock(&self.refusal).get_or_insert(error);
        self.refused.store(true, Ordering::Release);
    }

    pub(super) fn fail(&self, error: &Error) {
        lock(&self.failure).get_or_insert_with(|| error.clone());
    }

    pub(super) fn set_labels(&self, counts: LabelCounts) {
        *lock(&self.labels) = counts;
    }

    pub(super) fn labels(&self) -> LabelCounts {
        *lock(&self.labels)
    }

    /// Adds a warning, unless it is already there.
    pub(super) fn warn(&self, warning: &str) {
        let mut warnings = lock(&self.warnings);
        if !warnings.iter().any(|known| known == warning) {
            warnings.push(warning.to_owned());
        }
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        lock(&self.warnings).clone()
    }

    pub(crate) fn add_gap(&self, step: u64, rows: u64) {
        const MOST_GAPS: usize = 1000;
        self.dropped.fetch_add(rows, Ordering::Relaxed);
        let mut gaps = lock(&self.gaps);
        let most = gaps.len() >= MOST_GAPS;
        match gaps.last_mut() {
            Some(gap) if most || step <= gap.last_step + 1 => {
                gap.last_step = gap.last_step.max(step);
                gap.batches += 1;
                gap.rows += rows;
            }
            _ => gaps.push(Gap { first_step: step, last_step: step, batches: 1, rows }),
        }
    }
}

/// The values behind these locks are replaced whole, so a panic elsewhere cannot leave them
/// half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
