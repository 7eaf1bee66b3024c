//! Runs that cannot begin, and runs that cannot go on.

use std::fs;

use data_diet::run::RunStatus;
use data_diet::{ErrorKind, Experiment};
use data_diet_candle::{DataDietHook, DataDietHookBuilder, Error, OnFailure};

use crate::fixture::{Fixture, RUN, some_logits};

fn refused(builder: DataDietHookBuilder) -> String {
    builder.build().expect_err("the options do not fit").to_string()
}

fn kind(error: &Error) -> Option<ErrorKind> {
    match error {
        Error::Record(error) => Some(error.kind()),
        _ => None,
    }
}

#[test]
fn options_that_are_missing_or_out_of_range() {
    let fixture = Fixture::new();
    let message = refused(fixture.builder());
    assert!(
        message.starts_with("model: expected `.classes(n)`, `.tokens(vocabulary)`"),
        "{message}"
    );
    for classes in [0, 1, 1 << 25] {
        let message = refused(fixture.builder().classes(classes));
        assert_eq!(message, format!("classes: expected between 2 and 2^24, got {classes}"));
    }
    let message = refused(fixture.builder().classes(3).every(0));
    assert_eq!(message, "every: expected at least 1 step, got 0");
    let message = refused(fixture.builder().classes(3).examples(u64::MAX));
    assert!(message.starts_with("examples: expected at most 2^63 - 1"), "{message}");
    let message = refused(fixture.builder().classes(3).resume_at(u64::MAX, 0));
    assert!(message.starts_with("step: expected 0 or later"), "{message}");
    let message = refused(DataDietHook::builder(fixture.path(), "seed/0").classes(3));
    assert!(message.starts_with("run: expected"), "{message}");
    assert!(!fixture.path().exists(), "a refused run leaves nothing behind");
}

#[test]
fn a_name_that_holds_a_finished_run() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    hook.on_step_end(&[1], &some_logits(1, 3), &[0]).unwrap();
    hook.finish().unwrap().check().unwrap();
    let error = fixture.builder().classes(3).build().unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::AlreadyExists));
    let message = error.to_string();
    let path = fixture.path().display().to_string();
    for expected in ["`seed-0`", &path, "status finished", "resume_at", "overwrite()"] {
        assert!(message.contains(expected), "{message} lacks {expected}");
    }
    assert_eq!(fixture.steps_and_examples(), [(0, 1)], "what was recorded is untouched");
}

#[test]
fn a_name_that_is_being_recorded() {
    let fixture = Fixture::new();
    let first = fixture.hook();
    let error = fixture.builder().classes(3).build().unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::Busy));
    assert!(error.to_string().contains("is being recorded by another process or hook"));
    let error = fixture.builder().classes(3).overwrite().build().unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::Busy), "overwriting does not pull the rug");
    first.finish().unwrap().check().unwrap();
}

#[test]
fn a_file_where_the_directory_should_be() {
    let fixture = Fixture::new();
    fs::write(fixture.path(), "not a directory").unwrap();
    let error = fixture.builder().classes(3).build().unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::Io));
    let message = error.to_string();
    assert!(message.starts_with("cannot create "), "{message}");
    assert!(message.contains(&fixture.path().display().to_string()), "{message}");
    assert_eq!(fs::read_to_string(fixture.path()).unwrap(), "not a directory");
}

#[test]
fn resuming_with_other_classes() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    hook.on_step_end(&[1], &some_logits(1, 3), &[0]).unwrap();
    drop(hook);
    let message = refused(fixture.builder().classes(4).resume_at(1, 0));
    assert!(message.starts_with("run `seed-0` was recorded with"), "{message}");
    assert_eq!(fixture.steps_and_examples(), [(0, 1)]);
}

/// Takes the ground from under a recorder: a file lies where its logs would be created.
fn break_the_disk(fixture: &Fixture) {
    let open = fixture.path().join("_runs").join(RUN).join("open");
    fs::remove_dir_all(&open).unwrap();
    fs::write(&open, "").unwrap();
}

