//! A run that goes on, one that starts over, and one that somebody else is writing.

use super::FaultyDisk;
use super::rows::{Fixture, batch};
use crate::error::{Error, ErrorKind};
use crate::run::{IfRunExists, RunMetadata, RunOptions, RunStatus, RunWriter};

fn options(fixture: &Fixture, existing: IfRunExists) -> RunOptions {
    RunOptions { existing, ..fixture.options() }
}

fn resume(fixture: &Fixture, step: u64) -> crate::error::Result<(RunWriter, RunMetadata)> {
    let existing = IfRunExists::ResumeAt { step, epoch: (step / 10) as u32 };
    RunWriter::open(FaultyDisk::default().arc(), options(fixture, existing))
}

fn record(writer: &mut RunWriter, steps: std::ops::Range<u64>, published_every: u64) {
    for step in steps {
        writer.push(batch(step));
        writer.commit().unwrap();
        if step % published_every == published_every - 1 {
            writer.publish_all().unwrap();
        }
    }
}

/// A run that died after 20 steps, five to a part, the last of them in the log only.
fn interrupted() -> Fixture {
    let fixture = Fixture::new();
    let (mut writer, _) = fixture.open(FaultyDisk::default().arc()).unwrap();
    record(&mut writer, 0..18, 5);
    fixture
}

#[test]
fn every_step_to_resume_at_gives_each_row_exactly_once() {
    for step in 0..=18 {
        let fixture = interrupted();
        let (mut writer, metadata) = resume(&fixture, step).unwrap();
        assert_eq!(metadata.rows.written, step * 3);
        assert_eq!(fixture.steps(), (0..step).collect::<Vec<_>>());
        let aside = std::fs::read_dir(fixture.layout().aside()).map_or(0, Iterator::count);
        assert_eq!(aside > 0, step < 18, "{step}");
        record(&mut writer, step..22, 5);
        writer.publish_all().unwrap();
        assert_eq!(fixture.steps(), (0..22).collect::<Vec<_>>(), "resumed at {step}");
    }
}

#[test]
fn a_resume_may_die_at_every_call_and_be_repeated() {
    for step in [7, 16] {
        let existing = IfRunExists::ResumeAt { step, epoch: 1 };
        let calls = {
            let fixture = interrupted();
            let disk = FaultyDisk::default();
            RunWriter::open(disk.arc(), options(&fixture, existing)).unwrap();
            disk.calls().len()
        };
        assert!(calls > 20, "{calls}");
        for call in 0..calls {
            let fixture = interrupted();
            let disk = FaultyDisk::default();
            disk.die_after(call);
            // The last calls only tidy up, and are allowed to fail.
            let _ = RunWriter::open(disk.arc(), options(&fixture, existing));
            let (mut writer, _) = resume(&fixture, step).unwrap();
            record(&mut writer, step..20, 5);
            writer.publish_all().unwrap();
            assert_eq!(fixture.steps(), (0..20).collect::<Vec<_>>(), "step {step}, call {call}");
            assert!(fixture.layout().replacements().unwrap().is_empty());
        }
    }
}

#[test]
fn an_epoch_before_that_of_the_kept_rows_is_refused_and_changes_nothing() {
    let fixture = interrupted();
    // Step 15 lies in epoch 1.
    let existing = IfRunExists::ResumeAt { step: 15, epoch: 0 };
    let error =
        RunWriter::open(FaultyDisk::default().arc(), options(&fixture, existing)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("epoch: run `seed-0` is in epoch 1"), "{error}");
    assert_eq!(fixture.recovered_steps(), (0..18).collect::<Vec<_>>());
    // Rows of epoch 1 that are cut off are no hindrance.
    let existing = IfRunExists::ResumeAt { step: 10, epoch: 0 };
    RunWriter::open(FaultyDisk::default().arc(), options(&fixture, existing)).unwrap();
    assert_eq!(fixture.steps(), (0..10).collect::<Vec<_>>());
}

#[test]
fn another_format_is_refused() {
    let fixture = interrupted();
    let existing = IfRunExists::ResumeAt { step: 5, epoch: 0 };
    let mut other = options(&fixture, existing);
    other.format.logits = crate::observe::LogitsFormat::Off;
    let error = RunWriter::open(FaultyDisk::default().arc(), other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("cannot be resumed with"), "{error}");
    assert_eq!(fixture.recovered_steps(), (0..18).collect::<Vec<_>>());
}

#[test]
fn an_existing_run_is_refused_with_the_ways_out() {
    let fixture = interrupted();
    let error: Error = fixture.open(FaultyDisk::default().arc()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    for word in ["`seed-0`", "status running", "another name", "resume_at", "overwrite()"] {
        assert!(error.to_string().contains(word), "{error} lacks {word}");
    }
    assert_eq!(fixture.recovered_steps(), (0..18).collect::<Vec<_>>());
}

#[test]
fn starting_over_leaves_nothing_of_the_old_run() {
    let fixture = interrupted();
    let erase = options(&fixture, IfRunExists::Erase);
    let (mut writer, metadata) = RunWriter::open(FaultyDisk::default().arc(), erase).unwrap();
    assert_eq!((metadata.rows.written, metadata.status), (0, RunStatus::Running));
    assert_eq!(fixture.steps(), [0_u64; 0]);
    record(&mut writer, 0..2, 1);
    assert_eq!(fixture.steps(), [0, 1]);
}

#[test]
fn a_rank_has_one_writer_at_a_time() {
    let fixture = Fixture::new();
    let (writer, _) = fixture.open(FaultyDisk::default().arc()).unwrap();
    for existing in
        [IfRunExists::Refuse, IfRunExists::Erase, IfRunExists::ResumeAt { step: 0, epoch: 0 }]
    {
        let options = options(&fixture, existing);
        let error = RunWriter::open(FaultyDisk::default().arc(), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{existing:?}: {error}");
    }
    let other = RunOptions { rank: 1, ..fixture.options() };
    RunWriter::open(FaultyDisk::default().arc(), other).unwrap();
    drop(writer);
    resume(&fixture, 0).unwrap();
}

#[test]
fn a_run_that_died_before_it_had_metadata_hides_nothing() {
    let fixture = interrupted();
    let newborn = fixture.path().join("_runs/newborn");
    std::fs::create_dir_all(newborn.join("open")).unwrap();
    std::fs::write(newborn.join("rank-0.lock"), b"").unwrap();
    let experiment = crate::run::Experiment::open(fixture.path()).unwrap();
    let names: Vec<String> =
        experiment.runs().unwrap().iter().map(|run| run.name().to_owned()).collect();
    assert_eq!(names, ["seed-0"]);
    assert_eq!(experiment.run("newborn").unwrap_err().kind(), ErrorKind::NotFound);
    // And it can begin.
    let options = RunOptions { run: "newborn".to_owned(), ..fixture.options() };
    RunWriter::open(FaultyDisk::default().arc(), options).unwrap();
}
