//! The work on one column of one output row group: reads its rows, drops those that are not kept,
//! and encodes the rest, independently of other columns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field, FieldRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, compute_leaves};
use parquet::errors::{ParquetError, Result as ParquetResult};

use super::leaf::{EncodedLeaf, LeafWriter, Piece, batch_rows};
use super::levels::{self, Column};
use super::source::Source;

/// Where a column's rows come from.
pub(super) enum Rows {
    /// A column of the manifest, read by its physical type.
    Manifest { source: Source, metadata: ArrowReaderMetadata, leaf: usize, pieces: Arc<Vec<Piece>> },
    /// A column whose kept rows are already decoded.
    Ready(FieldRef, Vec<ArrayRef>),
    /// Added scores.
    Added(Vec<Vec<Option<f64>>>),
}

pub(super) struct Task {
    /// The index of the output row group, and of the column in it.
    pub(super) group: usize,
    pub(super) column: usize,
    pub(super) rows: Rows,
    pub(super) writer: LeafWriter,
}

/// An encoded column.
pub(super) struct Done {
    pub(super) group: usize,
    pub(super) column: usize,
    pub(super) encoded: ParquetResult<EncodedLeaf>,
}

impl Task {
    pub(super) fn run(self) -> Done {
        let (group, column) = (self.group, self.column);
        // Some decoders of the Parquet crate panic on damaged input.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.encode()));
        let encoded = outcome.unwrap_or_else(|_panic| {
            Err(ParquetError::General("the Parquet decoder panics".to_owned()))
        });
        Done { group, column, encoded }
    }

    fn encode(self) -> ParquetResult<EncodedLeaf> {
        let mut writer = match (self.writer, &self.rows) {
            (LeafWriter::Arrow(writer), _) => writer,
            (
                LeafWriter::Levels(described, properties),
                Rows::Manifest { source, metadata, leaf, pieces },
            ) => {
                let column = Column { source, metadata: metadata.metadata(), leaf: *leaf };
                return levels::encode(&column, pieces, described, properties);
            }
            (LeafWriter::Levels(..), Rows::Ready(..) | Rows::Added(_)) => {
                return Err(ParquetError::General("a key cannot be nested".to_owned()));
            }
        };
        match &self.rows {
            Rows::Ready(field, values) => {
                values.iter().try_for_each(|values| write(&mut writer, field, values))?;
            }
            Rows::Added(values) => {
                let values: Float64Array = values.iter().flatten().copied().collect();
                let values: ArrayRef = Arc::new(values);
                let field = Field::new("score", DataType::Float64, true);
                write(&mut writer, &field.into(), &values)?;
            }
            Rows::Manifest { source, metadata, leaf, pieces } => {
                for piece in pieces.iter() {
                    copy(source, metadata, *leaf, piece, |field, values| {
                        write(&mut writer, field, values)
                    })?;
                }
            }
        }
        Ok(EncodedLeaf::Arrow(Box::new(writer.close()?)))
    }
}

fn write(writer: &mut ArrowColumnWriter, field: &FieldRef, values: &ArrayRef) -> ParquetResult<()> {
    compute_leaves(field, values)?.iter().try_for_each(|leaf| writer.write(leaf))
}

/// Reads a column's rows and passes on those that are kept.
fn copy(
    source: &Source,
    metadata: &ArrowReaderMetadata,
    leaf: usize,
    piece: &Piece,
    mut write: impl FnMut(&FieldRef, &ArrayRef) -> ParquetResult<()>,
) -> ParquetResult<()> {
    let group = metadata.metadata().row_group(piece.group);
    let all = piece.kept.len();
    let mut reader =
        ParquetRecordBatchReaderBuilder::new_with_metadata(source.clone(), metadata.clone())
            .with_projection(ProjectionMask::leaves(metadata.parquet_schema(), [leaf]))
            .with_row_groups(vec![piece.group])
            .with_batch_size(batch_rows(group, leaf));
    if piece.rows != (0..all) {
        let selectors =
            vec![RowSelector::skip(piece.rows.start), RowSelector::select(piece.rows.len())];
        reader = reader.with_row_selection(RowSelection::from(selectors));
    }
    let mut at = piece.rows.start;
    let reader = reader.build()?;
    let schema = arrow::array::RecordBatchReader::schema(&reader);
    let field = &schema.fields()[0];
    for batch in reader {
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
            all if all == values.len() => write(field, values)?,
            _ => write(field, &filter(values, &BooleanArray::new(kept, None))?)?,
        }
    }
    if at != piece.rows.end {
        return Err(ParquetError::General("a column has too few rows".to_owned()));
    }
    Ok(())
}
