//! Converts tensors to rows of chunks and back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Float32Array, Int32Array, Int64Array, ListArray,
    RecordBatch, StringArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    DataType, Field, FieldRef, Float32Type, Int32Type, Int64Type, Schema, SchemaRef,
};
use arrow::error::ArrowError;
use half::{bf16, f16};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::observe::{SnapshotTensor, TensorValues};
use crate::storage::CREATED_BY;

/// How tensors are divided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Division {
    /// The number of elements of a full chunk. No cell may come near the two gibibytes that readers
    /// and writers can hold in one.
    pub(super) chunk_elements: usize,
    /// The encoded size at which a row group ends; what is not yet on disk is held in memory.
    pub(super) encoded_bytes: usize,
    /// The size before compression at which a row group ends, because zeros compress to almost
    /// nothing. A reader holds the cells of a row group in one array with 32-bit offsets.
    pub(super) raw_bytes: usize,
}

impl Division {
    /// For every snapshot: chunks of a mebibyte of `f32`.
    pub(super) const STANDARD: Self =
        Self { chunk_elements: 256 << 10, encoded_bytes: 4 << 20, raw_bytes: 64 << 20 };
}

pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("epoch", DataType::Int32, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("dtype", DataType::Utf8, false),
        Field::new("shape", DataType::List(item(DataType::Int64)), false),
        Field::new("chunk", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("values", DataType::List(item(DataType::Float32)), true),
        Field::new("data", DataType::Binary, true),
    ]))
}

fn item(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("element", data_type, false))
}

pub(crate) fn writer_properties() -> WriterProperties {
    properties(Division::STANDARD)
}

pub(super) fn properties(division: Division) -> WriterProperties {
    let leaf = |list: &str| {
        ColumnPath::new(vec![list.to_owned(), "list".to_owned(), "element".to_owned()])
    };
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        // The range of a chunk's weights does not help a reader skip anything.
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_max_row_group_bytes(Some(division.encoded_bytes))
        .set_column_encoding(leaf("values"), Encoding::BYTE_STREAM_SPLIT)
        .set_column_encoding(ColumnPath::from("data"), Encoding::PLAIN);
    for column in ["name", "dtype"] {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(column), true);
    }
    builder.build()
}

/// Makes one chunk of a number of elements of a tensor.
pub(super) fn rows(
    epoch: u32,
    tensor: &SnapshotTensor,
    chunk: usize,
    elements: usize,
) -> Result<RecordBatch, ArrowError> {
    let start = chunk * elements;
    let range = start..tensor.values().len().min(start + elements);
    let (values, data) = match tensor.values() {
        TensorValues::F32(elements) => (Some(elements[range].to_vec()), None),
        TensorValues::F16(elements) => (Some(each(&elements[range], |&e| widen(e))), None),
        TensorValues::BF16(elements) => {
            let widen = |&e: &bf16| f32::from_bits(u32::from(e.to_bits()) << 16);
            (Some(each(&elements[range], widen)), None)
        }
        TensorValues::F64(elements) => (None, Some(bytes(&elements[range], f64::to_le_bytes))),
        TensorValues::I64(elements) => (None, Some(bytes(&elements[range], i64::to_le_bytes))),
        TensorValues::I32(elements) => (None, Some(bytes(&elements[range], i32::to_le_bytes))),
        TensorValues::I16(elements) => (None, Some(bytes(&elements[range], i16::to_le_bytes))),
        TensorValues::U32(elements) => (None, Some(bytes(&elements[range], u32::to_le_bytes))),
        TensorValues::U8(elements) => (None, Some(elements[range].to_vec())),
    };
    let shape: Vec<i64> = tensor.shape().iter().map(|&length| length as i64).collect();
    let shape = list(DataType::Int64, Arc::new(Int64Array::from(shape)), true)?;
    let floats = values.is_some();
    let values = Arc::new(Float32Array::from(values.unwrap_or_default()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![epoch as i32])),
        Arc::new(StringArray::from(vec![tensor.name()])),
        Arc::new(StringArray::from(vec![tensor.values().dtype()])),
        Arc::new(shape),
        Arc::new(Int32Array::from(vec![chunk as i32])),
        Arc::new(Int64Array::from(vec![start as i64])),
        Arc::new(list(DataType::Float32, values, floats)?),
        Arc::new(BinaryArray::from(vec![data.as_deref()])),
    ];
    RecordBatch::try_new(schema(), columns)
}

/// Makes a list column of one row.
fn list(data_type: DataType, elements: ArrayRef, is_valid: bool) -> Result<ListArray, ArrowError> {
    let offsets = OffsetBuffer::from_lengths([elements.len()]);
    ListArray::try_new(item(data_type), offsets, elements, Some(vec![is_valid].into()))
}

fn each<T>(elements: &[T], widen: impl Fn(&T) -> f32) -> Vec<f32> {
    elements.iter().map(widen).collect()
}

