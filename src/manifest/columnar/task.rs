//! The work on one column of one output row group: reads its rows, drops those that are not kept,
//! and encodes the rest, independently of other columns.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter;
use arrow::datatypes::FieldRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use parquet::errors::{ParquetError, Result as ParquetResult};

use super::BATCH_ROWS;
use super::source::Source;

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

/// Where a column's rows come from.
pub(super) enum Rows {
    /// A column of the manifest.
    Manifest {
        source: Source,
        metadata: ArrowReaderMetadata,
        column: usize,
        pieces: Arc<Vec<Piece>>,
    },
    /// A column whose kept rows are already decoded.
    Ready(Vec<ArrayRef>),
    /// Added scores.
    Added(Vec<Vec<Option<f64>>>),
}

pub(super) struct Task {
    /// The index of the output row group, and of the column in it.
    pub(super) group: usize,
    pub(super) column: usize,
    pub(super) rows: Rows,
    pub(super) field: FieldRef,
    /// One for each leaf of the column.
    pub(super) writers: Vec<ArrowColumnWriter>,
}

/// An encoded column.
pub(super) struct Done {
    pub(super) group: usize,
    pub(super) column: usize,
    pub(super) chunks: ParquetResult<Vec<ArrowColumnChunk>>,
}

impl Task {
    pub(super) fn run(self) -> Done {
        let (group, column) = (self.group, self.column);
        // Some decoders of the Parquet crate panic on damaged input.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.encode()));
        let chunks = outcome.unwrap_or_else(|_panic| {
            Err(ParquetError::General("the Parquet decoder panics".to_owned()))
        });
        Done { group, column, chunks }
    }

    fn encode(mut self) -> ParquetResult<Vec<ArrowColumnChunk>> {
        match &self.rows {
            Rows::Ready(values) => {
                let mut values = values.iter();
                values.try_for_each(|values| write(&mut self.writers, &self.field, values))?;
            }
            Rows::Added(values) => {
                let values: Float64Array = values.iter().flatten().copied().collect();
                let values: ArrayRef = Arc::new(values);
                write(&mut self.writers, &self.field, &values)?;
            }
            Rows::Manifest { source, metadata, column, pieces } => {
                for piece in pieces.iter() {
                    let writers = &mut self.writers;
                    copy(source, metadata, *column, piece, |values| {
                        write(writers, &self.field, values)
                    })?;
                }
            }
        }
        self.writers.into_iter().map(ArrowColumnWriter::close).collect()
    }
}

fn write(
    writers: &mut [ArrowColumnWriter],
    field: &FieldRef,
    values: &ArrayRef,
) -> ParquetResult<()> {
    let leaves = compute_leaves(field, values)?;
    writers.iter_mut().zip(&leaves).try_for_each(|(writer, leaf)| writer.write(leaf))
}

/// Reads a column's rows and passes on those that are kept.
fn copy(
    source: &Source,
    metadata: &ArrowReaderMetadata,
    column: usize,
    piece: &Piece,
    mut write: impl FnMut(&ArrayRef) -> ParquetResult<()>,
) -> ParquetResult<()> {
    let group = metadata.metadata().row_group(piece.group);
    let all = piece.kept.len();
    let bytes: i64 = group
        .columns()
        .iter()
        .enumerate()
        .filter(|(leaf, _)| metadata.parquet_schema().get_column_root_idx(*leaf) == column)
        .map(|(_, chunk)| chunk.uncompressed_size().max(0))
        .sum();
    let row_bytes = (bytes as usize / all.max(1)).max(1);
    let mut reader =
        ParquetRecordBatchReaderBuilder::new_with_metadata(source.clone(), metadata.clone())
            .with_projection(ProjectionMask::roots(metadata.parquet_schema(), [column]))
            .with_row_groups(vec![piece.group])
            .with_batch_size((BATCH_BYTES / row_bytes).clamp(1, BATCH_ROWS));
    if piece.rows != (0..all) {
        let selectors =
            vec![RowSelector::skip(piece.rows.start), RowSelector::select(piece.rows.len())];
        reader = reader.with_row_selection(RowSelection::from(selectors));
    }
    let mut at = piece.rows.start;
    for batch in reader.build()? {
        let batch = batch?;
        let values = batch.column(0);
        let end = at + values.len();
        if end > piece.rows.end {
            return Err(ParquetError::General("a column has too many rows".to_owned()));
        }
        let kept = piece.kept.slice(at, values.len());
        at = end;
        match kept.count_set_bits() {
            0 => {}
            all if all == values.len() => write(values)?,
            _ => write(&filter(values, &BooleanArray::new(kept, None))?)?,
        }
    }
    if at != piece.rows.end {
        return Err(ParquetError::General("a column has too few rows".to_owned()));
    }
    Ok(())
}
