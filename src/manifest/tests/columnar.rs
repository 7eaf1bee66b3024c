//! Parquet manifests: kept rows equal those of Arrow's own filter, and the file stays what it was.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray,
    RecordBatch, StringArray, StructArray, UInt16Array,
};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int32Type};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::super::{Manifest, ManifestFormat, ManifestInput};
use super::even;
use crate::error::ErrorKind;

const ROWS: i64 = 500;

fn rows() -> RecordBatch {
    let nullable = |row: i64| (row % 7 != 0).then_some(row);
    let texts: StringArray =
        (0..ROWS).map(|row| nullable(row).map(|row| format!("file {row}"))).collect();
    let words: DictionaryArray<Int32Type> =
        (0..ROWS).map(|row| ["cat", "dog"][row as usize % 2]).collect();
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..ROWS).map(|row| nullable(row).map(|row| (0..row as i32 % 4).map(Some))),
    );
    let floats: ArrayRef = Arc::new(
        (0..ROWS).map(|row| nullable(row).map(|row| row as f64)).collect::<Float64Array>(),
    );
    let nested =
        StructArray::from(vec![(Arc::new(Field::new("score", DataType::Float64, true)), floats)]);
    let key: ArrayRef =
        Arc::new((0..ROWS).map(|row| Some((row * 3 % ROWS) as u16)).collect::<UInt16Array>());
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("text", Arc::new(texts)),
        ("key", key),
        ("word", Arc::new(words)),
        ("list", Arc::new(lists)),
        ("nested", Arc::new(nested)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn parquet(rows: &RecordBatch, properties: WriterProperties) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    writer.into_inner().unwrap()
}

fn keys_like(key: ArrayRef) -> Vec<u8> {
    parquet(&RecordBatch::try_from_iter([("key", key)]).unwrap(), WriterProperties::default())
}

#[test]
fn kept_rows_compression_and_metadata_come_through() {
    let rows = rows();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(128))
        .set_key_value_metadata(Some(vec![KeyValue::new("pandas".to_owned(), "{}".to_owned())]))
        .build();
    let bytes = parquet(&rows, properties);
    let keys: Vec<i64> = (0..ROWS).map(|row| row * 3 % ROWS).collect();
    for (manifest, ids) in [
        (Manifest::new(ManifestFormat::Parquet).key("key"), keys),
        (Manifest::new(ManifestFormat::Parquet), (0..ROWS).collect()),
    ] {
        let mut kept = Vec::new();
        let summary =
            manifest.filter(&even(), ManifestInput::stream(&bytes[..]), &mut kept).unwrap();
        assert_eq!((summary.rows, summary.kept), (500, 250));

        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(kept)).unwrap();
        let metadata = Arc::clone(reader.metadata());
        let entries = metadata.file_metadata().key_value_metadata().unwrap();
        assert!(entries.iter().any(|entry| entry.key == "pandas"));
        let column = metadata.row_group(0).column(0);
        assert_eq!(column.compression(), Compression::SNAPPY);
        let read: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        let read = concat_batches(&rows.schema(), &read).unwrap();
        let even: BooleanArray = ids.iter().map(|id| Some(id % 2 == 0)).collect();
        assert_eq!(read, filter_record_batch(&rows, &even).unwrap());
    }
}

#[test]
fn a_file_and_a_stream_give_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("train.parquet");
    let bytes = parquet(&rows(), WriterProperties::default());
    std::fs::write(&path, &bytes).unwrap();
    let manifest = Manifest::new(ManifestFormat::Parquet).key("key");
    let (mut from_file, mut from_stream, mut told) = (Vec::new(), Vec::new(), 0);
    let input = ManifestInput::file(&path).unwrap().on_progress(|bytes| told += bytes);
    manifest.filter(&even(), input, &mut from_file).unwrap();
    assert_eq!(told, bytes.len() as u64);
    manifest
        .filter(&even(), ManifestInput::stream(File::open(&path).unwrap()), &mut from_stream)
        .unwrap();
    assert!(from_file == from_stream);
}

