//! `data-diet scores`.

use data_diet::{Epochs, Experiment, Phase, ScoreColumn, ScoreOptions, ScoreTable};

use super::Twelve;
use crate::harness::data_diet;
use crate::harness::recorded::{self, Presented, finish};

#[test]
fn writes_the_table_that_the_library_folds() {
    let twelve = Twelve::new();
    let output = twelve.beside("scores.parquet");
    let call = data_diet(&["scores", &twelve.shown(), "-o", &output], 0);
    call.tells(&format!("12 examples, 12 scores over 2 runs (seed-0, seed-1) -> {output}"));
    call.tells("el2n is el2n_score_epoch_3");
    assert!(call.stdout.is_empty() && call.stderr.lines().count() == 2, "{}", call.describe());
    let experiment = Experiment::open(twelve.path()).unwrap();
    let table = ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap();
    for score in table.statistics() {
        let written = ScoreColumn::read(&output, &score.name).unwrap();
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(written.scores()), bits(&score.mean), "{}", score.name);
    }
}

#[test]
fn chooses_runs_and_epochs() {
    let twelve = Twelve::new();
    let output = twelve.beside("scores.parquet");
    let experiment = twelve.shown();
    let arguments = ["scores", &experiment, "-o", &output];
    let call = data_diet(&[&arguments[..], &["--run", "seed-1", "--epochs", "1, 2"]].concat(), 0);
    call.tells("over 1 run (seed-1)").tells("el2n is el2n_score_epoch_2");
    let mut options = ScoreOptions::default();
    options.runs = vec!["seed-1".to_owned()];
    options.epochs = Epochs::List(vec![2]);
    let table = ScoreTable::fold(&Experiment::open(twelve.path()).unwrap(), &options).unwrap();
    let expected = table.column("el2n_score_epoch_2").unwrap();
    let written = ScoreColumn::read(&output, "el2n").unwrap();
    assert_eq!(written.scores(), expected.scores());
    assert!(ScoreColumn::read(&output, "el2n_train_epoch_0").is_err());
    let call = data_diet(&[&arguments[..], &["--epochs", "last"]].concat(), 0);
    call.tells("el2n is el2n_score_epoch_3");
    assert!(ScoreColumn::read(&output, "el2n_score_epoch_2").is_err());
    ScoreColumn::read(&output, "el2n_train_epoch_2").unwrap();
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
    with(&["--epochs", "7"], 1).tells("epoch 7 was not recorded; there are: 0, 1, 2, 3");
    with(&["--epochs", "first"], 2).tells("expected `all`, `last` or a list such as 1,5,10");
    finish(recorded::builder(&twelve.path(), "wider", 10).start().unwrap());
    with(&[], 2).tells("`seed-0` has 3 and `wider` has 10; choose the runs by name");
    with(&["--run", "wider"], 1).tells("the runs have no published observations");
    assert!(!std::path::Path::new(&output).exists());
    data_diet(&["scores", &experiment], 2).tells("--output <FILE>");
    let missing = twelve.beside("missing/scores.parquet");
    let run = ["--run", "seed-0"];
    let call = data_diet(&[&["scores", &experiment, "-o", &missing][..], &run].concat(), 1);
    call.tells(&format!("cannot create {missing}: No such file or directory"));
    let call = data_diet(&[&["scores", &experiment, "-o", &experiment][..], &run].concat(), 2);
    call.tells("output: expected a file name, got the directory");
}
