//! How a recorder ends when nobody calls `finish`, and what it refuses meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{builder, metadata};
use crate::error::ErrorKind;
use crate::run::RunStatus;
use crate::run::tests::{FaultyDisk, Fixture, batch};

#[test]
fn a_dropped_recorder_keeps_what_it_was_given() {
    let fixture = Fixture::new();
    let mut recorder = builder(&fixture, &FaultyDisk::default()).start().unwrap();
    for step in 0..5 {
        recorder.record(batch(step)).unwrap();
    }
    drop(recorder);
    assert_eq!(fixture.recovered_steps(), (0..5).collect::<Vec<_>>());
    let metadata = metadata(&fixture);
    assert_eq!((metadata.status, metadata.rows.written), (RunStatus::Failed, 15));
    assert!(metadata.failure.unwrap().contains("dropped without `finish`"));
}

#[test]
fn a_training_loop_that_panics_loses_nothing() {
    let fixture = Fixture::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut recorder = builder(&fixture, &FaultyDisk::default()).start().unwrap();
        recorder.record(batch(0)).unwrap();
        recorder.record(batch(1)).unwrap();
        panic!("a shape does not match");
    }));
    assert!(panicked.is_err());
    assert_eq!(fixture.recovered_steps(), [0, 1]);
    assert_eq!(metadata(&fixture).status, RunStatus::Failed);
}

#[test]
fn a_recorder_without_batches_finishes() {
    let fixture = Fixture::new();
    let report = builder(&fixture, &FaultyDisk::default()).start().unwrap().finish().unwrap();
    assert_eq!((report.status, report.rows.written), (RunStatus::Finished, 0));
    assert!(fixture.recovered_steps().is_empty());
}

#[test]
fn a_second_recorder_of_a_rank_is_refused_until_the_first_ends() {
    let fixture = Fixture::new();
    let disk = FaultyDisk::default();
    let first = builder(&fixture, &disk).start().unwrap();
    let error = builder(&fixture, &disk).overwrite().start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    let _ = first.finish().unwrap();
    let error = builder(&fixture, &disk).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    drop(builder(&fixture, &disk).overwrite().start().unwrap());
}

#[test]
fn time_does_not_run_backwards() {
    let fixture = Fixture::new();
    let mut recorder = builder(&fixture, &FaultyDisk::default()).start().unwrap();
    recorder.record(batch(12)).unwrap();
    let error = recorder.record(batch(11)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("expected step 12 or later"), "{error}");
    recorder.record(batch(12)).unwrap();
    assert_eq!(recorder.finish().unwrap().rows.written, 6);
}

#[test]
fn a_resumed_recorder_adds_to_what_the_run_had() {
    let fixture = Fixture::new();
    let disk = FaultyDisk::default();
    let mut recorder = builder(&fixture, &disk).seed(7).start().unwrap();
    for step in 0..8 {
        recorder.record(batch(step)).unwrap();
    }
    drop(recorder);
    let mut recorder = builder(&fixture, &disk).resume_at(5, 0).start().unwrap();
    for step in 5..9 {
        recorder.record(batch(step)).unwrap();
    }
    let report = recorder.finish().unwrap();
    assert_eq!((report.status, report.rows.written), (RunStatus::Finished, 27));
    let metadata = metadata(&fixture);
    assert_eq!((metadata.seed, metadata.first_step), (Some(7), 0));
    assert_eq!((metadata.failure, metadata.rows.written), (None, 27));
    assert_eq!(fixture.recovered_steps(), (0..9).collect::<Vec<_>>());
}