#[test]
fn a_failure_degrades_the_run_and_training_goes_on() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    break_the_disk(&fixture);
    hook.on_step_end(&[0, 1], &some_logits(2, 3), &[0, 1]).unwrap();
    let error = hook.flush().unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::Io));
    assert!(error.to_string().contains("cannot create"), "{error}");
    for _ in 0..3 {
        hook.on_step_end(&[0, 1], &some_logits(2, 3), &[0, 1]).unwrap();
    }
    assert_eq!(hook.step(), 4);
    let report = hook.finish().unwrap();
    assert_eq!((report.status, report.rows.written), (RunStatus::Degraded, 0));
    assert_eq!(report.rows.lost, 8);
    assert!(report.to_string().contains("RECORDING STOPPED: cannot create"), "{report}");
    let error = report.check().unwrap_err();
    assert!(error.to_string().starts_with("run `seed-0`: cannot create"), "{error}");
    let experiment = Experiment::open_read_only(fixture.path()).unwrap();
    let run = experiment.run(RUN).unwrap();
    assert_eq!(run.status(), RunStatus::Degraded);
    let metadata = run.ranks().next().unwrap();
    assert!(metadata.failure.as_deref().unwrap().contains("cannot create"));
    assert_eq!(metadata.rows.lost, 8);
}

#[test]
fn a_failure_ends_training_where_that_was_asked_for() {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(3).on_failure(OnFailure::Fail).build().unwrap();
    break_the_disk(&fixture);
    hook.on_step_end(&[0, 1], &some_logits(2, 3), &[0, 1]).unwrap();
    hook.flush().unwrap_err();
    // A flush alone may be tried again; the end of the interval is what gives up.
    let error = hook.finish().unwrap_err();
    assert!(error.to_string().contains("cannot create"), "{error}");
    let experiment = Experiment::open_read_only(fixture.path()).unwrap();
    assert_eq!(experiment.run(RUN).unwrap().status(), RunStatus::Failed);
}

#[test]
fn after_a_failure_every_call_says_so_where_that_was_asked_for() {
    let fixture = Fixture::new();
    let builder = fixture.builder().classes(3).on_failure(OnFailure::Fail).flush_rows(1);
    let mut hook = builder.build().unwrap();
    break_the_disk(&fixture);
    hook.on_step_end(&[0], &some_logits(1, 3), &[0]).unwrap();
    // Answered after the recorder's thread has dealt with the batch before it.
    let error = hook.flush().unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::Stopped), "{error}");
    for _ in 0..2 {
        let error = hook.on_step_end(&[0], &some_logits(1, 3), &[0]).unwrap_err();
        assert_eq!(kind(&error), Some(ErrorKind::Stopped));
        let message = error.to_string();
        assert!(message.starts_with("recording stopped earlier: cannot create"), "{message}");
    }
    assert_eq!(hook.status().lost, 3);
    assert!(hook.status().to_string().contains("RECORDING STOPPED"));
    hook.finish().unwrap_err();
}

#[test]
fn a_dropped_hook_has_recorded_everything_and_its_run_is_not_finished() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    hook.on_step_end(&[4, 5], &some_logits(2, 3), &[0, 1]).unwrap();
    drop(hook);
    assert_eq!(fixture.steps_and_examples(), [(0, 4), (0, 5)]);
    let run = fixture.run();
    assert_eq!(run.status(), RunStatus::Failed);
    let failure = run.ranks().next().unwrap().failure.clone().unwrap();
    assert!(failure.contains("dropped without `finish`"), "{failure}");
}

#[test]
fn a_panic_in_the_training_loop_loses_nothing() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        hook.on_step_end(&[4], &some_logits(1, 3), &[0]).unwrap();
        std::panic::resume_unwind(Box::new("the loss exploded"));
    }));
    assert!(outcome.is_err());
    assert_eq!(fixture.steps_and_examples(), [(0, 4)]);
}
