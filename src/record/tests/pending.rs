//! Batches and snapshots that a device is still computing when they are handed over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::bounded;

use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Batch, Moment, Phase, Snapshot, SnapshotTensor, TensorValues};
use crate::record::{Recorder, WhenFull};
use crate::run::tests::{Fixture, batch, format};
use crate::run::{RunStatus, SnapshotCounts};

fn moment(step: u64) -> Moment {
    Moment { phase: Phase::Train, step, epoch: 0 }
}

/// Hands over what `wait` will give.
fn hand_over(
    recorder: &mut Recorder,
    step: u64,
    wait: impl FnOnce() -> Result<Batch> + Send + 'static,
) -> Result<()> {
    let rows = batch(step).len();
    recorder.record_pending(moment(step), rows, 100, || Ok::<_, Error>(wait))
}

#[test]
fn the_training_thread_does_not_wait_for_the_device() {
    let fixture = Fixture::new();
    let mut recorder = Recorder::builder(fixture.path(), "seed-0", format()).start().unwrap();
    let (compute, computed) = bounded::<()>(0);
    for step in 0..3 {
        let computed = computed.clone();
        hand_over(&mut recorder, step, move || {
            computed.recv().unwrap();
            Ok(batch(step))
        })
        .unwrap();
    }
    recorder.record(batch(3)).unwrap();
    assert_eq!(recorder.status().queued_bytes, 300 + batch(3).bytes());
    for _ in 0..3 {
        compute.send(()).unwrap();
    }
    recorder.flush().unwrap();
    let status = recorder.status();
    let rows: usize = (0..4).map(|step| batch(step).len()).sum();
    assert_eq!((status.rows, status.committed, status.queued_bytes), (rows as u64, rows as u64, 0));
    recorder.finish().unwrap().check().unwrap();
}

#[test]
fn a_batch_that_turns_out_wrong_is_told_once_and_costs_only_itself() {
    let fixture = Fixture::new();
    let mut recorder = Recorder::builder(fixture.path(), "seed-0", format()).start().unwrap();
    let rows = batch(0).len() as u64;
    hand_over(&mut recorder, 7, || Err(Error::invalid("labels: expected better ones"))).unwrap();
    let error = recorder.flush().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.to_string(), "train batch at step 7: labels: expected better ones");
    let (fail, failing) = bounded::<()>(0);
    hand_over(&mut recorder, 8, move || {
        let _ = failing.recv();
        panic!("a broken hook")
    })
    .unwrap();
    drop(fail);
    while recorder.status().lost < 2 * rows {
        std::thread::yield_now();
    }
    // The call that tells of it does its own work all the same.
    let error = recorder.record(batch(9)).unwrap_err();
    assert!(error.to_string().contains("step 8: the recorder's thread panicked"), "{error}");
    recorder.flush().unwrap();
    hand_over(&mut recorder, 10, || Err(Error::invalid("the last one"))).unwrap();
    let report = recorder.finish().unwrap();
    assert_eq!((report.status, report.rows.lost), (RunStatus::Finished, 3 * rows));
    assert_eq!(report.rows.written, rows);
    assert!(report.to_string().ends_with("; train batch at step 10: the last one"), "{report}");
    assert!(report.check().is_err());
}

#[test]
fn rows_that_are_ignored_later_are_not_counted() {
    let fixture = Fixture::new();
    let mut recorder = Recorder::builder(fixture.path(), "seed-0", format()).start().unwrap();
    let whole = batch(0);
    let rows = whole.len();
    let wait = move || Ok(whole);
    recorder.record_pending(moment(0), rows + 5, 8, || Ok::<_, Error>(wait)).unwrap();
    recorder.flush().unwrap();
    assert_eq!(recorder.status().rows, rows as u64);
    assert_eq!(recorder.finish().unwrap().rows.written, rows as u64);
}

