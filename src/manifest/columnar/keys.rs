//! Decides which rows of a row group are kept, from the key column alone.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::schema::types::{SchemaDescriptor, Type};

use super::source::Source;
use super::{BATCH_ROWS, unreadable};
use crate::error::{ErrorKind, Result};
use crate::manifest::Manifest;
use crate::manifest::added_scores::Added;
use crate::manifest::key_text;
use crate::manifest::row_filter::RowFilter;

/// The key column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a> {
    pub(super) leaf: usize,
    name: &'a str,
    meaning: Meaning,
}

/// What the physical values of a key column mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Signed,
    Unsigned,
    /// An integer to be divided by ten to the power of this.
    Decimal(u32),
    Float,
    Text,
    /// 16 bytes, written in the canonical form.
    Uuid,
    /// Bytes of a fixed length.
    Bytes,
}

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
    schema: &SchemaDescriptor,
    row_filter: &RowFilter<'_>,
) -> Result<Option<Key<'a>>> {
    let Some(name) = &manifest.key else { return Ok(None) };
    let fields = schema.root_schema().get_fields();
    let mut places = (0..fields.len()).filter(|&place| fields[place].name() == name);
    let Some(root) = places.next() else {
        return Err(row_filter.no_column(name, fields.iter().map(|field| field.name()), ""));
    };
    if places.next().is_some() {
        return Err(row_filter.two_key_columns(name));
    }
    let leaf = (0..schema.num_columns()).find(|&leaf| schema.get_column_root_idx(leaf) == root);
    let meaning = meaning(&fields[root]);
    let usable = match meaning {
        Some(Meaning::Uuid | Meaning::Bytes) => row_filter.maps_keys(),
        found => found.is_some(),
    };
    if let (Some(leaf), Some(meaning), true) = (leaf, meaning, usable) {
        return Ok(Some(Key { leaf, name, meaning }));
    }
    let wanted = if row_filter.maps_keys() { "texts or integers" } else { "integer ids" };
    let hint = match meaning {
        Some(Meaning::Uuid) => "; map them to ids with `key_map`",
        _ => "",
    };
    Err(row_filter.bad_manifest(
        ErrorKind::Manifest,
        format!(
            "expected {wanted} in the key column `{name}`, got {}{hint}",
            shown(&fields[root], meaning)
        ),
    ))
}

/// Returns what the values of a column mean, if they can be keys.
fn meaning(column: &Type) -> Option<Meaning> {
    let info = column.get_basic_info();
    if !column.is_primitive() || info.has_repetition() && info.repetition() == Repetition::REPEATED
    {
        return None;
    }
    let logical = info.logical_type_ref();
    let converted = info.converted_type();
    if matches!(logical, Some(LogicalType::Decimal(_))) || converted == ConvertedType::DECIMAL {
        let scale = match logical {
            Some(LogicalType::Decimal(decimal)) => decimal.scale,
            _ => column_scale(column),
        };
        return u32::try_from(scale).ok().map(Meaning::Decimal);
    }
    let unsigned = match logical {
        Some(LogicalType::Integer(integer)) => !integer.is_signed,
        _ => matches!(
            converted,
            ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64
        ),
    };
    Some(match column.get_physical_type() {
        PhysicalType::INT32 | PhysicalType::INT64 if unsigned => Meaning::Unsigned,
        // Dates and times are numbers too, but not ids.
        PhysicalType::INT32 | PhysicalType::INT64
            if !matches!(logical, None | Some(LogicalType::Integer(_) | LogicalType::Unknown))
                || !is_integer(converted) =>
        {
            return None;
        }
        PhysicalType::INT32 | PhysicalType::INT64 => Meaning::Signed,
        PhysicalType::FLOAT | PhysicalType::DOUBLE => Meaning::Float,
        PhysicalType::BYTE_ARRAY => Meaning::Text,
        PhysicalType::FIXED_LEN_BYTE_ARRAY if logical == Some(&LogicalType::Uuid) => Meaning::Uuid,
        PhysicalType::FIXED_LEN_BYTE_ARRAY if logical.is_none() => Meaning::Bytes,
        _ => return None,
    })
}

fn is_integer(converted: ConvertedType) -> bool {
    matches!(
        converted,
        ConvertedType::NONE
            | ConvertedType::INT_8
            | ConvertedType::INT_16
            | ConvertedType::INT_32
            | ConvertedType::INT_64
    )
}

