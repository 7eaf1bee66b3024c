//! Reads and checks one score of a table.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, Float64Array, Int32Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::info::ScoreInfo;
use super::schema::{IDENTITY, INFO_KEY};
use super::table::unknown;
use crate::error::{Error, Result};
use crate::selection::ScoreColumn;
use crate::storage::CheckedFile;

const NO_IDS: &str = "column `example` holds values that are not ids in 0..2^63";

impl ScoreColumn {
    /// Reads one score of a Parquet table with an `example` column: `scores.parquet`, or a table of
    /// your own. `name` is a score, whose mean is read, or the full name of a numeric column. Null
    /// counts as NaN; without a `label` column every example is of class 0. If this crate has
    /// written the table, every byte that is read is checked.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) for an unknown score, listing the scores;
    /// [`UnsupportedFormat`](crate::ErrorKind::UnsupportedFormat) for a table without `example`;
    /// [`Corrupt`](crate::ErrorKind::Corrupt) for a file that does not decode or whose checksums
    /// are wrong; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if an example occurs
    /// twice.
    pub fn read(path: impl AsRef<Path>, name: &str) -> Result<Self> {
        let path = path.as_ref();
        // Some decoders of the Parquet crate panic on damaged input.
        catch_unwind(AssertUnwindSafe(|| read_column(path, name))).unwrap_or_else(|_panic| {
            Err(Error::corrupt(path, "is damaged: the Parquet decoder panicked"))
        })
    }
}

impl ScoreInfo {
    /// Reads where the scores of a file come from. Returns `None` for a table that [`ScoreTable`]
    /// has not written.
    ///
    /// [`ScoreTable`]: crate::scores::ScoreTable
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the file cannot be opened;
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if it is not Parquet, or damaged.
    pub fn read(path: impl AsRef<Path>) -> Result<Option<Self>> {
        let path = path.as_ref();
        if let Some(file) = CheckedFile::open_if_marked(path)? {
            let text = file.entry(INFO_KEY);
            return Ok(text.and_then(|text| serde_json::from_str(text).ok()));
        }
        let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
        // Some decoders of the Parquet crate panic on damaged input.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
            let entries = reader.metadata().file_metadata().key_value_metadata();
            let entry = entries.into_iter().flatten().find(|entry| entry.key == INFO_KEY);
            Ok(entry.and_then(|entry| entry.value.clone()))
        }));
        let read = read
            .map_err(|_panic| Error::corrupt(path, "is damaged: the Parquet decoder panicked"))?;
        let text = read.map_err(|error: ParquetError| not_a_table(path, error))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }
}

fn not_a_table(path: &Path, error: ParquetError) -> Error {
    Error::corrupt(path, "is not a Parquet table that can be read").with_source(error)
}

/// Checks every byte of a table of scores, and that its examples are in order. Returns its rows and
/// bytes.
pub(crate) fn verify(path: &Path) -> Result<(u64, u64)> {
    let file = CheckedFile::open(path)?;
    file.check_identity(IDENTITY)?;
    file.check_bytes()?;
    let mut last = -1;
    let mut rows = 0;
    for group in 0.. {
        let Some(batches) = file.read_row_group(group, Some(&["example"]))? else { break };
        for batch in batches {
            let ids = batch.column_by_name("example");
            let ids = ids.and_then(|ids| ids.as_any().downcast_ref::<Int64Array>());
            let ids = ids.ok_or_else(|| Error::unsupported_format(path, NO_IDS))?;
            rows += ids.len() as u64;
            for &id in ids.values() {
                if id <= last {
                    return Err(Error::corrupt(path, format!("example {id} comes after {last}")));
                }
                last = id;
            }
        }
    }
    if rows != file.rows() {
        let what = format!("the footer counts {} rows, the file holds {rows}", file.rows());
        return Err(Error::corrupt(path, what));
    }
    Ok((rows, file.length()))
}

/// A table about to be read: one of ours, whose bytes are checked, or any other.
enum Source {
    Checked(CheckedFile),
    Plain(ParquetRecordBatchReaderBuilder<File>),
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        if let Some(file) = CheckedFile::open_if_marked(path)? {
            return Ok(Self::Checked(file));
        }
        let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file);
        reader.map(Self::Plain).map_err(|error| not_a_table(path, error))
    }

    fn schema(&self) -> &SchemaRef {
        match self {
            Self::Checked(file) => file.schema(),
            Self::Plain(reader) => reader.schema(),
        }
    }

    fn rows(&self) -> usize {
        let rows = match self {
            Self::Checked(file) => file.rows(),
            Self::Plain(reader) => reader.metadata().file_metadata().num_rows().max(0) as u64,
        };
        usize::try_from(rows).unwrap_or(0)
    }

    /// Reads the rows of some columns, piece by piece.
    fn read(
        self,
        path: &Path,
        columns: &[&str],
        mut take: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Checked(file) => {
                for group in 0.. {
                    let Some(batches) = file.read_row_group(group, Some(columns))? else { break };
                    batches.iter().try_for_each(&mut take)?;
                }
            }
            Self::Plain(reader) => {
                let corrupt = |error: ParquetError| not_a_table(path, error);
                let columns = columns.iter().copied();
                let mask = ProjectionMask::columns(reader.parquet_schema(), columns);
                for batch in reader.with_projection(mask).build().map_err(corrupt)? {
                    take(&batch.map_err(|error| corrupt(error.into()))?)?;
                }
            }
        }
        Ok(())
    }
}

