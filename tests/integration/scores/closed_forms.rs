//! AUM and the dataset map where their values can be written down.

use data_diet::observe::{Phase, Signal};
use data_diet::record::Recorder;
use data_diet::scores::TrainPhaseScore;
use data_diet::{Experiment, ScoreOptions, ScoreTable};
use tempfile::TempDir;

use crate::harness::recorded::{self, Presented, finish};

/// Records one run of two classes, of which 0 is right: in epoch `e` example `i` has the margin
/// `margins[i][e]`.
fn table(margins: &[Vec<f32>]) -> (TempDir, ScoreTable) {
    let directory = tempfile::tempdir().unwrap();
    let mut format = recorded::format(2);
    format.signals = vec![Signal::Margin, Signal::Confidence];
    let mut recorder = Recorder::builder(directory.path(), "seed-0", format).start().unwrap();
    for epoch in 0..margins[0].len() {
        let row = |(example, margins): (i64, &Vec<f32>)| Presented {
            example,
            label: 0,
            logits: vec![margins[epoch], 0.0],
        };
        let rows: Vec<Presented> = (0..).zip(margins).map(row).collect();
        recorded::record(&mut recorder, Phase::Train, epoch as u64, epoch as u32, &rows);
    }
    finish(recorder);
    let experiment = Experiment::open(directory.path()).unwrap();
    let mut options = ScoreOptions::default();
    options.scores = [
        TrainPhaseScore::Aum,
        TrainPhaseScore::CartographyConfidence,
        TrainPhaseScore::CartographyVariability,
        TrainPhaseScore::CartographyCorrectness,
    ]
    .map(Into::into)
    .to_vec();
    let table = ScoreTable::fold(&experiment, &options).unwrap();
    (directory, table)
}

fn scores(table: &ScoreTable, name: &str) -> Vec<f64> {
    table.column(name).unwrap().scores().to_vec()
}

fn assert_close(got: &[f64], expected: &[f64]) {
    let is_close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-7 || (a.is_nan() && b.is_nan());
    assert!(got.len() == expected.len() && got.iter().zip(expected).all(is_close), "{got:?}");
}

#[test]
fn aum_is_the_mean_of_the_margins() {
    let rising: Vec<f32> = (0..9_u8).map(f32::from).collect();
    let alternating = (0..9_u8).map(|epoch| if epoch % 2 == 0 { 1.0 } else { -1.5 }).collect();
    let mut broken = vec![2.5; 9];
    broken[4] = f32::NAN;
    let (_directory, table) = table(&[rising, alternating, broken, vec![f32::NAN; 9]]);
    // (0 + 8) / 2, (5 - 4 * 1.5) / 9, what is left, and nothing.
    assert_close(&scores(&table, "aum"), &[4.0, -1.0 / 9.0, 2.5, f64::NAN]);
    assert_eq!(table.statistics()[0].count, [1, 1, 1, 0]);
    assert_eq!(table.info().non_finite, 10);
}

#[test]
fn a_dataset_map_of_two_values() {
    // p_y is the logistic function of the margin: 3/4 and 1/2 for ln 3 and 0.
    let (quarter, half) = (3_f32.ln(), 0.0);
    let (_directory, table) = table(&[
        vec![quarter, half, quarter, half],
        vec![-quarter, -quarter, -quarter, quarter],
        vec![half; 4],
        vec![f32::NAN, quarter, f32::NAN, quarter],
    ]);
    let confidence = [0.625, (3.0 * 0.25 + 0.75) / 4.0, 0.5, 0.75];
    assert_close(&scores(&table, "cartography_confidence"), &confidence);
    // Over n: half the difference, and sqrt(3/16) of it where one of four differs.
    let variability = [0.125, 0.5 * (3.0_f64 / 16.0).sqrt(), 0.0, 0.0];
    assert_close(&scores(&table, "cartography_variability"), &variability);
    // A tie goes to class 0, and a broken row is not correct.
    assert_eq!(scores(&table, "cartography_correctness"), [1.0, 0.25, 1.0, 0.5]);
}
