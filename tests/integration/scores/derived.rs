//! Scores of signals that were not recorded, against the same recording with every signal switched on.

use std::path::Path;
use std::time::Duration;

use data_diet::observe::{
    Batch, BatchFormat, LogitsFormat, ModelKind, Moment, Phase, Signal, Targets,
};
use data_diet::record::Recorder;
use data_diet::scores::{At, Availability, Score, ScoreRequest, TrainPhaseScore, available};
use data_diet::{ErrorKind, Experiment, Result, ScoreOptions, ScoreTable};
use proptest::prelude::*;

use crate::harness::recorded::finish;

/// Some batches of a run of several ranks.
#[derive(Clone, Debug)]
struct Recording {
    kind: ModelKind,
    ranks: u32,
    soft: bool,
    small_parts: bool,
    batches: Vec<RecordedBatch>,
}

#[derive(Clone, Debug)]
struct RecordedBatch {
    moment: Moment,
    rank: u32,
    ids: Vec<i64>,
    logits: Vec<f32>,
}

impl Recording {
    /// Batches of 6 to 12 rows with repeated examples, some of them on both ranks, some not finite.
    fn new(kind: ModelKind, seed: u64) -> Self {
        let (mut batches, mut random) = (Vec::new(), seed);
        let mut next = move || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as u32
        };
        for step in 0..9_u32 {
            for (phase, rank) in Phase::ALL.into_iter().flat_map(|phase| [(phase, 0), (phase, 1)]) {
                if phase != Phase::Train && step % 3 != 2 {
                    continue;
                }
                let moment = Moment { phase, step: step.into(), epoch: step / 3 };
                let rows = 6 + next() % 7;
                let ids = (0..rows).map(|_| i64::from(next() % 9 + 6 * rank)).collect();
                let logit = |_| match next() % 97 {
                    0 => f32::NAN,
                    number => (number as f32 - 48.0) / 7.0,
                };
                let logits = (0..rows as usize * kind.outputs()).map(logit).collect();
                batches.push(RecordedBatch { moment, rank, ids, logits });
            }
        }
        Self { kind, ranks: 2, soft: false, small_parts: seed.is_multiple_of(2), batches }
    }

    fn classes(&self) -> usize {
        self.kind.outputs().max(2)
    }

    fn write(&self, experiment: &Path, signals: &[Signal], logits: LogitsFormat) {
        let mut format = BatchFormat::new(self.kind).unwrap();
        format.signals = signals.to_vec();
        format.logits = logits;
        for rank in 0..self.ranks {
            let mut builder = Recorder::builder(experiment, "seed-0", format.clone()).rank(rank);
            if self.small_parts {
                builder = builder.flush_rows(1).publish_interval(Duration::ZERO);
            }
            let mut recorder = builder.start().unwrap();
            for batch in self.batches.iter().filter(|batch| batch.rank == rank) {
                let classes = self.classes();
                let labels: Vec<i64> = batch.ids.iter().map(|id| id % classes as i64).collect();
                let weight = |label: i64, class: usize| {
                    let rest = 0.3 / (classes - 1) as f32;
                    if label as usize == class { 0.7 } else { rest }
                };
                let weights: Vec<f32> = match self.kind {
                    ModelKind::Binary => labels.iter().map(|&label| weight(label, 1)).collect(),
                    _ => labels
                        .iter()
                        .flat_map(|&label| (0..classes).map(move |class| weight(label, class)))
                        .collect(),
                };
                let targets =
                    if self.soft { Targets::Soft(&weights) } else { Targets::Classes(&labels) };
                let moment = batch.moment;
                recorder
                    .record(
                        Batch::new(&format, moment, &batch.ids, &batch.logits, targets).unwrap(),
                    )
                    .unwrap();
            }
            finish(recorder);
        }
    }
}

fn fold(path: &Path, scores: Vec<ScoreRequest>, assume: bool) -> Result<ScoreTable> {
    let mut options = ScoreOptions::default();
    options.scores = scores;
    options.assume_class_targets = assume;
    ScoreTable::fold(&Experiment::open(path)?, &options)
}

