//! What the recorder's thread writes to, so that tests can replace the disk.

use std::time::Instant;

use crate::error::Result;
use crate::observe::{Batch, Snapshot};
use crate::run::{Pending, RunMetadata, RunWriter};

/// Where batches go. `push`, `push_snapshot` and `discard_pending` cannot fail; everything else may fail
/// and be retried.
pub(crate) trait Sink: Send + 'static {
    /// Takes a batch into memory.
    fn push(&mut self, batch: Batch);
    /// Takes a snapshot into memory.
    fn push_snapshot(&mut self, snapshot: Snapshot);
    /// Returns a snapshot that is no longer needed, so that its memory can be reused.
    fn take_reusable_snapshot(&mut self) -> Option<Snapshot>;
    /// Returns what was pushed and is not committed yet.
    fn pending(&self) -> Pending;
    /// Makes everything pending safe from a crash. What could not be written stays pending.
    fn commit(&mut self) -> Result<()>;
    /// Does the maintenance that is due now. Returns whether readers can see a change.
    fn maintain(&mut self) -> Result<bool>;
    /// Returns when maintenance is due next.
    fn maintenance_due(&self) -> Option<Instant>;
    /// Discards everything pending and returns how many rows that were.
    fn discard_pending(&mut self) -> u64;
    /// Makes everything committed visible.
    fn publish(&mut self) -> Result<bool>;
    /// Returns the number of committed rows that are not visible yet.
    fn unpublished(&self) -> u64;
    /// Writes the state of the run to its metadata.
    fn note(&mut self, metadata: &mut RunMetadata) -> Result<()>;
}

impl Sink for RunWriter {
    fn push(&mut self, batch: Batch) {
        Self::push(self, batch);
    }

    fn push_snapshot(&mut self, snapshot: Snapshot) {
        Self::push_snapshot(self, snapshot);
    }

    fn take_reusable_snapshot(&mut self) -> Option<Snapshot> {
        Self::take_reusable_snapshot(self)
    }

    fn pending(&self) -> Pending {
        Self::pending(self)
    }

    fn commit(&mut self) -> Result<()> {
        Self::commit(self)
    }

    fn maintain(&mut self) -> Result<bool> {
        Self::maintain(self)
    }

    fn maintenance_due(&self) -> Option<Instant> {
        self.publication_due()
    }

    fn discard_pending(&mut self) -> u64 {
        Self::discard_pending(self)
    }

    fn publish(&mut self) -> Result<bool> {
        self.publish_all()
    }

    fn unpublished(&self) -> u64 {
        Self::unpublished(self)
    }

    fn note(&mut self, metadata: &mut RunMetadata) -> Result<()> {
        self.write_metadata(metadata)
    }
}
