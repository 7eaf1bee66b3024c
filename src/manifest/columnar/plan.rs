//! Plans the next row group of the output: which rows of the manifest it holds, and the tasks that
//! make it.

use std::io::Write;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::errors::Result as ParquetResult;

use super::footer::Footer;
use super::keys::{self, Kept, Key};
use super::leaf::{EncodedLeaf, Piece};
use super::output::OutputFile;
use super::source::Source;
use super::task::{Rows, Task};
use super::unwritable;
use crate::error::Result;
use crate::manifest::added_scores::Added;
use crate::manifest::row_filter::RowFilter;

/// The largest decoded size of an output row group.
const ROW_GROUP_BYTES: usize = if cfg!(test) { 1 << 20 } else { 128 << 20 };

/// A row group of the output in the making.
pub(super) struct RowGroup {
    pub(super) number: usize,
    /// The finished columns.
    pub(super) columns: Vec<Option<ParquetResult<EncodedLeaf>>>,
    /// The row group of the manifest that this is, if all of it is kept.
    pub(super) copied: Option<usize>,
}

impl RowGroup {
    pub(super) fn is_complete(&self) -> bool {
        self.columns.iter().all(Option::is_some)
    }
}

/// Walks through the row groups of the manifest.
pub(super) struct Planner<'a> {
    source: Source,
    footer: &'a Footer,
    /// The same file by its physical types.
    metadata: ArrowReaderMetadata,
    key: Option<Key<'a>>,
    added: Option<Added<'a>>,
    /// The next row group, and its state if some of its rows have been taken.
    group: usize,
    begun: Option<PartialRowGroup>,
    /// The number of output row groups so far.
    number: usize,
    /// The number of rows of the manifest's largest row group.
    most_rows: usize,
}

/// A row group of the manifest of which some rows have been taken.
struct PartialRowGroup {
    kept: Kept,
    /// The first row that has not been taken, and the number of kept rows before it.
    row: usize,
    kept_before: usize,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        source: Source,
        footer: &'a Footer,
        metadata: ArrowReaderMetadata,
        key: Option<Key<'a>>,
        added: Option<Added<'a>>,
    ) -> Self {
        let rows = metadata.metadata().row_groups().iter().map(|group| group.num_rows().max(1));
        let most_rows = rows.max().unwrap_or(1) as usize;
        Self { source, footer, metadata, key, added, group: 0, begun: None, number: 0, most_rows }
    }

    /// Copies a row group of the manifest as it is.
    pub(super) fn copy(
        &self,
        group: usize,
        output: &mut OutputFile<&mut (dyn Write + Send)>,
    ) -> ParquetResult<()> {
        output.copy(&self.source, self.footer, group)
    }

    /// Returns the share of the manifest that has been decided about.
    pub(super) fn done(&self) -> f64 {
        self.group as f64 / self.metadata.metadata().num_row_groups().max(1) as f64
    }

    /// Returns the next row group of the output and its tasks; `None` at the end of the manifest.
    pub(super) fn next(
        &mut self,
        output: &OutputFile<&mut (dyn Write + Send)>,
        row_filter: &mut RowFilter<'_>,
    ) -> Result<Option<(RowGroup, Vec<Task>)>> {
        let mut pieces = Vec::new();
        // As long as the pieces are whole row groups.
        let mut keys = self.key.map(|_| Vec::new());
        let mut added = vec![Vec::new(); self.added.as_ref().map_or(0, |it| it.names().count())];
        let (mut rows, mut bytes) = (0, 0);
        while self.group < self.metadata.metadata().num_row_groups() {
            // Joined to about the size of the manifest's row groups.
            if rows > self.most_rows / 4 * 3 || bytes >= ROW_GROUP_BYTES / 2 {
                break;
            }
            let group = self.metadata.metadata().row_group(self.group);
            let all = group.num_rows().max(0) as usize;
            let row_bytes = (group.total_byte_size().max(0) as usize / all.max(1)).max(1);
            let begun = if let Some(begun) = self.begun.take() {
                begun
            } else {
                let (source, metadata) = (&self.source, &self.metadata);
                let added = self.added.as_ref();
                let kept = keys::decide(source, metadata, self.group, self.key, added, row_filter)?;
                PartialRowGroup { kept, row: 0, kept_before: 0 }
            };
            if begun.kept.rows.count_set_bits() == all
                && all > self.most_rows / 4 * 3
                && begun.row == 0
                && self.added.is_none()
            {
                if !pieces.is_empty() {
                    self.begun = Some(begun);
                    break;
                }
                let group =
                    RowGroup { number: self.number, columns: Vec::new(), copied: Some(self.group) };
                self.number += 1;
                self.group += 1;
                return Ok(Some((group, Vec::new())));
            }
            // Whole row groups, unless they are as large as images make them.
            let at_once = (ROW_GROUP_BYTES / row_bytes).max(1);
            let end = if all - begun.row <= 2 * at_once { all } else { begun.row + at_once };
            let kept = begun.kept.rows.slice(begun.row, end - begun.row).count_set_bits();
            if kept > 0 {
                let kept_rows = begun.kept.rows.clone();
                pieces.push(Piece { group: self.group, rows: begun.row..end, kept: kept_rows });
                let taken = begun.kept_before..begun.kept_before + kept;
                for (all, values) in added.iter_mut().zip(&begun.kept.added) {
                    all.push(values[taken.clone()].to_vec());
                }
                if end - begun.row < all {
                    keys = None;
                }
                if let Some(keys) = &mut keys {
                    keys.extend_from_slice(&begun.kept.keys);
                }
                rows += kept;
                bytes += kept.saturating_mul(row_bytes);
            }
            if end == all {
                self.group += 1;
            } else {
                let kept_before = begun.kept_before + kept;
                self.begun = Some(PartialRowGroup { kept: begun.kept, row: end, kept_before });
            }
        }
        if pieces.is_empty() {
            return Ok(None);
        }
        self.tasks(pieces, keys, added, output).map(Some).map_err(unwritable)
    }

    /// Returns the field of a column that is not nested.
    fn field_of(&self, leaf: usize) -> FieldRef {
        let root = self.metadata.parquet_schema().get_column_root_idx(leaf);
        Arc::clone(&self.metadata.schema().fields()[root])
    }

    fn tasks(
        &mut self,
        pieces: Vec<Piece>,
        mut keys: Option<Vec<ArrayRef>>,
        added: Vec<Vec<Vec<Option<f64>>>>,
        output: &OutputFile<&mut (dyn Write + Send)>,
    ) -> ParquetResult<(RowGroup, Vec<Task>)> {
        let pieces = Arc::new(pieces);
        let group = self.number;
        self.number += 1;
        let key = self.key.map(|key| key.leaf);
        let writers = output.leaf_writers(group)?;
        let from_manifest = writers.len() - added.len();
        let mut added = added.into_iter();
        let tasks: Vec<Task> = writers
            .into_iter()
            .enumerate()
            .map(|(column, writer)| Task {
                group,
                column,
                rows: if column >= from_manifest {
                    Rows::Added(added.next().unwrap_or_default())
                } else if let Some(keys) = keys.take_if(|_| key == Some(column)) {
                    Rows::Ready(self.field_of(column), keys)
                } else {
                    Rows::Manifest {
                        source: self.source.clone(),
                        metadata: self.metadata.clone(),
                        leaf: column,
                        pieces: Arc::clone(&pieces),
                    }
                },
                writer,
            })
            .collect();
        let columns = tasks.iter().map(|_| None).collect();
        Ok((RowGroup { number: group, columns, copied: None }, tasks))
    }
}
