//! The messages that cross the channel to the recorder's thread.

use std::fmt;

use crossbeam_channel::Sender;

use crate::error::Result;
use crate::observe::{Batch, Moment, Snapshot};

#[derive(Debug)]
pub(crate) enum Message {
    Batch(Box<Batch>),
    /// A batch that a device may still be computing.
    PendingBatch(PendingBatch),
    /// A copy of weights.
    Snapshot(Snapshot, SnapshotBytes),
    /// A copy of weights that may still be on its way from a device.
    PendingSnapshot(PendingSnapshot),
    /// Commit everything before this message, and reply with the result.
    Flush(Sender<Result<()>>),
    /// Commit everything before this message and make it visible, and reply with the result.
    Publish(Sender<Result<()>>),
}

/// How much of the snapshot budget a copy of weights holds.
pub(crate) type SnapshotBytes = usize;

/// A batch to wait for on the recorder's thread.
pub(crate) struct PendingBatch {
    pub(crate) moment: Moment,
    /// An upper bound: ignored rows are not known yet.
    pub(crate) rows: u64,
    /// How much of the queue it holds.
    pub(crate) bytes: usize,
    pub(crate) wait: Box<dyn FnOnce() -> Result<Batch> + Send>,
}

/// A copy of weights to wait for on the recorder's thread.
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
