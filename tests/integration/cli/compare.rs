//! `data-diet compare`.

use std::path::PathBuf;

use data_diet::observe::Phase;
use data_diet::scores::agreement::{Agreement, AgreementOptions, Bootstrap, Keep};
use data_diet::selection::ScoreColumn;
use data_diet::{Experiment, ScoreOptions, ScoreTable};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::data_diet;
use crate::harness::recorded::{self, Presented, finish};

const EXAMPLES: i64 = 40;

/// Runs of three epochs whose logits look random, and are more alike the later the epoch.
struct Noisy {
    directory: TempDir,
}

impl Noisy {
    fn new(runs: u64) -> Self {
        let noisy = Self { directory: tempfile::tempdir().unwrap() };
        (0..runs).for_each(|run| noisy.record(run, 3));
        noisy
    }

    fn record(&self, run: u64, epochs: u32) {
        let builder = recorded::builder(&self.path(), &format!("seed-{run}"), 2);
        let mut recorder = builder.start().unwrap();
        for epoch in 0..epochs {
            let row = |example: i64| {
                let noise = (example as f64 * 12.9 + run as f64 * 78.2 + f64::from(epoch)).sin();
                let common = (example as f64 * 3.7).sin();
                let logit = common * f64::from(epoch) + noise;
                Presented { example, label: 0, logits: vec![logit as f32, 0.0] }
            };
            let rows: Vec<Presented> = (0..EXAMPLES).map(row).collect();
            recorded::record(&mut recorder, Phase::Train, u64::from(epoch), epoch, &rows);
            recorded::record(&mut recorder, Phase::Score, u64::from(epoch) + 1, epoch + 1, &rows);
        }
        finish(recorder);
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("noisy")
    }

    fn shown(&self) -> String {
        self.path().display().to_string()
    }

    /// A table of the scores of some runs, all if there is none.
    fn scores(&self, name: &str, runs: &[&str]) -> String {
        let output = self.directory.path().join(name).display().to_string();
        let runs: Vec<&str> = runs.iter().flat_map(|run| ["--run", run]).collect();
        data_diet(&[&["scores", "--force", &self.shown(), "-o", &output][..], &runs].concat(), 0);
        output
    }
}

fn json(arguments: &[&str]) -> Value {
    let call = data_diet(&[&["compare"], arguments, &["--json"]].concat(), 0);
    serde_json::from_str(&call.stdout).unwrap()
}

fn options(resamples: usize) -> AgreementOptions {
    let mut options = AgreementOptions::default();
    let mut bootstrap = Bootstrap::default();
    bootstrap.resamples = resamples;
    options.bootstrap = (resamples > 0).then_some(bootstrap);
    options
}

#[track_caller]
fn assert_is(comparison: &Value, first: &str, second: &str, expected: &Agreement) {
    assert_eq!((&comparison["first"], &comparison["second"]), (&first.into(), &second.into()));
    let mut measures = vec![
        (comparison["spearman"].clone(), expected.spearman),
        (comparison["kendall"].clone(), expected.kendall),
    ];
    for (json, overlap) in comparison["overlaps"].as_array().unwrap().iter().zip(&expected.overlaps)
    {
        assert_eq!(json["fraction"], overlap.fraction);
        assert_eq!(json["kept"], overlap.kept);
        assert_eq!(json["by_chance"], overlap.kept as f64 / expected.examples as f64);
        measures.push((json.clone(), overlap.shared));
    }
    assert_eq!(measures.len(), 2 + expected.overlaps.len());
    for (json, estimate) in measures {
        // The reader of JSON may be off by a last bit.
        let is = |key: &str, expected: Option<f64>| {
            let got = json.get(key).and_then(Value::as_f64);
            let same = got.zip(expected).map_or(got == expected, |(a, b)| (a - b).abs() < 1e-12);
            assert!(same, "{key}: {json}, expected {expected:?}");
        };
        is("value", Some(estimate.value));
        is("low", estimate.interval.map(|it| it.0));
        is("high", estimate.interval.map(|it| it.1));
    }
    assert_eq!(comparison["examples"], expected.examples);
    assert_eq!(comparison["without_score"], expected.without_score);
    assert_eq!(comparison["in_one_only"], expected.in_one_only);
}

