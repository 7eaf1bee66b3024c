//! One call that fails, and a process that dies, at every call that is made of the disk.

use std::io;

use super::rows::{Fixture, batch};
use super::{Call, FaultyDisk};
use crate::error::Result;
use crate::run::{Durability, IfRunExists, RunStatus, RunWriter};

/// How far a recording got.
#[derive(Debug, Default)]
struct Progress {
    /// Steps whose commit succeeded.
    committed: u64,
}

const STEPS: u64 = 8;

/// Records, with a commit after every step and a publication after every third.
fn record(fixture: &Fixture, disk: &FaultyDisk, durability: Durability) -> (Progress, Result<()>) {
    let mut progress = Progress::default();
    let result = try_record(fixture, disk, durability, &mut progress);
    (progress, result)
}

fn try_record(
    fixture: &Fixture,
    disk: &FaultyDisk,
    durability: Durability,
    progress: &mut Progress,
) -> Result<()> {
    let mut options = fixture.options();
    options.durability = durability;
    let (mut writer, mut metadata) = RunWriter::open(disk.arc(), options)?;
    for step in 0..STEPS {
        writer.push(batch(step));
        writer.commit()?;
        progress.committed = step + 1;
        if step % 3 == 2 {
            writer.publish_all()?;
        }
    }
    writer.publish_all()?;
    metadata.status = RunStatus::Finished;
    metadata.rows.written = STEPS * 3;
    writer.write_metadata(&mut metadata)
}

fn calls_of_a_recording(durability: Durability) -> Vec<Call> {
    let disk = FaultyDisk::default();
    let (_, result) = record(&Fixture::new(), &disk, durability);
    result.unwrap();
    disk.calls()
}

#[test]
fn a_process_may_die_at_every_call() {
    for durability in [Durability::Process, Durability::PowerCut] {
        let calls = calls_of_a_recording(durability);
        assert!(calls.len() > 60, "{}", calls.len());
        for (call, kind) in calls.iter().enumerate() {
            let fixture = Fixture::new();
            let disk = FaultyDisk::default();
            disk.die_after(call);
            let (progress, result) = record(&fixture, &disk, durability);
            // A cut back or an erased draft may fail without harm; everything else is told.
            if progress.committed == 0 && !fixture.path().join("_runs").exists() {
                continue;
            }
            let steps = fixture.recovered_steps();
            let place = format!("{durability:?}, call {call}, {kind:?}: {result:?}");
            assert_eq!(steps, (0..steps.len() as u64).collect::<Vec<_>>(), "{place}");
            assert!(steps.len() as u64 >= progress.committed, "{place}: lost committed rows");
            assert!(steps.len() as u64 <= progress.committed + 1, "{place}");
            assert!(result.is_err() || steps.len() as u64 == STEPS, "{place}");
            assert!(fixture.layout().logs().unwrap().is_empty(), "{place}");
            assert!(fixture.layout().drafts().unwrap().is_empty(), "{place}");
        }
    }
}

/// Drives a writer the way the recorder does with a failure that passes: every failed action is
/// repeated.
fn record_with_patience(fixture: &Fixture, disk: &FaultyDisk, durability: Durability) {
    let mut options = fixture.options();
    options.durability = durability;
    let again = |action: &mut dyn FnMut() -> Result<()>| {
        for _ in 0..3 {
            if action().is_ok() {
                return;
            }
        }
        action().unwrap();
    };
    let mut opened = None;
    again(&mut || {
        // A start that failed late has made the run.
        if fixture.layout().metadata().exists() {
            options.existing = IfRunExists::ResumeAt { step: 0, epoch: 0 };
        }
        opened = Some(RunWriter::open(disk.arc(), options.clone())?);
        Ok(())
    });
    let (mut writer, mut metadata) = opened.unwrap();
    for step in 0..STEPS {
        writer.push(batch(step));
        again(&mut || writer.commit());
        if step % 3 == 2 {
            again(&mut || writer.publish_all().map(drop));
        }
    }
    again(&mut || writer.publish_all().map(drop));
    metadata.status = RunStatus::Finished;
    metadata.rows.written = STEPS * 3;
    again(&mut || writer.write_metadata(&mut metadata));
}

#[test]
fn every_call_may_fail_once() {
    for durability in [Durability::Process, Durability::PowerCut] {
        let calls = calls_of_a_recording(durability);
        for (call, kind) in calls.iter().enumerate() {
            let fixture = Fixture::new();
            let disk = FaultyDisk::default();
            disk.fail_call(call, io::ErrorKind::StorageFull);
            record_with_patience(&fixture, &disk, durability);
            let steps = fixture.recovered_steps();
            let place = format!("{durability:?}, call {call}, {kind:?}");
            assert_eq!(steps, (0..STEPS).collect::<Vec<_>>(), "{place}");
            assert!(fixture.layout().logs().unwrap().is_empty(), "{place}");
        }
    }
}

#[test]
fn recovery_may_die_at_every_call_and_be_repeated() {
    use crate::run::recovery::recover;
    let died = || {
        let fixture = Fixture::new();
        let (mut writer, _) = fixture.open(FaultyDisk::default().arc()).unwrap();
        for step in 0..STEPS {
            writer.push(batch(step));
            writer.commit().unwrap();
        }
        fixture
    };
    let disk = FaultyDisk::default();
    assert_eq!(recover(&disk, &died().layout()).unwrap().unwrap().rows, STEPS * 3);
    let calls = disk.calls().len();
    assert!(calls > 15, "{calls}");
    for first in 0..calls {
        let fixture = died();
        // Once more at another place, and then in peace.
        for call in [first, calls - first] {
            let disk = FaultyDisk::default();
            disk.die_after(call);
            let _ = recover(&disk, &fixture.layout());
        }
        assert_eq!(fixture.recovered_steps(), (0..STEPS).collect::<Vec<_>>(), "call {first}");
    }
}

#[test]
fn the_sealed_file_of_a_number_wins_over_its_log() {
    let fixture = Fixture::new();
    let disk = FaultyDisk::default();
    let (mut writer, _) = fixture.open(disk.arc()).unwrap();
    (0..4).for_each(|step| writer.push(batch(step)));
    writer.commit().unwrap();
    // The crash comes when everything is published and the log is not removed yet.
    let drafts = 5;
    disk.fail_once(Call::Remove, drafts, io::ErrorKind::Other);
    writer.publish_all().unwrap_err();
    drop(writer);
    let (number, log) = fixture.layout().logs().unwrap().remove(0);
    let part = |table, phase| fixture.layout().part(table, phase, number);
    let table = crate::run::schema::Table::Observations;
    let before =
        std::fs::metadata(part(table, crate::observe::Phase::Train)).unwrap().modified().unwrap();
    assert_eq!(fixture.recovered_steps(), [0, 1, 2, 3]);
    let after =
        std::fs::metadata(part(table, crate::observe::Phase::Train)).unwrap().modified().unwrap();
    assert_eq!(before, after, "a visible part was replaced");
    assert!(!log.exists());
}
