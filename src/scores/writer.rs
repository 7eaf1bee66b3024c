//! Writes `scores.parquet` piece by piece.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array};
use arrow::datatypes::{DataType, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::column_sink::{Keys, Statistics};
use super::info::ScoreInfo;
use super::ordered_parallel::in_order;
use super::schema::{self, IDENTITY, INFO_KEY};
use crate::error::{Error, Result};
use crate::run::FLOAT_STATISTICS;
use crate::storage::{AtomicFile, ChunkChecksumWriter, StickyErrorWriter, io_error};

const ROW_GROUP_ROWS: usize = 131_072;

/// Writes a table of scores. `read` returns some rows of the score at an index in `names`. Columns
/// are encoded on this many threads.
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
    let schema = Arc::new(schema::of(names));
    let info = serde_json::to_string(info)
        .map_err(|error| Error::invalid("score information").with_source(error))?;
    let info = KeyValue::new(INFO_KEY.to_owned(), info);
    let rows = keys.examples.len();
    let (output, lengths) = ChunkChecksumWriter::new(StickyErrorWriter::new(file.file()));
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
                    // The receiver is the writer's own output.
                    let _ = lengths.send(chunk.close().metadata.compressed_size().max(0) as u64);
                    chunk.append_to_row_group(&mut group).map_err(failed)?;
                }
            }
            group.close().map_err(failed)?;
        }
        Ok(())
    })?;
    // Every chunk must have been written before the footer can hold its checksum.
    writer.flush().map_err(|error| Error::io("write", path, error))?;
    let entry = writer.inner().entry();
    writer.append_key_value_metadata(entry);
    writer.finish().map_err(failed)?;
    writer.inner_mut().finish().map_err(|error| Error::io("write", path, error))?;
    drop(writer);
    file.commit()
}

/// Encoders of the columns of row groups that are being written; each is used once.
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

/// Encodings that every reader decodes fast. Means of a few floats have similar low bytes, the
/// standard deviations of a single run are all NaN, and counts hardly change.
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
            DataType::Float64 => properties
                .set_column_statistics_enabled(column.clone(), FLOAT_STATISTICS)
                .set_column_encoding(column, Encoding::BYTE_STREAM_SPLIT),
            DataType::Int32 if at < 3 => properties.set_column_dictionary_enabled(column, true),
            _ => properties.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED),
        };
    }
    properties
}
