//! A panic on the recorder's thread ends the recording and nothing else.

use super::gated_sink::{GatedSink, Place};
use crate::error::ErrorKind;
use crate::record::{OnFailure, Recorder, RunReport};
use crate::run::tests::{Fixture, batch, format};
use crate::run::{RunMetadata, RunStatus};

/// Records ten batches through a queue for one; the sink panics in the third, once or for good.
fn record(place: Place, on_failure: OnFailure) -> (crate::error::Result<RunReport>, Vec<u64>) {
    let fixture = Fixture::new();
    let (mut sink, gate) = GatedSink::new();
    sink.panic_at = Some(place);
    drop(gate.permits);
    let metadata = RunMetadata::new(&fixture.layout(), format());
    let mut recorder = Recorder::builder(fixture.path(), "seed-0", format())
        .flush_rows(1)
        .queue_bytes(1)
        .on_failure(on_failure)
        .start_with(sink, metadata)
        .unwrap();
    let mut refused = 0;
    for step in 0..10 {
        // Blocks for ever if a panic leaves the queue full.
        match recorder.record(batch(step)) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Stopped);
                refused += 1;
            }
        }
    }
    if on_failure == OnFailure::Degrade {
        assert_eq!(refused, 0);
    }
    let report = recorder.finish();
    let committed = gate.kept.committed.lock().unwrap().clone();
    (report, committed)
}

#[test]
fn training_goes_on_and_every_lost_row_is_counted() {
    for place in [Place::Push, Place::Pending, Place::Commit, Place::Tidy] {
        let (report, committed) = record(place, OnFailure::Degrade);
        let report = report.unwrap();
        assert_eq!(report.status, RunStatus::Degraded, "{place:?}");
        assert_eq!(report.rows.written + report.rows.lost, 30, "{place:?}: {:?}", report.rows);
        assert_eq!(report.rows.written, 3 * committed.len() as u64, "{place:?}");
        let failure = report.failure.unwrap();
        let expected = format!("the recorder's thread panicked: the sink is broken in {place:?}");
        assert_eq!(failure.to_string(), expected);
    }
}

#[test]
fn a_panic_at_the_end_is_told_too() {
    let (report, committed) = record(Place::Publish, OnFailure::Degrade);
    let report = report.unwrap();
    assert_eq!(report.status, RunStatus::Degraded);
    assert_eq!((report.rows.written, report.rows.lost), (30, 0));
    assert_eq!(committed.len(), 10);
    assert!(report.failure.unwrap().to_string().contains("broken in"));
}

/// The first batch is noted at once, since it says what the targets are.
#[test]
fn a_panic_over_the_metadata_is_told_and_every_row_is_counted() {
    let (report, committed) = record(Place::Note, OnFailure::Degrade);
    let report = report.unwrap();
    assert_eq!(report.status, RunStatus::Degraded);
    assert_eq!(report.rows.written + report.rows.lost, 30);
    assert_eq!(report.rows.written, 3 * committed.len() as u64);
    assert!(report.failure.unwrap().to_string().contains("broken in"));
}

#[test]
fn a_recorder_set_to_fail_returns_it() {
    for place in [Place::Push, Place::Commit, Place::Publish] {
        let (report, _) = record(place, OnFailure::Fail);
        let error = report.unwrap_err();
        assert!(error.to_string().contains("the sink is broken in"), "{place:?}: {error}");
    }
}

#[test]
fn a_flush_that_panics_is_answered_with_the_panic() {
    let fixture = Fixture::new();
    let (mut sink, gate) = GatedSink::new();
    sink.panic_at = Some(Place::Commit);
    drop(gate.permits);
    let metadata = RunMetadata::new(&fixture.layout(), format());
    let mut recorder =
        Recorder::builder(fixture.path(), "seed-0", format()).start_with(sink, metadata).unwrap();
    recorder.record(batch(0)).unwrap();
    let error = recorder.flush().unwrap_err();
    assert!(error.to_string().contains("the sink is broken in Commit"), "{error}");
    assert_eq!(recorder.status().lost, 3);
    let error = recorder.flush().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
}
