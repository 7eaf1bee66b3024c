//! The columns of one row group, decoded whole and on demand.
//!
//! Folding scores reads three columns of hundreds of millions of rows. The encodings that our
//! tables use (`schema`) are decoded here straight from the page, without validity, levels or
//! batches, which these tables do not have. Any other encoding goes through the Parquet crate's own
//! decoder.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float32Array, Int32Array,
    Int64Array,
};
use arrow::datatypes::{Float32Type, Int32Type};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

use super::delta;
use crate::error::{Error, Result};
use crate::storage::{FileBytes, catch_panic};

/// A row group whose bytes have been read and checked.
#[derive(Debug)]
pub(crate) struct RowGroup {
    path: PathBuf,
    metadata: Arc<ParquetMetaData>,
    index: usize,
    bytes: FileBytes,
}

/// Bits, with the first row in the lowest bit of the first byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits(Vec<u8>);

impl Bits {
    /// Returns a row's bit; `false` beyond the end.
    pub(crate) fn get(&self, row: usize) -> bool {
        self.0.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1)
    }

    /// Returns the same bits with each row moved to its place.
    pub(crate) fn scattered(&self, places: &[u32]) -> Self {
        let mut bytes = vec![0; self.0.len()];
        for (row, &place) in places.iter().enumerate() {
            if let Some(byte) = bytes.get_mut(place as usize / 8) {
                *byte |= u8::from(self.get(row)) << (place % 8);
            }
        }
        Self(bytes)
    }
}

impl RowGroup {
    pub(super) fn new(
        path: PathBuf,
        metadata: Arc<ParquetMetaData>,
        index: usize,
        bytes: FileBytes,
    ) -> Self {
        Self { path, metadata, index, bytes }
    }

    pub(crate) fn rows(&self) -> usize {
        self.metadata.row_group(self.index).num_rows().max(0) as usize
    }

    /// Decodes a column of 64-bit integers.
    pub(crate) fn int64(&self, column: &str) -> Result<Vec<i64>> {
        if let Some(values) =
            self.pages(column, Type::INT64, |page, values| match page.encoding {
                Encoding::DELTA_BINARY_PACKED => delta::decode(page.bytes, values),
                Encoding::PLAIN => plain(page.bytes, values, i64::from_le_bytes),
                _ => None,
            })?
        {
            return Ok(values);
        }
        let values = self.decode_with_fallback(column, |array| {
            Some(array.as_any().downcast_ref::<Int64Array>()?.values().to_vec())
        })?;
        Ok(values.concat())
    }

    /// Decodes a column of 32-bit integers.
    pub(crate) fn int32(&self, column: &str) -> Result<Vec<i32>> {
        let delta = self.pages(column, Type::INT32, |page, values| match page.encoding {
            Encoding::DELTA_BINARY_PACKED => {
                let mut wide = Vec::with_capacity(page.count);
                delta::decode(page.bytes, &mut wide)?;
                values.extend(wide.into_iter().map(|value| value as i32));
                Some(())
            }
            Encoding::PLAIN => plain(page.bytes, values, i32::from_le_bytes),
            _ => None,
        })?;
        if let Some(values) = delta {
            return Ok(values);
        }
        let values = self.decode_with_fallback(column, |array| {
            Some(array.as_any().downcast_ref::<Int32Array>()?.values().to_vec())
        })?;
        Ok(values.concat())
    }

    /// Decodes a column of floats.
    pub(crate) fn float32(&self, column: &str) -> Result<Vec<f32>> {
        if let Some(values) =
            self.pages(column, Type::FLOAT, |page, values| match page.encoding {
                Encoding::BYTE_STREAM_SPLIT => join_streams(page.bytes, page.count, values),
                Encoding::PLAIN => plain(page.bytes, values, f32::from_le_bytes),
                _ => None,
            })?
        {
            return Ok(values);
        }
        let values = self.decode_with_fallback(column, |array| {
            Some(array.as_any().downcast_ref::<Float32Array>()?.values().to_vec())
        })?;
        Ok(values.concat())
    }

    /// Decodes a column of lists of this many floats, row after row.
    pub(crate) fn float32_lists(&self, column: &str, length: usize) -> Result<Vec<f32>> {
        self.lists::<Float32Type>(column, length)
    }

    /// Decodes a column of lists of this many 32-bit integers, row after row.
    pub(crate) fn int32_lists(&self, column: &str, length: usize) -> Result<Vec<i32>> {
        self.lists::<Int32Type>(column, length)
    }

    fn lists<T: ArrowPrimitiveType>(&self, column: &str, length: usize) -> Result<Vec<T::Native>> {
        let values = self.decode_with_fallback(column, |array| {
            let lists = array.as_fixed_size_list_opt()?;
            let values = lists.values().as_primitive_opt::<T>()?;
            let fits = values.null_count() == 0 && values.len() == lists.len() * length;
            fits.then(|| values.values().to_vec())
        })?;
        Ok(values.concat())
    }

