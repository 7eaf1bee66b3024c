//! `scores.parquet`: written from columns that come piece by piece, read one score at a time.

use std::fs::File;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int32Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::table::{ScoreInfo, unknown};
use crate::atomic_file::AtomicFile;
use crate::error::{Error, Result};
use crate::parquet_output::{ParquetOutput, io_error};
use crate::selection::ScoreColumn;

const INFO_KEY: &str = "data_diet.scores";
const NO_IDS: &str = "column `example` holds something else than ids in 0..2^63";
const ROW_GROUP_ROWS: usize = 131_072;
/// A table with a score per epoch is wide: its row groups take fewer rows.
const ROW_GROUP_BYTES: usize = 64 << 20;
const STATISTICS: [(&str, DataType); 3] =
    [("mean", DataType::Float64), ("std", DataType::Float64), ("count", DataType::Int32)];

/// The columns that every table of scores begins with, in ascending order of id.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) examples: Vec<i64>,
    pub(super) labels: Vec<i32>,
    pub(super) runs: Vec<i32>,
}

/// Some rows of one score.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    pub(super) mean: Vec<f64>,
    pub(super) std: Vec<f64>,
    pub(super) count: Vec<i32>,
}

/// Writes a table of scores; `read` gives some rows of the score at a place in `names`.
pub(super) fn write(
    mut file: AtomicFile,
    keys: &Keys,
    names: &[String],
    info: &ScoreInfo,
    mut read: impl FnMut(usize, Range<usize>) -> Result<Statistics>,
) -> Result<()> {
    let path = file.path().to_owned();
    let path = path.as_path();
    let failed = |error: ParquetError| match io_error(error) {
        Ok(error) => Error::io("write", path, error),
        Err(error) => Error::corrupt(path, "cannot be encoded").with_source(error),
    };
    let mut fields = vec![
        Field::new("example", DataType::Int64, false),
        Field::new("label", DataType::Int32, false),
        Field::new("runs", DataType::Int32, false),
    ];
    for name in names {
        let field = |(statistic, data_type): &(&str, DataType)| {
            Field::new(format!("{name}_{statistic}"), data_type.clone(), false)
        };
        fields.extend(STATISTICS.iter().map(field));
    }
    let schema = Arc::new(Schema::new(fields));
    let info = serde_json::to_string(info)
        .map_err(|error| Error::invalid("score information").with_source(error))?;
    let row_bytes = 16 + names.len() * 20;
    let row_group = ROW_GROUP_ROWS.min(ROW_GROUP_BYTES / row_bytes).max(1024);
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(row_group))
        .set_key_value_metadata(Some(vec![KeyValue::new(INFO_KEY.to_owned(), info)]));
    for field in schema.fields() {
        // Means and deviations hardly repeat; a dictionary of them costs more than all the rest.
        let repeats = field.data_type() == &DataType::Int32;
        let column = ColumnPath::new(vec![field.name().clone()]);
        properties = properties.set_column_dictionary_enabled(column, repeats);
    }
    let properties = properties.build();
    let mut output =
        ParquetOutput::new(file.file(), Arc::clone(&schema), properties).map_err(failed)?;
    for start in (0..keys.examples.len()).step_by(row_group) {
        let rows = start..keys.examples.len().min(start + row_group);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(keys.examples[rows.clone()].to_vec())),
            Arc::new(Int32Array::from(keys.labels[rows.clone()].to_vec())),
            Arc::new(Int32Array::from(keys.runs[rows.clone()].to_vec())),
        ];
        for score in 0..names.len() {
            let Statistics { mean, std, count } = read(score, rows.clone())?;
            columns.push(Arc::new(Float64Array::from(mean)));
            columns.push(Arc::new(Float64Array::from(std)));
            columns.push(Arc::new(Int32Array::from(count)));
        }
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
            .map_err(|error| failed(error.into()))?;
        output.write(&batch).map_err(failed)?;
    }
    output.finish().map_err(failed)?;
    file.commit()
}

