//! What `ScoreTable::fold` says when it cannot.

use std::fs;

use data_diet::observe::{Phase, Signal};
use data_diet::scores::{At, ScoreRequest, TrainPhaseScore};
use data_diet::{ErrorKind, Experiment, ScoreOptions, ScoreTable};
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

fn asking(requests: impl IntoIterator<Item = ScoreRequest>) -> ScoreOptions {
    let mut options = ScoreOptions::default();
    options.scores = requests.into_iter().collect();
    options
}

/// Epochs 0 to 2 of training with steps 0 to 8, epochs 1 to 3 of scoring at steps 3, 6 and 9.
#[test]
fn moments_that_were_not_recorded_are_told_which_there_are() {
    let (_directory, experiment) = two_runs();
    let el2n = |at: At| ScoreRequest::signal(Signal::El2n).at(at);
    let score = |name: &str| name.parse::<ScoreRequest>().unwrap();
    let steps = "the recorded steps are";
    for (request, expected) in [
        (
            el2n(At::Epochs(vec![1, 9])),
            "epoch 9 was not recorded; there are: 0, 1, 2, 3".to_owned(),
        ),
        (
            el2n(At::Epochs(vec![3])).phase(Phase::Train),
            "epoch 3 was not recorded in the train phase; there are: 0, 1, 2".to_owned(),
        ),
        (
            el2n(At::EpochRange(4, 7)),
            "epochs 4 to 7 were not recorded; there are: 0, 1, 2, 3".to_owned(),
        ),
        (
            score("el2n_score_epoch_0"),
            "epoch 0 was not recorded in the score phase; there are: 1, 2, 3".to_owned(),
        ),
        (el2n(At::Steps(vec![2, 10])), format!("step 10 was not recorded; {steps} 0 to 9")),
        (
            el2n(At::Steps(vec![9])).phase(Phase::Train),
            format!("step 9 was not recorded in the train phase; {steps} 0 to 8"),
        ),
        // Between two passes, which only reading the rows can tell.
        (
            score("loss_score_step_4"),
            format!("step 4 was not recorded in the score phase; {steps} 3 to 9"),
        ),
        (
            score("loss_score_steps_7_to_8"),
            format!("steps 7 to 8 were not recorded in the score phase; {steps} 3 to 9"),
        ),
        (
            el2n(At::StepRange(10, u64::MAX)),
            format!("steps 10 to {} were not recorded; {steps} 0 to 9", u64::MAX),
        ),
    ] {
        let (kind, message) = refused(&experiment, &asking([request]));
        assert_eq!((kind, message), (ErrorKind::NotFound, expected));
    }
    // In the other phase there is such a step, which is enough for a request for both.
    let options = asking([el2n(At::Steps(vec![4]))]);
    let table = ScoreTable::fold(&experiment, &options).unwrap();
    assert_eq!(table.statistics().len(), 1);
    assert_eq!(table.statistics()[0].name, "el2n_train_step_4");
    let options = asking([el2n(At::Steps(vec![4])), score("el2n_score_step_4")]);
    assert_eq!(refused(&experiment, &options).0, ErrorKind::NotFound);
    for at in [At::EpochRange(3, 1), At::StepRange(9, 0)] {
        let (kind, message) = refused(&experiment, &asking([el2n(at)]));
        assert_eq!(kind, ErrorKind::InvalidArgument);
        assert!(message.ends_with("the lower end must come first"), "{message}");
    }
}

#[test]
fn moments_for_scores_that_take_none() {
    let mut options = asking([TrainPhaseScore::Aum.into(), ScoreRequest::cartography()]);
    let error = options.set_time(&At::LastEpoch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().starts_with("scores: expected a signal or `grand`"), "{error}");
    let error = options.set_phase(Phase::Train).unwrap_err();
    assert!(error.to_string().starts_with("scores: expected a signal to take in"), "{error}");
    options.scores.push(ScoreRequest::signal(Signal::Loss));
    options.set_time(&At::LastEpoch).unwrap();
    options.set_phase(Phase::Score).unwrap();
    let expected = ScoreRequest::signal(Signal::Loss).at(At::LastEpoch).phase(Phase::Score);
    assert_eq!(options.scores[2], expected);
    assert_eq!(options.scores[0], TrainPhaseScore::Aum.into());
}

