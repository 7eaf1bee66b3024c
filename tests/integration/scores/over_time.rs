//! Scores over the presentations of an example, against the definitions written out.

use data_diet::observe::{Batch, BatchFormat, LogitsFormat, ModelKind, Moment, Phase, Targets};
use data_diet::record::Recorder;
use data_diet::scores::{At, Score, ScoreRequest, TrainPhaseScore};
use data_diet::{ErrorKind, Experiment, ScoreOptions, ScoreTable};

fn fold(path: &std::path::Path, scores: Vec<ScoreRequest>) -> data_diet::Result<ScoreTable> {
    let mut options = ScoreOptions::default();
    options.scores = scores;
    ScoreTable::fold(&Experiment::open(path)?, &options)
}

fn means(table: &ScoreTable, name: &str) -> Vec<f64> {
    table.column(name).unwrap().scores().to_vec()
}

#[test]
fn windows_closeness_and_forgetting_are_their_definitions() {
    let directory = tempfile::tempdir().unwrap();
    let format = BatchFormat { logits: LogitsFormat::Off, ..BatchFormat::classes(2).unwrap() };
    let mut recorder =
        Recorder::builder(directory.path(), "seed-0", format.clone()).start().unwrap();
    // Example i comes 3 + 5 i times; p of the label follows from the logit of its class.
    let logit = |example: i64, epoch: i64| {
        ((example * 37 + epoch * 11) as f32 * 0.7).sin() * 3.0 - example as f32
    };
    for epoch in 0..23 {
        let ids: Vec<i64> = (0..5).filter(|id| epoch < 3 + 5 * id).collect();
        let logits: Vec<f32> = ids.iter().flat_map(|&id| [logit(id, epoch), 0.0]).collect();
        let labels = vec![0; ids.len()];
        let moment = Moment { phase: Phase::Train, step: epoch as u64, epoch: epoch as u32 };
        let batch = Batch::new(&format, moment, &ids, &logits, Targets::Classes(&labels)).unwrap();
        recorder.record(batch).unwrap();
    }
    recorder.finish().unwrap().check().unwrap();
    let asked = [
        TrainPhaseScore::ThresholdCloseness,
        TrainPhaseScore::CartographyForgetting,
        TrainPhaseScore::DynamicUncertainty,
        TrainPhaseScore::Dual,
    ];
    let table = fold(directory.path(), asked.map(ScoreRequest::from).to_vec()).unwrap();
    for example in 0..5 {
        let times = (3 + 5 * example).min(23);
        let logits: Vec<f64> = (0..times).map(|epoch| f64::from(logit(example, epoch))).collect();
        let p: Vec<f64> = logits.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let deviation = |values: &[f64]| {
            let m = mean(values);
            let squares: f64 = values.iter().map(|value| (value - m) * (value - m)).sum();
            (squares / (values.len() - 1) as f64).sqrt()
        };
        let windows: Vec<&[f64]> = p.windows(p.len().min(10)).collect();
        let over_windows = |value: &dyn Fn(&[f64]) -> f64| {
            mean(&windows.iter().map(|window| value(window)).collect::<Vec<_>>())
        };
        // A tie is answered with class 0, which is the label.
        let right: Vec<bool> = logits.iter().map(|&z| z >= 0.0).collect();
        let events = right.windows(2).filter(|pair| pair[0] && !pair[1]).count() as f64;
        let forgetting = if right.contains(&true) { events } else { 1000.0 };
        let row = example as usize;
        for (name, expected) in [
            ("threshold_closeness", mean(&p) * (1.0 - mean(&p))),
            ("cartography_forgetting", forgetting),
            ("dynamic_uncertainty", over_windows(&deviation)),
            ("dual", over_windows(&|window| (1.0 - mean(window)) * deviation(window))),
        ] {
            let got = means(&table, name)[row];
            assert!(
                (got - expected).abs() < 1e-6 * expected.max(1.0),
                "{name} of {example}: {got}, {expected}"
            );
        }
    }
    assert!(means(&table, "cartography_forgetting").contains(&1000.0), "one is never learned");
}

