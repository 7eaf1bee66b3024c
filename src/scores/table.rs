//! One row per example: the scores of an experiment, in memory and as `scores.parquet`.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int32Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};

use crate::atomic_file::AtomicFile;
use crate::error::{Error, ErrorKind, Result};
use crate::selection::ScoreColumn;

const INFO_KEY: &str = "data_diet.scores";
const ROW_GROUP_ROWS: usize = 131_072;
const NO_IDS: &str = "column `example` holds something else than ids in 0..2^63";
const STATISTICS: [&str; 3] = ["mean", "std", "count"];

/// The scores of the examples that some runs have seen, in ascending order of id.
#[derive(Clone, Debug)]
pub struct ScoreTable {
    pub(crate) examples: Vec<i64>,
    pub(crate) labels: Vec<i32>,
    pub(crate) runs: Vec<i32>,
    pub(crate) statistics: Vec<ScoreStatistics>,
    pub(crate) info: ScoreInfo,
}

/// One score of every example: mean, standard deviation and count over runs.
///
/// - `el2n_PHASE_epoch_E`: the mean EL2N of the example's observations in that epoch of a run; `el2n`
///   is the last epoch of the score phase that every run has recorded, or of the train phase if there
///   is no score phase. Paul et al. 2021; high is hard.
/// - `forgetting`: forgetting events, Toneva's convention; `forgetting_inf`: the Data Diet code's. See
///   [`Presentations`](crate::Presentations). High is hard.
/// - `never_learned`: 1 or 0 per run, so its mean is the share of runs that never learned the example.
/// - `first_learned`: the index of the first correct presentation, over the runs that learned it.
/// - `presentations`: how often it was presented in the train phase.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScoreStatistics {
    /// The score's name.
    pub name: String,
    /// The mean over runs; NaN where no run has a value.
    pub mean: Vec<f64>,
    /// The sample standard deviation (`n - 1`) over runs; NaN for fewer than two, or an infinite mean.
    pub std: Vec<f64>,
    /// The number of runs that have a value.
    pub count: Vec<i32>,
}

/// Where scores come from; kept in the file's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScoreInfo {
    /// The runs that were folded.
    pub runs: Vec<String>,
    /// The score that `el2n` stands for.
    pub el2n: Option<String>,
    /// Observations left out of means because a logit was not finite.
    pub non_finite: u64,
    /// Observations left out because the example was on another rank in the same epoch: a data loader
    /// pads ranks by repeating examples.
    pub repeated: u64,
}

impl ScoreTable {
    /// The example ids, ascending.
    #[must_use]
    pub fn examples(&self) -> &[i64] {
        &self.examples
    }

    /// The class of each example, as it was first recorded.
    #[must_use]
    pub fn labels(&self) -> &[i32] {
        &self.labels
    }

    /// In how many runs each example was seen.
    #[must_use]
    pub fn runs(&self) -> &[i32] {
        &self.runs
    }

    /// Every score, in the order of the columns.
    #[must_use]
    pub fn statistics(&self) -> &[ScoreStatistics] {
        &self.statistics
    }

    /// Where the scores come from.
    #[must_use]
    pub fn info(&self) -> &ScoreInfo {
        &self.info
    }

    /// One score's mean over runs, to select examples by.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for an unknown name, with the names there are.
    pub fn column(&self, name: &str) -> Result<ScoreColumn> {
        let score = self.statistics.iter().find(|score| score.name == name).ok_or_else(|| {
            unknown(name, self.statistics.iter().map(|score| score.name.as_str()))
        })?;
        ScoreColumn::new(self.examples.clone(), self.labels.clone(), score.mean.clone())
    }

    /// Writes the table as Parquet: `example`, `label`, `runs`, and for each score its `_mean`, `_std`
    /// and `_count`. The file appears when it is complete.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let failed = |error: ParquetError| {
            Error::new(ErrorKind::Io, format!("cannot write {}", path.display())).with_source(error)
        };
        let integer = |name: &str, data_type| Field::new(name, data_type, false);
        let mut fields = vec![
            integer("example", DataType::Int64),
            integer("label", DataType::Int32),
            integer("runs", DataType::Int32),
        ];
        for score in &self.statistics {
            for (statistic, data_type) in
                STATISTICS.iter().zip([DataType::Float64, DataType::Float64, DataType::Int32])
            {
                fields.push(integer(&format!("{}_{statistic}", score.name), data_type));
            }
        }
        let schema = Arc::new(Schema::new(fields));
        let info = serde_json::to_string(&self.info)
            .map_err(|error| Error::invalid("score information").with_source(error))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_key_value_metadata(Some(vec![KeyValue::new(INFO_KEY.to_owned(), info)]))
            .build();
        let mut file = AtomicFile::create(path)?;
        let mut writer = ArrowWriter::try_new(file.file(), Arc::clone(&schema), Some(properties))
            .map_err(failed)?;
        for start in (0..self.examples.len()).step_by(ROW_GROUP_ROWS) {
            let rows = start..self.examples.len().min(start + ROW_GROUP_ROWS);
            let mut columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(self.examples[rows.clone()].to_vec())),
                Arc::new(Int32Array::from(self.labels[rows.clone()].to_vec())),
                Arc::new(Int32Array::from(self.runs[rows.clone()].to_vec())),
            ];
            for score in &self.statistics {
                columns.push(Arc::new(Float64Array::from(score.mean[rows.clone()].to_vec())));
                columns.push(Arc::new(Float64Array::from(score.std[rows.clone()].to_vec())));
                columns.push(Arc::new(Int32Array::from(score.count[rows.clone()].to_vec())));
            }
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
                .map_err(|error| failed(error.into()))?;
            writer.write(&batch).map_err(failed)?;
        }
        writer.close().map_err(failed)?;
        file.commit()
    }
}

impl ScoreColumn {
    /// Reads one score of a Parquet table with an `example` column: `scores.parquet`, or any table of
    /// one's own. `name` is a score, whose mean is taken, or a column of numbers by its full name.
    /// Null counts as NaN; a missing `label` column reads as class 0.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for an unknown score, with those there are;
    /// [`Foreign`](ErrorKind::Foreign) for a table without `example`;
    /// [`Corrupt`](ErrorKind::Corrupt) for a file that does not decode;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if an example occurs twice.
    pub fn read(path: impl AsRef<Path>, name: &str) -> Result<Self> {
        let path = path.as_ref();
        // Some decoders of the Parquet crate panic on damaged input.
        catch_unwind(AssertUnwindSafe(|| read_column(path, name)))
            .unwrap_or_else(|_panic| Err(Error::corrupt(path, "makes the Parquet decoder panic")))
    }
}

fn read_column(path: &Path, name: &str) -> Result<ScoreColumn> {
    let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
    let corrupt = |error: ParquetError| {
        Error::corrupt(path, "is not a Parquet table that can be read").with_source(error)
    };
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
    let reader = reader.with_projection(mask).build().map_err(corrupt)?;
    let (mut examples, mut labels, mut scores) = (Vec::new(), Vec::new(), Vec::new());
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

fn unknown<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let names: Vec<&str> = names.collect();
    let message = format!("no score `{name}`; there are: {}", names.join(", "));
    Error::new(ErrorKind::NotFound, message)
}