/// Every score that a signal is part of, at epochs, at steps, over spans and over the train phase.
fn scores_of(signal: Signal) -> Vec<ScoreRequest> {
    let times = [At::EveryEpoch, At::EpochRange(0, 1), At::Steps(vec![2, 5]), At::StepRange(1, 7)];
    let mut scores: Vec<ScoreRequest> =
        times.map(|at| ScoreRequest::signal(signal).at(at)).to_vec();
    scores.push(ScoreRequest::signal(signal));
    match signal {
        Signal::Margin => scores.push(TrainPhaseScore::Aum.into()),
        Signal::Confidence => scores.push(ScoreRequest::cartography()),
        _ => {}
    }
    scores
}

/// To `f32` rounding of what the signal was derived from.
fn assert_same(got: &ScoreTable, expected: &ScoreTable) {
    assert_eq!(got.examples(), expected.examples());
    assert_eq!((got.labels(), got.runs()), (expected.labels(), expected.runs()));
    assert_eq!(got.statistics().len(), expected.statistics().len());
    for (got, expected) in got.statistics().iter().zip(expected.statistics()) {
        assert_eq!((&got.name, &got.count), (&expected.name, &expected.count));
        for (at, (&a, &b)) in got.mean.iter().zip(&expected.mean).enumerate() {
            let same =
                a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 3e-7 * (1.0 + b.abs());
            assert!(same, "{} of row {at}: {a} is not {b}", got.name);
        }
    }
    let counts = |table: &ScoreTable| (table.info().non_finite, table.info().repeated);
    assert_eq!(counts(got), counts(expected));
    assert_eq!(got.info().aliases, expected.info().aliases);
    assert!(expected.info().derived.is_empty());
}

const KINDS: [ModelKind; 3] =
    [ModelKind::Classes { classes: 2 }, ModelKind::Classes { classes: 10 }, ModelKind::Binary];

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn derived_signals_are_those_that_would_have_been_recorded(
        kind in prop::sample::select(KINDS.to_vec()),
        seed in any::<u64>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let recording = Recording::new(kind, seed);
        recording.write(&at("all"), &Signal::ALL, LogitsFormat::Off);
        recording.write(&at("logits"), &[], LogitsFormat::F32);
        recording.write(&at("loss"), &[Signal::Loss], LogitsFormat::Off);
        for signal in Signal::ALL {
            let expected = fold(&at("all"), scores_of(signal), false).unwrap();
            let got = fold(&at("logits"), scores_of(signal), false).unwrap();
            assert_same(&got, &expected);
            let [derived] = &got.info().derived[..] else { panic!("{:?}", got.info()) };
            prop_assert_eq!((&*derived.signal, &*derived.from), (signal.name(), "logits"));
            prop_assert_eq!(&derived.runs, &["seed-0"]);
        }
        let scores = || scores_of(Signal::Confidence);
        let got = fold(&at("loss"), scores(), false).unwrap();
        assert_same(&got, &fold(&at("all"), scores(), false).unwrap());
        prop_assert_eq!(&got.info().derived[0].from, "loss");
        // Several signals at once, of which some are recorded.
        let scores = || [Signal::Loss, Signal::Margin, Signal::Entropy].into_iter().flat_map(scores_of);
        recording.write(&at("some"), &[Signal::Margin], LogitsFormat::F32);
        let got = fold(&at("some"), scores().collect(), false).unwrap();
        assert_same(&got, &fold(&at("all"), scores().collect(), false).unwrap());
        prop_assert_eq!(got.info().derived.len(), 2);
    }

    /// Of a soft target, `label` is the likeliest class, which is all that these signals take.
    #[test]
    fn soft_targets_leave_what_depends_on_the_likeliest_class(
        kind in prop::sample::select(KINDS.to_vec()),
        seed in any::<u64>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let recording = Recording { soft: true, ..Recording::new(kind, seed) };
        recording.write(&at("all"), &Signal::ALL, LogitsFormat::Off);
        recording.write(&at("logits"), &[Signal::Loss], LogitsFormat::F32);
        recording.write(&at("loss"), &[Signal::Loss], LogitsFormat::Off);
        for signal in [Signal::Margin, Signal::Confidence, Signal::Entropy] {
            let got = fold(&at("logits"), scores_of(signal), false).unwrap();
            assert_same(&got, &fold(&at("all"), scores_of(signal), false).unwrap());
            prop_assert_eq!(&got.info().derived[0].from, "logits");
        }
        // Nor does assuming classes change what is known of the targets.
        for (name, signal) in [("logits", Signal::El2n), ("logits", Signal::El1n), ("loss", Signal::Confidence)] {
            let error = fold(&at(name), scores_of(signal), true).unwrap_err();
            prop_assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error);
        }
    }

    #[test]
    fn the_highest_logits_give_confidence_and_margin(seed in any::<u64>(), k in 1..=3_u32) {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let recording = Recording::new(ModelKind::Classes { classes: 10 }, seed);
        recording.write(&at("all"), &Signal::ALL, LogitsFormat::Off);
        recording.write(&at("top"), &[Signal::El2n], LogitsFormat::TopKAndLabel(k));
        for signal in [Signal::Confidence, Signal::Margin] {
            let got = fold(&at("top"), scores_of(signal), false);
            if signal == Signal::Margin && k == 1 {
                let message = got.unwrap_err().to_string();
                prop_assert!(message.contains("only the 1 highest logits"), "{}", message);
                continue;
            }
            let got = got.unwrap();
            assert_same(&got, &fold(&at("all"), scores_of(signal), false).unwrap());
            prop_assert_eq!(&got.info().derived[0].from, "the highest logits");
        }
        let message = fold(&at("top"), scores_of(Signal::Entropy), false).unwrap_err().to_string();
        let needed = "needed: the signal `entropy` switched on, or every logit as f32";
        prop_assert!(message.ends_with(needed), "{}", message);
    }
}

