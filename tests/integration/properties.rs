//! Whatever the sizes of batches, flushes and segments: what is written is what is read.

use data_diet::observe::{Batch, BatchFormat, LogitsFormat, Moment, Phase, Signal, Targets};
use data_diet::run::RunStatus;
use data_diet::{Experiment, ScoreOptions, ScoreTable};
use proptest::prelude::*;

use crate::harness::{Directory, Row, observations, table};

const CLASSES: usize = 3;

/// One step's rows: phase, and per row an id, a label and logits.
type Step = (bool, Vec<(i64, i64, [f32; CLASSES])>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = prop_oneof![0..20_i64, 0..=i64::MAX];
    let logit = prop_oneof![8 => -20.0..20.0_f32, 1 => Just(f32::NAN), 1 => Just(f32::INFINITY)];
    let row = (id, 0..CLASSES as i64, [logit.clone(), logit.clone(), logit]);
    prop::collection::vec((prop::bool::weighted(0.3), prop::collection::vec(row, 1..9)), 1..25)
}

fn moment(index: usize, score: bool) -> Moment {
    let phase = if score { Phase::Score } else { Phase::Train };
    Moment { phase, step: index as u64, epoch: index as u32 / 6 }
}

fn record(
    steps: &[Step],
    format: &BatchFormat,
    flush_rows: u64,
    segment_bytes: u64,
) -> (Directory, Experiment) {
    let directory = Directory::new();
    let recorder = directory.recorder("seed-0", format).flush_rows(flush_rows);
    let mut recorder = recorder.segment_bytes(segment_bytes).start().unwrap();
    for (index, (score, rows)) in steps.iter().enumerate() {
        let ids: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let labels: Vec<i64> = rows.iter().map(|row| row.1).collect();
        let logits: Vec<f32> = rows.iter().flat_map(|row| row.2).collect();
        let now = moment(index, *score);
        let batch = Batch::new(format, now, &ids, &logits, Targets::Classes(&labels)).unwrap();
        recorder.record(batch).unwrap();
    }
    let report = recorder.finish().unwrap();
    assert_eq!(report.status, RunStatus::Finished);
    let experiment = Experiment::open(directory.experiment()).unwrap();
    assert!(experiment.verify(|_| {}).unwrap().findings.is_empty());
    (directory, experiment)
}

/// The rows of a phase as they were made, with their logits.
fn expected(steps: &[Step], phase: Phase) -> Vec<Row> {
    let mut rows = Vec::new();
    for (index, (score, of_step)) in steps.iter().enumerate() {
        let now = moment(index, *score);
        for &(example, label, logits) in of_step.iter().filter(|_| now.phase == phase) {
            rows.push(Row {
                step: now.step as i64,
                epoch: now.epoch as i32,
                example,
                label: label as i32,
                logits: logits.to_vec(),
            });
        }
    }
    rows
}

/// Comparable where NaN is equal to itself.
fn bits(rows: &[Row]) -> Vec<(i64, i32, i64, i32, Vec<u32>)> {
    let bits = |row: &Row| row.logits.iter().map(|value| value.to_bits()).collect();
    rows.iter().map(|row| (row.step, row.epoch, row.example, row.label, bits(row))).collect()
}

