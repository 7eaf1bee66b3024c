//! One Parquet file of a table: written as a draft, published by rename, checked when read.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, RowGroupMetaData};
use parquet::file::properties::WriterProperties;
use parquet::file::statistics::Statistics;

use super::metadata::SCHEMA_VERSION;
use super::page_decoder::RowGroup;
use super::schema::{Table, writer_properties};
use crate::error::{Error, Result};
use crate::storage::{CheckedEncoder, CheckedFile, Disk, DiskFile, Identity};

const EPOCHS_KEY: &str = "data_diet.epochs";

fn identity(table: Table) -> Identity {
    Identity { table: table.name(), version: SCHEMA_VERSION }
}

/// A part that is being written, out of sight.
#[derive(Debug)]
pub(crate) struct PartWriter {
    draft: PathBuf,
    file: Box<dyn DiskFile>,
    encoder: CheckedEncoder,
    written: u64,
    epochs: Vec<i32>,
}

impl PartWriter {
    pub(crate) fn create(
        disk: &dyn Disk,
        draft: PathBuf,
        table: Table,
        schema: SchemaRef,
    ) -> Result<Self> {
        let properties = writer_properties(table, &schema);
        Self::with_properties(disk, draft, table, schema, properties)
    }

    /// Creates a part with its own encodings.
    pub(crate) fn with_properties(
        disk: &dyn Disk,
        draft: PathBuf,
        table: Table,
        schema: SchemaRef,
        properties: WriterProperties,
    ) -> Result<Self> {
        let file = disk.create_new(&draft).map_err(|error| Error::io("create", &draft, error))?;
        let encoder = CheckedEncoder::new(identity(table), schema, properties)
            .map_err(|error| unencodable(&draft, error))?;
        Ok(Self { draft, file, encoder, written: 0, epochs: Vec::new() })
    }

    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.encoder.write(rows).map_err(|error| unencodable(&self.draft, error))?;
        for &epoch in &epochs_of(rows) {
            if let Err(place) = self.epochs.binary_search(&epoch) {
                self.epochs.insert(place, epoch);
            }
        }
        self.drain()
    }

    /// Ends the current row group.
    pub(crate) fn end_row_group(&mut self) -> Result<()> {
        self.encoder.end_row_group().map_err(|error| unencodable(&self.draft, error))?;
        self.drain()
    }

    /// Writes finished row groups, which frees their memory.
    fn drain(&mut self) -> Result<()> {
        let bytes = self.encoder.take().map_err(|error| Error::io("buffer", &self.draft, error))?;
        append(&mut self.file, &self.draft, &mut self.written, &bytes)
    }

    /// Completes the draft, syncs it, and renames it to its final name. Returns its length in
    /// bytes.
    pub(crate) fn publish(self, disk: &dyn Disk, path: &Path) -> Result<u64> {
        let Self { draft, mut file, encoder, mut written, epochs } = self;
        let epochs: Vec<String> = epochs.iter().map(ToString::to_string).collect();
        let epochs = KeyValue::new(EPOCHS_KEY.to_owned(), epochs.join(","));
        let bytes = encoder.finish(vec![epochs]).map_err(|error| unencodable(&draft, error))?;
        append(&mut file, &draft, &mut written, &bytes)?;
        file.sync().map_err(|error| Error::io("sync", &draft, error))?;
        let directory = path.parent().unwrap_or(Path::new("."));
        disk.create_dir_all(directory).map_err(|error| Error::io("create", directory, error))?;
        if path.exists() {
            return Err(Error::new(
                crate::error::ErrorKind::AlreadyExists,
                format!("{} already exists and is never replaced", path.display()),
            ));
        }
        disk.rename(&draft, path).map_err(|error| Error::io("publish", path, error))?;
        disk.sync_dir(directory).map_err(|error| Error::io("sync", directory, error))?;
        Ok(written)
    }
}

fn append(
    file: &mut Box<dyn DiskFile>,
    draft: &Path,
    written: &mut u64,
    bytes: &[u8],
) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    file.write_all_at(bytes, *written).map_err(|error| Error::io("write to", draft, error))?;
    *written += bytes.len() as u64;
    Ok(())
}

fn unencodable(path: &Path, error: ParquetError) -> Error {
    Error::corrupt(path, "cannot be encoded").with_source(error)
}