fn read_column(path: &Path, name: &str) -> Result<ScoreColumn> {
    let source = Source::open(path)?;
    let schema = Arc::clone(source.schema());
    let has = |column: &str| schema.field_with_name(column).is_ok();
    if !has("example") {
        return Err(Error::unsupported_format(
            path,
            "is not a table of scores: it has no column `example`",
        ));
    }
    let mean = format!("{name}_mean");
    let score = [mean.as_str(), name].into_iter().find(|&column| has(column)).ok_or_else(|| {
        let columns = schema.fields().iter().map(|field| field.name().as_str());
        let scores: Vec<&str> =
            columns.clone().filter_map(|column| column.strip_suffix("_mean")).collect();
        if scores.is_empty() {
            unknown(name, columns.filter(|column| !["example", "label"].contains(column)))
        } else {
            unknown(name, scores.into_iter())
        }
    })?;
    // A cast would turn fractions into ids and words into NaN.
    let is = |column: &str, kind: fn(&DataType) -> bool| {
        schema.field_with_name(column).is_ok_and(|field| kind(field.data_type()))
    };
    if !is("example", DataType::is_integer) {
        return Err(Error::unsupported_format(path, NO_IDS));
    }
    if !is(score, |kind| kind.is_numeric() || *kind == DataType::Boolean) {
        return Err(Error::unsupported_format(path, format!("column `{score}` holds no numbers")));
    }
    let mut columns = vec!["example", score];
    columns.extend(has("label").then_some("label"));
    let rows = source.rows();
    let (mut examples, mut labels, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    // A vector that grows by doubling takes up to three times its length. A damaged file may claim
    // any length, so this may fail.
    let _ = examples.try_reserve_exact(rows);
    let _ = labels.try_reserve_exact(rows);
    let _ = scores.try_reserve_exact(rows);
    source.read(path, &columns, |batch| {
        let column = |name: &str, data_type: DataType| {
            let column = batch.column_by_name(name).map(|column| cast(column, &data_type));
            column.transpose().map_err(|error| {
                Error::unsupported_format(path, format!("column `{name}` holds no numbers"))
                    .with_source(error)
            })
        };
        let ids = column("example", DataType::Int64)?;
        let ids = ids.as_ref().and_then(|ids| ids.as_any().downcast_ref::<Int64Array>());
        let ids = ids.filter(|ids| ids.null_count() == 0 && ids.values().iter().all(|&id| id >= 0));
        let ids = ids.ok_or_else(|| Error::unsupported_format(path, NO_IDS))?;
        examples.extend_from_slice(ids.values());
        let values = column(score, DataType::Float64)?;
        if let Some(values) =
            values.as_ref().and_then(|v| v.as_any().downcast_ref::<Float64Array>())
        {
            scores.extend(values.iter().map(|value| value.unwrap_or(f64::NAN)));
        }
        let names = column("label", DataType::Int32)?;
        match names.as_ref().and_then(|names| names.as_any().downcast_ref::<Int32Array>()) {
            Some(names) => labels.extend(names.iter().map(|label| label.unwrap_or(0))),
            None => labels.resize(examples.len(), 0),
        }
        Ok(())
    })?;
    ScoreColumn::new(examples, labels, scores)
        .map_err(|error| error.context(path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::column_sink::{Keys, Statistics};
    use super::super::writer;
    use super::*;
    use crate::error::ErrorKind;
    use crate::storage::AtomicFile;

    /// More than two full row groups.
    const ROWS: usize = 2 * 131_072 + 77;

    fn mean(score: usize, row: usize) -> f64 {
        ((row * 7919 + score) % 1009) as f64 / 8.0
    }

    fn write(path: &Path) {
        let keys = Keys {
            examples: (0..ROWS as i64).map(|row| 3 * row).collect(),
            labels: (0..ROWS as i32).map(|row| row % 10).collect(),
            runs: vec![2; ROWS],
        };
        let names = ["a", "b"].map(str::to_owned);
        let read = |score, rows: std::ops::Range<usize>| {
            Ok(Statistics {
                mean: rows.clone().map(|row| mean(score, row)).collect(),
                std: vec![0.5; rows.len()],
                count: vec![2; rows.len()],
            })
        };
        let file = AtomicFile::create(path).unwrap();
        writer::write(file, &keys, &names, &ScoreInfo::default(), 2, read).unwrap();
    }

    #[test]
    fn a_score_of_many_row_groups_is_checked_chunk_by_chunk() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scores.parquet");
        write(&path);
        for (score, name) in ["a", "b"].into_iter().enumerate() {
            let column = ScoreColumn::read(&path, name).unwrap();
            assert!(column.examples().iter().copied().eq((0..ROWS as i64).map(|row| 3 * row)));
            assert!(column.scores().iter().copied().eq((0..ROWS).map(|row| mean(score, row))));
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(verify(&path).unwrap(), (ROWS as u64, bytes.len() as u64));
        // Damage to one score of the second row group.
        let file = CheckedFile::open(&path).unwrap();
        assert_eq!(file.metadata().num_row_groups(), 3);
        let (start, length) = file.metadata().row_group(1).column(6).byte_range();
        let mut damaged = bytes.clone();
        damaged[(start + length / 2) as usize] ^= 4;
        std::fs::write(&path, damaged).unwrap();
        let what = "the checksum of column `b_mean` in row group 1 is wrong";
        for error in [ScoreColumn::read(&path, "b").unwrap_err(), verify(&path).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().ends_with(what), "{error}");
        }
        // Reading another score does not touch it.
        assert_eq!(ScoreColumn::read(&path, "a").unwrap().scores().len(), ROWS);
    }
}