    /// Decodes a column of booleans.
    pub(crate) fn bits(&self, column: &str) -> Result<Bits> {
        let mut rows = 0;
        let pages = self.pages(column, Type::BOOLEAN, |page, bytes| {
            // Each page begins at a byte boundary.
            let is_plain = page.encoding == Encoding::PLAIN && rows % 8 == 0;
            rows += page.count;
            bytes.extend_from_slice(page.bytes.get(..page.count.div_ceil(8))?);
            is_plain.then_some(())
        })?;
        if let Some(bytes) = pages {
            return Ok(Bits(bytes));
        }
        let values = self.decode_with_fallback(column, |array| {
            Some(array.as_any().downcast_ref::<BooleanArray>()?.values().iter().collect())
        })?;
        let values: Vec<bool> = values.concat();
        let mut bytes = vec![0; values.len().div_ceil(8)];
        for (row, _) in values.iter().enumerate().filter(|(_, value)| **value) {
            bytes[row / 8] |= 1 << (row % 8);
        }
        Ok(Bits(bytes))
    }

    /// Decodes a column page by page. Returns `None` if `decode` does not know the encoding of a
    /// page, or the pages do not add up to the number of rows.
    fn pages<T>(
        &self,
        column: &str,
        physical: Type,
        mut decode: impl FnMut(&DataPage, &mut Vec<T>) -> Option<()>,
    ) -> Result<Option<Vec<T>>> {
        let group = self.metadata.row_group(self.index);
        let chunk = group.columns().iter().find(|chunk| {
            chunk.column_descr().name() == column && chunk.column_descr().path().parts().len() == 1
        });
        let chunk = chunk.ok_or_else(|| {
            Error::unsupported_format(
                &self.path,
                format!("has no column `{column}`, which data-diet does not write"),
            )
        })?;
        let description = chunk.column_descr();
        if chunk.column_type() != physical || description.max_def_level() > 0 {
            return Ok(None);
        }
        let rows = self.rows();
        let decoded = catch_panic(&self.path, || {
            let source = Arc::new(self.bytes.clone());
            let mut pages = SerializedPageReader::new(source, chunk, rows, None)?;
            let mut values = Vec::with_capacity(rows);
            let mut seen = 0;
            while let Some(page) = pages.get_next_page()? {
                let Page::DataPage { buf, num_values, encoding, .. } = page else {
                    return Ok(None);
                };
                let page = DataPage { bytes: &buf, count: num_values as usize, encoding };
                seen += page.count;
                if decode(&page, &mut values).is_none() {
                    return Ok(None);
                }
            }
            Ok((seen == rows).then_some(values))
        })?;
        let length = if physical == Type::BOOLEAN { rows.div_ceil(8) } else { rows };
        Ok(decoded.filter(|values| values.len() == length))
    }

    fn decode_with_fallback<T>(
        &self,
        column: &str,
        values: impl Fn(&ArrayRef) -> Option<Vec<T>>,
    ) -> Result<Vec<Vec<T>>> {
        let batches = catch_panic(&self.path, || self.decode_with_arrow(column))?;
        let taken = |array: &ArrayRef| {
            let values = (array.null_count() == 0).then(|| values(array)).flatten();
            values.ok_or_else(|| {
                let got = array.data_type();
                Error::unsupported_format(
                    &self.path,
                    format!("column `{column}` is {got}, which data-diet does not write"),
                )
            })
        };
        batches.iter().map(taken).collect()
    }

    fn decode_with_arrow(&self, column: &str) -> ParquetResult<Vec<ArrayRef>> {
        let metadata = Arc::clone(&self.metadata);
        let metadata = ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new())?;
        let bytes = self.bytes.clone();
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata);
        let mask = ProjectionMask::columns(builder.parquet_schema(), [column]);
        let batches = builder.with_row_groups(vec![self.index]).with_projection(mask).build()?;
        let first = |batch: RecordBatch| Arc::clone(batch.column(0));
        batches.map(|batch| batch.map(first).map_err(ParquetError::from)).collect()
    }
}

/// A page without nulls.
struct DataPage<'a> {
    bytes: &'a [u8],
    count: usize,
    encoding: Encoding,
}

fn plain<T, const WIDTH: usize>(
    bytes: &[u8],
    values: &mut Vec<T>,
    value: impl Fn([u8; WIDTH]) -> T,
) -> Option<()> {
    let (words, rest) = bytes.as_chunks();
    values.extend(words.iter().map(|&word| value(word)));
    rest.is_empty().then_some(())
}

/// `BYTE_STREAM_SPLIT`: all first bytes, then all second bytes, and so on.
fn join_streams(bytes: &[u8], count: usize, values: &mut Vec<f32>) -> Option<()> {
    if bytes.len() != count.checked_mul(4)? {
        return None;
    }
    let (low, high) = bytes.split_at(2 * count);
    let ((a, b), (c, d)) = (low.split_at(count), high.split_at(count));
    let bytes = a.iter().zip(b).zip(c).zip(d);
    values.extend(bytes.map(|(((&a, &b), &c), &d)| f32::from_le_bytes([a, b, c, d])));
    Some(())
}
