//! A full queue: waiting loses nothing, dropping says what it dropped.

use std::thread;

use super::gated_sink::{Gate, GatedSink};
use crate::record::{Recorder, RecorderBuilder, WhenFull};
use crate::run::tests::{Fixture, batch, format};
use crate::run::{Gap, RunMetadata};

/// A recorder whose queue takes two batches.
fn start(
    fixture: &Fixture,
    options: impl FnOnce(RecorderBuilder) -> RecorderBuilder,
) -> (Recorder, Gate) {
    let (sink, gate) = GatedSink::new();
    let builder = Recorder::builder(fixture.path(), "seed-0", format())
        .flush_rows(1)
        .queue_bytes(2 * batch(0).bytes());
    let metadata = RunMetadata::new(&fixture.layout(), format());
    (options(builder).start_with(sink, metadata).unwrap(), gate)
}

#[test]
fn a_recorder_that_waits_loses_nothing_and_says_how_long_it_waited() {
    let fixture = Fixture::new();
    let (mut recorder, gate) = start(&fixture, |builder| builder);
    recorder.record(batch(0)).unwrap();
    assert_eq!(gate.arrivals.recv().unwrap(), 0);
    let (about_to_wait, waits) = crossbeam_channel::bounded(0);
    let training = thread::spawn(move || {
        for step in 1..10 {
            if step == 3 {
                about_to_wait.send(()).unwrap();
            }
            recorder.record(batch(step)).unwrap();
        }
        recorder
    });
    // The sink holds one batch back and the queue is full: nothing more can have been taken.
    waits.recv().unwrap();
    assert!(gate.arrivals.try_recv().is_err());
    drop(gate.permits);
    let recorder = training.join().unwrap();
    let report = recorder.finish().unwrap();
    assert_eq!((report.rows.written, report.rows.dropped, report.rows.lost), (30, 0, 0));
    assert_eq!(*gate.kept.committed.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

#[test]
fn waiting_is_counted() {
    let fixture = Fixture::new();
    let (mut recorder, gate) = start(&fixture, |builder| builder.queue_bytes(1));
    recorder.record(batch(0)).unwrap();
    gate.arrivals.recv().unwrap();
    let opener = thread::spawn({
        let permits = gate.permits;
        // Whenever this runs, the second batch cannot pass the queue before.
        move || drop(permits)
    });
    recorder.record(batch(1)).unwrap();
    recorder.record(batch(2)).unwrap();
    opener.join().unwrap();
    let waited = recorder.status().waited;
    let report = recorder.finish().unwrap();
    assert_eq!(report.waited, waited);
    let metadata = gate.kept.metadata.lock().unwrap().clone().unwrap();
    assert_eq!(metadata.waited_seconds, waited.as_secs_f64());
    assert_eq!(report.rows.written, 9);
}

#[test]
fn a_recorder_that_drops_says_which_steps() {
    let fixture = Fixture::new();
    let (mut recorder, gate) = start(&fixture, |builder| builder.when_full(WhenFull::Drop));
    recorder.record(batch(0)).unwrap();
    assert_eq!(gate.arrivals.recv().unwrap(), 0);
    // The batch in the sink's hands still counts as queued, or not: fill up until something drops.
    let mut step = 1;
    while recorder.status().dropped == 0 {
        recorder.record(batch(step)).unwrap();
        step += 1;
    }
    let first_dropped = step - 1;
    for step in step..step + 4 {
        recorder.record(batch(step)).unwrap();
    }
    let last_dropped = step + 3;
    assert_eq!(recorder.status().dropped, 15);
    // Let everything in that is queued, then drop nothing any more.
    drop(gate.permits);
    recorder.flush().unwrap();
    recorder.record(batch(last_dropped + 5)).unwrap();
    let report = recorder.finish().unwrap();
    assert_eq!(report.rows.dropped, 15);
    let metadata = gate.kept.metadata.lock().unwrap().clone().unwrap();
    let gap = Gap { first_step: first_dropped, last_step: last_dropped, batches: 5, rows: 15 };
    assert_eq!(metadata.gaps, [gap]);
    assert_eq!(metadata.rows, report.rows);
    let mut expected: Vec<u64> = (0..first_dropped).collect();
    expected.push(last_dropped + 5);
    assert_eq!(*gate.kept.committed.lock().unwrap(), expected);
    assert_eq!(report.rows.written, 3 * expected.len() as u64);
}

#[test]
fn separate_gaps_stay_separate() {
    let fixture = Fixture::new();
    let (mut recorder, gate) = start(&fixture, |builder| builder.when_full(WhenFull::Drop));
    recorder.record(batch(0)).unwrap();
    gate.arrivals.recv().unwrap();
    let mut step = 1;
    while recorder.status().dropped == 0 {
        recorder.record(batch(step)).unwrap();
        step += 1;
    }
    recorder.record(batch(step + 10)).unwrap();
    drop(gate.permits);
    let _ = recorder.finish().unwrap();
    let metadata = gate.kept.metadata.lock().unwrap().clone().unwrap();
    let gap = |step| Gap { first_step: step, last_step: step, batches: 1, rows: 3 };
    assert_eq!(metadata.gaps, [gap(step - 1), gap(step + 10)]);
}

#[test]
fn flush_is_a_barrier() {
    let fixture = Fixture::new();
    let (mut recorder, gate) = start(&fixture, |builder| builder.flush_rows(1 << 40));
    drop(gate.permits);
    for step in 0..5 {
        recorder.record(batch(step)).unwrap();
    }
    recorder.flush().unwrap();
    assert_eq!(recorder.status().committed, 15);
    assert_eq!(gate.kept.committed.lock().unwrap().len(), 5);
}
