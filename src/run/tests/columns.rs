//! Columns decoded straight from pages are what was written.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float32Array, Int32Array, Int64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::*;

use crate::observe::{BatchFormat, LogitsFormat, Signal};
use crate::run::delta;
use crate::run::part::{PartReader, PartWriter};
use crate::run::schema::Table;
use crate::storage::LocalDisk;

type Row = (i64, i32, i64, i32, bool, f32);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let number = prop_oneof![0..100_i64, any::<i64>()];
    let label = prop_oneof![0..5_i32, any::<i32>()];
    let float = any::<u32>().prop_map(f32::from_bits);
    let row = (number.clone(), 0..9_i32, number, label, any::<bool>(), float);
    prop::collection::vec(row, 1..700)
}

fn batch(rows: &[Row]) -> RecordBatch {
    let mut format = BatchFormat::classes(2).unwrap();
    format.logits = LogitsFormat::Off;
    format.signals = vec![Signal::El2n];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| Some(row.2)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.3)).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| Some(row.4)).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| Some(row.5)).collect::<Float32Array>()),
    ];
    RecordBatch::try_new(Table::Observations.schema(&format).unwrap(), columns).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn columns_are_what_was_written(rows in rows()) {
        let directory = tempfile::tempdir().unwrap();
        let (draft, path) = (directory.path().join("draft"), directory.path().join("part.parquet"));
        let batch = batch(&rows);
        let writer = PartWriter::create(&LocalDisk, draft, Table::Observations, batch.schema());
        let mut writer = writer.unwrap();
        writer.write(&batch).unwrap();
        writer.publish(&LocalDisk, &path).unwrap();
        let part = PartReader::open(&path, Table::Observations).unwrap();
        let outline = part.outlines().next().unwrap();
        prop_assert_eq!(*outline.steps.start(), rows.iter().map(|row| row.0).min().unwrap());
        prop_assert_eq!(*outline.steps.end(), rows.iter().map(|row| row.0).max().unwrap());
        prop_assert_eq!(*outline.epochs.end(), rows.iter().map(|row| row.1).max().unwrap());
        prop_assert_eq!(outline.last_example, rows.iter().map(|row| row.2).max().unwrap());
        let group = part.row_group(0).unwrap().unwrap();
        prop_assert_eq!(group.int64("step").unwrap(), column(&rows, |row| row.0));
        prop_assert_eq!(group.int32("epoch").unwrap(), column(&rows, |row| row.1));
        prop_assert_eq!(group.int64("example").unwrap(), column(&rows, |row| row.2));
        prop_assert_eq!(group.int32("label").unwrap(), column(&rows, |row| row.3));
        let bits = group.bits("correct").unwrap();
        prop_assert!(rows.iter().enumerate().all(|(row, of)| bits.get(row) == of.4));
        prop_assert!(!bits.get(rows.len() + 8));
        let floats = group.float32("el2n").unwrap();
        let to_bits = |floats: &[f32]| floats.iter().map(|f| f.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(to_bits(&floats), to_bits(&column(&rows, |row| row.5)));
        prop_assert!(group.float32("margin").unwrap_err().to_string().contains("`margin`"));
        let wrong = group.int64("label").unwrap_err();
        prop_assert!(wrong.to_string().contains("column `label` is Int32"), "{}", wrong);
        prop_assert!(part.row_group(1).unwrap().is_none());
    }

    /// Pages of `DELTA_BINARY_PACKED` as the Parquet crate makes them, taken out of a file without
    /// compression.
    #[test]
    fn delta_pages_decode(
        values in prop::collection::vec(prop_oneof![0..50_i64, 0..1_000_000_i64, any::<i64>()], 1..600),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("delta.parquet");
        let column: ArrayRef = Arc::new(Int64Array::from(values.clone()));
        let field = Field::new("x", DataType::Int64, false);
        let schema = Arc::new(Schema::new(vec![field]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_encoding(Encoding::DELTA_BINARY_PACKED)
            .build();
        let file = File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let group = reader.get_row_group(0).unwrap();
        let page = group.get_column_page_reader(0).unwrap().get_next_page().unwrap().unwrap();
        let mut decoded = Vec::new();
        delta::decode(page.buffer(), &mut decoded).unwrap();
        prop_assert_eq!(decoded, values);
    }
}

fn column<T>(rows: &[Row], value: impl Fn(&Row) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}