#[test]
fn runs_with_other_classes() {
    let (directory, _) = two_runs();
    finish(recorded::builder(directory.path(), "wider", 3).start().unwrap());
    recorded::rewrite_outputs(directory.path(), "wider", 3, 10);
    let experiment = Experiment::open(directory.path()).unwrap();
    let (kind, message) = refused(&experiment, &ScoreOptions::default());
    assert_eq!(kind, ErrorKind::InvalidArgument);
    let expected = "runs: expected one kind of model, but `seed-0` has 3 classes and `wider` has \
                    10 classes; choose the runs by name";
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
fn a_signal_that_was_not_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let mut format = recorded::format(2);
    format.signals = vec![Signal::Loss];
    let recorder = data_diet::record::Recorder::builder(directory.path(), "seed-0", format);
    let mut recorder = recorder.start().unwrap();
    let row = Presented { example: 3, label: 0, logits: vec![1.0, 0.0] };
    recorded::record(&mut recorder, Phase::Train, 0, 0, &[row]);
    finish(recorder);
    let experiment = Experiment::open(directory.path()).unwrap();
    // Nobody has asked for it by name.
    let table = ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap();
    let names: Vec<&str> = table.statistics().iter().map(|s| s.name.as_str()).collect();
    let cartography =
        ["cartography_confidence", "cartography_variability", "cartography_correctness"];
    let of_training =
        ["forgetting", "forgetting_inf", "never_learned", "first_learned", "presentations"];
    assert_eq!(names, [&of_training[..], &cartography[..]].concat());
    assert!(table.info().aliases.is_empty());
    let there = "`seed-0` has loss (phases: train)";
    let needs_logits = |signal: &str| {
        format!(
            "{there}: no logits; needed: the signal `{signal}` switched on, or every logit as f32"
        )
    };
    for (name, expected) in [
        (
            "el2n",
            format!("no chosen run has recorded `el2n`; {}, of class labels", needs_logits("el2n")),
        ),
        (
            "el2n_train_epoch_0",
            format!(
                "`el2n_train_epoch_0` needs `el2n`, which no chosen run has recorded in the \
                     train phase; {}, of class labels",
                needs_logits("el2n")
            ),
        ),
        (
            "loss_score_epoch_0",
            format!(
                "`loss_score_epoch_0` needs `loss`, which no chosen run has recorded in the \
                     score phase; {there}"
            ),
        ),
        (
            "aum",
            format!(
                "`aum` needs `margin`, which no chosen run has recorded in the train phase; {}",
                needs_logits("margin")
            ),
        ),
        ("entropy", format!("no chosen run has recorded `entropy`; {}", needs_logits("entropy"))),
        ("grand", format!("no chosen run has recorded `grand`; {there}")),
    ] {
        let (kind, message) = refused(&experiment, &asking([name.parse().unwrap()]));
        assert_eq!((kind, message), (ErrorKind::NotFound, expected));
        let request: ScoreRequest = name.parse().unwrap();
        let options = asking([request.if_recorded(), TrainPhaseScore::Presentations.into()]);
        assert_eq!(ScoreTable::fold(&experiment, &options).unwrap().statistics().len(), 1);
    }
    let options = asking([TrainPhaseScore::CartographyCorrectness.into()]);
    let table = ScoreTable::fold(&experiment, &options).unwrap();
    assert_eq!(table.column("cartography_correctness").unwrap().scores(), [1.0]);
}

#[test]
fn runs_that_share_no_epoch_have_no_last_one() {
    let directory = tempfile::tempdir().unwrap();
    for epoch in 0..2 {
        let builder = recorded::builder(directory.path(), &format!("seed-{epoch}"), 2);
        let mut recorder = builder.start().unwrap();
        let row = Presented { example: 0, label: 0, logits: vec![1.0, 0.0] };
        recorded::record(&mut recorder, Phase::Train, 0, epoch, &[row]);
        finish(recorder);
    }
    let experiment = Experiment::open(directory.path()).unwrap();
    let (kind, message) = refused(&experiment, &asking([ScoreRequest::signal(Signal::El2n)]));
    assert_eq!(kind, ErrorKind::NotFound);
    let expected = "no score `el2n`: there is no epoch in which every run has recorded it; ask for an \
                    epoch";
    assert_eq!(message, expected);
}
