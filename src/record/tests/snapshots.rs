//! The budget of copies of weights, and what becomes of them when recording stops.

use super::gated_sink::GatedSink;
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Snapshot, SnapshotTensor, TensorValues};
use crate::record::{Recorder, RecorderBuilder, WhenFull};
use crate::run::tests::{Fixture, batch, format};
use crate::run::{RunMetadata, SnapshotCounts};

const BYTES: usize = 16;

fn snapshot(step: u64) -> Snapshot {
    let values = TensorValues::F64(vec![0.0, 1.0]);
    Snapshot::new(step, 0, vec![SnapshotTensor::new("w", vec![2], values).unwrap()]).unwrap()
}

fn take(recorder: &mut Recorder, step: u64) -> Result<bool> {
    recorder.record_snapshot(BYTES, |_spare| Ok(snapshot(step)))
}

fn builder(fixture: &Fixture) -> RecorderBuilder {
    Recorder::builder(fixture.path(), "seed-0", format()).snapshot_bytes(2 * BYTES)
}

#[test]
fn a_full_budget_skips_without_copying_and_counts() {
    let fixture = Fixture::new();
    let (sink, gate) = GatedSink::new();
    let metadata = RunMetadata::new(&fixture.layout(), format());
    let builder = builder(&fixture).when_full(WhenFull::Drop);
    let mut recorder = builder.start_with(sink, metadata).unwrap();
    assert!(take(&mut recorder, 0).unwrap() && take(&mut recorder, 1).unwrap());
    // Neither is on disk yet: the sink stands before its gate.
    let copied = recorder.record_snapshot(BYTES, |_spare| -> Result<Snapshot> { panic!("copied") });
    assert!(!copied.unwrap());
    assert_eq!(recorder.status().snapshots.skipped, 1);
    drop(gate.permits);
    recorder.flush().unwrap();
    assert!(take(&mut recorder, 3).unwrap(), "what was written has made room");
    let report = recorder.finish().unwrap();
    report.check().unwrap();
    assert_eq!(report.snapshots, SnapshotCounts { written: 3, skipped: 1, lost: 0 });
}

#[test]
fn a_full_budget_makes_training_wait() {
    let fixture = Fixture::new();
    let (sink, gate) = GatedSink::new();
    let metadata = RunMetadata::new(&fixture.layout(), format());
    let mut recorder = builder(&fixture).start_with(sink, metadata).unwrap();
    std::thread::scope(|scope| {
        let training = scope.spawn(|| {
            for step in 0..6 {
                assert!(take(&mut recorder, step).unwrap());
            }
            recorder.finish().unwrap()
        });
        for step in 0..6 {
            assert_eq!(gate.arrivals.recv().unwrap(), step);
            gate.permits.send(()).unwrap();
        }
        assert_eq!(training.join().unwrap().snapshots.written, 6);
    });
}

#[test]
fn a_copy_that_fails_or_is_late_gives_its_budget_back() {
    let fixture = Fixture::new();
    let mut recorder = builder(&fixture).start().unwrap();
    recorder.record(batch(5)).unwrap();
    for _ in 0..5 {
        let refused = recorder.record_snapshot(2 * BYTES, |_spare| Err(Error::invalid("no copy")));
        assert_eq!(refused.unwrap_err().to_string(), "no copy");
        let error = take(&mut recorder, 4).unwrap_err();
        assert_eq!(error.to_string(), "snapshot: expected step 5 or later, got step 4");
    }
    assert!(take(&mut recorder, 5).unwrap());
    assert_eq!(recorder.finish().unwrap().snapshots.written, 1);
}

#[test]
fn snapshots_after_a_failure_are_lost_and_counted() {
    let fixture = Fixture::new();
    let disk = crate::run::tests::FaultyDisk::default();
    let mut recorder = builder(&fixture).disk(disk.arc()).start().unwrap();
    disk.fail_always(crate::run::tests::Call::Create, std::io::ErrorKind::PermissionDenied);
    assert!(take(&mut recorder, 0).unwrap());
    recorder.flush().unwrap_err();
    assert!(!take(&mut recorder, 1).unwrap());
    disk.heal();
    let report = recorder.finish().unwrap();
    assert_eq!(report.check().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(report.snapshots, SnapshotCounts { written: 0, skipped: 0, lost: 2 });
    assert!(report.to_string().contains("2 snapshots LOST"), "{report}");
}

#[test]
fn what_is_on_disk_is_handed_back_for_its_memory() {
    let fixture = Fixture::new();
    let mut recorder = builder(&fixture).start().unwrap();
    for step in 0..4 {
        let copied = recorder.record_snapshot(BYTES, |spare| {
            let spare = spare.map(|spare| spare.step());
            assert_eq!(spare, u64::checked_sub(step, 1), "the last one that was written");
            Ok::<_, Error>(snapshot(step))
        });
        assert!(copied.unwrap());
        recorder.flush().unwrap();
    }
    recorder.finish().unwrap().check().unwrap();
}