#[test]
fn scores_agree_as_the_library_says() {
    let noisy = Noisy::new(2);
    let scores = noisy.scores("scores.parquet", &[]);
    let names = ["el2n", "forgetting", "el2n_train_epoch_0"];
    let read = |name: &str| ScoreColumn::read(&scores, name).unwrap();
    let report = json(&[&["--scores", &scores, "--bootstrap", "30"], &names[..]].concat());
    assert_eq!(report["keep"], "highest");
    assert_eq!(report["bootstrap"]["resamples"], 30);
    let comparisons = report["comparisons"].as_array().unwrap();
    assert_eq!(comparisons.len(), 3);
    for (comparison, (a, b)) in comparisons.iter().zip([(0, 1), (0, 2), (1, 2)]) {
        let expected = Agreement::between(&read(names[a]), &read(names[b]), &options(30)).unwrap();
        assert_is(comparison, names[a], names[b], &expected);
    }
    // Each with its own file; the other end, no intervals.
    let first = format!("{scores}:el2n");
    let second = format!("{}:el2n", noisy.scores("other.parquet", &["seed-1"]));
    let report =
        json(&[&first, &second, "--keep", "lowest", "--fractions", "0.1,25%", "--bootstrap", "0"]);
    let mut options = options(0);
    options.keep = Keep::Lowest;
    options.fractions = vec![0.1, 0.25];
    let other = ScoreColumn::read(second.trim_end_matches(":el2n"), "el2n").unwrap();
    let expected = Agreement::between(&read("el2n"), &other, &options).unwrap();
    assert_is(&report["comparisons"][0], &first, &second, &expected);
    assert_eq!(report["bootstrap"], Value::Null);
    assert!(report.get("splits").is_none());
}

#[test]
fn a_table_for_people() {
    let noisy = Noisy::new(2);
    let scores = noisy.scores("scores.parquet", &[]);
    let call = data_diet(&["compare", "--scores", &scores, "el2n", "el2n", "never_learned"], 0);
    call.is_quiet().says("keeping the highest; intervals of 95 % from 1,000 resamples");
    let lines: Vec<&str> = call.stdout.lines().collect();
    let words = |at: usize| lines[at].split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(2), "scores examples spearman kendall keep 30 % keep 50 % keep 70 %");
    assert_eq!(words(3), "el2n, el2n 40 1.000 1.000 1.000 1.000 1.000");
    assert_eq!(words(4), ["1.000 to 1.000"; 5].join(" "));
    assert!(words(5).starts_with("el2n, never_learned 40 "), "{}", call.describe());
    assert_eq!(words(9), "by chance 0.000 0.000 0.300 0.500 0.700");
    let ends: Vec<usize> = [3, 9].map(|at| lines[at].len()).to_vec();
    assert_eq!(ends[0], ends[1], "numbers are aligned\n{}", call.describe());
    // The same seed says the same, another one something else in its intervals only.
    let with = |seed: &str| {
        let options = ["--scores", &scores, "el2n", "forgetting", "--seed", seed];
        data_diet(&[&["compare"][..], &options].concat(), 0).stdout
    };
    assert_eq!(with("1"), with("1"));
    assert_ne!(with("1"), with("2"));
}

#[test]
fn what_is_left_out_is_told() {
    let noisy = Noisy::new(1);
    let all = noisy.scores("all.parquet", &[]);
    let mut recorder = recorded::builder(&noisy.path(), "wider", 2).start().unwrap();
    let row = |example| Presented { example, label: 0, logits: vec![f32::NAN, 0.0] };
    let rows = [row(EXAMPLES), row(EXAMPLES + 1), row(3)];
    recorded::record(&mut recorder, Phase::Score, 9, 3, &rows);
    finish(recorder);
    let wider = noisy.scores("wider.parquet", &[]);
    // Example 3 has its number from the other run; two examples have none.
    let call = data_diet(&["compare", &format!("{all}:el2n"), &format!("{wider}:el2n")], 0);
    call.tells("left out: 2 examples that only one of them has");
    let names = ["el2n", "el2n_train_epoch_1"];
    let call = data_diet(&["compare", "--scores", &wider, names[0], names[1]], 0);
    call.tells("left out: 2 examples without a number for one of them");
}

