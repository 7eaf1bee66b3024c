//! One Parquet file of a table: written as a draft and published by rename, read back checked.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{KeyValue, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;

use super::checksum;
use super::columns::RowGroup;
use super::disk::{Disk, DiskFile};
use super::metadata::SCHEMA_VERSION;
use super::schema::{Table, writer_properties};
use crate::error::{Error, Result};

const TABLE_KEY: &str = "data_diet.table";
const VERSION_KEY: &str = "data_diet.schema_version";
const EPOCHS_KEY: &str = "data_diet.epochs";
const READ_BATCH_ROWS: usize = 8192;

/// A part that is being written, out of sight.
#[derive(Debug)]
pub(crate) struct PartWriter {
    draft: PathBuf,
    file: Box<dyn DiskFile>,
    /// Writes into memory only: a Parquet writer that owns a file loses rows silently when a write
    /// fails under it.
    encoder: ArrowWriter<Vec<u8>>,
    written: u64,
    checksums: Vec<u32>,
    epochs: Vec<i32>,
}

impl PartWriter {
    pub(crate) fn create(
        disk: &dyn Disk,
        draft: PathBuf,
        table: Table,
        schema: SchemaRef,
    ) -> Result<Self> {
        let file = disk.create_new(&draft).map_err(|error| Error::io("create", &draft, error))?;
        let properties = writer_properties(table, &schema);
        let mut encoder = ArrowWriter::try_new(Vec::new(), schema, Some(properties))
            .map_err(|error| unencodable(&draft, error))?;
        let entry = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
        encoder.append_key_value_metadata(entry(TABLE_KEY, table.name().to_owned()));
        encoder.append_key_value_metadata(entry(VERSION_KEY, SCHEMA_VERSION.to_string()));
        Ok(Self { draft, file, encoder, written: 0, checksums: Vec::new(), epochs: Vec::new() })
    }

    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.encoder.write(rows).map_err(|error| unencodable(&self.draft, error))?;
        for &epoch in &epochs_of(rows) {
            if let Err(place) = self.epochs.binary_search(&epoch) {
                self.epochs.insert(place, epoch);
            }
        }
        if self.encoder.flushed_row_groups().len() > self.checksums.len() {
            self.drain()?;
        }
        Ok(())
    }

    /// Completes the draft, makes it safe from a power cut, and gives it its final name. Returns its
    /// bytes.
    pub(crate) fn publish(mut self, disk: &dyn Disk, path: &Path) -> Result<u64> {
        self.encoder.flush().map_err(|error| unencodable(&self.draft, error))?;
        self.drain()?;
        let epochs: Vec<String> = self.epochs.iter().map(ToString::to_string).collect();
        let epochs = KeyValue::new(EPOCHS_KEY.to_owned(), epochs.join(","));
        self.encoder.append_key_value_metadata(epochs);
        self.encoder.append_key_value_metadata(checksum::row_group_entry(&self.checksums));
        self.encoder.finish().map_err(|error| unencodable(&self.draft, error))?;
        let tail = std::mem::take(self.encoder.inner_mut());
        self.append(&checksum::guard(&tail))?;
        self.append(&tail)?;
        self.file.sync().map_err(|error| Error::io("sync", &self.draft, error))?;
        let directory = path.parent().unwrap_or(Path::new("."));
        disk.create_dir_all(directory).map_err(|error| Error::io("create", directory, error))?;
        if path.exists() {
            return Err(Error::new(
                crate::ErrorKind::AlreadyExists,
                format!("{} exists already and is never replaced", path.display()),
            ));
        }
        disk.rename(&self.draft, path).map_err(|error| Error::io("publish", path, error))?;
        disk.sync_dir(directory).map_err(|error| Error::io("sync", directory, error))?;
        Ok(self.written)
    }

    /// Moves finished row groups from memory to the draft.
    fn drain(&mut self) -> Result<()> {
        self.encoder.sync().map_err(|error| Error::io("buffer", &self.draft, error))?;
        let bytes = std::mem::take(self.encoder.inner_mut());
        for row_group in &self.encoder.flushed_row_groups()[self.checksums.len()..] {
            let range = checksum::row_group_range(row_group);
            let start = (range.start - self.written) as usize;
            let end = (range.end - self.written) as usize;
            self.checksums.push(crc32c::crc32c(&bytes[start..end]));
        }
        self.append(&bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, self.written)
            .map_err(|error| Error::io("write to", &self.draft, error))?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

fn unencodable(path: &Path, error: ParquetError) -> Error {
    Error::corrupt(path, "cannot be encoded").with_source(error)
}

/// The distinct epochs of some rows; neighbours are nearly always equal.
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

/// A published part, open for reading: its footer has been checked, its rows are checked as they come.
#[derive(Debug)]
pub(crate) struct PartReader {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    row_groups: Vec<(std::ops::Range<u64>, u32)>,
    next: usize,
    length: u64,
}

impl PartReader {
    /// Opens a part of a table.
    pub(crate) fn open(path: &Path, table: Table) -> Result<Self> {
        let failed = |error| Error::io("read", path, error);
        let mut file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        if length < 12 {
            return Err(Error::foreign(path, format!("is not a Parquet file: {length} bytes")));
        }
        let mut head = [0; 4];
        file.read_exact(&mut head).map_err(failed)?;
        checksum::check_head(path, &head)?;
        let mut closing = [0; 8];
        file.seek(SeekFrom::End(-8)).map_err(failed)?;
        file.read_exact(&mut closing).map_err(failed)?;
        let tail = checksum::guarded_tail(path, closing, length)?;
        let mut guarded = vec![0; tail];
        file.seek(SeekFrom::End(-(tail as i64))).map_err(failed)?;
        file.read_exact(&mut guarded).map_err(failed)?;
        checksum::check_tail(path, &guarded)?;
        let footer = &guarded[checksum::GUARD..tail - 8];
        let metadata = contained(path, || ParquetMetaDataReader::decode_metadata(footer))?;
        check_identity(path, table, metadata.file_metadata().key_value_metadata())?;
        let row_groups = checksum::row_groups(path, &metadata, length - tail as u64)?;
        let metadata = contained(path, || {
            ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new())
        })?;
        Ok(Self { path: path.to_owned(), metadata, row_groups, next: 0, length })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn rows(&self) -> u64 {
        self.metadata.metadata().file_metadata().num_rows().max(0) as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.length
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// The distinct epochs of its rows, ascending.
    pub(crate) fn epochs(&self) -> Vec<i32> {
        let entries = self.metadata.metadata().file_metadata().key_value_metadata();
        let entry = entries.into_iter().flatten().find(|entry| entry.key == EPOCHS_KEY);
        let list = entry.and_then(|entry| entry.value.as_deref()).unwrap_or_default();
        list.split(',').filter_map(|epoch| epoch.parse().ok()).collect()
    }

    /// The highest step of its rows, from the statistics of its row groups.
    pub(crate) fn last_step(&self) -> Option<i64> {
        let metadata = self.metadata.metadata();
        let step = (0..metadata.file_metadata().schema_descr().num_columns()).find(|&column| {
            metadata.file_metadata().schema_descr().column(column).name() == "step"
        })?;
        let highest = |group: &RowGroupMetaData| match group.column(step).statistics() {
            Some(Statistics::Int64(steps)) => steps.max_opt().copied(),
            _ => None,
        };
        metadata.row_groups().iter().filter_map(highest).max()
    }

    /// What the footer tells of each row group.
    pub(crate) fn outlines(&self) -> impl Iterator<Item = RowGroupOutline> + '_ {
        let metadata = self.metadata.metadata();
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
            // What is not told may be anything.
            RowGroupOutline {
                rows: group.num_rows().max(0) as usize,
                steps: steps.map_or(0..=i64::MAX, |(&first, &last)| first..=last),
                epochs: epochs.map_or(0..=i32::MAX, |(&first, &last)| first..=last),
                last_example: examples.unwrap_or(i64::MAX),
            }
        })
    }

    /// Reads and checks a row group; nothing of it is decoded yet.
    pub(crate) fn row_group(&self, index: usize) -> Result<Option<RowGroup>> {
        let Some(bytes) = self.checked_bytes(index)? else { return Ok(None) };
        let metadata = Arc::clone(self.metadata.metadata());
        Ok(Some(RowGroup::new(self.path.clone(), metadata, index, bytes)))
    }

    /// The bytes of a row group at their place in the file. The file is opened for each: a fold over
    /// thousands of parts must not keep them all open, and parts are never replaced.
    fn checked_bytes(&self, index: usize) -> Result<Option<FileRange>> {
        let Some((range, expected)) = self.row_groups.get(index).cloned() else {
            return Ok(None);
        };
        let length = range.end - range.start;
        let mut bytes = Vec::with_capacity(length as usize);
        let mut read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(range.start))?;
            match file.take(length).read_to_end(&mut bytes)? {
                read if read as u64 == length => Ok(()),
                _ => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)),
            }
        };
        read().map_err(|error| Error::io("read", &self.path, error))?;
        if crc32c::crc32c(&bytes) != expected {
            let what = format!("the checksum of row group {index} does not hold");
            return Err(Error::corrupt(&self.path, what));
        }
        let bytes = Bytes::from(bytes);
        Ok(Some(FileRange { start: range.start, end: self.length, bytes }))
    }

    /// Reads, checks and decodes the next row group; only the named columns, or all.
    pub(crate) fn next_row_group(
        &mut self,
        columns: Option<&[&str]>,
    ) -> Result<Option<Vec<RecordBatch>>> {
        let Some(chunk) = self.checked_bytes(self.next)? else { return Ok(None) };
        let (metadata, index) = (self.metadata.clone(), self.next);
        let rows = contained(&self.path, || {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(chunk, metadata);
            let mask = columns.map_or(ProjectionMask::all(), |columns| {
                ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied())
            });
            builder
                .with_row_groups(vec![index])
                .with_projection(mask)
                .with_batch_size(READ_BATCH_ROWS)
                .build()?
                .collect::<Result<Vec<_>, _>>()
                .map_err(ParquetError::from)
        })?;
        self.next += 1;
        Ok(Some(rows))
    }
}