/// 60 examples, most of them once in an epoch, some twice, some not; epochs 0 to 13. Records those from
/// `first` to `last`, in one part or in a part for each epoch.
fn record_epochs(path: &std::path::Path, first: u32, last: u32, part_for_each: bool) {
    let format = BatchFormat { logits: LogitsFormat::Off, ..BatchFormat::classes(3).unwrap() };
    let mut builder = Recorder::builder(path, "seed-0", format.clone());
    if part_for_each {
        builder = builder.flush_rows(1).publish_interval(std::time::Duration::ZERO);
    }
    let mut recorder = builder.start().unwrap();
    for epoch in first..=last {
        let ids: Vec<i64> = (0..64).map(|at| (at * 7 + i64::from(epoch) * 5) % 60).collect();
        let ids: Vec<i64> = ids.into_iter().filter(|id| (id + i64::from(epoch)) % 9 > 0).collect();
        let value = |row: usize| (row as f32 * 1.7 + epoch as f32 * 2.9).sin() * 4.0;
        let logits: Vec<f32> = (0..ids.len() * 3).map(value).collect();
        let labels: Vec<i64> = ids.iter().map(|id| id % 3).collect();
        let moment = Moment { phase: Phase::Train, step: epoch.into(), epoch };
        let batch = Batch::new(&format, moment, &ids, &logits, Targets::Classes(&labels)).unwrap();
        recorder.record(batch).unwrap();
    }
    recorder.finish().unwrap().check().unwrap();
}