fn bytes<T: Copy, const N: usize>(elements: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    elements.iter().flat_map(|&element| bytes(element)).collect()
}

/// Converts exactly, NaN payloads included, which a conversion in hardware may change.
fn widen(half: f16) -> f32 {
    if half.is_nan() {
        let bits = u32::from(half.to_bits());
        f32::from_bits((bits & 0x8000) << 16 | 0x7f80_0000 | (bits & 0x03ff) << 13)
    } else {
        half.to_f32()
    }
}

/// The inverse of [`widen`].
fn narrow(single: f32) -> f16 {
    if single.is_nan() {
        let bits = single.to_bits();
        f16::from_bits(((bits >> 16) & 0x8000 | 0x7c00 | (bits >> 13) & 0x03ff) as u16)
    } else {
        f16::from_f32(single)
    }
}

/// The columns of a row besides its elements.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) epoch: i32,
    pub(super) name: String,
    pub(super) dtype: String,
    pub(super) shape: Vec<i64>,
    pub(super) chunk: i32,
    pub(super) offset: i64,
}

/// The columns of some rows, whose types have been checked.
pub(super) struct Rows<'a>(pub(super) &'a RecordBatch);

impl Rows<'_> {
    pub(super) fn header(&self, row: usize) -> Option<Header> {
        Some(Header {
            epoch: self.0.column(0).as_primitive_opt::<Int32Type>()?.value(row),
            name: self.0.column(1).as_string_opt::<i32>()?.value(row).to_owned(),
            dtype: self.0.column(2).as_string_opt::<i32>()?.value(row).to_owned(),
            shape: {
                let shape = self.0.column(3).as_list_opt::<i32>()?.value(row);
                shape.as_primitive_opt::<Int64Type>()?.values().to_vec()
            },
            chunk: self.0.column(4).as_primitive_opt::<Int32Type>()?.value(row),
            offset: self.0.column(5).as_primitive_opt::<Int64Type>()?.value(row),
        })
    }

    /// Appends the elements of a row to those of its tensor. Returns `None` if they are of another
    /// type.
    pub(super) fn append(&self, row: usize, values: &mut TensorValues) -> Option<()> {
        fn extend<T, const N: usize>(
            values: &mut Vec<T>,
            data: &[u8],
            element: impl Fn([u8; N]) -> T,
        ) -> Option<()> {
            let (elements, rest) = data.as_chunks();
            values.extend(elements.iter().map(|&bytes| element(bytes)));
            rest.is_empty().then_some(())
        }
        let floats = || {
            let column = self.0.column(6).as_list_opt::<i32>()?;
            let elements = column.is_valid(row).then(|| column.value(row))?;
            Some(elements.as_primitive_opt::<Float32Type>()?.clone())
        };
        let column = self.0.column(7).as_binary_opt::<i32>()?;
        let data = || column.is_valid(row).then(|| column.value(row));
        match values {
            TensorValues::F32(values) => values.extend_from_slice(floats()?.values()),
            TensorValues::F16(values) => {
                values.extend(floats()?.values().iter().map(|&e| narrow(e)));
            }
            TensorValues::BF16(values) => {
                let narrow = |e: &f32| bf16::from_bits((e.to_bits() >> 16) as u16);
                values.extend(floats()?.values().iter().map(narrow));
            }
            TensorValues::F64(values) => extend(values, data()?, f64::from_le_bytes)?,
            TensorValues::I64(values) => extend(values, data()?, i64::from_le_bytes)?,
            TensorValues::I32(values) => extend(values, data()?, i32::from_le_bytes)?,
            TensorValues::I16(values) => extend(values, data()?, i16::from_le_bytes)?,
            TensorValues::U32(values) => extend(values, data()?, u32::from_le_bytes)?,
            TensorValues::U8(values) => values.extend_from_slice(data()?),
        }
        Some(())
    }
}

/// Returns an empty list of elements of the type of this name.
pub(super) fn empty_values(dtype: &str) -> Option<TensorValues> {
    Some(match dtype {
        "f32" => TensorValues::F32(Vec::new()),
        "f16" => TensorValues::F16(Vec::new()),
        "bf16" => TensorValues::BF16(Vec::new()),
        "f64" => TensorValues::F64(Vec::new()),
        "i64" => TensorValues::I64(Vec::new()),
        "i32" => TensorValues::I32(Vec::new()),
        "i16" => TensorValues::I16(Vec::new()),
        "u32" => TensorValues::U32(Vec::new()),
        "u8" => TensorValues::U8(Vec::new()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_widens_and_narrows_to_its_bits() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            assert_eq!(narrow(widen(half)).to_bits(), bits);
            if !half.is_nan() {
                assert_eq!(f64::from(widen(half)), half.to_f64());
            }
        }
    }
}