#[test]
fn text_keys_are_parsed_and_other_keys_refused() {
    let manifest = Manifest::new(ManifestFormat::Parquet).key("key");
    let filter = |bytes: Vec<u8>| {
        manifest.filter(&even(), ManifestInput::stream(&bytes[..]), &mut std::io::sink())
    };
    let summary = filter(keys_like(Arc::new(StringArray::from(vec!["2", "3"])))).unwrap();
    assert_eq!((summary.rows, summary.kept), (2, 1));
    let cases: [(ArrayRef, &str); 9] = [
        (
            Arc::new(Int64Array::from(vec![Some(2), None])),
            "row 1 (from 0): expected an example id in `key`, got nothing",
        ),
        (Arc::new(Int64Array::from(vec![2, -1])), "got `-1`"),
        (Arc::new(StringArray::from(vec!["2", "two"])), "got `two`"),
        (Arc::new(Float64Array::from(vec![2.0, 3.5])), "row 1 (from 0): expected an example id"),
        (Arc::new(Float64Array::from(vec![f64::NAN])), "got nothing"),
        (Arc::new(Float64Array::from(vec![1e16])), "may stand for several integers"),
        (
            Arc::new(BooleanArray::from(vec![true])),
            "expected integer ids in the key column `key`, got BOOLEAN",
        ),
        (
            Arc::new(arrow::array::Date32Array::from(vec![2])),
            "expected integer ids in the key column `key`, got INT32 (Date)",
        ),
        (
            Arc::new(arrow::array::UInt64Array::from(vec![2, u64::MAX])),
            "got `18446744073709551615`",
        ),
    ];
    for (keys, expected) in cases {
        let error = filter(keys_like(keys)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Manifest, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let absent = keys_like(Arc::new(Int32Array::from(vec![2])));
    let manifest = Manifest::new(ManifestFormat::Parquet).key("id");
    let error = manifest
        .filter(&even(), ManifestInput::stream(&absent[..]), &mut std::io::sink())
        .unwrap_err();
    assert_eq!(error.to_string(), "manifest: no key column `id`; there are: key");
}

#[test]
fn damaged_files_are_errors() {
    let bytes = parquet(&rows(), WriterProperties::default());
    for manifest in [
        Manifest::new(ManifestFormat::Parquet).key("key"),
        // The number of rows is all that tells ids then.
        Manifest::new(ManifestFormat::Parquet),
    ] {
        let filter = |bytes: &[u8]| {
            manifest.filter(&even(), ManifestInput::stream(bytes), &mut std::io::sink())
        };
        for length in (0..bytes.len()).step_by(97) {
            let error = filter(&bytes[..length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{length} bytes: {error}");
        }
        // Parquet carries no checksums, so a flipped bit may pass unseen; it may not bring us down.
        for place in (0..bytes.len()).step_by(13) {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << (place % 8);
            let _ = filter(&flipped);
        }
        // All bits of the footer, where the counts are.
        for place in bytes.len().saturating_sub(3000)..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x40;
            let _ = filter(&flipped);
        }
    }
}

/// Row groups are left as they are, joined, skipped or chosen from, as the rows that stay have it.
#[test]
fn row_groups_of_every_kind_come_through_in_order() {
    let properties = || {
        WriterProperties::builder()
            .set_max_row_group_row_count(Some(20))
            .set_dictionary_enabled(false)
            .set_compression(Compression::GZIP(parquet::basic::GzipLevel::default()))
            .build()
    };
    // All of a group, none, half, all again, a few.
    let groups: [&dyn Fn(i64) -> i64; 7] = [
        &|row| 2 * row,
        &|row| 2 * row + 1,
        &|row| row,
        &|row| 2 * row,
        &|row| 2 * row,
        &|row| if row == 13 { 0 } else { 2 * row + 1 },
        &|row| i64::from(row >= 2),
    ];
    let keys: Vec<i64> = groups.iter().flat_map(|key| (0..20).map(key)).collect();
    let texts: StringArray = (0..140).map(|row| Some(format!("row {row}"))).collect();
    let key: ArrayRef = Arc::new(Int64Array::from(keys.clone()));
    let rows = RecordBatch::try_from_iter([("key", key), ("text", Arc::new(texts) as _)]).unwrap();
    let bytes = parquet(&rows, properties());
    let manifest = Manifest::new(ManifestFormat::Parquet)
        .key("key")
        .duplicates(super::super::Duplicates::Allow);
    let mut kept = Vec::new();
    manifest.filter(&even(), ManifestInput::stream(&bytes[..]), &mut kept).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(kept)).unwrap();
    let metadata = Arc::clone(reader.metadata());
    let read: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    let read = concat_batches(&rows.schema(), &read).unwrap();
    let even: BooleanArray = keys.iter().map(|key| Some(key % 2 == 0)).collect();
    assert_eq!(read, filter_record_batch(&rows, &even).unwrap());
    let counts: Vec<i64> = metadata
        .row_groups()
        .iter()
        .map(parquet::file::metadata::RowGroupMetaData::num_rows)
        .collect();
    assert_eq!(counts, [20, 10, 20, 20, 3]);
    for group in metadata.row_groups() {
        let column = group.column(1);
        assert!(matches!(column.compression(), Compression::GZIP(_)));
        assert!(column.dictionary_page_offset().is_none());
    }
}

/// A row group of the size that images make it is read and written in parts.
#[test]
fn large_row_groups_are_cut() {
    let cell = "x".repeat(1 << 13);
    let texts: StringArray = (0..600).map(|row| Some(format!("{row}{cell}"))).collect();
    let rows = RecordBatch::try_from_iter([("text", Arc::new(texts) as ArrayRef)]).unwrap();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_compression(Compression::ZSTD(parquet::basic::ZstdLevel::default()))
        .build();
    let bytes = parquet(&rows, properties);
    let mut kept = Vec::new();
    let manifest = Manifest::new(ManifestFormat::Parquet);
    manifest.filter(&even(), ManifestInput::stream(&bytes[..]), &mut kept).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(kept)).unwrap();
    assert!(reader.metadata().num_row_groups() > 1);
    let mut at = 0;
    for batch in reader.with_batch_size(64).build().unwrap() {
        let batch = batch.unwrap();
        let texts = batch.column(0).as_any().downcast_ref::<StringArray>().unwrap();
        for text in texts {
            let number = text.unwrap().trim_end_matches('x');
            assert_eq!(number, (2 * at).to_string());
            at += 1;
        }
    }
    assert_eq!(at, 300);
}