/// To the bit, for every score of the train phase: a span of epochs is a run that had only these.
#[test]
fn a_span_of_epochs_is_a_run_that_had_only_these() {
    let scores = || TrainPhaseScore::ALL.into_iter();
    for part_for_each in [false, true] {
        let all = tempfile::tempdir().unwrap();
        record_epochs(all.path(), 0, 13, part_for_each);
        let spans = [(0, 4), (3, 13), (6, 6), (0, 99)];
        let over = |score, epochs| Score::TrainPhase { score, epochs: Some(epochs) };
        // All spans in one pass, beside the scores of the whole phase.
        let asked = spans.iter().flat_map(|&span| scores().map(move |score| over(score, span)));
        let asked: Vec<Score> = asked.chain(scores().map(Score::from)).collect();
        let together = fold(all.path(), asked.into_iter().map(ScoreRequest::from).collect());
        let together = together.unwrap();
        for (first, last) in spans {
            let some = tempfile::tempdir().unwrap();
            record_epochs(some.path(), first, last.min(13), false);
            let alone = fold(some.path(), scores().map(ScoreRequest::from).collect()).unwrap();
            let requests = scores().map(|score| over(score, (first, last)).into()).collect();
            let span = fold(all.path(), requests).unwrap();
            assert_eq!(span.examples(), alone.examples());
            for score in scores() {
                let (name, over) = (score.name(), over(score, (first, last)).to_string());
                let expected: Vec<u64> =
                    means(&alone, name).iter().map(|it| it.to_bits()).collect();
                let got: Vec<u64> = means(&span, &over).iter().map(|it| it.to_bits()).collect();
                assert_eq!(got, expected, "{over}");
                let of = |example: i64| {
                    together
                        .examples()
                        .binary_search(&example)
                        .map(|at| means(&together, &over)[at])
                };
                for (&example, &bits) in alone.examples().iter().zip(&expected) {
                    assert_eq!(of(example).unwrap().to_bits(), bits, "{over} of {example}");
                }
            }
        }
        let whole = fold(all.path(), scores().map(ScoreRequest::from).collect()).unwrap();
        for score in scores() {
            let bits = |table: &ScoreTable| {
                means(table, score.name()).iter().map(|it| it.to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(bits(&together), bits(&whole), "{score:?}");
        }
    }
}

#[test]
fn a_range_of_epochs_is_asked_of_scores_of_the_train_phase_and_refused_where_there_is_none() {
    let directory = tempfile::tempdir().unwrap();
    record_epochs(directory.path(), 2, 6, false);
    let names = |at: At, scores: Vec<ScoreRequest>| {
        let mut options = ScoreOptions::default();
        options.scores = scores;
        options.set_time(&at)?;
        let table = ScoreTable::fold(&Experiment::open(directory.path())?, &options)?;
        Ok::<_, data_diet::Error>(
            table.statistics().iter().map(|s| s.name.clone()).collect::<Vec<_>>(),
        )
    };
    let asked = || vec![ScoreRequest::cartography(), "dual".parse().unwrap()];
    let expected = [
        "cartography_confidence_epochs_2_to_4",
        "cartography_variability_epochs_2_to_4",
        "cartography_correctness_epochs_2_to_4",
        "dual_epochs_2_to_4",
    ];
    assert_eq!(names(At::EpochRange(2, 4), asked()).unwrap(), expected);
    assert_eq!(names(At::EpochRange(3, 3), asked()).unwrap()[3], "dual_epoch_3");
    let error = names(At::Epochs(vec![3]), asked()).unwrap_err().to_string();
    assert!(error.contains("scores of the train phase take a range of epochs"), "{error}");
    let error = names(At::EpochRange(7, 9), asked()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let expected = "epochs 7 to 9 were not recorded in the train phase; there are: 2, 3, 4, 5, 6";
    assert_eq!(error.to_string(), expected);
    let error = names(At::EpochRange(7, 9), vec!["forgetting".parse().unwrap()]).unwrap_err();
    assert_eq!(error.to_string(), expected, "a score without a signal");
    let error = names(At::EpochRange(4, 2), asked()).unwrap_err();
    assert_eq!(error.to_string(), "epochs: got 4 to 2; the lower end must come first");
    let standard = ScoreRequest::standard(&At::EpochRange(2, 3), None);
    let table = fold(directory.path(), standard).unwrap();
    assert!(table.column("aum_epochs_2_to_3").is_ok() && table.column("aum").is_err());
    assert!(table.column("cartography_confidence_epochs_2_to_3").is_ok());
}

#[test]
fn perplexity_is_the_exponential_of_the_mean_loss_of_a_sequence() {
    let directory = tempfile::tempdir().unwrap();
    let format = BatchFormat::new(ModelKind::Tokens { vocabulary: 3 }).unwrap();
    let mut recorder =
        Recorder::builder(directory.path(), "seed-0", format.clone()).start().unwrap();
    let logits: Vec<f32> = (0..18).map(|at| (at as f32 * 1.3).cos()).collect();
    let labels = [0, 1, 2, 2, 1, 0];
    for step in 0..2 {
        let moment = Moment { phase: Phase::Train, step, epoch: 4 };
        let scaled: Vec<f32> = logits.iter().map(|z| z * (step + 1) as f32).collect();
        let batch =
            Batch::new(&format, moment, &[8, 9], &scaled, Targets::Classes(&labels)).unwrap();
        recorder.record(batch).unwrap();
    }
    recorder.finish().unwrap().check().unwrap();
    let names = ["perplexity", "perplexity_train_epoch_4", "loss_train_epoch_4"];
    let requests = names.map(|name| name.parse().unwrap()).to_vec();
    let table = fold(directory.path(), requests).unwrap();
    assert_eq!(table.info().aliases["perplexity"], "perplexity_train_epoch_4");
    for sequence in 0..2 {
        let loss = |token: usize, scale: f64| {
            let row = &logits[token * 3..][..3];
            let total: f64 = row.iter().map(|&z| (f64::from(z) * scale).exp()).sum();
            total.ln() - f64::from(row[labels[token] as usize]) * scale
        };
        let tokens = 3 * sequence..3 * sequence + 3;
        let of_step =
            |scale: f64| tokens.clone().map(|token| loss(token, scale)).sum::<f64>() / 3.0;
        let expected = f64::midpoint(of_step(1.0), of_step(2.0)).exp();
        for name in &names[..2] {
            assert!((means(&table, name)[sequence] - expected).abs() < 1e-6 * expected, "{name}");
        }
        assert!((means(&table, names[2])[sequence].exp() - expected).abs() < 1e-6 * expected);
    }
    let defaults = fold(directory.path(), ScoreOptions::default().scores).unwrap();
    assert!(defaults.column("perplexity").is_ok(), "among the default scores of tokens");
    assert!(defaults.column("cartography_confidence").is_ok(), "confidence is recorded by default");
}

#[test]
fn scores_that_a_kind_does_not_have_are_refused_by_name() {
    let record = |kind: ModelKind, targets: Targets<'_>| {
        let directory = tempfile::tempdir().unwrap();
        let format = BatchFormat::new(kind).unwrap();
        let mut recorder =
            Recorder::builder(directory.path(), "seed-0", format.clone()).start().unwrap();
        let moment = Moment { phase: Phase::Train, step: 0, epoch: 0 };
        let outputs = vec![0.5_f32; kind.outputs()];
        recorder.record(Batch::new(&format, moment, &[1], &outputs, targets).unwrap()).unwrap();
        recorder.finish().unwrap().check().unwrap();
        directory
    };
    let refused = |directory: &tempfile::TempDir, name: &str| {
        fold(directory.path(), vec![name.parse().unwrap()]).unwrap_err()
    };
    let regression = record(ModelKind::Regression { outputs: 2 }, Targets::Soft(&[1.0, 2.0]));
    let error = refused(&regression, "forgetting");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no right answers in regression (2)"), "{error}");
    assert!(refused(&regression, "aum").to_string().contains("no `margin` for regression (2)"));
    let losses = record(ModelKind::LossOnly, Targets::None);
    assert!(refused(&losses, "el2n").to_string().contains("no `el2n` for loss only"));
    let classes = record(ModelKind::Classes { classes: 2 }, Targets::Classes(&[1]));
    let error = refused(&classes, "perplexity");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(
        error
            .to_string()
            .starts_with("score: `perplexity` is of tokens, but run `seed-0` has 2 classes")
    );
    // What there is works with the default scores.
    for directory in [&regression, &losses, &classes] {
        fold(directory.path(), ScoreOptions::default().scores).unwrap();
        fold(directory.path(), vec!["loss".parse().unwrap()]).unwrap();
    }
}
