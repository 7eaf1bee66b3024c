//! An experiment in a temporary directory, and its rows as plain values.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::{
    Array, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Int32Array, Int64Array,
};
use arrow::record_batch::RecordBatch;
use candle_core::{Device, Tensor};
use data_diet::Experiment;
use data_diet::observe::{Phase, Signal};
use data_diet::run::Run;
use data_diet_candle::{DataDietHook, DataDietHookBuilder};
use half::f16;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

pub(crate) const RUN: &str = "seed-0";

/// A row of the table `observations`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) step: i64,
    pub(crate) epoch: i32,
    pub(crate) example: i64,
    pub(crate) label: i32,
    pub(crate) correct: bool,
    /// In the order of [`Signal::ALL`]; `None` where the run does not record it.
    pub(crate) signals: [Option<f32>; 6],
}

/// A row of the table `logits`; `classes` is empty unless the run records the top k.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LogitRow {
    pub(crate) example: i64,
    pub(crate) label: i32,
    pub(crate) classes: Vec<i32>,
    pub(crate) logits: Vec<f32>,
}

pub(crate) struct Fixture {
    directory: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("experiment")
    }

    pub(crate) fn builder(&self) -> DataDietHookBuilder {
        DataDietHook::builder(self.path(), RUN)
    }

    /// A hook for three classes.
    pub(crate) fn hook(&self) -> DataDietHook {
        self.builder().classes(3).build().unwrap()
    }

    pub(crate) fn run(&self) -> Run {
        Experiment::open(self.path()).unwrap().run(RUN).unwrap()
    }

    pub(crate) fn rows(&self, phase: Phase) -> Vec<Row> {
        let run = self.run();
        let ranks = 0..run.ranks().len();
        ranks.flat_map(|rank| rows_of_rank(&run, phase, rank)).collect()
    }

    /// The steps and ids of the training rows.
    pub(crate) fn steps_and_examples(&self) -> Vec<(i64, i64)> {
        self.rows(Phase::Train).iter().map(|row| (row.step, row.example)).collect()
    }

    pub(crate) fn logits(&self, phase: Phase) -> Vec<LogitRow> {
        self.batches_of_logits(phase).iter().flat_map(logits_of_batch).collect()
    }

    /// Columns of floats of the table `logits`.
    pub(crate) fn columns_of_logits(&self, phase: Phase, names: &[&str]) -> Vec<Vec<f32>> {
        let batches = self.batches_of_logits(phase);
        let floats = |batch: &RecordBatch, name: &str| {
            batch[name].as_any().downcast_ref::<Float32Array>().unwrap().values().to_vec()
        };
        let column = |&name: &&str| batches.iter().flat_map(|batch| floats(batch, name)).collect();
        names.iter().map(column).collect()
    }

    fn batches_of_logits(&self, phase: Phase) -> Vec<RecordBatch> {
        let partition = format!("logits/run={RUN}/phase={phase}/rank=0");
        let Ok(entries) = fs::read_dir(self.path().join(partition)) else { return Vec::new() };
        let mut parts: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        parts.sort();
        parts.iter().flat_map(|part| batches_of_part(part)).collect()
    }
}

fn rows_of_rank(run: &Run, phase: Phase, rank: usize) -> Vec<Row> {
    let mut all = Vec::new();
    for rows in run.observations(phase, rank).unwrap() {
        let rows = rows.unwrap();
        let correct: Vec<bool> = rows.correct().collect();
        let signals = Signal::ALL.map(|signal| rows.signal(signal));
        all.extend((0..rows.len()).map(|row| Row {
            step: rows.steps()[row],
            epoch: rows.epochs()[row],
            example: rows.examples()[row],
            label: rows.labels()[row],
            correct: correct[row],
            signals: signals.map(|column| column.map(|column| column[row])),
        }));
    }
    all
}

fn batches_of_part(part: &Path) -> Vec<RecordBatch> {
    let file = File::open(part).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    reader.map(|batch| batch.unwrap()).collect()
}

fn logits_of_batch(batch: &RecordBatch) -> Vec<LogitRow> {
    let examples = batch["example"].as_any().downcast_ref::<Int64Array>().unwrap();
    let labels = batch["label"].as_any().downcast_ref::<Int32Array>().unwrap();
    let list = |name: &str, row: usize| -> Option<_> {
        let column = batch.column_by_name(name)?.as_any().downcast_ref::<FixedSizeListArray>()?;
        Some(column.value(row))
    };
    let classes_of = |row| -> Option<Vec<i32>> {
        let classes = list("classes", row)?;
        Some(classes.as_any().downcast_ref::<Int32Array>()?.values().to_vec())
    };
    let logits_of = |row| {
        if let Some(floats) = list("logits", row) {
            return floats.as_any().downcast_ref::<Float32Array>().unwrap().values().to_vec();
        }
        let column = batch["logits"].as_any().downcast_ref::<FixedSizeBinaryArray>().unwrap();
        let pairs = column.value(row).chunks_exact(2);
        pairs.map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect()
    };
    let rows = (0..batch.num_rows()).map(|row| LogitRow {
        example: examples.value(row),
        label: labels.value(row),
        classes: classes_of(row).unwrap_or_default(),
        logits: logits_of(row),
    });
    rows.collect()
}

/// Distinct logits of both signs, `[rows, classes]`, the same on every call.
pub(crate) fn some_logits(rows: usize, classes: usize) -> Tensor {
    let value = |index: usize| (index as f32 * 0.731).sin() * 3.0 + index as f32 * 0.01;
    let values: Vec<f32> = (0..rows * classes).map(value).collect();
    Tensor::from_vec(values, (rows, classes), &Device::Cpu).unwrap()
}