#[test]
fn a_full_queue_starts_nothing() {
    let fixture = Fixture::new();
    let builder = Recorder::builder(fixture.path(), "seed-0", format());
    let mut recorder = builder.queue_bytes(100).when_full(WhenFull::Drop).start().unwrap();
    let (compute, computed) = bounded::<()>(0);
    hand_over(&mut recorder, 0, move || {
        let _ = computed.recv();
        Ok(batch(0))
    })
    .unwrap();
    let start = || -> Result<fn() -> Result<Batch>> { panic!("started") };
    recorder.record_pending(moment(1), 4, 100, start).unwrap();
    assert_eq!(recorder.status().dropped, 4);
    drop(compute);
    recorder.flush().unwrap();
    // A device that does not begin gives its room back.
    for step in 2..5 {
        let refused: Result<()> = recorder.record_pending(moment(step), 4, 100, || {
            Err::<fn() -> Result<Batch>, _>(Error::invalid("no device"))
        });
        assert_eq!(refused.unwrap_err().to_string(), "no device");
    }
    assert_eq!(recorder.status().queued_bytes, 0);
    recorder.finish().unwrap().check().unwrap();
}

#[test]
fn what_is_handed_over_after_a_failure_is_dropped_and_counted() {
    let fixture = Fixture::new();
    let disk = crate::run::tests::FaultyDisk::default();
    let mut recorder = super::builder(&fixture, &disk).start().unwrap();
    disk.fail_always(crate::run::tests::Call::Create, std::io::ErrorKind::PermissionDenied);
    recorder.record(batch(0)).unwrap();
    while recorder.status().failure.is_none() {
        std::thread::yield_now();
    }
    let waited = Arc::new(AtomicUsize::new(0));
    for step in 1..4 {
        let waited = Arc::clone(&waited);
        hand_over(&mut recorder, step, move || {
            waited.fetch_add(1, Ordering::Relaxed);
            Ok(batch(step))
        })
        .unwrap();
    }
    disk.heal();
    let report = recorder.finish().unwrap();
    let rows: usize = (0..4).map(|step| batch(step).len()).sum();
    assert_eq!((report.rows.lost, waited.load(Ordering::Relaxed)), (rows as u64, 0));
}

#[test]
fn what_waits_in_the_queue_when_recording_stops_is_not_waited_for() {
    let fixture = Fixture::new();
    let disk = crate::run::tests::FaultyDisk::default();
    let mut recorder = super::builder(&fixture, &disk).start().unwrap();
    disk.fail_always(crate::run::tests::Call::Create, std::io::ErrorKind::PermissionDenied);
    let (compute, computed) = bounded::<()>(0);
    hand_over(&mut recorder, 0, move || {
        let _ = computed.recv();
        Ok(batch(0))
    })
    .unwrap();
    let waited = Arc::new(AtomicUsize::new(0));
    let waiting = Arc::clone(&waited);
    hand_over(&mut recorder, 1, move || {
        waiting.fetch_add(1, Ordering::Relaxed);
        Ok(batch(1))
    })
    .unwrap();
    // The first one cannot be written, while the second one is in the queue.
    drop(compute);
    let report = recorder.finish().unwrap();
    let rows: usize = (0..2).map(|step| batch(step).len()).sum();
    assert_eq!((report.rows.lost, waited.load(Ordering::Relaxed)), (rows as u64, 0));
    assert_eq!(report.failure.unwrap().kind(), ErrorKind::Io);
}

#[test]
fn snapshots_may_be_on_their_way() {
    let fixture = Fixture::new();
    let mut recorder = Recorder::builder(fixture.path(), "seed-0", format()).start().unwrap();
    let snapshot = |step| {
        let tensor = SnapshotTensor::new("w", vec![1], TensorValues::F32(vec![step as f32]));
        Snapshot::new(step, 0, vec![tensor?])
    };
    let (copy, copied) = bounded::<()>(1);
    let begin = || {
        Ok::<_, Error>(move |_spare: Option<Snapshot>| {
            copied.recv().unwrap();
            snapshot(3)
        })
    };
    assert!(recorder.record_pending_snapshot(3, 4, begin).unwrap());
    copy.send(()).unwrap();
    recorder.flush().unwrap();
    let refuse = |_spare: Option<Snapshot>| Err(Error::invalid("no weights"));
    assert!(recorder.record_pending_snapshot(4, 4, || Ok::<_, Error>(refuse)).unwrap());
    let error = recorder.flush().unwrap_err();
    assert_eq!(error.to_string(), "snapshot at step 4: no weights");
    recorder.record(batch(9)).unwrap();
    let late = recorder.record_pending_snapshot(8, 4, || Ok::<_, Error>(refuse)).unwrap_err();
    assert_eq!(late.to_string(), "snapshot: expected step 9 or later, got step 8");
    let report = recorder.finish().unwrap();
    assert_eq!(report.snapshots, SnapshotCounts { written: 1, skipped: 0, lost: 1 });
}
