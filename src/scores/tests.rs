//! Folds of many examples, which are sorted on their way, to the bit.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::observe::{Batch, BatchFormat, LogitsFormat, Moment, Phase, Signal, Targets};
use crate::record::Recorder;
use crate::run::Experiment;
use crate::scores::{At, ScoreOptions, ScoreRequest, ScoreTable, TrainPhaseScore};

/// What one example went through: its values, and whether they came from a correct answer.
type Rows = BTreeMap<i64, Vec<Row>>;
type Row = (u32, f32, bool);

/// Many examples, some of them several times in an epoch, some of them new in a late one, each epoch
/// in parts of its own: the rows of all but the first epoch are sorted into buckets.
fn record(path: &std::path::Path, ids: impl Fn(u32) -> i64) -> Rows {
    let mut format = BatchFormat::classes(2).unwrap();
    format.logits = LogitsFormat::Off;
    let builder = Recorder::builder(path, "seed-0", format.clone()).flush_rows(1);
    let mut recorder = builder.publish_interval(Duration::ZERO).start().unwrap();
    let mut rows = Rows::new();
    for (step, epoch) in (0..).zip([0, 0, 1, 1, 1, 2, 4]) {
        let ids: Vec<i64> = (0..300).map(|row| ids(row * 7919 + step * 311)).collect();
        let margin = |row: usize| ((row as f32 + step as f32 * 0.7) * 12.9898).sin();
        let logits: Vec<f32> = (0..ids.len()).flat_map(|row| [margin(row), 0.0]).collect();
        for (row, &id) in ids.iter().enumerate() {
            let margin = margin(row);
            rows.entry(id).or_default().push((epoch, margin, margin >= 0.0));
        }
        let labels = vec![0; ids.len()];
        let moment = Moment { phase: Phase::Train, step: step.into(), epoch };
        let batch = Batch::new(&format, moment, &ids, &logits, Targets::Classes(&labels));
        recorder.record(batch.unwrap()).unwrap();
    }
    recorder.finish().unwrap().check().unwrap();
    rows
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// To the bit, so that the order of additions counts.
#[test]
fn sorted_rows_give_the_same_sums() {
    let dense = |row: u32| i64::from(row % 263 + 30 * u32::from(row % 97 == 5));
    let sparse = |row: u32| i64::from(row % 263) * 1_000_000_000_000_007 % (i64::MAX / 2);
    for ids in [&dense as &dyn Fn(u32) -> i64, &sparse] {
        let directory = tempfile::tempdir().unwrap();
        let rows = record(directory.path(), ids);
        let experiment = Experiment::open(directory.path()).unwrap();
        let scores = vec![
            ScoreRequest::signal(Signal::Margin).at(At::EveryEpoch),
            TrainPhaseScore::Aum.into(),
            TrainPhaseScore::Forgetting.into(),
            TrainPhaseScore::Presentations.into(),
            TrainPhaseScore::CartographyCorrectness.into(),
        ];
        let options = ScoreOptions { scores, ..ScoreOptions::default() };
        let table = ScoreTable::fold(&experiment, &options).unwrap();
        assert!(rows.keys().eq(table.examples()) && rows.len() > 250);
        let column = |name: &str| {
            table.statistics().iter().find(|score| score.name == name).unwrap().mean.clone()
        };
        let same = |name: &str, value: &dyn Fn(&[Row]) -> f64| {
            let expected: Vec<u64> = rows.values().map(|rows| value(rows).to_bits()).collect();
            let got: Vec<u64> = column(name).iter().map(|value| value.to_bits()).collect();
            assert_eq!(got, expected, "{name}");
        };
        same("aum", &|rows| mean(rows.iter().map(|row| row.1.into())));
        for epoch in [0, 1, 2, 4] {
            let of_epoch = |rows: &[Row]| {
                let rows = rows.iter().filter(|row| row.0 == epoch);
                let mean = mean(rows.map(|row| row.1.into()));
                if mean.is_nan() { f64::NAN } else { mean }
            };
            same(&format!("margin_train_epoch_{epoch}"), &of_epoch);
        }
        same("presentations", &|rows| rows.len() as f64);
        same("cartography_correctness", &|rows| mean(rows.iter().map(|row| row.2.into())));
        let most = rows.values().map(Vec::len).max().unwrap() as f64;
        same("forgetting", &|rows| {
            let events = rows.windows(2).filter(|pair| pair[0].2 && !pair[1].2).count();
            if rows.iter().any(|row| row.2) { events as f64 } else { most }
        });
    }
}