/// Row groups of the two tables begin at different rows, and one of the logits spans two of the
/// observations.
#[test]
fn row_groups_of_the_two_tables_need_not_agree() {
    const ROWS: i64 = 140_000;
    let kind = ModelKind::Classes { classes: 64 };
    let outputs = kind.outputs() as i64;
    let batch = |first: i64| RecordedBatch {
        moment: Moment { phase: Phase::Score, step: 0, epoch: 0 },
        rank: 0,
        ids: (first..first + 10_000).collect(),
        logits: (first * outputs..(first + 10_000) * outputs)
            .map(|at| (at * 7919 % 1009) as f32 / 100.0)
            .collect(),
    };
    let batches = (0..ROWS / 10_000).map(|at| batch(at * 10_000)).collect();
    let recording = Recording { kind, ranks: 1, soft: false, small_parts: false, batches };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    recording.write(&at("all"), &[Signal::Margin, Signal::Entropy], LogitsFormat::Off);
    recording.write(&at("logits"), &[], LogitsFormat::F32);
    let scores = || [Signal::Margin, Signal::Entropy].map(ScoreRequest::signal).to_vec();
    let got = fold(&at("logits"), scores(), false).unwrap();
    assert_eq!(got.examples().len(), ROWS as usize);
    assert_same(&got, &fold(&at("all"), scores(), false).unwrap());
}