fn check_identity(path: &Path, table: Table, entries: Option<&Vec<KeyValue>>) -> Result<()> {
    let value = |key: &str| {
        let entry = entries.into_iter().flatten().find(|entry| entry.key == key);
        entry.and_then(|entry| entry.value.as_deref())
    };
    match value(TABLE_KEY) {
        Some(name) if name == table.name() => {}
        Some(name) => {
            let expected = table.name();
            return Err(Error::foreign(
                path,
                format!("expected the table `{expected}`, got `{name}`"),
            ));
        }
        None => return Err(Error::foreign(path, "is not a table of data-diet")),
    }
    match value(VERSION_KEY).and_then(|version| version.parse::<u32>().ok()) {
        Some(version) if version <= SCHEMA_VERSION => Ok(()),
        version => Err(Error::foreign(
            path,
            format!("has schema version {version:?}, this crate knows up to {SCHEMA_VERSION}"),
        )),
    }
}

/// Runs a decoder of the Parquet crate, some of whose paths panic on damaged input.
pub(super) fn contained<T>(path: &Path, decode: impl FnOnce() -> ParquetResult<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::corrupt(path, "does not decode").with_source(error)),
        Err(_panic) => Err(Error::corrupt(path, "makes the Parquet decoder panic")),
    }
}

