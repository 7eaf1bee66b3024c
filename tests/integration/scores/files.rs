//! `scores.parquet`, and tables that are not ours.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, StringArray,
    UInt64Array,
};
use arrow::record_batch::RecordBatch;
use data_diet::selection::ScoreColumn;
use data_diet::{Error, ErrorKind, Experiment, ScoreOptions, ScoreTable};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

use crate::harness::recorded::finished;

fn folded() -> (TempDir, ScoreTable) {
    let directory = tempfile::tempdir().unwrap();
    finished(directory.path(), "seed-0", 0);
    finished(directory.path(), "seed-1", 3);
    let experiment = Experiment::open(directory.path()).unwrap();
    let table = ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap();
    (directory, table)
}

struct Table {
    directory: TempDir,
}

impl Table {
    /// A Parquet file with these columns.
    fn new(columns: Vec<(&str, ArrayRef)>) -> Self {
        let table = Self { directory: tempfile::tempdir().unwrap() };
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let file = File::create(table.path()).unwrap();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
        table
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("table.parquet")
    }

    fn read(&self, name: &str) -> Result<ScoreColumn, Error> {
        ScoreColumn::read(self.path(), name)
    }

    fn refused(&self, name: &str) -> (ErrorKind, String) {
        let error = self.read(name).expect_err("the table does not fit");
        (error.kind(), error.to_string())
    }
}

fn ids(ids: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(ids.to_vec()))
}

fn floats(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn same(a: &[f64], b: &[f64]) -> bool {
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    bits(a) == bits(b)
}

#[test]
fn what_is_written_reads_back_to_the_bit() {
    let (directory, table) = folded();
    let path = directory.path().join("scores.parquet");
    table.write(&path).unwrap();
    assert!(table.statistics().len() > 10);
    for score in table.statistics() {
        let mean = ScoreColumn::read(&path, &score.name).unwrap();
        assert_eq!(mean.examples(), table.examples());
        assert_eq!(mean.labels(), table.labels());
        assert!(same(mean.scores(), &score.mean), "{}", score.name);
        assert!(same(table.column(&score.name).unwrap().scores(), &score.mean));
        let std = ScoreColumn::read(&path, &format!("{}_std", score.name)).unwrap();
        assert!(same(std.scores(), &score.std), "{}", score.name);
        let count = ScoreColumn::read(&path, &format!("{}_count", score.name)).unwrap();
        let counts: Vec<f64> = score.count.iter().map(|&count| count.into()).collect();
        assert_eq!(count.scores(), counts);
    }
}

#[test]
fn writing_replaces_a_file_and_leaves_no_draft() {
    let (directory, table) = folded();
    let path = directory.path().join("scores.parquet");
    fs::write(&path, "an older file").unwrap();
    table.write(&path).unwrap();
    ScoreColumn::read(&path, "el2n").unwrap();
    let mut names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["_runs", "observations", "scores.parquet"]);
}

#[test]
fn a_place_that_cannot_be_written() {
    let (directory, table) = folded();
    let error = table.write(directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().starts_with("output: expected a file name"), "{error}");
    let path = directory.path().join("missing/scores.parquet");
    let error = table.write(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}

#[test]
fn an_unknown_score_lists_those_there_are() {
    let (directory, table) = folded();
    let path = directory.path().join("scores.parquet");
    table.write(&path).unwrap();
    let from_file = ScoreColumn::read(&path, "grand").unwrap_err();
    let from_table = table.column("grand").unwrap_err();
    for error in [from_file, from_table] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let message = error.to_string();
        assert!(message.contains("no score `grand`; there are: el2n, el2n_train_epoch_0"));
        assert!(
            message.ends_with(
                "aum, cartography_confidence, cartography_variability, cartography_correctness"
            ),
            "{message}"
        );
    }
}

