//! `scores.parquet`: written from columns that come piece by piece, read one score at a time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, Float64Array, Int32Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::moments::Moments;
use super::pipeline::in_order;
use super::table::{ScoreInfo, unknown};
use crate::atomic_file::AtomicFile;
use crate::checked::{CheckedFile, ChunkSums, Identity};
use crate::error::{Error, Result};
use crate::parquet_output::{Unforgiving, io_error};
use crate::run::SCHEMA_VERSION;
use crate::selection::ScoreColumn;

const IDENTITY: Identity = Identity { table: "scores", version: SCHEMA_VERSION };
const INFO_KEY: &str = "data_diet.scores";
const NO_IDS: &str = "column `example` holds something else than ids in 0..2^63";
const ROW_GROUP_ROWS: usize = 131_072;
const STATISTICS: [(&str, DataType); 3] =
    [("mean", DataType::Float64), ("std", DataType::Float64), ("count", DataType::Int32)];

/// The columns that every table of scores begins with, in ascending order of id.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) examples: Vec<i64>,
    pub(super) labels: Vec<i32>,
    pub(super) runs: Vec<i32>,
}

impl Keys {
    /// The rows of these places.
    pub(super) fn in_order(self, order: Option<&[u32]>) -> Self {
        fn gather<T: Copy>(values: Vec<T>, order: Option<&[u32]>) -> Vec<T> {
            match order {
                Some(order) => order.iter().map(|&place| values[place as usize]).collect(),
                None => values,
            }
        }
        Self {
            examples: gather(self.examples, order),
            labels: gather(self.labels, order),
            runs: gather(self.runs, order),
        }
    }
}

/// Some rows of one score.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    pub(super) mean: Vec<f64>,
    pub(super) std: Vec<f64>,
    pub(super) count: Vec<i32>,
}

impl Statistics {
    pub(super) fn with_capacity(rows: usize) -> Self {
        let (mean, std) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        Self { mean, std, count: Vec::with_capacity(rows) }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, moments: Moments) {
        self.mean.push(moments.mean());
        self.std.push(moments.standard_deviation());
        self.count.push(moments.count() as i32);
    }
}

/// Writes a table of scores; `read` gives some rows of the score at a place in `names`. Columns are
/// encoded on so many threads.
pub(super) fn write(
    mut file: AtomicFile,
    keys: &Keys,
    names: &[String],
    info: &ScoreInfo,
    threads: usize,
    read: impl Fn(usize, Range<usize>) -> Result<Statistics> + Sync,
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
    let info = KeyValue::new(INFO_KEY.to_owned(), info);
    let rows = keys.examples.len();
    let (output, lengths) = ChunkSums::new(Unforgiving::new(file.file()));
    let mut properties = properties(&schema);
    properties = properties
        .set_key_value_metadata(Some(IDENTITY.entries().into_iter().chain([info]).collect()));
    let properties = properties.build();
    let writer = ArrowWriter::try_new(output, Arc::clone(&schema), Some(properties));
    let (mut writer, encoders) =
        writer.and_then(ArrowWriter::into_serialized_writer).map_err(failed)?;
    let encoders = Encoders { factory: encoders, waiting: Mutex::default() };
    // A piece is the three keys, or the three statistics of a score, in one row group.
    let groups = rows.div_ceil(ROW_GROUP_ROWS);
    let pieces: Vec<(usize, usize)> =
        (0..groups).flat_map(|group| (0..=names.len()).map(move |at| (group, at))).collect();
    let encode = |&(group, at): &(usize, usize)| -> Result<Vec<ArrowColumnChunk>> {
        let start = group * ROW_GROUP_ROWS;
        let rows = start..rows.min(start + ROW_GROUP_ROWS);
        let columns: [ArrayRef; 3] = match at.checked_sub(1) {
            None => [
                Arc::new(Int64Array::from(keys.examples[rows.clone()].to_vec())),
                Arc::new(Int32Array::from(keys.labels[rows.clone()].to_vec())),
                Arc::new(Int32Array::from(keys.runs[rows].to_vec())),
            ],
            Some(score) => {
                let Statistics { mean, std, count } = read(score, rows)?;
                [
                    Arc::new(Float64Array::from(mean)),
                    Arc::new(Float64Array::from(std)),
                    Arc::new(Int32Array::from(count)),
                ]
            }
        };
        let columns = columns.iter().enumerate();
        columns
            .map(|(i, column)| encoders.encode(group, 3 * at + i, &schema, column).map_err(failed))
            .collect()
    };
    in_order(threads, &pieces, encode, |next| -> Result<()> {
        for _ in 0..groups {
            let mut group = writer.next_row_group().map_err(failed)?;
            for _ in 0..=names.len() {
                for chunk in next().into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten() {
                    // Its receiver is the writer's own output.
                    let _ = lengths.send(chunk.close().metadata.compressed_size().max(0) as u64);
                    chunk.append_to_row_group(&mut group).map_err(failed)?;
                }
            }
            group.close().map_err(failed)?;
        }
        Ok(())
    })?;
    // Every chunk has to have passed before the footer can tell of it.
    writer.flush().map_err(|error| Error::io("write", path, error))?;
    let entry = writer.inner().entry();
    writer.append_key_value_metadata(entry);
    writer.finish().map_err(failed)?;
    writer.inner_mut().finish().map_err(|error| Error::io("write", path, error))?;
    drop(writer);
    file.commit()
}