/// Rewrites `run.json` as an earlier version wrote it, which did not say what the targets were.
fn forget_targets(experiment: &Path) {
    for entry in walk(&experiment.join("_runs")) {
        if entry.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(&entry).unwrap();
            let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(json.as_object_mut().unwrap().remove("targets").is_some());
            std::fs::write(&entry, json.to_string()).unwrap();
        }
    }
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn unknown_targets_are_classes_only_if_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let recording = Recording::new(ModelKind::Classes { classes: 10 }, 3);
    recording.write(&at("all"), &Signal::ALL, LogitsFormat::Off);
    recording.write(&at("loss"), &[Signal::Loss], LogitsFormat::Off);
    recording.write(&at("logits"), &[Signal::Loss], LogitsFormat::F32);
    forget_targets(&at("loss"));
    forget_targets(&at("logits"));
    let error = fold(&at("loss"), scores_of(Signal::Confidence), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let message = error.to_string();
    assert!(message.contains("derived if they are assumed to be classes"), "{message}");
    let error = fold(&at("logits"), scores_of(Signal::El2n), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    for (name, signal, assume, from) in [
        ("loss", Signal::Confidence, true, "loss"),
        ("logits", Signal::Confidence, true, "loss"),
        ("logits", Signal::Confidence, false, "logits"),
        ("logits", Signal::El2n, true, "logits"),
    ] {
        let got = fold(&at(name), scores_of(signal), assume).unwrap();
        assert_same(&got, &fold(&at("all"), scores_of(signal), false).unwrap());
        assert_eq!(got.info().derived[0].from, from, "{name} {signal}");
    }
}

/// Rounded logits give rounded signals, and labels of several kinds are not kept.
#[test]
fn what_cannot_be_derived_exactly_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let recording = Recording::new(ModelKind::Classes { classes: 10 }, 4);
    recording.write(&at("f16"), &[Signal::El2n], LogitsFormat::F16);
    recording.write(&at("top"), &[Signal::El2n], LogitsFormat::TopK(2));
    recording.write(&at("off"), &[Signal::El2n], LogitsFormat::Off);
    for (name, reason) in [
        ("f16", "logits rounded to f16"),
        ("top", "only the 2 highest logits"),
        ("off", "no logits"),
    ] {
        for signal in [Signal::Margin, Signal::Confidence, Signal::Entropy, Signal::El1n] {
            let error = fold(&at(name), scores_of(signal), true).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            let message = error.to_string();
            assert!(message.contains(&format!(": {reason}; needed: the signal")), "{message}");
        }
    }
    let multi_label =
        Recording { soft: true, ..Recording::new(ModelKind::MultiLabel { labels: 3 }, 5) };
    multi_label.write(&at("labels"), &[Signal::El2n], LogitsFormat::F32);
    let message = fold(&at("labels"), scores_of(Signal::Margin), true).unwrap_err().to_string();
    assert!(message.contains("`margin` not switched on"), "{message}");
    let message = fold(&at("labels"), scores_of(Signal::Entropy), true).unwrap_err().to_string();
    assert!(message.contains("no `entropy` for 3 labels"), "{message}");
}

/// A file of logits that belongs to other rows is noticed.
#[test]
fn logits_of_other_rows_are_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let mut recording = Recording::new(ModelKind::Classes { classes: 2 }, 1);
    recording.ranks = 1;
    recording.write(&at("one"), &[], LogitsFormat::F32);
    for batch in &mut recording.batches {
        batch.ids.reverse();
    }
    recording.write(&at("other"), &[], LogitsFormat::F32);
    let parts = |name: &str| {
        let mut parts = walk(&at(name).join("logits"));
        parts.sort();
        parts
    };
    for (from, to) in parts("other").iter().zip(parts("one")) {
        std::fs::copy(from, to).unwrap();
    }
    let error = fold(&at("one"), scores_of(Signal::Margin), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("its rows are not those of the observations"), "{error}");
}

#[test]
fn a_run_tells_where_its_scores_come_from() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let recording = Recording::new(ModelKind::Classes { classes: 10 }, 6);
    recording.write(&at("default"), &BatchFormat::DEFAULT_SIGNALS, LogitsFormat::F32);
    let experiment = Experiment::open(at("default")).unwrap();
    let scores = available(&experiment.run("seed-0").unwrap(), false).unwrap();
    let of = |name: &str| {
        let score: Score = name.parse().unwrap();
        scores.iter().find(|of| of.score == score).unwrap().availability.clone()
    };
    for name in ["el2n", "loss", "margin", "aum", "forgetting", "cartography_correctness"] {
        assert_eq!(of(name), Availability::Recorded, "{name}");
    }
    for name in ["confidence", "cartography_confidence", "cartography_variability"] {
        assert_eq!(of(name), Availability::Derived("loss"), "{name}");
    }
    for name in ["el1n", "entropy"] {
        assert_eq!(of(name), Availability::Derived("logits"), "{name}");
    }
    assert_eq!(of("grand"), Availability::Missing("no gradient norms".to_owned()));
    // What is there is what a fold gives.
    for of in &scores {
        let folded = fold(&at("default"), vec![of.score.into()], false);
        let is_missing = matches!(of.availability, Availability::Missing(_));
        assert_eq!(folded.is_err(), is_missing, "{}", of.score);
    }
    let names = fold(&at("default"), ScoreOptions::default().scores, false).unwrap();
    let names: Vec<&str> = names.statistics().iter().map(|score| &*score.name).collect();
    assert!(names.contains(&"cartography_variability"), "{names:?}");
}
