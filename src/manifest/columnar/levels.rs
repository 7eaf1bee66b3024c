//! Copies columns by Parquet's own levels and values.
//!
//! Nested columns pass here, since writers may say the same in other levels than Arrow does (DuckDB
//! gives a null array of a fixed length as many levels as elements), and 96-bit timestamps, which
//! Spark writes by default: Arrow would make nanoseconds of 64 bits of them, which end in 2262. For
//! other columns Arrow is faster, above all for texts, and changes nothing.

use std::sync::Arc;

use parquet::column::page::PageReader;
use parquet::column::reader::ColumnReaderImpl;
use parquet::column::writer::{ColumnWriter, ColumnWriterImpl, get_column_writer};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::leaf::{EncodedLeaf, Piece, batch_rows};
use super::source::Source;

/// A column of the manifest.
pub(super) struct Column<'a> {
    pub(super) source: &'a Source,
    pub(super) metadata: &'a ParquetMetaData,
    pub(super) leaf: usize,
}

/// Encodes the kept rows of a column, as the written file describes it.
pub(super) fn encode(
    column: &Column<'_>,
    pieces: &[Piece],
    described: ColumnDescPtr,
    properties: WriterPropertiesPtr,
) -> Result<EncodedLeaf> {
    let mut bytes = TrackedWrite::new(Vec::new());
    let close = {
        let pages = Box::new(SerializedPageWriter::new(&mut bytes));
        let mut writer = get_column_writer(described, properties, pages);
        for piece in pieces {
            match &mut writer {
                ColumnWriter::BoolColumnWriter(writer) => copy(column, piece, writer),
                ColumnWriter::Int32ColumnWriter(writer) => copy(column, piece, writer),
                ColumnWriter::Int64ColumnWriter(writer) => copy(column, piece, writer),
                ColumnWriter::Int96ColumnWriter(writer) => copy(column, piece, writer),
                ColumnWriter::FloatColumnWriter(writer) => copy(column, piece, writer),
                ColumnWriter::DoubleColumnWriter(writer) => copy(column, piece, writer),
                ColumnWriter::ByteArrayColumnWriter(writer) => copy(column, piece, writer),
                ColumnWriter::FixedLenByteArrayColumnWriter(writer) => copy(column, piece, writer),
            }?;
        }
        writer.close()?
    };
    Ok(EncodedLeaf::Pages(bytes.into_inner()?.into(), Box::new(close)))
}

fn copy<T: DataType>(
    column: &Column<'_>,
    piece: &Piece,
    writer: &mut ColumnWriterImpl<'_, T>,
) -> Result<()> {
    let Column { source, metadata, leaf } = *column;
    let group = metadata.row_group(piece.group);
    let described = group.column(leaf).column_descr_ptr();
    let rows = group.num_rows().max(0) as usize;
    let pages =
        SerializedPageReader::new(Arc::new(source.clone()), group.column(leaf), rows, None)?;
    let pages: Box<dyn PageReader> = Box::new(pages);
    let highest = described.max_def_level();
    let (optional, repeated) = (highest > 0, described.max_rep_level() > 0);
    let mut reader = ColumnReaderImpl::<T>::new(described, pages);
    let too_few = || ParquetError::General("a column has too few rows".to_owned());
    if reader.skip_records(piece.rows.start)? != piece.rows.start {
        return Err(too_few());
    }
    let at_once = batch_rows(group, leaf);
    let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
    let mut values: Vec<T::T> = Vec::new();
    let (mut kept_definitions, mut kept_repetitions) = (Vec::new(), Vec::new());
    let mut row = piece.rows.start;
    while row < piece.rows.end {
        definitions.clear();
        repetitions.clear();
        values.clear();
        let (read, _, levels) = reader.read_records(
            (piece.rows.end - row).min(at_once),
            optional.then_some(&mut definitions),
            repeated.then_some(&mut repetitions),
            &mut values,
        )?;
        if read == 0 {
            return Err(too_few());
        }
        kept_definitions.clear();
        kept_repetitions.clear();
        let mut kept_values = Vec::with_capacity(values.len());
        let mut present_values = values.drain(..);
        // A level belongs to the row that the last repetition level of 0 began.
        let kept = piece.kept.slice(row, read);
        let mut rows = kept.iter();
        let mut keep = false;
        for level in 0..levels {
            if !repeated || repetitions[level] == 0 {
                keep = rows.next().ok_or_else(too_few)?;
            }
            let present = !optional || definitions[level] == highest;
            let value = if present { present_values.next() } else { None };
            if keep {
                kept_definitions.extend(definitions.get(level));
                kept_repetitions.extend(repetitions.get(level));
                kept_values.extend(value);
            }
        }
        drop(present_values);
        writer.write_batch(
            &kept_values,
            optional.then_some(&kept_definitions),
            repeated.then_some(&kept_repetitions),
        )?;
        row += read;
    }
    Ok(())
}