impl ScoreColumn {
    /// Reads one score of a Parquet table with an `example` column: `scores.parquet`, or any table of
    /// one's own. `name` is a score, whose mean is taken, or a column of numbers by its full name.
    /// Null counts as NaN; a missing `label` column reads as class 0.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) for an unknown score, with those there are;
    /// [`Foreign`](crate::ErrorKind::Foreign) for a table without `example`;
    /// [`Corrupt`](crate::ErrorKind::Corrupt) for a file that does not decode;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if an example occurs twice.
    pub fn read(path: impl AsRef<Path>, name: &str) -> Result<Self> {
        let path = path.as_ref();
        // Some decoders of the Parquet crate panic on damaged input.
        catch_unwind(AssertUnwindSafe(|| read_column(path, name)))
            .unwrap_or_else(|_panic| Err(Error::corrupt(path, "makes the Parquet decoder panic")))
    }
}

impl ScoreInfo {
    /// Where the scores of a file come from; `None` for a table that [`ScoreTable`] has not written.
    ///
    /// [`ScoreTable`]: crate::ScoreTable
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) for a file that cannot be opened;
    /// [`Corrupt`](crate::ErrorKind::Corrupt) for one that is no Parquet.
    pub fn read(path: impl AsRef<Path>) -> Result<Option<Self>> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
        // Some decoders of the Parquet crate panic on damaged input.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
            let entries = reader.metadata().file_metadata().key_value_metadata();
            let entry = entries.into_iter().flatten().find(|entry| entry.key == INFO_KEY);
            Ok(entry.and_then(|entry| entry.value.clone()))
        }));
        let read =
            read.map_err(|_panic| Error::corrupt(path, "makes the Parquet decoder panic"))?;
        let text = read.map_err(|error: ParquetError| not_a_table(path, error))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }
}

fn not_a_table(path: &Path, error: ParquetError) -> Error {
    Error::corrupt(path, "is not a Parquet table that can be read").with_source(error)
}

fn read_column(path: &Path, name: &str) -> Result<ScoreColumn> {
    let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
    let corrupt = |error: ParquetError| not_a_table(path, error);
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(corrupt)?;
    let schema = Arc::clone(reader.schema());
    let has = |column: &str| schema.field_with_name(column).is_ok();
    if !has("example") {
        return Err(Error::foreign(path, "is not a table of scores: it has no column `example`"));
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
    // A cast would make ids of fractions and NaN of words.
    let is = |column: &str, kind: fn(&DataType) -> bool| {
        schema.field_with_name(column).is_ok_and(|field| kind(field.data_type()))
    };
    if !is("example", DataType::is_integer) {
        return Err(Error::foreign(path, NO_IDS));
    }
    if !is(score, |kind| kind.is_numeric() || *kind == DataType::Boolean) {
        return Err(Error::foreign(path, format!("column `{score}` holds no numbers")));
    }
    let mut columns = vec!["example", score];
    columns.extend(has("label").then_some("label"));
    let mask = ProjectionMask::columns(reader.parquet_schema(), columns);
    let rows = usize::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
    let reader = reader.with_projection(mask).build().map_err(corrupt)?;
    let (mut examples, mut labels, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    // A vector that grows by doubling takes up to three times its length. A file may lie about its
    // own, so this is allowed to fail.
    let _ = examples.try_reserve_exact(rows);
    let _ = labels.try_reserve_exact(rows);
    let _ = scores.try_reserve_exact(rows);
    for batch in reader {
        let batch = batch.map_err(|error| corrupt(error.into()))?;
        let column = |name: &str, data_type: DataType| {
            let column = batch.column_by_name(name).map(|column| cast(column, &data_type));
            column.transpose().map_err(|error| {
                Error::foreign(path, format!("column `{name}` holds no numbers")).with_source(error)
            })
        };
        let ids = column("example", DataType::Int64)?;
        let ids = ids.as_ref().and_then(|ids| ids.as_any().downcast_ref::<Int64Array>());
        let ids = ids.filter(|ids| ids.null_count() == 0 && ids.values().iter().all(|&id| id >= 0));
        let ids = ids.ok_or_else(|| Error::foreign(path, NO_IDS))?;
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
    }
    ScoreColumn::new(examples, labels, scores)
        .map_err(|error| error.context(path.display().to_string()))
}