/// What a row group holds, as far as the footer tells.
#[derive(Clone, Debug)]
pub(crate) struct RowGroupOutline {
    pub(crate) rows: usize,
    pub(crate) steps: RangeInclusive<i64>,
    pub(crate) epochs: RangeInclusive<i32>,
    /// No id is higher.
    pub(crate) last_example: i64,
}

/// A stretch of a file in memory, at its offsets in the file.
#[derive(Clone, Debug)]
pub(super) struct FileRange {
    start: u64,
    /// The length of the whole file, which the decoder asks for.
    end: u64,
    bytes: Bytes,
}

impl FileRange {
    fn slice(&self, offset: u64, length: Option<usize>) -> ParquetResult<Bytes> {
        let outside = || ParquetError::EOF(format!("offset {offset} lies outside its row group"));
        let from = offset.checked_sub(self.start).ok_or_else(outside)? as usize;
        let to = length.map_or(Some(self.bytes.len()), |length| from.checked_add(length));
        match to {
            Some(to) if from <= to && to <= self.bytes.len() => Ok(self.bytes.slice(from..to)),
            _ => Err(outside()),
        }
    }
}

impl Length for FileRange {
    fn len(&self) -> u64 {
        self.end
    }
}

impl ChunkReader for FileRange {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(bytes::Buf::reader(self.slice(start, None)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.slice(start, Some(length))
    }
}
