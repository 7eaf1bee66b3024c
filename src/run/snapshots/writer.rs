//! Writes a snapshot as one published Parquet file, or not at all.

use std::path::Path;

use super::chunk::{Division, properties, rows, schema};
use crate::error::{Error, Result};
use crate::observe::Snapshot;
use crate::run::layout::RunLayout;
use crate::run::part::PartWriter;
use crate::run::schema::Table;
use crate::run::seal::remove_if_there;
use crate::storage::Disk;

/// Writes a snapshot and makes it visible, unless a snapshot of this step already is. The caller
/// holds the rank's lock. After an error nothing is visible, and the call may be repeated.
pub(crate) fn publish(disk: &dyn Disk, layout: &RunLayout, snapshot: &Snapshot) -> Result<()> {
    publish_divided(disk, layout, snapshot, Division::STANDARD)
}

pub(super) fn publish_divided(
    disk: &dyn Disk,
    layout: &RunLayout,
    snapshot: &Snapshot,
    division: Division,
) -> Result<()> {
    let path = layout.snapshot(snapshot.step());
    if path.exists() {
        // The previous attempt may have failed right after the file got its name.
        let directory = path.parent().unwrap_or(Path::new("."));
        return disk.sync_dir(directory).map_err(|error| Error::io("sync", directory, error));
    }
    let draft = layout.snapshot_draft(snapshot.step());
    remove_if_there(disk, &draft)?;
    let (table, properties) = (Table::Snapshots, properties(division));
    let mut part = PartWriter::with_properties(disk, draft, table, schema(), properties)?;
    let mut raw = 0;
    for tensor in snapshot.tensors() {
        let elements = division.chunk_elements;
        let chunks = tensor.values().len().div_ceil(elements).max(1);
        for chunk in 0..chunks {
            let rows = rows(snapshot.epoch(), tensor, chunk, elements).map_err(|error| {
                Error::invalid(format!("snapshot: `{}` cannot be laid out", tensor.name()))
                    .with_source(error)
            })?;
            part.write(&rows)?;
            raw += rows.get_array_memory_size();
            if raw >= division.raw_bytes {
                part.end_row_group()?;
                raw = 0;
            }
        }
    }
    part.publish(disk, &path).map(drop)
}
