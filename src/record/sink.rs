//! What the recorder's thread drives: something that rows can be committed to.

use std::time::Instant;

use crate::error::Result;
use crate::observe::{Batch, Snapshot};
use crate::run::{Pending, RunMetadata, RunWriter};

/// Where batches go. The `push`es and `abandon` cannot fail; everything else may, and may be tried again.
pub(crate) trait Sink: Send + 'static {
    /// Takes a batch into memory.
    fn push(&mut self, batch: Batch);
    /// Takes a snapshot into memory.
    fn push_snapshot(&mut self, snapshot: Snapshot);
    /// A snapshot that is no longer needed, for its memory to be used again.
    fn take_spare(&mut self) -> Option<Snapshot>;
    /// What was pushed and is not committed.
    fn pending(&self) -> Pending;
    /// Makes everything pending safe from a crash; what could not be written stays pending.
    fn commit(&mut self) -> Result<()>;
    /// Does the upkeep that is due now. Returns whether anything changed that readers can see.
    fn tidy(&mut self) -> Result<bool>;
    /// When upkeep will next be due.
    fn tidy_due(&self) -> Option<Instant>;
    /// Forgets everything pending and tells how many rows that were.
    fn abandon(&mut self) -> u64;
    /// Makes everything committed visible.
    fn publish(&mut self) -> Result<bool>;
    /// Committed rows that are not visible.
    fn unpublished(&self) -> u64;
    /// Stores how the run stands.
    fn note(&mut self, metadata: &mut RunMetadata) -> Result<()>;
}

impl Sink for RunWriter {
    fn push(&mut self, batch: Batch) {
        Self::push(self, batch);
    }

    fn push_snapshot(&mut self, snapshot: Snapshot) {
        Self::push_snapshot(self, snapshot);
    }

    fn take_spare(&mut self) -> Option<Snapshot> {
        Self::take_spare(self)
    }

    fn pending(&self) -> Pending {
        Self::pending(self)
    }

    fn commit(&mut self) -> Result<()> {
        Self::commit(self)
    }

    fn tidy(&mut self) -> Result<bool> {
        Self::tidy(self)
    }

    fn tidy_due(&self) -> Option<Instant> {
        self.publication_due()
    }

    fn abandon(&mut self) -> u64 {
        Self::abandon(self)
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