#[test]
fn each_epoch_against_the_last() {
    let noisy = Noisy::new(2);
    // A run that is not as far: its last epoch is the last of both.
    noisy.record(2, 2);
    let experiment = Experiment::open(noisy.path()).unwrap();
    let table = ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap();
    let shown = noisy.shown();
    let column = |name: &str| table.column(name).unwrap();
    let arguments = [&shown, "--score", "el2n", "--between", "epochs", "--bootstrap", "20"];
    let report = json(&arguments);
    assert_eq!(report["score"], "el2n_score");
    assert_eq!(report["comparisons"].as_array().unwrap().len(), 1);
    let (first, last) = (column("el2n_score_epoch_1"), column("el2n_score_epoch_2"));
    let expected = Agreement::between(&first, &last, &options(20)).unwrap();
    assert_is(&report["comparisons"][0], "epoch 1", "epoch 2", &expected);

    let chosen = ["--run", "seed-0", "--run", "seed-1", "--phase", "train"];
    let report = json(&[&arguments[..], &chosen].concat());
    assert_eq!(report["score"], "el2n_train");
    let mut of_two = ScoreOptions::default();
    of_two.runs = vec!["seed-0".to_owned(), "seed-1".to_owned()];
    let table = ScoreTable::fold(&experiment, &of_two).unwrap();
    let column = |epoch: u32| table.column(&format!("el2n_train_epoch_{epoch}")).unwrap();
    for epoch in 0..2 {
        let expected = Agreement::between(&column(epoch), &column(2), &options(20)).unwrap();
        let comparison = &report["comparisons"][epoch as usize];
        assert_is(comparison, &format!("epoch {epoch}"), "epoch 2", &expected);
    }
    assert!(report["comparisons"].get(2).is_none());
    let call = data_diet(&[&["compare"], &arguments[..]].concat(), 0);
    call.says("el2n_score against epoch 2, keeping the highest").says("\nepoch 1 ");
}

