//! Encodes kept rows as the manifest encodes them.

use parquet::arrow::ARROW_SCHEMA_META_KEY;
use parquet::basic::Encoding;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

/// Returns writer properties for a file like this one, with the float columns `added`.
pub(super) fn like<'n>(
    metadata: &ParquetMetaData,
    added: impl Iterator<Item = &'n str>,
) -> WriterProperties {
    let mut entries = metadata.file_metadata().key_value_metadata().cloned().unwrap_or_default();
    // The writer makes this entry itself.
    entries.retain(|entry| entry.key != ARROW_SCHEMA_META_KEY);
    let mut builder = WriterProperties::builder()
        .set_max_row_group_row_count(None)
        .set_max_row_group_bytes(None)
        .set_key_value_metadata((!entries.is_empty()).then_some(entries));
    let groups = metadata.row_groups();
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
    }
    let compression = groups.first().and_then(|group| group.columns().first());
    for name in added {
        // Scores hardly repeat.
        let path = ColumnPath::new(vec![name.to_owned()]);
        builder = builder.set_column_dictionary_enabled(path.clone(), false);
        if let Some(like) = compression {
            builder = builder.set_column_compression(path, like.compression());
        }
    }
    builder.build()
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
