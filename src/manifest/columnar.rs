//! Parquet: the same columns, types, compression and key-values, row group by row group.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Int64Array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ARROW_SCHEMA_META_KEY;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;

use super::input::ManifestInput;
use super::sieve::Sieve;
use super::{Manifest, write_failed};
use crate::error::{Error, ErrorKind, Result};
use crate::parquet_output::{ParquetOutput, io_error};

/// Few, because a cell may hold an image.
const BATCH_ROWS: usize = 1024;
const ROW_GROUP_BYTES: usize = 128 << 20;

pub(super) fn filter(
    manifest: &Manifest,
    input: ManifestInput<'_>,
    output: &mut (dyn Write + Send),
    sieve: &mut Sieve<'_>,
) -> Result<()> {
    let bytes = input.bytes();
    let (mut file, mut progress) = input.into_file()?;
    let length = file.seek(SeekFrom::End(0)).ok().or(bytes).unwrap_or(0);
    // Some decoders of the Parquet crate panic on damaged input.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        copy(manifest, file, length, &mut progress, output, sieve)
    }));
    outcome.unwrap_or_else(|_panic| {
        Err(sieve.bad_manifest(ErrorKind::Corrupt, "makes the Parquet decoder panic"))
    })
}

fn copy(
    manifest: &Manifest,
    file: File,
    length: u64,
    progress: &mut dyn FnMut(u64),
    output: &mut (dyn Write + Send),
    sieve: &mut Sieve<'_>,
) -> Result<()> {
    let corrupt = |sieve: &Sieve<'_>, error: ParquetError| {
        sieve.bad_manifest(ErrorKind::Corrupt, "is not Parquet that can be read").with_source(error)
    };
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|error| corrupt(sieve, error))?
        .with_batch_size(BATCH_ROWS);
    let schema = Arc::clone(reader.schema());
    let key = match &manifest.key {
        None => None,
        Some(name) => {
            let column = schema.index_of(name).map_err(|_absent| {
                sieve.no_column(name, schema.fields().iter().map(|field| field.name().as_str()))
            })?;
            Some((column, name.as_str()))
        }
    };
    let properties = like(reader.metadata());
    let rows = reader.metadata().file_metadata().num_rows().max(1) as f64;
    let reader = reader.build().map_err(|error| corrupt(sieve, error))?;
    let mut output = ParquetOutput::new(output, schema, properties).map_err(unwritable)?;
    let mut told = 0;
    for batch in reader {
        let batch = batch.map_err(|error| corrupt(sieve, error.into()))?;
        let kept = kept_rows(&batch, key, sieve)?;
        let kept = filter_record_batch(&batch, &kept)
            .map_err(|error| corrupt(sieve, ParquetError::from(error)))?;
        output.write(&kept).map_err(unwritable)?;
        let done = (length as f64 * (sieve.next_row() as f64 / rows).min(1.0)) as u64;
        progress(done - told);
        told = done;
    }
    output.finish().map(drop).map_err(unwritable)
}

fn kept_rows(
    batch: &RecordBatch,
    key: Option<(usize, &str)>,
    sieve: &mut Sieve<'_>,
) -> Result<BooleanArray> {
    let Some((column, name)) = key else {
        return Ok((0..batch.num_rows())
            .map(|_row| Some(sieve.keeps(sieve.next_row() as i64)))
            .collect());
    };
    let keys = batch.column(column);
    let is_text = matches!(
        keys.data_type(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..)
    );
    if !is_text && !keys.data_type().is_integer() {
        let got = keys.data_type();
        return Err(sieve.bad_manifest(
            ErrorKind::Manifest,
            format!("expected integer ids in the key column `{name}`, got {got}"),
        ));
    }
    // What is no 64-bit integer becomes null, and is shown as it was below.
    let ids = cast(keys, &DataType::Int64).map_err(|error| {
        sieve.bad_row(format!("expected ids in the key column `{name}`")).with_source(error)
    })?;
    let ids = ids.as_any().downcast_ref::<Int64Array>();
    let id = |row: usize| ids.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row));
    let mut kept = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        kept.push(match id(row) {
            Some(example) if example >= 0 => sieve.keeps(example),
            _ if keys.is_null(row) => return Err(sieve.missing(name)),
            _ => {
                let shown = arrow::util::display::array_value_to_string(keys, row);
                return Err(sieve.no_id(name, &shown.unwrap_or_default()));
            }
        });
    }
    Ok(kept.into())
}

/// Properties for a file like this one.
fn like(metadata: &ParquetMetaData) -> WriterProperties {
    let rows = metadata.row_groups().iter().map(|group| group.num_rows().max(1) as usize).max();
    let mut entries = metadata.file_metadata().key_value_metadata().cloned().unwrap_or_default();
    // The writer makes this one itself.
    entries.retain(|entry| entry.key != ARROW_SCHEMA_META_KEY);
    let mut builder = WriterProperties::builder()
        .set_max_row_group_row_count(rows)
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_key_value_metadata((!entries.is_empty()).then_some(entries));
    for column in metadata.row_groups().first().map_or(&[][..], |group| group.columns()) {
        builder =
            builder.set_column_compression(column.column_path().clone(), column.compression());
    }
    builder.build()
}

fn unwritable(error: ParquetError) -> Error {
    match io_error(error) {
        Ok(error) => write_failed(error),
        Err(error) => Error::new(ErrorKind::Manifest, "the kept rows cannot be encoded as Parquet")
            .with_source(error),
    }
}