#[test]
fn each_two_seeds_and_some_against_the_others() {
    let noisy = Noisy::new(4);
    noisy.record(4, 2);
    let shown = noisy.shown();
    let arguments = [&shown, "--score", "el2n", "--between", "seeds", "--bootstrap", "0"];
    let report = json(&arguments);
    // The last epoch that every one of the runs has.
    assert_eq!(report["score"], "el2n_score_epoch_2");
    let runs: Vec<String> = (0..5).map(|run| format!("seed-{run}")).collect();
    let of_runs = |runs: &[&str], name: &str| {
        let file = noisy.scores(name, runs);
        ScoreColumn::read(file, "el2n_score_epoch_2").unwrap()
    };
    let columns: Vec<ScoreColumn> = runs.iter().map(|run| of_runs(&[run], run)).collect();
    let comparisons = report["comparisons"].as_array().unwrap();
    assert_eq!(comparisons.len(), 10);
    let mut at = 0;
    for a in 0..5 {
        for b in a + 1..5 {
            let expected = Agreement::between(&columns[a], &columns[b], &options(0)).unwrap();
            assert_is(&comparisons[at], &runs[a], &runs[b], &expected);
            at += 1;
        }
    }
    let splits = report["splits"].as_array().unwrap();
    let counts = |split: &Value| ["runs", "others", "splits"].map(|it| split[it].as_u64().unwrap());
    assert_eq!(splits.iter().map(counts).collect::<Vec<_>>(), [[1, 4, 5], [2, 3, 10]]);

    // The means as `data-diet scores` takes them.
    let mut measured: Vec<Agreement> = Vec::new();
    for a in 0..5 {
        for b in a + 1..5 {
            let is_chosen = |run: &usize| [a, b].contains(run);
            let names = |chosen: bool| -> Vec<&str> {
                (0..5).filter(|it| is_chosen(it) == chosen).map(|it| runs[it].as_str()).collect()
            };
            let some = of_runs(&names(true), "some.parquet");
            let others = of_runs(&names(false), "others.parquet");
            measured.push(Agreement::between(&some, &others, &options(0)).unwrap());
        }
    }
    let is = |json: &Value, of: &dyn Fn(&Agreement) -> f64| {
        let values: Vec<f64> = measured.iter().map(of).collect();
        let close = |key: &str, expected: f64| {
            assert!((json[key].as_f64().unwrap() - expected).abs() < 1e-12, "{json} {expected}");
        };
        close("mean", values.iter().sum::<f64>() / 10.0);
        close("low", values.iter().copied().fold(f64::INFINITY, f64::min));
        close("high", values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    };
    is(&splits[1]["spearman"], &|it| it.spearman.value);
    is(&splits[1]["kendall"], &|it| it.kendall.value);
    for (at, fraction) in [0.3, 0.5, 0.7].into_iter().enumerate() {
        assert_eq!(splits[1]["overlaps"][at]["fraction"], fraction);
        is(&splits[1]["overlaps"][at], &|it| it.overlaps[at].shared.value);
    }

    let call = data_diet(&[&["compare"], &arguments[..], &["--splits", "3"]].concat(), 0);
    call.says("el2n_score_epoch_2 of each two runs").says("seed-0, seed-1 ");
    call.says("\n1 against 4 ").says("\n2 against 3 ").is_quiet();
    let ways = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
    let ways: Vec<_> =
        call.stdout.lines().filter(|it| it.contains(" against ")).map(ways).collect();
    assert_eq!(&ways[1..], [Some("3".to_owned()), Some("3".to_owned())]);
    let forgetting = json(&[&shown, "--score", "forgetting", "--between", "seeds"]);
    assert_eq!(forgetting["comparisons"].as_array().unwrap().len(), 10);
}

#[test]
fn mistakes_are_named_with_what_there_is() {
    let noisy = Noisy::new(1);
    let (shown, scores) = (noisy.shown(), noisy.scores("scores.parquet", &[]));
    let compare = |arguments: &[&str], code| data_diet(&[&["compare"], arguments].concat(), code);
    compare(&[], 2).tells("<WHAT>");
    compare(&["--scores", &scores, "el2n"], 2)
        .tells("expected two or more scores to compare, got only `el2n`")
        .tells("Usage: data-diet");
    compare(&["el2n", "forgetting"], 2)
        .tells("expected FILE:SCORE, or SCORE with --scores FILE, got `el2n`");
    compare(&[&shown, &shown], 2)
        .tells("is a directory; to compare a score of an experiment with itself, add --score NAME");
    compare(&["--scores", &scores, "el2n", "grand"], 1)
        .tells("no score `grand`; there are: el2n, el2n_train_epoch_0");
    let missing = scores.replace("scores.parquet", "missing.parquet");
    compare(&["--scores", &missing, "el2n", "el2n"], 1)
        .tells(&format!("cannot read {missing}: No such file or directory"));
    for fraction in ["0", "1.5", "-0.5"] {
        compare(&["--scores", &scores, "el2n", "el2n", &format!("--fractions=0.5,{fraction}")], 2)
            .tells(&format!("fraction: expected above 0 and at most 1, got {fraction}"));
    }
    compare(&["--scores", &scores, "el2n", "el2n", "--fractions", "half"], 2).tells("half");
    compare(&["--scores", &scores, "el2n", "el2n", "--level", "95"], 2)
        .tells("level: expected between 0 and 1, both excluded, got 95");

    let between = |what: &str, score: &str, more: &[&str], code| {
        let arguments = [&shown, "--score", score, "--between", what];
        compare(&[&arguments[..], more].concat(), code)
    };
    compare(&[&shown, "--between", "epochs"], 2).tells("--score <SCORE>");
    compare(&[&shown, "--score", "el2n"], 2).tells("--between <WHAT>");
    between("years", "el2n", &[], 2).tells("[possible values: epochs, seeds]");
    between("epochs", "el2n", &[&shown], 2).tells("expected one experiment directory, got 2");
    between("seeds", "el2n", &["--phase", "train"], 2).tells("--phase: only epochs have one");
    between("epochs", "el2n", &["--phase", "test"], 2)
        .tells("expected one of train, score, held_out");
    between("epochs", "el2n", &["--run", "seed-7"], 1).tells("no run `seed-7`; there are: seed-0");
    between("epochs", "forgetting", &[], 1).tells(
        "score: expected a signal or `grand`, which have a value per epoch, got `forgetting`",
    );
    between("seeds", "el2n", &[], 1).tells("expected at least 2 runs to compare, got 1 (seed-0)");
    noisy.record(1, 3);
    between("seeds", "grand", &[], 1).tells("no chosen run has recorded `grand`");
    between("seeds", "el2n", &["--splits", "0"], 2).tells("splits: expected at least 1, got 0");
    compare(&[&scores, "--score", "el2n", "--between", "seeds"], 1)
        .tells("is not an experiment directory");

    // Two tables without a common example.
    let other = Noisy { directory: tempfile::tempdir().unwrap() };
    let mut recorder = recorded::builder(&other.path(), "seed-0", 2).start().unwrap();
    let row = Presented { example: 1 << 40, label: 0, logits: vec![1.0, 0.0] };
    recorded::record(&mut recorder, Phase::Score, 0, 0, &[row]);
    finish(recorder);
    let other = format!("{}:el2n", other.scores("other.parquet", &[]));
    compare(&[&format!("{scores}:el2n"), &other], 1).tells(
        "agreement: expected at least 2 examples with both scores, got 0 (40 in the first column, 1 \
         in the second)",
    );
}

#[test]
fn one_epoch_is_not_enough() {
    let noisy = Noisy { directory: tempfile::tempdir().unwrap() };
    noisy.record(0, 1);
    let call = data_diet(&["compare", &noisy.shown(), "--score", "el2n", "--between", "epochs"], 1);
    call.tells(
        "expected at least 2 epochs of `el2n` that all runs share to compare, got 1 (epoch 1)",
    );
}

#[test]
fn help_teaches() {
    let help = data_diet(&["compare", "--help"], 0);
    for words in [
        "--scores scores.parquet el2n forgetting",
        "--between epochs",
        "--between seeds",
        "tau-b",
        "[default: 0.3,0.5,0.7]",
        "[default: 1000]",
        "NaN is null",
    ] {
        help.says(words);
    }
}
