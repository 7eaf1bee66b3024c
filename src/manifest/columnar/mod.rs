//! Filters Parquet row group by row group, keeping columns, types, encodings, compression and
//! key-value metadata.
//!
//! The key column of a row group is read first, and decides which of its rows are kept. Then each
//! column is a task of its own, on as many threads as there are processors: read it, drop the rows
//! that are not kept, encode it. Row groups of which few rows are kept are joined, those without a
//! kept row are not read, and those that are kept whole are copied without re-encoding. Memory
//! holds the encoded columns of two row groups.

mod keys;
mod plan;
mod properties;
mod source;
mod task;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use crossbeam_channel::{Receiver, Sender, unbounded};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;

use super::added_scores::Added;
use super::input::ManifestInput;
use super::row_filter::RowFilter;
use super::{Manifest, write_failed};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{RowGroupWriter, io_error};
use plan::{Planner, RowGroup};
use source::Source;
use task::{Done, Task};

const BATCH_ROWS: usize = 8192;
/// The number of output row groups in the making: one that is nearly done, and the next.
const GROUPS_AT_ONCE: usize = 2;

/// Filters Parquet. `columns` holds the columns that the file must have, if any, and receives those
/// it has.
pub(super) fn filter(
    manifest: &Manifest,
    input: ManifestInput<'_>,
    output: &mut (dyn Write + Send),
    row_filter: &mut RowFilter<'_>,
    columns: &mut Option<SchemaRef>,
) -> Result<()> {
    let bytes = input.bytes();
    let (mut file, mut progress) = input.into_file()?;
    let length = file.seek(SeekFrom::End(0)).ok().or(bytes).unwrap_or(0);
    // Some decoders of the Parquet crate panic on damaged input.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        copy(manifest, file, length, &mut progress, output, row_filter, columns)
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
    columns: &mut Option<SchemaRef>,
) -> Result<()> {
    let source = Source::new(file, length);
    let metadata = ArrowReaderMetadata::load(&source, ArrowReaderOptions::default())
        .map_err(|error| unreadable(row_filter, error))?;
    let schema = Arc::clone(metadata.schema());
    check_columns(columns, &schema, row_filter)?;
    let key = keys::find_key(manifest, &schema, row_filter)?;
    let added = Added::of(manifest);
    let schema = with_added(&schema, added.as_ref(), row_filter)?;
    let names = added.iter().flat_map(Added::names);
    let properties = properties::like(metadata.metadata(), names);
    let mut output =
        RowGroupWriter::new(output, Arc::clone(&schema), properties).map_err(unwritable)?;
    let mut planner = Planner::new(source, metadata, key, added, schema);
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
    output.finish().map(drop).map_err(unwritable)
}

/// Refuses columns that differ from those of the first file.
fn check_columns(
    columns: &mut Option<SchemaRef>,
    schema: &SchemaRef,
    row_filter: &RowFilter<'_>,
) -> Result<()> {
    let shown = |schema: &SchemaRef| {
        let columns = schema.fields().iter();
        columns.map(|it| format!("{} {}", it.name(), it.data_type())).collect::<Vec<_>>().join(", ")
    };
    let expected = columns.get_or_insert_with(|| Arc::clone(schema));
    if shown(expected) == shown(schema) {
        return Ok(());
    }
    let (expected, found) = (shown(expected), shown(schema));
    Err(row_filter.bad_manifest(
        ErrorKind::Manifest,
        format!("expected the columns of the first file, {expected}; got {found}"),
    ))
}

fn with_added(
    schema: &SchemaRef,
    added: Option<&Added<'_>>,
    row_filter: &RowFilter<'_>,
) -> Result<SchemaRef> {
    let Some(added) = added else { return Ok(Arc::clone(schema)) };
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    for name in added.names() {
        if schema.field_with_name(name).is_ok() {
            return Err(row_filter.has_column(name));
        }
        fields.push(Arc::new(Field::new(name, DataType::Float64, true)));
    }
    Ok(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())))
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
        output: &mut RowGroupWriter<&mut (dyn Write + Send)>,
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
                group.columns[done.column] = Some(done.chunks);
            }
        }
    }

    fn write(
        &self,
        group: RowGroup,
        output: &mut RowGroupWriter<&mut (dyn Write + Send)>,
        row_filter: &RowFilter<'_>,
    ) -> Result<()> {
        let mut chunks = Vec::new();
        for column in group.columns.into_iter().flatten() {
            let column = column.map_err(|error| {
                // The remaining work is not needed.
                self.tasks.try_iter().for_each(drop);
                unreadable(row_filter, error)
            })?;
            chunks.extend(column);
        }
        output.write(chunks).map_err(unwritable)
    }
}