/// EL2N, loss and margin by their definitions, in the plainest way.
fn signals(row: &Row) -> [f64; 3] {
    let z: Vec<f64> = row.logits.iter().map(|&z| f64::from(z)).collect();
    if z.iter().any(|z| !z.is_finite()) {
        return [f64::NAN; 3];
    }
    let total: f64 = z.iter().map(|z| z.exp()).sum();
    let label = row.label as usize;
    let error = |class: usize| z[class].exp() / total - f64::from(u8::from(class == label));
    let el2n = (0..CLASSES).map(|class| error(class).powi(2)).sum::<f64>().sqrt();
    let others = (0..CLASSES).filter(|&class| class != label).map(|class| z[class]);
    [el2n, total.ln() - z[label], z[label] - others.fold(f64::NEG_INFINITY, f64::max)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_written_is_read(
        steps in steps(),
        flush_rows in 1..40_u64,
        segment_bytes in prop_oneof![Just(1_u64), 500..20_000_u64],
    ) {
        let format = BatchFormat::classes(CLASSES).unwrap();
        let (directory, experiment) = record(&steps, &format, flush_rows, segment_bytes);
        let path = directory.experiment();
        for phase in Phase::ALL {
            let expected = expected(&steps, phase);
            prop_assert_eq!(bits(&table(&path, "logits", "seed-0", phase)), bits(&expected));
            let observed = observations(&experiment, "seed-0", phase).unwrap();
            prop_assert_eq!(observed.len(), expected.len());
            for (observed, expected) in observed.iter().zip(&expected) {
                let key = |row: &Row| (row.step, row.epoch, row.example, row.label);
                prop_assert_eq!(key(observed), key(expected));
                for (&got, wanted) in observed.logits.iter().zip(signals(expected)) {
                    let close = (f64::from(got) - wanted).abs() <= 1e-5 * wanted.abs().max(1.0);
                    prop_assert!(close || got.is_nan() && wanted.is_nan(), "{} {}", got, wanted);
                }
            }
        }
    }

    #[test]
    fn tables_and_scores_do_not_depend_on_where_files_end(
        steps in steps(),
        flush_rows in 1..40_u64,
        segment_bytes in prop_oneof![Just(1_u64), 500..20_000_u64],
    ) {
        let format = BatchFormat { signals: Signal::ALL.to_vec(), ..BatchFormat::classes(CLASSES).unwrap() };
        let (one, in_one) = record(&steps, &format, 1 << 40, 1 << 40);
        let (many, in_many) = record(&steps, &format, flush_rows, segment_bytes);
        for phase in Phase::ALL {
            for name in ["observations", "logits"] {
                let rows = |it: &Directory| bits(&table(&it.experiment(), name, "seed-0", phase));
                prop_assert_eq!(rows(&one), rows(&many));
            }
        }
        let fold = |experiment| ScoreTable::fold(experiment, &ScoreOptions::default()).unwrap();
        let text = |table: &ScoreTable| {
            format!("{:?} {:?} {:?}", table.examples(), table.labels(), table.statistics())
        };
        prop_assert_eq!(text(&fold(&in_one)), text(&fold(&in_many)));
    }

    #[test]
    fn half_floats_and_the_largest_logits_are_those_of_the_rows(steps in steps(), k in 1..=3_u32) {
        let top = BatchFormat {
            logits: LogitsFormat::TopK(k), ..BatchFormat::classes(CLASSES).unwrap()
        };
        let (directory, _) = record(&steps, &top, 10, 1);
        for phase in Phase::ALL {
            // The columns are `classes` and `logits`; the reader takes floats only.
            let read = table(&directory.experiment(), "logits", "seed-0", phase);
            let largest = expected(&steps, phase).into_iter().map(|mut row| {
                row.logits.sort_by(|a, b| b.total_cmp(a));
                row.logits.truncate(k as usize);
                row
            });
            prop_assert_eq!(bits(&read), bits(&largest.collect::<Vec<_>>()));
        }
        let half = BatchFormat { logits: LogitsFormat::F16, ..BatchFormat::classes(CLASSES).unwrap() };
        let (directory, _) = record(&steps, &half, 10, 1);
        for phase in Phase::ALL {
            let read = table(&directory.experiment(), "logits", "seed-0", phase);
            let rounded = expected(&steps, phase).into_iter().map(|mut row| {
                let round = |z: &mut f32| *z = half::f16::from_f32(*z).to_f32();
                row.logits.iter_mut().for_each(round);
                row
            });
            prop_assert_eq!(bits(&read), bits(&rounded.collect::<Vec<_>>()));
        }
    }
}
