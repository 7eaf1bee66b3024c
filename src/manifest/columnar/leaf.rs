//! A column on its way: the rows that are wanted of it, what encodes it, and what it then is.

use std::ops::Range;

use arrow::buffer::BooleanBuffer;
use bytes::Bytes;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter};
use parquet::basic::Type;
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::schema::types::{ColumnDescPtr, ColumnDescriptor};

use super::BATCH_ROWS;

/// About how many bytes of a column are decoded at once; a cell may hold an image.
const BATCH_BYTES: usize = 1 << 22;

/// Some rows of a row group of the manifest.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) group: usize,
    pub(super) rows: Range<usize>,
    /// Which rows of the whole row group are kept.
    pub(super) kept: BooleanBuffer,
}

/// Encodes a column.
pub(super) enum LeafWriter {
    Arrow(Box<ArrowColumnWriter>),
    /// A column that passes by its levels.
    Levels(ColumnDescPtr, WriterPropertiesPtr),
}

/// An encoded column.
pub(super) enum EncodedLeaf {
    Arrow(Box<ArrowColumnChunk>),
    Pages(Bytes, Box<ColumnCloseResult>),
}

/// Returns whether a column has to pass by its levels.
pub(super) fn needs_levels(column: &ColumnDescriptor) -> bool {
    column.path().parts().len() > 1
        || column.max_rep_level() > 0
        || column.physical_type() == Type::INT96
}

/// Returns how many rows of a column to decode at once.
pub(super) fn batch_rows(group: &RowGroupMetaData, leaf: usize) -> usize {
    let (rows, bytes) = (group.num_rows().max(1), group.column(leaf).uncompressed_size().max(0));
    let row_bytes = (bytes / rows).max(1) as usize;
    (BATCH_BYTES / row_bytes).clamp(1, BATCH_ROWS)
}
