//! `data-diet scores`.

use data_diet::observe::Phase;
use data_diet::scores::Score;
use data_diet::selection::ScoreColumn;
use data_diet::{Experiment, ScoreOptions, ScoreTable};

use super::Twelve;
use crate::harness::recorded::{self, Presented, finish};
use crate::harness::{copy_directory, data_diet};

#[test]
fn writes_the_table_that_the_library_folds() {
    let twelve = Twelve::new();
    let output = twelve.beside("scores.parquet");
    let call = data_diet(&["scores", &twelve.shown(), "-o", &output], 0);
    call.tells(&format!("12 examples, 16 scores over 2 runs (seed-0, seed-1) -> {output}"));
    call.tells("el2n is el2n_score_epoch_3");
    call.tells("not recorded, so derived: confidence from loss");
    assert!(call.stdout.is_empty() && call.stderr.lines().count() == 3, "{}", call.describe());
    let experiment = Experiment::open(twelve.path()).unwrap();
    let table = ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap();
    for score in table.statistics() {
        let written = ScoreColumn::read(&output, &score.name).unwrap();
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(written.scores()), bits(&score.mean), "{}", score.name);
    }
}

/// The names of the scores in a table, in the order of the columns.
fn names(output: &str) -> Vec<String> {
    let error = ScoreColumn::read(output, "no such score").unwrap_err().to_string();
    let (_, names) = error.split_once("there are: ").unwrap();
    names.split(", ").map(str::to_owned).collect()
}

#[test]
fn chooses_runs_and_epochs() {
    let twelve = Twelve::new();
    let output = twelve.beside("scores.parquet");
    let experiment = twelve.shown();
    let arguments = ["scores", &experiment, "-o", &output];
    let options = ["--run", "seed-1", "--score", "el2n_score_epoch_2"];
    let call = data_diet(&[&arguments[..], &options].concat(), 0);
    call.tells("1 score over 1 run (seed-1)");
    let mut options = ScoreOptions::default();
    options.runs = vec!["seed-1".to_owned()];
    options.scores = vec!["el2n_score_epoch_2".parse::<Score>().unwrap().into()];
    let table = ScoreTable::fold(&Experiment::open(twelve.path()).unwrap(), &options).unwrap();
    let expected = table.column("el2n_score_epoch_2").unwrap();
    let written = ScoreColumn::read(&output, "el2n_score_epoch_2").unwrap();
    assert_eq!(written.scores(), expected.scores());
}

#[test]
fn names_and_moments_become_columns() {
    let twelve = Twelve::new();
    let output = twelve.beside("scores.parquet");
    let experiment = twelve.shown();
    let of_training = [
        "forgetting",
        "forgetting_inf",
        "never_learned",
        "first_learned",
        "presentations",
        "aum",
        "cartography_confidence",
        "cartography_variability",
        "cartography_correctness",
    ];
    let standard = |el2n: &[&'static str]| [&["el2n"], el2n, &of_training].concat();
    for (options, expected) in [
        (
            "",
            standard(&[
                "el2n_train_epoch_0",
                "el2n_train_epoch_1",
                "el2n_train_epoch_2",
                "el2n_score_epoch_1",
                "el2n_score_epoch_2",
                "el2n_score_epoch_3",
            ]),
        ),
        ("--at-epoch last", standard(&["el2n_train_epoch_2", "el2n_score_epoch_3"])),
        ("--at-epoch 0,3", standard(&["el2n_train_epoch_0", "el2n_score_epoch_3"])),
        ("--at-epoch 2,1 --phase train", standard(&["el2n_train_epoch_1", "el2n_train_epoch_2"])),
        ("--at-step 3", standard(&["el2n_train_step_3", "el2n_score_step_3"])),
        ("--score el2n", vec!["el2n"]),
        ("--score el2n --phase train", vec!["el2n_train_epoch_2"]),
        (
            "--score margin --score el2n --at-epoch 1..2",
            vec![
                "margin_train_epochs_1_to_2",
                "margin_score_epochs_1_to_2",
                "el2n_train_epochs_1_to_2",
                "el2n_score_epochs_1_to_2",
            ],
        ),
        ("--score loss --at-step 0..5 --phase train", vec!["loss_train_steps_0_to_5"]),
        ("--score loss --at-step 8,0", vec!["loss_train_step_0", "loss_train_step_8"]),
        ("--score aum --score forgetting --score aum", vec!["aum", "forgetting"]),
        (
            "--score aum --score dual --score cartography_forgetting --at-epoch 0..1",
            vec!["aum_epochs_0_to_1", "dual_epochs_0_to_1", "cartography_forgetting_epochs_0_to_1"],
        ),
        ("--score forgetting_epochs_1_to_2 --score el2n", vec!["forgetting_epochs_1_to_2", "el2n"]),
        (
            "--score aum --score el2n --at-epoch last --phase score",
            vec!["aum", "el2n_score_epoch_3"],
        ),
        ("--score cartography_correctness", vec!["cartography_correctness"]),
        (
            "--score el2n_train_epoch_1 --score el2n --at-epoch 1",
            vec!["el2n_train_epoch_1", "el2n_score_epoch_1"],
        ),
    ] {
        let mut arguments = vec!["scores", "--force", &experiment, "-o", &output];
        arguments.extend(options.split_whitespace());
        data_diet(&arguments, 0);
        assert_eq!(names(&output), expected, "{options}");
    }
}

#[test]
fn says_what_it_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("padded");
    let row = |example, logit| Presented { example, label: 0, logits: vec![logit, 0.0] };
    for (rank, rows) in
        [[row(0, 1.0), row(1, f32::NAN)], [row(2, 1.0), row(0, 1.0)]].iter().enumerate()
    {
        let builder = recorded::builder(&path, "seed-0", 2).rank(rank as u32);
        let mut recorder = builder.start().unwrap();
        recorded::record(&mut recorder, Phase::Train, 0, 0, rows);
        finish(recorder);
    }
    let output = directory.path().join("scores.parquet").display().to_string();
    let call = data_diet(&["scores", &path.display().to_string(), "-o", &output], 0);
    call.tells("3 examples").tells("1 observation with non-finite logits left out");
    call.tells("1 observation repeated on a second rank in an epoch left out");
}