/// Encoders of the columns of row groups that are being written, each taken once.
struct Encoders {
    factory: ArrowRowGroupWriterFactory,
    waiting: Mutex<BTreeMap<usize, Vec<Option<ArrowColumnWriter>>>>,
}

impl Encoders {
    fn encode(
        &self,
        group: usize,
        column: usize,
        schema: &Schema,
        values: &ArrayRef,
    ) -> ParquetResult<ArrowColumnChunk> {
        let mut encoder = self.take(group, column)?;
        for leaf in compute_leaves(schema.field(column), values)? {
            encoder.write(&leaf)?;
        }
        encoder.close()
    }

    fn take(&self, group: usize, column: usize) -> ParquetResult<ArrowColumnWriter> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let encoders = match waiting.entry(group) {
            Entry::Occupied(encoders) => encoders.into_mut(),
            Entry::Vacant(place) => {
                let encoders = self.factory.create_column_writers(group)?;
                place.insert(encoders.into_iter().map(Some).collect())
            }
        };
        let encoder = encoders.get_mut(column).and_then(Option::take);
        if encoders.iter().all(Option::is_none) {
            waiting.remove(&group);
        }
        encoder.ok_or_else(|| ParquetError::General(format!("column {column} was taken before")))
    }
}

/// How the table is encoded: what every reader decodes fast. Means of a few floats have low bytes that
/// are alike, deviations of one run are all NaN, and counts hardly change.
fn properties(schema: &Schema) -> WriterPropertiesBuilder {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(usize::MAX)
        .set_data_page_size_limit(2 << 20)
        .set_write_batch_size(8192);
    for (at, field) in schema.fields().iter().enumerate() {
        let column = ColumnPath::new(vec![field.name().clone()]);
        properties = match field.data_type() {
            DataType::Float64 => {
                properties.set_column_encoding(column, Encoding::BYTE_STREAM_SPLIT)
            }
            DataType::Int32 if at < 3 => properties.set_column_dictionary_enabled(column, true),
            _ => properties.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED),
        };
    }
    properties
}

impl ScoreColumn {
    /// Reads one score of a Parquet table with an `example` column: `scores.parquet`, or any table of
    /// one's own. `name` is a score, whose mean is taken, or a column of numbers by its full name.
    /// Null counts as NaN; a missing `label` column reads as class 0. Of a table that this crate has
    /// written, every byte that is read is checked.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) for an unknown score, with those there are;
    /// [`Foreign`](crate::ErrorKind::Foreign) for a table without `example`;
    /// [`Corrupt`](crate::ErrorKind::Corrupt) for a file that does not decode or whose checksums do not
    /// hold; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if an example occurs twice.
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
    /// [`Corrupt`](crate::ErrorKind::Corrupt) for one that is no Parquet, or damaged.
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
        let read =
            read.map_err(|_panic| Error::corrupt(path, "makes the Parquet decoder panic"))?;
        let text = read.map_err(|error: ParquetError| not_a_table(path, error))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }
}

fn not_a_table(path: &Path, error: ParquetError) -> Error {
    Error::corrupt(path, "is not a Parquet table that can be read").with_source(error)
}

/// Checks every byte of a table of scores, and that its examples are in order. Returns its rows and bytes.
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
            let ids = ids.ok_or_else(|| Error::foreign(path, NO_IDS))?;
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

/// A table with some score, about to be read: one of ours, whose bytes are checked, or any other.
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

    /// The rows of some columns, piece by piece.
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
    let rows = source.rows();
    let (mut examples, mut labels, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    // A vector that grows by doubling takes up to three times its length. A file may lie about its
    // own, so this is allowed to fail.
    let _ = examples.try_reserve_exact(rows);
    let _ = labels.try_reserve_exact(rows);
    let _ = scores.try_reserve_exact(rows);
    source.read(path, &columns, |batch| {
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
        Ok(())
    })?;
    ScoreColumn::new(examples, labels, scores)
        .map_err(|error| error.context(path.display().to_string()))
}
