//! A sink that a test opens and closes, so that no test depends on time.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::error::Result;
use crate::observe::{Batch, Snapshot};
use crate::record::sink::Sink;
use crate::run::{Pending, RunMetadata};

/// Keeps the steps of what it was given. Before it takes a batch it says so, and waits until it may.
#[derive(Debug)]
pub(super) struct GatedSink {
    arrivals: Sender<u64>,
    permits: Receiver<()>,
    pending: Vec<Batch>,
    snapshots: Vec<Snapshot>,
    kept: Kept,
    pub(super) panic_at: Option<Place>,
}

/// Where a sink panics, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Push,
    Pending,
    Commit,
    Tidy,
    Publish,
    Note,
}

/// What the test sees of the sink.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) committed: Arc<Mutex<Vec<u64>>>,
    pub(super) metadata: Arc<Mutex<Option<RunMetadata>>>,
}

/// The test's side.
#[derive(Debug)]
pub(super) struct Gate {
    /// The steps of the batches that stand before the gate, as they come.
    pub(super) arrivals: Receiver<u64>,
    /// Lets one batch in; dropped, it lets all in.
    pub(super) permits: Sender<()>,
    pub(super) kept: Kept,
}

impl GatedSink {
    pub(super) fn new() -> (Self, Gate) {
        let (arrived, arrivals) = unbounded();
        let (permits, permitted) = unbounded();
        let kept = Kept::default();
        let sink = Self {
            arrivals: arrived,
            permits: permitted,
            pending: Vec::new(),
            snapshots: Vec::new(),
            kept: kept.clone(),
            panic_at: None,
        };
        (sink, Gate { arrivals, permits, kept })
    }

    fn panic_at(&mut self, place: Place) {
        if self.panic_at == Some(place) {
            self.panic_at = None;
            panic!("the sink is broken in {place:?}");
        }
    }
}

impl Sink for GatedSink {
    fn push(&mut self, batch: Batch) {
        // Nobody listens or nobody holds the gate any more: both are the end of a test.
        let _ = self.arrivals.send(batch.moment.step);
        let _ = self.permits.recv();
        self.panic_at(Place::Push);
        self.pending.push(batch);
    }

    fn push_snapshot(&mut self, snapshot: Snapshot) {
        let _ = self.arrivals.send(snapshot.step());
        let _ = self.permits.recv();
        self.snapshots.push(snapshot);
    }

    fn take_reusable_snapshot(&mut self) -> Option<Snapshot> {
        None
    }

    fn pending(&self) -> Pending {
        assert!(self.panic_at != Some(Place::Pending), "the sink is broken in Pending");
        Pending {
            rows: self.pending.iter().map(|batch| batch.len() as u64).sum(),
            bytes: self.pending.iter().map(Batch::bytes).sum(),
            snapshots: self.snapshots.len(),
        }
    }

    fn commit(&mut self) -> Result<()> {
        self.panic_at(Place::Commit);
        let steps = self.pending.drain(..).map(|batch| batch.moment.step);
        self.kept.committed.lock().unwrap().extend(steps);
        self.snapshots.clear();
        Ok(())
    }

    fn maintain(&mut self) -> Result<bool> {
        self.panic_at(Place::Tidy);
        Ok(false)
    }

    fn maintenance_due(&self) -> Option<Instant> {
        None
    }

    fn discard_pending(&mut self) -> u64 {
        self.snapshots.clear();
        self.pending.drain(..).map(|batch| batch.len() as u64).sum()
    }

    fn publish(&mut self) -> Result<bool> {
        self.panic_at(Place::Publish);
        Ok(false)
    }

    fn unpublished(&self) -> u64 {
        0
    }

    fn note(&mut self, metadata: &mut RunMetadata) -> Result<()> {
        self.panic_at(Place::Note);
        *self.kept.metadata.lock().unwrap() = Some(metadata.clone());
        Ok(())
    }
}
