//! A small table of an experiment: writes rows as a new part, and reads and checks every part.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::error::{Error, Result};
use crate::run::part_name;
use crate::storage::{
    AtomicFile, CREATED_BY, CheckedEncoder, CheckedFile, Disk, Identity, LocalDisk,
};

/// The parts of a table, or of one of its partitions. No part is ever changed or replaced.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    directory: PathBuf,
    /// Where unfinished files are kept, out of sight of readers.
    drafts: PathBuf,
    identity: Identity,
    schema: SchemaRef,
    /// The number of the next part, as far as this process knows.
    next: u32,
}

impl Parts {
    /// `partition` is the directory of the parts within the table.
    pub(super) fn new(
        experiment: &Path,
        identity: Identity,
        partition: impl AsRef<Path>,
        schema: SchemaRef,
    ) -> Self {
        let directory = experiment.join(identity.table).join(partition);
        Self { directory, drafts: experiment.join("_runs"), identity, schema, next: 0 }
    }

    /// Reads the rows of every part, in the order in which they were written.
    pub(super) fn read(&mut self) -> Result<Vec<(PathBuf, Vec<RecordBatch>)>> {
        let parts = self.list()?;
        self.next = parts.last().map_or(0, |&(number, _)| number.saturating_add(1));
        let read = parts.into_iter().map(|(_, path)| Ok((path.clone(), self.read_part(&path)?.0)));
        read.collect()
    }

    /// Writes these rows as a new part, which is safe on disk when this returns. Fails, writing
    /// nothing, if another process has added a part since the parts were read: both may have
    /// measured the same.
    pub(super) fn append(&mut self, rows: &RecordBatch) -> Result<()> {
        for directory in [&self.directory, &self.drafts] {
            fs::create_dir_all(directory).map_err(|error| Error::io("create", directory, error))?;
        }
        let path = self.directory.join(part_name(self.next));
        let bytes = self
            .encode(rows)
            .map_err(|error| Error::corrupt(&path, "cannot be encoded").with_source(error))?;
        let mut file = AtomicFile::create_in(&path, &self.drafts)?;
        file.write_all(&bytes).map_err(|error| Error::io("write", &path, error))?;
        file.commit_new()?;
        self.next = self.next.saturating_add(1);
        LocalDisk
            .sync_dir(&self.directory)
            .map_err(|error| Error::io("sync", &self.directory, error))
    }

    fn encode(&self, rows: &RecordBatch) -> parquet::errors::Result<Vec<u8>> {
        let mut properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true);
        for field in self.schema.fields() {
            // Measured values hardly repeat, so a dictionary would not pay.
            let repeats = field.data_type() != &DataType::Float64;
            let column = ColumnPath::new(vec![field.name().clone()]);
            properties = properties.set_column_dictionary_enabled(column, repeats);
        }
        let schema = Arc::clone(&self.schema);
        let mut encoder = CheckedEncoder::new(self.identity, schema, properties.build())?;
        encoder.write(rows)?;
        encoder.finish(Vec::new())
    }

    /// Reads the rows of a part. Returns its length in bytes too.
    pub(super) fn read_part(&self, path: &Path) -> Result<(Vec<RecordBatch>, u64)> {
        let file = CheckedFile::open(path)?;
        file.check_identity(self.identity)?;
        let columns = |schema: &SchemaRef| -> Vec<(String, DataType)> {
            let fields = schema.fields().iter();
            fields.map(|field| (field.name().clone(), field.data_type().clone())).collect()
        };
        if columns(file.schema()) != columns(&self.schema) {
            let names: Vec<&str> =
                self.schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::unsupported_format(
                path,
                format!("is no part of this table, whose columns are {}", names.join(", ")),
            ));
        }
        let mut batches = Vec::new();
        for group in 0.. {
            let Some(rows) = file.read_row_group(group, None)? else { break };
            batches.extend(rows);
        }
        Ok((batches, file.length()))
    }

    /// Lists every part, by number.
    pub(super) fn list(&self) -> Result<Vec<(u32, PathBuf)>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("list", &self.directory, error)),
        };
        let mut parts = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| Error::io("list", &self.directory, error))?.path();
            parts.extend(part_number(&path).map(|number| (number, path)));
        }
        parts.sort_unstable();
        Ok(parts)
    }

    /// The path of the part with this number.
    pub(super) fn part(&self, number: u32) -> PathBuf {
        self.directory.join(part_name(number))
    }
}

/// The number of a part, if the file has the name of one.
pub(super) fn part_number(path: &Path) -> Option<u32> {
    crate::run::part_number(path.file_name()?.to_str()?)
}
