//! A small table of an experiment: rows in memory go out as one more finished part, and every part
//! comes back.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use crate::atomic_file::AtomicFile;
use crate::error::{Error, Result};
use crate::parquet_output::{Unforgiving, io_error};
use crate::run::{Disk, LocalDisk};

/// The parts of a table, or of one of its partitions. No part is ever changed or replaced.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    directory: PathBuf,
    /// Where unfinished files are out of the sight of readers.
    drafts: PathBuf,
    schema: SchemaRef,
}

impl Parts {
    /// `directory` is the place of the parts below the experiment.
    pub(super) fn new(experiment: &Path, directory: impl AsRef<Path>, schema: SchemaRef) -> Self {
        let drafts = experiment.join("_runs");
        Self { directory: experiment.join(directory), drafts, schema }
    }

    /// The rows of all parts, in the order in which they were written.
    pub(super) fn read(&self) -> Result<Vec<(PathBuf, RecordBatch)>> {
        let mut batches = Vec::new();
        for (_, path) in self.list()? {
            // Some decoders of the Parquet crate panic on damaged input.
            let read =
                catch_unwind(AssertUnwindSafe(|| self.read_part(&path))).unwrap_or_else(|_panic| {
                    Err(Error::corrupt(&path, "makes the Parquet decoder panic"))
                });
            batches.extend(read?.into_iter().map(|batch| (path.clone(), batch)));
        }
        Ok(batches)
    }

    /// Adds one part with these rows, which are safe on disk when this returns.
    pub(super) fn append(&self, rows: &RecordBatch) -> Result<()> {
        for directory in [&self.directory, &self.drafts] {
            fs::create_dir_all(directory).map_err(|error| Error::io("create", directory, error))?;
        }
        let number = self.list()?.last().map_or(0, |&(number, _)| number + 1);
        let path = self.directory.join(format!("part-{number:06}.parquet"));
        let failed = |error: ParquetError| match io_error(error) {
            Ok(error) => Error::io("write", &path, error),
            Err(error) => Error::corrupt(&path, "cannot be encoded").with_source(error),
        };
        let mut properties = WriterProperties::builder()
            .set_created_by(format!("data-diet version {}", env!("CARGO_PKG_VERSION")))
            .set_compression(Compression::ZSTD(ZstdLevel::default()));
        for field in self.schema.fields() {
            // Measurements hardly repeat.
            let repeats = field.data_type() != &DataType::Float64;
            let column = ColumnPath::new(vec![field.name().clone()]);
            properties = properties.set_column_dictionary_enabled(column, repeats);
        }
        let mut file = AtomicFile::create_apart(&path, &self.drafts)?;
        let schema = Arc::clone(&self.schema);
        let output = Unforgiving::new(file.file());
        let mut writer =
            ArrowWriter::try_new(output, schema, Some(properties.build())).map_err(failed)?;
        writer.write(rows).map_err(failed)?;
        writer.close().map_err(failed)?;
        file.commit_new()?;
        LocalDisk
            .sync_dir(&self.directory)
            .map_err(|error| Error::io("sync", &self.directory, error))
    }

    fn read_part(&self, path: &Path) -> Result<Vec<RecordBatch>> {
        let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
        let corrupt = |error: ParquetError| {
            Error::corrupt(path, "is not a Parquet file that can be read").with_source(error)
        };
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(corrupt)?;
        let columns = |schema: &SchemaRef| -> Vec<(String, DataType)> {
            let fields = schema.fields().iter();
            fields.map(|field| (field.name().clone(), field.data_type().clone())).collect()
        };
        if columns(reader.schema()) != columns(&self.schema) {
            let names: Vec<&str> =
                self.schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::foreign(
                path,
                format!("is no part of this table, whose columns are {}", names.join(", ")),
            ));
        }
        let reader = reader.build().map_err(corrupt)?;
        reader.map(|batch| batch.map_err(|error| corrupt(error.into()))).collect()
    }

    /// Every part, by number.
    fn list(&self) -> Result<Vec<(u32, PathBuf)>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("list", &self.directory, error)),
        };
        let mut parts = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| Error::io("list", &self.directory, error))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let number = name
                .and_then(|name| name.strip_prefix("part-")?.strip_suffix(".parquet"))
                .and_then(|number| number.parse().ok());
            parts.extend(number.map(|number| (number, path)));
        }
        parts.sort_unstable();
        Ok(parts)
    }
}
