//! The tables of an experiment, read back: the way a user of the library does, and with a plain
//! Parquet reader that knows nothing of data-diet.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::{Float32Type, Int32Type, Int64Type};
use data_diet::Experiment;
use data_diet::observe::{Phase, Signal};
use half::f16;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// One row of a table. `logits` holds what the table has beyond its keys: the logits, or the signals
/// in the order of their columns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) step: i64,
    pub(crate) epoch: i32,
    pub(crate) example: i64,
    pub(crate) label: i32,
    pub(crate) logits: Vec<f32>,
}

/// The parts of rank 0 of a run in a table, in the order of their numbers.
pub(crate) fn part_files(experiment: &Path, table: &str, run: &str, phase: Phase) -> Vec<PathBuf> {
    let directory = experiment.join(format!("{table}/run={run}/phase={phase}/rank=0"));
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort_unstable();
    files
}

/// A whole table of one phase of a run, by a plain Parquet reader. Of the columns after `label`, those
/// that hold floats are taken, alone, in lists or as half floats.
pub(crate) fn table(experiment: &Path, table: &str, run: &str, phase: Phase) -> Vec<Row> {
    let mut rows = Vec::new();
    for path in part_files(experiment, table, run, phase) {
        let file = File::open(&path).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        for batch in reader {
            let batch = batch.unwrap();
            let column = |name: &str| batch.column_by_name(name).unwrap();
            let steps = column("step").as_primitive::<Int64Type>();
            let epochs = column("epoch").as_primitive::<Int32Type>();
            let examples = column("example").as_primitive::<Int64Type>();
            let labels = column("label").as_primitive::<Int32Type>();
            for row in 0..batch.num_rows() {
                let mut values = Vec::new();
                for column in &batch.columns()[4..] {
                    let list = column.as_fixed_size_list_opt().map(|list| list.value(row));
                    let list = list.or_else(|| column.as_list_opt::<i32>().map(|it| it.value(row)));
                    if let Some(floats) = column.as_primitive_opt::<Float32Type>() {
                        values.push(floats.value(row));
                    } else if let Some(list) = list {
                        let floats = list.as_primitive_opt::<Float32Type>();
                        values.extend(floats.into_iter().flatten().flatten());
                    } else if let Some(halves) = column.as_fixed_size_binary_opt() {
                        let halves = halves.value(row).chunks_exact(2);
                        values.extend(halves.map(|it| f16::from_le_bytes([it[0], it[1]]).to_f32()));
                    }
                }
                rows.push(Row {
                    step: steps.value(row),
                    epoch: epochs.value(row),
                    example: examples.value(row),
                    label: labels.value(row),
                    logits: values,
                });
            }
        }
    }
    rows
}

/// The observations of rank 0 of a run by the library's own reader; EL2N, loss and margin in place of
/// the logits.
pub(crate) fn observations(
    experiment: &Experiment,
    run: &str,
    phase: Phase,
) -> data_diet::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for batch in experiment.run(run)?.observations(phase, 0)? {
        let batch = batch?;
        let signals =
            [Signal::El2n, Signal::Loss, Signal::Margin].map(|it| batch.signal(it).unwrap());
        for row in 0..batch.len() {
            rows.push(Row {
                step: batch.steps()[row],
                epoch: batch.epochs()[row],
                example: batch.examples()[row],
                label: batch.labels()[row],
                logits: signals.iter().map(|values| values[row]).collect(),
            });
        }
    }
    Ok(rows)
}