/// The distinct epochs of some rows; neighbors are nearly always equal.
fn epochs_of(rows: &RecordBatch) -> Vec<i32> {
    use arrow::array::{Array, Int32Array};
    let column = rows.column_by_name("epoch");
    let Some(epochs) = column.and_then(|column| column.as_any().downcast_ref::<Int32Array>())
    else {
        return Vec::new();
    };
    debug_assert_eq!(epochs.null_count(), 0);
    let mut distinct = epochs.values().to_vec();
    distinct.dedup();
    distinct
}

/// A published part, open for reading. The footer is checked when it is opened, rows when they are
/// read.
#[derive(Debug)]
pub(crate) struct PartReader {
    file: CheckedFile,
    next: usize,
}

impl PartReader {
    /// Opens a part of a table.
    pub(crate) fn open(path: &Path, table: Table) -> Result<Self> {
        let file = CheckedFile::open(path)?;
        file.check_identity(identity(table))?;
        Ok(Self { file, next: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn rows(&self) -> u64 {
        self.file.rows()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.file.length()
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        self.file.schema()
    }

    /// Returns the distinct epochs of the rows, ascending.
    pub(crate) fn epochs(&self) -> Vec<i32> {
        let list = self.file.entry(EPOCHS_KEY).unwrap_or_default();
        list.split(',').filter_map(|epoch| epoch.parse().ok()).collect()
    }

    /// Returns the highest step, from the statistics of the row groups.
    pub(crate) fn last_step(&self) -> Option<i64> {
        let metadata = self.file.metadata();
        let step = (0..metadata.file_metadata().schema_descr().num_columns()).find(|&column| {
            metadata.file_metadata().schema_descr().column(column).name() == "step"
        })?;
        let highest = |group: &RowGroupMetaData| match group.column(step).statistics() {
            Some(Statistics::Int64(steps)) => steps.max_opt().copied(),
            _ => None,
        };
        metadata.row_groups().iter().filter_map(highest).max()
    }

    /// Returns what the footer says about each row group.
    pub(crate) fn outlines(&self) -> impl Iterator<Item = RowGroupOutline> + '_ {
        let metadata = self.file.metadata();
        let schema = metadata.file_metadata().schema_descr();
        let column =
            |name: &str| (0..schema.num_columns()).find(|&at| schema.column(at).name() == name);
        let (step, epoch, example) = (column("step"), column("epoch"), column("example"));
        metadata.row_groups().iter().map(move |group| {
            let statistics = |column: Option<usize>| group.column(column?).statistics();
            let steps = match statistics(step) {
                Some(Statistics::Int64(steps)) => steps.min_opt().zip(steps.max_opt()),
                _ => None,
            };
            let epochs = match statistics(epoch) {
                Some(Statistics::Int32(epochs)) => epochs.min_opt().zip(epochs.max_opt()),
                _ => None,
            };
            let examples = match statistics(example) {
                Some(Statistics::Int64(examples)) => examples.max_opt().copied(),
                _ => None,
            };
            // A missing statistic allows anything.
            RowGroupOutline {
                rows: group.num_rows().max(0) as usize,
                steps: steps.map_or(0..=i64::MAX, |(&first, &last)| first..=last),
                epochs: epochs.map_or(0..=i32::MAX, |(&first, &last)| first..=last),
                last_example: examples.unwrap_or(i64::MAX),
            }
        })
    }

    /// Reads and checks a row group without decoding it.
    pub(crate) fn row_group(&self, index: usize) -> Result<Option<RowGroup>> {
        let Some(bytes) = self.file.row_group_bytes(index, |_column| true)? else {
            return Ok(None);
        };
        let metadata = Arc::clone(self.file.metadata());
        Ok(Some(RowGroup::new(self.file.path().to_owned(), metadata, index, bytes)))
    }

    /// Reads, checks and decodes the next row group: all columns, or only the named ones.
    pub(crate) fn next_row_group(
        &mut self,
        columns: Option<&[&str]>,
    ) -> Result<Option<Vec<RecordBatch>>> {
        let rows = self.file.read_row_group(self.next, columns)?;
        self.next += usize::from(rows.is_some());
        Ok(rows)
    }
}

/// What the footer says about a row group.
#[derive(Clone, Debug)]
pub(crate) struct RowGroupOutline {
    pub(crate) rows: usize,
    pub(crate) steps: RangeInclusive<i64>,
    pub(crate) epochs: RangeInclusive<i32>,
    /// No example id is higher.
    pub(crate) last_example: i64,
}
