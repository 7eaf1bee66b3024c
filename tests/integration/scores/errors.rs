//! What `ScoreTable::fold` says when it cannot.

use std::fs;

use data_diet::{Epochs, ErrorKind, Experiment, Phase, ScoreOptions, ScoreTable};
use tempfile::TempDir;

use crate::harness::recorded::{self, Presented, finish, finished};

fn two_runs() -> (TempDir, Experiment) {
    let directory = tempfile::tempdir().unwrap();
    finished(directory.path(), "seed-0", 0);
    finished(directory.path(), "seed-1", 1);
    let experiment = Experiment::open(directory.path()).unwrap();
    (directory, experiment)
}

fn refused(experiment: &Experiment, options: &ScoreOptions) -> (ErrorKind, String) {
    let error = ScoreTable::fold(experiment, options).expect_err("there is nothing to fold");
    (error.kind(), error.to_string())
}

#[test]
fn an_unknown_run() {
    let (_directory, experiment) = two_runs();
    let mut options = ScoreOptions::default();
    options.runs = vec!["seed-0".to_owned(), "seed-7".to_owned()];
    let (kind, message) = refused(&experiment, &options);
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(message.ends_with("has no run `seed-7`; there are: seed-0, seed-1"), "{message}");
}

#[test]
fn an_epoch_that_was_not_recorded() {
    let (_directory, experiment) = two_runs();
    let mut options = ScoreOptions::default();
    options.epochs = Epochs::List(vec![1, 9]);
    let (kind, message) = refused(&experiment, &options);
    assert_eq!(kind, ErrorKind::NotFound);
    assert_eq!(message, "epoch 9 was not recorded; there are: 0, 1, 2, 3");
}

#[test]
fn runs_with_other_classes() {
    let (directory, _) = two_runs();
    finish(recorded::builder(directory.path(), "wider", 10).start().unwrap());
    let experiment = Experiment::open(directory.path()).unwrap();
    let (kind, message) = refused(&experiment, &ScoreOptions::default());
    assert_eq!(kind, ErrorKind::InvalidArgument);
    let expected = "runs: expected one class count, but `seed-0` has 3 and `wider` has 10; choose \
                    the runs by name";
    assert_eq!(message, expected);
    let mut options = ScoreOptions::default();
    options.runs = vec!["seed-0".to_owned(), "seed-1".to_owned()];
    assert_eq!(ScoreTable::fold(&experiment, &options).unwrap().examples().len(), 12);
}

#[test]
fn an_experiment_without_rows() {
    let directory = tempfile::tempdir().unwrap();
    finish(recorded::builder(directory.path(), "seed-0", 3).start().unwrap());
    let experiment = Experiment::open(directory.path()).unwrap();
    let (kind, message) = refused(&experiment, &ScoreOptions::default());
    assert_eq!(kind, ErrorKind::Empty);
    assert!(message.contains(&directory.path().display().to_string()), "{message}");
}

#[test]
fn a_directory_that_is_no_experiment() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().to_owned(), directory.path().join("missing")] {
        let error = Experiment::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let expected = format!("{} is not an experiment directory", path.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

/// A recorder that died before it had written `run.json`, on a full disk for example, leaves a
/// directory that says nothing.
#[test]
fn a_run_that_never_began_hides_no_other() {
    let (directory, _) = two_runs();
    fs::create_dir_all(directory.path().join("_runs/seed-2/open")).unwrap();
    let experiment = Experiment::open(directory.path()).unwrap();
    let names: Vec<_> =
        experiment.runs().unwrap().iter().map(|run| run.name().to_owned()).collect();
    assert_eq!(names, ["seed-0", "seed-1"]);
    assert_eq!(ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap().runs(), [2; 12]);
    let error = experiment.run("seed-2").unwrap_err();
    assert!(error.to_string().ends_with("there are: seed-0, seed-1"), "{error}");
}

#[test]
fn a_signal_that_was_not_recorded_has_no_scores() {
    let directory = tempfile::tempdir().unwrap();
    let mut format = recorded::format(2);
    format.signals = vec![data_diet::Signal::Loss];
    let recorder = data_diet::Recorder::builder(directory.path(), "seed-0", format);
    let mut recorder = recorder.start().unwrap();
    let row = Presented { example: 3, label: 0, logits: vec![1.0, 0.0] };
    recorded::record(&mut recorder, Phase::Train, 0, 0, &[row]);
    finish(recorder);
    let experiment = Experiment::open(directory.path()).unwrap();
    let table = ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap();
    let names: Vec<&str> = table.statistics().iter().map(|s| s.name.as_str()).collect();
    assert_eq!(
        names,
        ["forgetting", "forgetting_inf", "never_learned", "first_learned", "presentations"]
    );
    assert_eq!(table.info().el2n, None);
}
