//! The recorder's promises: what happens to rows when the disk, the sink or the training loop fails.

mod disk_failures;
mod endings;
mod gated_sink;
mod pending;
mod queue;
mod sink_panics;
mod snapshots;

use std::sync::Arc;
use std::time::Duration;

use crate::record::{Recorder, RecorderBuilder};
use crate::run::RunMetadata;
use crate::run::tests::{FaultyDisk, Fixture, format};

/// Flushes after every batch.
fn builder(fixture: &Fixture, disk: &FaultyDisk) -> RecorderBuilder {
    Recorder::builder(fixture.path(), "seed-0", format())
        .flush_rows(1)
        .retry_timeout(Duration::ZERO)
        .disk(Arc::new(disk.clone()))
}

fn metadata(fixture: &Fixture) -> RunMetadata {
    RunMetadata::read(&fixture.layout().metadata()).unwrap().unwrap()
}
