//! A disk that fails for good, and one that recovers.

use std::io;
use std::time::Duration;

use super::{builder, metadata};
use crate::error::ErrorKind;
use crate::record::OnFailure;
use crate::run::RunStatus;
use crate::run::tests::{Call, FaultyDisk, Fixture, batch};

#[test]
fn a_disk_that_fails_for_good_degrades_the_run_and_nothing_is_hidden() {
    let fixture = Fixture::new();
    let disk = FaultyDisk::default();
    let mut recorder = builder(&fixture, &disk).start().unwrap();
    for step in 0..4 {
        recorder.record(batch(step)).unwrap();
    }
    recorder.flush().unwrap();
    disk.fail_always(Call::Write, io::ErrorKind::PermissionDenied);
    recorder.record(batch(4)).unwrap();
    let error = recorder.flush().unwrap_err();
    assert!(error.to_string().contains("injected into Write"), "{error}");
    for step in 5..10 {
        recorder.record(batch(step)).unwrap();
    }
    let status = recorder.status();
    let failure = status.failure.unwrap();
    assert_eq!(failure.kind(), ErrorKind::Io);
    assert_eq!((status.rows, status.committed), (30, 12));
    let report = recorder.finish().unwrap();
    assert_eq!(report.status, RunStatus::Degraded);
    assert_eq!((report.rows.written, report.rows.lost), (12, 18));
    assert_eq!(report.failure.as_ref().unwrap().to_string(), failure.to_string());
    assert!(report.to_string().contains("18 LOST"), "{report}");
    assert!(report.check().is_err());
    // Nothing could be published either, and nor could `run.json` be told; the log has it all.
    disk.heal();
    assert_eq!(fixture.recovered_steps(), [0, 1, 2, 3]);
}

#[test]
fn run_json_keeps_the_first_failure() {
    let fixture = Fixture::new();
    let disk = FaultyDisk::default();
    let mut recorder = builder(&fixture, &disk).start().unwrap();
    recorder.record(batch(0)).unwrap();
    recorder.flush().unwrap();
    disk.fail_once(Call::Write, 0, io::ErrorKind::PermissionDenied);
    for step in 1..6 {
        recorder.record(batch(step)).unwrap();
    }
    let report = recorder.finish().unwrap();
    let metadata = metadata(&fixture);
    assert_eq!((metadata.status, metadata.rows), (RunStatus::Degraded, report.rows));
    assert_eq!((metadata.rows.written, metadata.rows.lost), (3, 15));
    let failure = metadata.failure.unwrap();
    assert_eq!(failure, report.failure.unwrap().to_string());
    assert!(failure.contains("injected into Write"), "{failure}");
    assert_eq!(fixture.recovered_steps(), [0]);
}

#[test]
fn a_recorder_set_to_fail_fails_the_next_call() {
    let fixture = Fixture::new();
    let disk = FaultyDisk::default();
    let mut recorder = builder(&fixture, &disk).on_failure(OnFailure::Fail).start().unwrap();
    recorder.record(batch(0)).unwrap();
    recorder.flush().unwrap();
    disk.fail_once(Call::Write, 0, io::ErrorKind::PermissionDenied);
    recorder.record(batch(1)).unwrap();
    // A barrier: when it answers, the failure is known.
    recorder.flush().unwrap_err();
    let error = recorder.record(batch(2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped);
    assert!(error.to_string().contains("injected into Write"), "{error}");
    let error = recorder.finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("injected into Write"), "{error}");
    let metadata = metadata(&fixture);
    assert_eq!((metadata.status, metadata.rows.written), (RunStatus::Failed, 3));
    assert_eq!(metadata.rows.lost, 6);
}

#[test]
fn a_full_disk_that_is_freed_loses_nothing() {
    let fixture = Fixture::new();
    let disk = FaultyDisk::default();
    let retry_timeout = Duration::from_secs(60);
    let mut recorder = builder(&fixture, &disk).retry_timeout(retry_timeout).start().unwrap();
    recorder.record(batch(0)).unwrap();
    recorder.flush().unwrap();
    disk.set_room(Some(1000));
    for step in 1..30 {
        recorder.record(batch(step)).unwrap();
    }
    while recorder.status().retries == 0 {
        std::thread::yield_now();
    }
    assert!(recorder.status().committed < 90);
    disk.heal();
    let report = recorder.finish().unwrap();
    assert_eq!(
        (report.status, report.rows.written, report.rows.lost),
        (RunStatus::Finished, 90, 0)
    );
    assert!(report.failure.is_none());
    assert_eq!(fixture.recovered_steps(), (0..30).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_fills_memory_only_up_to_the_limit() {
    let fixture = Fixture::new();
    let disk = FaultyDisk::default();
    let mut recorder = builder(&fixture, &disk).retry_buffer_bytes(2000).start().unwrap();
    disk.set_room(Some(0));
    for step in 0..100 {
        recorder.record(batch(step)).unwrap();
    }
    let report = recorder.finish().unwrap();
    assert_eq!(report.status, RunStatus::Degraded);
    assert_eq!(report.rows.written + report.rows.lost, 300);
    assert_eq!(report.rows.written, 0);
}

#[test]
fn a_publication_that_fails_for_good_keeps_committed_rows_for_recovery() {
    let fixture = Fixture::new();
    let disk = FaultyDisk::default();
    let mut recorder = builder(&fixture, &disk).start().unwrap();
    for step in 0..5 {
        recorder.record(batch(step)).unwrap();
    }
    recorder.flush().unwrap();
    disk.fail_always(Call::Sync, io::ErrorKind::Other);
    let report = recorder.finish().unwrap();
    assert_eq!(report.status, RunStatus::Degraded);
    assert_eq!((report.rows.written, report.rows.lost), (15, 0));
    let failure = report.failure.unwrap().to_string();
    assert!(failure.contains("15 committed rows could not be published"), "{failure}");
    assert!(fixture.steps().is_empty());
    assert_eq!(fixture.recovered_steps(), (0..5).collect::<Vec<_>>());
}