#[test]
fn says_which_examples_some_runs_have_not_seen() {
    let twelve = Twelve::new();
    let mut recorder = recorded::builder(&twelve.path(), "seed-2", 3).start().unwrap();
    let row = |example| Presented { example, label: 0, logits: vec![1.0, 0.0, 0.0] };
    recorded::record(&mut recorder, Phase::Train, 0, 0, &[row(4), row(77)]);
    finish(recorder);
    let output = twelve.beside("scores.parquet");
    let call = data_diet(&["scores", &twelve.shown(), "-o", &output], 0);
    call.tells("13 examples").tells("12 examples not seen by every run: `runs` says by how many");
}

#[test]
fn runs_that_share_no_epoch_have_no_el2n_and_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("apart");
    for epoch in 0..2 {
        let mut recorder = recorded::builder(&path, &format!("seed-{epoch}"), 2).start().unwrap();
        let row = Presented { example: 0, label: 0, logits: vec![1.0, 0.0] };
        recorded::record(&mut recorder, Phase::Train, 0, epoch, &[row]);
        finish(recorder);
    }
    let path = path.display().to_string();
    let output = directory.path().join("scores.parquet").display().to_string();
    let call = data_diet(&["scores", &path, "-o", &output], 0);
    call.tells("no score `el2n`: there is no epoch in which every run has recorded it");
    data_diet(&["inspect", &path], 0).says("no epoch in which every run has recorded el2n");
}

#[test]
fn mistakes_are_named_with_what_there_is() {
    let twelve = Twelve::new();
    let output = twelve.beside("scores.parquet");
    let experiment = twelve.shown();
    let arguments = ["scores", &experiment, "-o", &output];
    let with = |more: &[&str], code| data_diet(&[&arguments[..], more].concat(), code);
    with(&["--run", "seed-9"], 1).tells("has no run `seed-9`; there are: seed-0, seed-1");
    with(&["--at-epoch", "7"], 1).tells("epoch 7 was not recorded; there are: 0, 1, 2, 3");
    with(&["--at-epoch", "first"], 2)
        .tells("expected `all`, `last`, a list such as 1,5,10 or a range");
    with(&["--at-step", "1", "--at-epoch", "1"], 2).tells("cannot be used with");
    with(&["--at-step", "12"], 1).tells("step 12 was not recorded; the recorded steps are 0 to 9");
    with(&["--phase", "test"], 2)
        .tells("phase: expected one of train, score, held_out, got `test`");
    with(&["--score", "el3n"], 2).tells("score: expected SIGNAL, SIGNAL_PHASE_epoch_E");
    with(&["--score", "entropy"], 1)
        .tells("`seed-0` has el2n, loss, margin (phases: train, score): no logits")
        .tells("needed: the signal `entropy` switched on, or every logit as f32");
    with(&["--score", "aum", "--at-epoch", "1"], 2).tells("scores: expected a signal or `grand`");
    with(&["--score", "aum", "--phase", "train"], 2).tells("scores: expected a signal to take in");
    finish(recorded::builder(&twelve.path(), "empty", 3).start().unwrap());
    with(&["--run", "empty"], 1).tells("the runs have no published observations");
    // A run of another kind cannot be recorded here, but copied.
    let elsewhere = twelve.path().with_file_name("elsewhere");
    finish(recorded::builder(&elsewhere, "wider", 10).start().unwrap());
    copy_directory(&elsewhere.join("_runs/wider"), &twelve.path().join("_runs/wider"));
    with(&[], 2).tells("`empty` has 3 classes and `wider` has 10 classes; choose the runs by name");
    assert!(!std::path::Path::new(&output).exists());
    data_diet(&["scores", &experiment], 2).tells("--output <FILE>");
    let missing = twelve.beside("missing/scores.parquet");
    let run = ["--run", "seed-0"];
    let call = data_diet(&[&["scores", &experiment, "-o", &missing][..], &run].concat(), 1);
    call.tells(&format!("cannot create {missing}: No such file or directory"));
    let call = data_diet(&[&["scores", &experiment, "-o", &experiment][..], &run].concat(), 2);
    call.tells("output: expected a file name, got the directory");
}
