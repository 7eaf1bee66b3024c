//! Filters Parquet row group by row group, keeping schema, values, encodings, compression, indexes
//! and metadata.
//!
//! ```text
//! Source -> footer -> keys (which rows are kept) -> plan (output row groups) -> task (a column)
//!                                                                     -> output (and its footer)
//! ```
//!
//! The key column of a row group is read first, and decides which of its rows are kept. Then each
//! column is a task of its own, on as many threads as there are processors: read it, drop the rows
//! that are not kept, encode it. Row groups of which few rows are kept are joined, those without a
//! kept row are not read, and those that are kept whole are copied as they lie. Memory holds the
//! encoded columns of two row groups.
//!
//! Flat columns pass through Arrow by their physical types only, in which values are exactly their
//! bytes: a UUID is 16 bytes, a decimal the integer that is stored. Nested columns and 96-bit
//! timestamps pass as levels and values of Parquet (`levels`). The schema that says what values mean
//! stays as it is stored (`footer`).

mod footer;
mod keys;
mod leaf;
mod levels;
mod output;
mod plan;
mod properties;
mod source;
mod task;
mod thrift;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use crossbeam_channel::{Receiver, Sender, unbounded};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::{Repetition, Type as PhysicalType};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::schema::types::{Type, TypePtr};

use super::added_scores::Added;
use super::input::ManifestInput;
use super::row_filter::RowFilter;
use super::{Manifest, write_failed};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::io_error;
use footer::Footer;
use output::OutputFile;
use plan::{Planner, RowGroup};
use source::Source;
use task::{Done, Task};

const BATCH_ROWS: usize = 8192;
/// The number of output row groups in the making: one that is nearly done, and the next.
const GROUPS_AT_ONCE: usize = 2;

/// Filters Parquet, and returns the names of its columns.
pub(super) fn filter(
    manifest: &Manifest,
    input: ManifestInput<'_>,
    output: &mut (dyn Write + Send),
    row_filter: &mut RowFilter<'_>,
) -> Result<Vec<String>> {
    let bytes = input.bytes();
    let (mut file, mut progress) = input.into_file()?;
    let length = file.seek(SeekFrom::End(0)).ok().or(bytes).unwrap_or(0);
    // Some decoders of the Parquet crate panic on damaged input.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        copy(manifest, file, length, &mut progress, output, row_filter)
    }));
    outcome.unwrap_or_else(|_panic| {
        Err(row_filter.bad_manifest(ErrorKind::Corrupt, "is damaged: the Parquet decoder panicked"))
    })
}

fn unreadable(row_filter: &RowFilter<'_>, error: ParquetError) -> Error {
    match io_error(error) {
        Ok(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            row_filter.bad_manifest(ErrorKind::Io, "cannot be read").with_source(error)
        }
        Ok(error) => damaged(row_filter, error),
        Err(error) => damaged(row_filter, error),
    }
}

fn damaged(
    row_filter: &RowFilter<'_>,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    row_filter
        .bad_manifest(ErrorKind::Corrupt, "is not Parquet that can be read")
        .with_source(error)
}

fn unwritable(error: ParquetError) -> Error {
    match io_error(error) {
        Ok(error) => write_failed(error),
        Err(error) => Error::new(ErrorKind::Manifest, "the kept rows cannot be encoded as Parquet")
            .with_source(error),
    }
}

fn copy(
    manifest: &Manifest,
    file: File,
    length: u64,
    progress: &mut dyn FnMut(u64),
    output: &mut (dyn Write + Send),
    row_filter: &mut RowFilter<'_>,
) -> Result<Vec<String>> {
    let source = Source::new(file, length);
    let footer = Footer::read(&source).map_err(|error| unreadable(row_filter, error))?;
    let metadata = by_physical_types(&footer).map_err(|error| unreadable(row_filter, error))?;
    let described = footer.metadata.file_metadata().schema_descr();
    let names = described.root_schema().get_fields().iter().map(|field| field.name().to_owned());
    let names: Vec<String> = names.collect();
    let key = keys::find_key(manifest, described, row_filter)?;
    let added = Added::of(manifest);
    let taken = added.iter().flat_map(Added::names).find(|&new| names.iter().any(|it| it == new));
    if let Some(name) = taken {
        return Err(row_filter.has_column(name));
    }
    let properties = properties::like(&footer.metadata, added.as_ref());
    let schema = with_added(described.root_schema_ptr(), added.as_ref()).map_err(unwritable)?;
    let columns = columns_with_added(metadata.schema(), added.as_ref());
    let mut output = OutputFile::new(output, schema, columns, properties).map_err(unwritable)?;
    let mut planner = Planner::new(source, &footer, metadata, key, added);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let (to_do, tasks) = unbounded::<Task>();
        let (done, results) = unbounded::<Done>();
        for _ in 1..threads {
            let (tasks, done) = (tasks.clone(), done.clone());
            scope.spawn(move || {
                for task in tasks {
                    let _nobody_waits_for_it = done.send(task.run());
                }
            });
        }
        // This thread is one of the workers while it waits.
        let crew = EncoderPool { to_do, tasks, results };
        crew.make(&mut planner, length, progress, &mut output, row_filter)
    })?;
    output.finish(&footer).map_err(unwritable)?;
    Ok(names)
}

