//! Decides which rows of a row group are kept, from the key column alone.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{cast, filter};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};

use super::source::Source;
use super::{BATCH_ROWS, unreadable};
use crate::error::{ErrorKind, Result};
use crate::manifest::Manifest;
use crate::manifest::added_scores::Added;
use crate::manifest::row_filter::RowFilter;

/// The index and the name of the key column.
pub(super) type Key<'a> = Option<(usize, &'a str)>;

/// What is kept of a row group.
pub(super) struct Kept {
    pub(super) rows: BooleanBuffer,
    /// The key column of the kept rows; empty without a key.
    pub(super) keys: Vec<ArrayRef>,
    /// The values of each added score for the kept rows.
    pub(super) added: Vec<Vec<Option<f64>>>,
}

pub(super) fn find_key<'a>(
    manifest: &'a Manifest,
    schema: &SchemaRef,
    row_filter: &RowFilter<'_>,
) -> Result<Key<'a>> {
    let Some(name) = &manifest.key else { return Ok(None) };
    let column = schema.index_of(name).map_err(|_absent| {
        row_filter.no_column(name, schema.fields().iter().map(|field| field.name().as_str()))
    })?;
    let kind = schema.field(column).data_type();
    let value = if let DataType::Dictionary(_, value) = kind { value } else { kind };
    let is_text = value.is_string();
    let is_bytes = matches!(
        value,
        DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_)
    );
    let wanted = if row_filter.maps_keys() { "texts or integers" } else { "integer ids" };
    if !(is_text || value.is_integer() || is_bytes && row_filter.maps_keys()) {
        return Err(row_filter.bad_manifest(
            ErrorKind::Manifest,
            format!("expected {wanted} in the key column `{name}`, got {kind}"),
        ));
    }
    Ok(Some((column, name)))
}

/// Decides about all rows of a row group.
pub(super) fn decide(
    source: &Source,
    metadata: &ArrowReaderMetadata,
    group: usize,
    key: Key<'_>,
    added: Option<&Added<'_>>,
    row_filter: &mut RowFilter<'_>,
) -> Result<Kept> {
    let promised = metadata.metadata().row_group(group);
    let rows = promised.num_rows().max(0) as usize;
    // Every row has a value in every column; a damaged count could be anything.
    if let Some(column) = promised.columns().iter().find(|it| it.num_values() < rows as i64) {
        let (name, values) = (column.column_path(), column.num_values());
        let what =
            format!("row group {group} should have {rows} rows, and its {name} {values} values");
        return Err(row_filter.bad_manifest(ErrorKind::Corrupt, what));
    }
    let mut kept = BooleanBufferBuilder::new(0);
    let mut values = vec![Vec::new(); added.map_or(0, |added| added.names().count())];
    let (mut ids, mut keep_flags) = (Vec::new(), Vec::new());
    let mut kept_keys = Vec::new();
    let mut decide = |ids: &mut Vec<i64>, row_filter: &mut RowFilter<'_>| {
        row_filter.decide(ids, &mut keep_flags);
        kept.append_slice(&keep_flags);
        if let Some(added) = added {
            for (&id, _) in ids.iter().zip(&keep_flags).filter(|(_, keep)| **keep) {
                values.iter_mut().zip(added.values(id)).for_each(|(all, value)| all.push(value));
            }
        }
        ids.clear();
        BooleanArray::from(keep_flags.clone())
    };
    match key {
        None => {
            ids.extend((0..rows).map(|_row| row_filter.id_of_row()));
            decide(&mut ids, row_filter);
        }
        Some((column, name)) => {
            let mask = ProjectionMask::roots(metadata.parquet_schema(), [column]);
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(
                source.clone(),
                metadata.clone(),
            )
            .with_projection(mask)
            .with_row_groups(vec![group])
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|error| unreadable(row_filter, error))?;
            for batch in reader {
                let batch = batch.map_err(|error| unreadable(row_filter, error.into()))?;
                let keys = batch.column(0);
                find_ids(keys, name, row_filter, &mut ids)?;
                let kept = filter(keys, &decide(&mut ids, row_filter));
                kept_keys.push(kept.map_err(|error| unreadable(row_filter, error.into()))?);
            }
        }
    }
    let kept = kept.finish();
    if kept.len() != rows {
        let what = format!("row group {group} should have {rows} rows and has {}", kept.len());
        return Err(row_filter.bad_manifest(ErrorKind::Corrupt, what));
    }
    Ok(Kept { rows: kept, keys: kept_keys, added: values })
}

/// Finds the ids that keys refer to.
fn find_ids(
    keys: &ArrayRef,
    name: &str,
    row_filter: &mut RowFilter<'_>,
    ids: &mut Vec<i64>,
) -> Result<()> {
    let shown =
        |row: usize| arrow::util::display::array_value_to_string(keys, row).unwrap_or_default();
    let failed = |row_filter: &RowFilter<'_>, error| {
        row_filter.bad_row(format!("expected ids in the key column `{name}`")).with_source(error)
    };
    if row_filter.maps_keys() {
        let values = match keys.data_type() {
            DataType::Dictionary(_, value) => value,
            kind => kind,
        };
        // Numbers are compared in decimal.
        let kind = if values.is_integer() { DataType::Utf8 } else { DataType::Binary };
        let texts = cast(keys, &kind).and_then(|texts| cast(&texts, &DataType::Binary));
        let texts = texts.map_err(|error| failed(row_filter, error))?;
        for (row, text) in texts.as_binary::<i32>().iter().enumerate() {
            ids.push(match text {
                Some(text) => row_filter.id_of_text(text, name)?,
                None if keys.is_null(row) => return Err(row_filter.missing(name)),
                None => return Err(row_filter.no_id(name, &shown(row))),
            });
        }
        return Ok(());
    }
    // What is not a 64-bit integer becomes null, and is shown as it was below.
    let numbers = cast(keys, &DataType::Int64).map_err(|error| failed(row_filter, error))?;
    for (row, number) in numbers.as_primitive::<Int64Type>().iter().enumerate() {
        ids.push(match number {
            Some(number) if number >= 0 => row_filter.id_of_number(number, name)?,
            _ if keys.is_null(row) => return Err(row_filter.missing(name)),
            _ => return Err(row_filter.no_id(name, &shown(row))),
        });
    }
    Ok(())
}