#[test]
fn a_table_of_ones_own() {
    let table = Table::new(vec![
        ("example", Arc::new(UInt64Array::from(vec![9, 2, 5])) as ArrayRef),
        ("difficulty", Arc::new(Float32Array::from(vec![Some(0.5), None, Some(f32::INFINITY)]))),
        ("votes", Arc::new(Int32Array::from(vec![3, 1, 2]))),
        ("is_odd", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ("comment", Arc::new(StringArray::from(vec!["1.5", "2", "x"]))),
    ]);
    let difficulty = table.read("difficulty").unwrap();
    assert_eq!(difficulty.examples(), [2, 5, 9]);
    assert_eq!(difficulty.labels(), [0; 3]);
    let scores = difficulty.scores();
    assert!(scores[0].is_nan() && scores[1] == f64::INFINITY && scores[2] == 0.5, "{scores:?}");
    assert_eq!(table.read("votes").unwrap().scores(), [1.0, 2.0, 3.0]);
    assert_eq!(table.read("is_odd").unwrap().scores(), [0.0, 1.0, 1.0]);
    let (kind, message) = table.refused("comment");
    assert_eq!(kind, ErrorKind::UnsupportedFormat);
    assert!(message.ends_with("column `comment` holds no numbers"), "{message}");
    let (kind, message) = table.refused("el2n");
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(message.ends_with("there are: difficulty, votes, is_odd, comment"), "{message}");
}

#[test]
fn ids_that_are_no_ids() {
    let scores = || floats(&[0.5, 0.25]);
    let negative = ids(&[1, -1]);
    let beyond: ArrayRef = Arc::new(UInt64Array::from(vec![1, 1 << 63]));
    let null: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    // Truncation would make one example of two.
    let fractional = floats(&[1.0, 1.5]);
    let names: ArrayRef = Arc::new(StringArray::from(vec!["1", "cat.png"]));
    for column in [negative, beyond, null, fractional, names] {
        let shown = format!("{column:?}");
        let table = Table::new(vec![("example", column), ("el2n", scores())]);
        let (kind, message) = table.refused("el2n");
        assert_eq!(kind, ErrorKind::UnsupportedFormat, "{shown}");
        assert!(message.contains("column `example` holds values that are not ids"), "{message}");
    }
}

#[test]
fn an_example_twice() {
    let table = Table::new(vec![("example", ids(&[4, 7, 4])), ("el2n", floats(&[0.0, 1.0, 2.0]))]);
    let (kind, message) = table.refused("el2n");
    assert_eq!(kind, ErrorKind::InvalidArgument);
    assert!(message.ends_with("scores: example 4 occurs twice"), "{message}");
    assert!(message.contains("table.parquet"), "{message}");
}

#[test]
fn a_table_without_examples_and_files_that_are_no_tables() {
    let table = Table::new(vec![("id", ids(&[1])), ("el2n", floats(&[0.0]))]);
    let (kind, message) = table.refused("el2n");
    assert_eq!(kind, ErrorKind::UnsupportedFormat);
    assert!(message.ends_with("it has no column `example`"), "{message}");
    let refused = |path: &Path| ScoreColumn::read(path, "el2n").unwrap_err();
    for content in ["", "PAR1", "example,el2n\n1,0.5\n"] {
        fs::write(table.path(), content).unwrap();
        let error = refused(&table.path());
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("is not a Parquet table"), "{error}");
    }
    let error = refused(&table.path().with_extension("missing"));
    assert_eq!(error.kind(), ErrorKind::Io);
}

/// A flipped or missing byte is an error or goes unnoticed, and never a panic or an endless wait.
#[test]
fn damaged_tables_do_not_panic() {
    let (directory, table) = folded();
    let path = directory.path().join("scores.parquet");
    table.write(&path).unwrap();
    let sound = fs::read(&path).unwrap();
    for cut in (0..sound.len()).step_by(97) {
        fs::write(&path, &sound[..cut]).unwrap();
        assert!(ScoreColumn::read(&path, "el2n").is_err(), "cut at {cut}");
    }
    for place in (0..sound.len()).step_by(61) {
        let mut damaged = sound.clone();
        damaged[place] ^= 0x55;
        fs::write(&path, &damaged).unwrap();
        let _ = ScoreColumn::read(&path, "el2n");
    }
}
