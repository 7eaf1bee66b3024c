//! What crosses the channel to the recorder's thread.

use std::fmt;

use crossbeam_channel::Sender;

use crate::error::Result;
use crate::observe::{Batch, Moment, Snapshot};

#[derive(Debug)]
pub(crate) enum Message {
    Batch(Batch),
    /// A batch that a device may still be computing.
    PendingBatch(PendingBatch),
    /// A copy of weights.
    Snapshot(Snapshot, SnapshotBytes),
    /// A copy of weights that may still be on its way from a device.
    PendingSnapshot(PendingSnapshot),
    /// Commit everything before this message, and tell how that went.
    Flush(Sender<Result<()>>),
}

/// What a copy of weights holds of the budget.
pub(crate) type SnapshotBytes = usize;

/// A batch whose rows are waited for on the recorder's thread.
pub(crate) struct PendingBatch {
    pub(crate) moment: Moment,
    /// At most this many: ignored rows are known later.
    pub(crate) rows: u64,
    /// What it holds of the queue.
    pub(crate) bytes: usize,
    pub(crate) wait: Box<dyn FnOnce() -> Result<Batch> + Send>,
}

/// A copy of weights that is waited for on the recorder's thread.
pub(crate) struct PendingSnapshot {
    pub(crate) step: u64,
    pub(crate) bytes: SnapshotBytes,
    pub(crate) wait: Box<dyn FnOnce(Option<Snapshot>) -> Result<Snapshot> + Send>,
}

impl fmt::Debug for PendingBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingBatch")
            .field("moment", &self.moment)
            .field("rows", &self.rows)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PendingSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingSnapshot")
            .field("step", &self.step)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