fn column_scale(column: &Type) -> i32 {
    match column {
        Type::PrimitiveType { scale, .. } => *scale,
        Type::GroupType { .. } => 0,
    }
}

/// Names a column's type for a message.
fn shown(column: &Type, meaning: Option<Meaning>) -> String {
    if meaning == Some(Meaning::Uuid) {
        return "UUIDs".to_owned();
    }
    if !column.is_primitive() {
        return "a list, map or struct".to_owned();
    }
    let physical = column.get_physical_type();
    match column.get_basic_info().logical_type_ref() {
        Some(logical) => format!("{physical} ({logical:?})"),
        None => physical.to_string(),
    }
}

/// Decides about all rows of a row group.
pub(super) fn decide(
    source: &Source,
    metadata: &ArrowReaderMetadata,
    group: usize,
    key: Option<Key<'_>>,
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
        Some(key) => {
            let mask = ProjectionMask::leaves(metadata.parquet_schema(), [key.leaf]);
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
                find_ids(keys, key, row_filter, &mut ids)?;
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
    key: Key<'_>,
    row_filter: &mut RowFilter<'_>,
    ids: &mut Vec<i64>,
) -> Result<()> {
    let Key { name, meaning, .. } = key;
    let kind = keys.data_type();
    match (kind, meaning) {
        (DataType::Int32, Meaning::Decimal(scale)) => each::<Int32Type>(keys, ids, |value| {
            row_filter.find(name, value, |it, value| it.id_of_decimal(value.into(), scale, name))
        }),
        (DataType::Int64, Meaning::Decimal(scale)) => each::<Int64Type>(keys, ids, |value| {
            row_filter.find(name, value, |it, value| it.id_of_decimal(value.into(), scale, name))
        }),
        (DataType::Int32, Meaning::Unsigned) => each::<Int32Type>(keys, ids, |value| {
            row_filter.find(name, value, |it, value| it.id_of_number((value as u32).into(), name))
        }),
        (DataType::Int64, Meaning::Unsigned) => each::<Int64Type>(keys, ids, |value| {
            row_filter
                .find(name, value, |it, value| it.id_of_wide_number((value as u64).into(), name))
        }),
        (DataType::Int32, _) => each::<Int32Type>(keys, ids, |value| {
            row_filter.find(name, value, |it, value| it.id_of_number(value.into(), name))
        }),
        (DataType::Int64, _) => each::<Int64Type>(keys, ids, |value| {
            row_filter.find(name, value, |it, value| it.id_of_number(value, name))
        }),
        (DataType::Float32, _) => each::<Float32Type>(keys, ids, |value| {
            row_filter.find(name, value, |it, value| it.id_of_float(value.into(), name))
        }),
        (DataType::Float64, _) => each::<Float64Type>(keys, ids, |value| {
            row_filter.find(name, value, |it, value| it.id_of_float(value, name))
        }),
        _ => (0..keys.len()).try_for_each(|row| {
            let bytes = (!keys.is_null(row)).then(|| match kind {
                DataType::FixedSizeBinary(_) => keys.as_fixed_size_binary().value(row),
                _ => keys.as_binary::<i32>().value(row),
            });
            ids.push(row_filter.find(name, bytes, |it, bytes| match meaning {
                Meaning::Decimal(scale) => match key_text::big_endian(bytes) {
                    Some(value) => it.id_of_decimal(value, scale, name),
                    None => Err(it.no_id(name, "a decimal of more than 128 bits")),
                },
                Meaning::Uuid => it.id_of_text(&key_text::uuid(bytes), name),
                _ => it.id_of_text(bytes, name),
            })?);
            Ok(())
        }),
    }
}

/// Finds the ids of a primitive column.
fn each<T: ArrowPrimitiveType>(
    keys: &ArrayRef,
    ids: &mut Vec<i64>,
    mut find: impl FnMut(Option<T::Native>) -> Result<i64>,
) -> Result<()> {
    let keys = keys.as_primitive::<T>();
    ids.reserve(keys.len());
    if keys.null_count() == 0 {
        return keys.values().iter().try_for_each(|&value| {
            ids.push(find(Some(value))?);
            Ok(())
        });
    }
    keys.iter().try_for_each(|value| {
        ids.push(find(value)?);
        Ok(())
    })
}
