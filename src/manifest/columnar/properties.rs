//! Encodes kept rows as the manifest encodes them: compression, dictionaries, statistics, page
//! indexes, bloom filters.

use parquet::arrow::ARROW_SCHEMA_META_KEY;
use parquet::basic::Encoding;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::manifest::added_scores::Added;
use crate::storage::CREATED_BY;

/// Returns writer properties for a file like this one, with added scores.
pub(super) fn like(metadata: &ParquetMetaData, added: Option<&Added<'_>>) -> WriterProperties {
    let mut entries = metadata.file_metadata().key_value_metadata().cloned();
    if added.is_some()
        && let Some(entries) = &mut entries
    {
        // Its Arrow schema does not have the scores.
        entries.retain(|entry| entry.key != ARROW_SCHEMA_META_KEY);
    }
    let groups = metadata.row_groups();
    let sorting = groups.first().and_then(|group| group.sorting_columns());
    // What is left of sorted rows is sorted.
    let sorted_alike = groups.iter().all(|group| group.sorting_columns() == sorting);
    let has_offsets = groups
        .iter()
        .flat_map(RowGroupMetaData::columns)
        .any(|it| it.offset_index_offset().is_some());
    let mut builder = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_max_row_group_row_count(None)
        .set_max_row_group_bytes(None)
        .set_offset_index_disabled(!has_offsets)
        .set_sorting_columns(sorting.filter(|_| sorted_alike).cloned())
        .set_key_value_metadata(entries);
    for column in groups.first().map_or(&[][..], |group| group.columns()) {
        builder =
            builder.set_column_compression(column.column_path().clone(), column.compression());
    }
    for place in 0..metadata.file_metadata().schema_descr().num_columns() {
        let chunks = || groups.iter().filter_map(move |group| group.columns().get(place));
        let Some(first) = chunks().next() else { continue };
        let path = first.column_path();
        // A dictionary that the original writer gave up on may fit the rows that are left.
        let dictionary = chunks().any(|chunk| chunk.dictionary_page_offset().is_some());
        builder = builder.set_column_dictionary_enabled(path.clone(), dictionary);
        if let Some(encoding) = chunks().find_map(chosen_encoding) {
            builder = builder.set_column_encoding(path.clone(), encoding);
        }
        let statistics = if chunks().any(|chunk| chunk.column_index_offset().is_some()) {
            EnabledStatistics::Page
        } else if chunks().any(|chunk| chunk.statistics().is_some()) {
            EnabledStatistics::Chunk
        } else {
            EnabledStatistics::None
        };
        builder = builder.set_column_statistics_enabled(path.clone(), statistics);
        if let Some(values) = chunks().filter_map(bloom_filter_values).max() {
            builder = builder
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_fpp(path.clone(), FALSE_POSITIVES)
                .set_column_bloom_filter_max_ndv(path.clone(), values);
        }
    }
    let compression = groups.first().and_then(|group| group.columns().first());
    for name in added.iter().flat_map(|added| added.names()) {
        // Scores hardly repeat.
        let path = ColumnPath::new(vec![name.to_owned()]);
        builder = builder.set_column_dictionary_enabled(path.clone(), false);
        if let Some(like) = compression {
            builder = builder.set_column_compression(path, like.compression());
        }
    }
    builder.build()
}

/// The share of false positives that most writers aim at in bloom filters.
const FALSE_POSITIVES: f64 = 0.01;

/// Returns for how many distinct values the bloom filter of a column has room, if it has one.
fn bloom_filter_values(chunk: &ColumnChunkMetaData) -> Option<u64> {
    chunk.bloom_filter_offset()?;
    let values = chunk.num_values().max(1) as f64;
    // Without a length, room for every value.
    let Some(bytes) = chunk.bloom_filter_length() else { return Some(values as u64) };
    // Each value sets eight bits: https://parquet.apache.org/docs/file-format/bloomfilter/
    let bits = 8.0 * f64::from(bytes.max(0));
    let room = -bits / 8.0 * (1.0 - FALSE_POSITIVES.powf(1.0 / 8.0)).ln();
    Some(room.clamp(1.0, values) as u64)
}

/// Returns the encoding that someone has chosen for the values of a column.
fn chosen_encoding(chunk: &ColumnChunkMetaData) -> Option<Encoding> {
    chunk.encodings().find(|encoding| {
        matches!(
            encoding,
            Encoding::DELTA_BINARY_PACKED
                | Encoding::DELTA_LENGTH_BYTE_ARRAY
                | Encoding::DELTA_BYTE_ARRAY
                | Encoding::BYTE_STREAM_SPLIT
        )
    })
}