/// Returns the file as Arrow reads it if it has physical types alone.
fn by_physical_types(footer: &Footer) -> ParquetResult<ArrowReaderMetadata> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    ArrowReaderMetadata::try_new(Arc::new(footer.physical()?), options)
}

/// Returns the schema with the added scores at its end.
fn with_added(schema: TypePtr, added: Option<&Added<'_>>) -> ParquetResult<TypePtr> {
    let Some(added) = added else { return Ok(schema) };
    let mut fields = schema.get_fields().to_vec();
    for name in added.names() {
        let score = Type::primitive_type_builder(name, PhysicalType::DOUBLE)
            .with_repetition(Repetition::OPTIONAL)
            .build()?;
        fields.push(Arc::new(score));
    }
    let root = Type::group_type_builder(schema.name()).with_fields(fields).build()?;
    Ok(Arc::new(root))
}

fn columns_with_added(columns: &SchemaRef, added: Option<&Added<'_>>) -> SchemaRef {
    let mut fields: Vec<_> = columns.fields().iter().cloned().collect();
    for name in added.iter().flat_map(|added| added.names()) {
        fields.push(Arc::new(Field::new(name, DataType::Float64, true)));
    }
    Arc::new(Schema::new(fields))
}

/// The threads that encode columns.
struct EncoderPool {
    to_do: Sender<Task>,
    tasks: Receiver<Task>,
    results: Receiver<Done>,
}

impl EncoderPool {
    /// Makes and writes every row group in order. The first error in that order ends it.
    fn make(
        &self,
        planner: &mut Planner<'_>,
        length: u64,
        progress: &mut dyn FnMut(u64),
        output: &mut OutputFile<&mut (dyn Write + Send)>,
        row_filter: &mut RowFilter<'_>,
    ) -> Result<()> {
        let mut groups = std::collections::VecDeque::<RowGroup>::new();
        let mut refused = None;
        let mut told = 0;
        loop {
            while groups.len() < GROUPS_AT_ONCE && refused.is_none() {
                match planner.next(output, row_filter) {
                    Err(error) => refused = Some(error),
                    Ok(None) => break,
                    Ok(Some((group, tasks))) => {
                        groups.push_back(group);
                        for task in tasks {
                            // We hold the receiver too.
                            let _cannot_fail = self.to_do.send(task);
                        }
                    }
                }
                let done = (length as f64 * planner.done()) as u64;
                progress(done - told);
                told = done;
            }
            let Some(first) = groups.front() else {
                progress(length - told);
                return refused.map_or(Ok(()), Err);
            };
            if first.is_complete() {
                if let Some(group) = groups.pop_front() {
                    match group.copied {
                        Some(group) => {
                            planner
                                .copy(group, output)
                                .map_err(|error| unreadable(row_filter, error))?;
                            output.flush().map_err(unwritable)?;
                        }
                        None => self.write(group, output, row_filter)?,
                    }
                }
                continue;
            }
            let done = match self.results.try_recv() {
                Ok(done) => Some(done),
                Err(_) => match self.tasks.try_recv() {
                    Ok(task) => Some(task.run()),
                    Err(_) => self.results.recv().ok(),
                },
            };
            let Some(done) = done else {
                return Err(Error::new(ErrorKind::Io, "the encoding threads have stopped"));
            };
            if let Some(group) = groups.iter_mut().find(|group| group.number == done.group) {
                group.columns[done.column] = Some(done.encoded);
            }
        }
    }

    fn write(
        &self,
        group: RowGroup,
        output: &mut OutputFile<&mut (dyn Write + Send)>,
        row_filter: &RowFilter<'_>,
    ) -> Result<()> {
        let mut columns = Vec::new();
        for column in group.columns.into_iter().flatten() {
            columns.push(column.map_err(|error| {
                // The remaining work is not needed.
                self.tasks.try_iter().for_each(drop);
                unreadable(row_filter, error)
            })?);
        }
        output.write(columns).map_err(unwritable)
    }
}
