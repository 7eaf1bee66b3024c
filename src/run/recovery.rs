//! Recovers what a crash left behind, and moves aside what a resumed run must not see.
//!
//! Every step can be interrupted and repeated.

use std::fs;
use std::path::Path;

use arrow::array::{Array, Int32Array};

use super::layout::RunLayout;
use super::lock::RankLock;
use super::log::LogReader;
use super::metadata::{RunMetadata, RunStatus};
use super::part::PartReader;
use super::replacement::{Replacement, before};
use super::schema::Table;
use super::seal::{move_aside, remove_if_there, seal};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Disk;

const INTERRUPTED: &str = "the recording process ended without `finish`";
const DAMAGED: &str = "a log was damaged: its rows from there on are not in the tables, and it was put \
    aside under `aside/`";

/// What was recovered of one rank of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// The run.
    pub run: String,
    /// The process within the run.
    pub rank: u32,
    /// The rows of observations and of gradient norms that were published.
    pub rows: u64,
    /// The segments that were published.
    pub segments: u64,
    /// Whether a segment was damaged and was moved to `_runs/RUN/aside`.
    pub damaged: bool,
}

/// Recovers an interrupted rank. Returns `None` if there was nothing to do, or if another process
/// holds the rank.
pub(crate) fn recover(disk: &dyn Disk, layout: &RunLayout) -> Result<Option<Recovered>> {
    let running = |metadata: &RunMetadata| metadata.status == RunStatus::Running;
    let metadata = RunMetadata::read(&layout.metadata())?;
    let left = !layout.logs()?.is_empty() || !Replacement::find(layout)?.is_empty();
    if !left && !metadata.as_ref().is_some_and(running) {
        return Ok(None);
    }
    let _lock = match RankLock::take(layout) {
        Err(error) if error.kind() == ErrorKind::Busy => return Ok(None),
        lock => lock?,
    };
    let recovered = publish_leftovers(disk, layout)?;
    // Read again: the run may have finished between the first look and the lock.
    if let Some(mut metadata) = RunMetadata::read(&layout.metadata())? {
        if recovered.damaged {
            metadata.failure.get_or_insert_with(|| DAMAGED.to_owned());
        }
        if running(&metadata) {
            metadata.status = RunStatus::Failed;
            metadata.failure.get_or_insert_with(|| INTERRUPTED.to_owned());
        }
        metadata.rows.written = published_rows(layout)?;
        metadata.snapshots.written = published_snapshots(layout)?;
        metadata.write(disk, &layout.metadata())?;
    }
    Ok(Some(recovered))
}

/// Seals every log and completes an interrupted cut. The caller holds the rank's lock.
pub(crate) fn publish_leftovers(disk: &dyn Disk, layout: &RunLayout) -> Result<Recovered> {
    let mut recovered = Recovered {
        run: layout.run().to_owned(),
        rank: layout.rank(),
        rows: 0,
        segments: 0,
        damaged: false,
    };
    for draft in layout.drafts()? {
        remove_if_there(disk, &draft)?;
    }
    for replacement in Replacement::find(layout)? {
        replacement.complete(disk, layout)?;
    }
    for (number, log) in layout.logs()? {
        let sealed = seal(disk, layout, number, LogReader::open(&log)?)?;
        recovered.rows += sealed.rows;
        recovered.segments += 1;
        recovered.damaged |= sealed.damaged;
    }
    Ok(recovered)
}

/// Returns the number of rows in all published parts of a rank.
pub(crate) fn published_rows(layout: &RunLayout) -> Result<u64> {
    let mut rows = 0;
    for (table, phase) in Table::streams().filter(|(table, _)| table.is_counted()) {
        for (_, path) in layout.parts(table, phase)? {
            rows += PartReader::open(&path, table)?.rows();
        }
    }
    Ok(rows)
}

/// Returns the number of published snapshots of a run, which count for its first rank.
pub(crate) fn published_snapshots(layout: &RunLayout) -> Result<u64> {
    if layout.rank() > 0 {
        return Ok(0);
    }
    Ok(layout.published_snapshots()?.len() as u64)
}

/// Returns the highest epoch of the published rows before a step.
pub(crate) fn last_epoch(layout: &RunLayout, step: u64) -> Result<Option<i32>> {
    let mut last = None;
    for (table, phase) in Table::streams().filter(|(table, _)| table.is_counted()) {
        for (_, path) in layout.parts(table, phase)? {
            let mut part = PartReader::open(&path, table)?;
            if part.last_step().is_some_and(|last| (last as u64) < step) {
                last = last.max(part.epochs().into_iter().max());
                continue;
            }
            while let Some(rows) = part.next_row_group(Some(&["step", "epoch"]))? {
                for rows in rows {
                    let column = rows.column_by_name("epoch");
                    let epochs = column
                        .and_then(|column| column.as_any().downcast_ref::<Int32Array>())
                        .ok_or_else(|| Error::unsupported_format(&path, "has no column `epoch`"))?;
                    let kept = before(&rows, &path, step)?;
                    let epochs = epochs.values().iter().zip(kept.values());
                    last =
                        last.max(epochs.filter_map(|(&epoch, kept)| kept.then_some(epoch)).max());
                }
            }
        }
    }
    Ok(last)
}

/// Hides the rows from `step` on, for a run that resumes there. The caller holds the rank's lock
/// and has published what a crash left.
///
/// Whole parts are moved aside from the last one backwards, so that the visible rows are a prefix
/// at every instant. Then the part that contains the step is replaced by its first rows under a new
/// name.
pub(crate) fn cut(disk: &dyn Disk, layout: &RunLayout, step: u64) -> Result<()> {
    for (table, phase) in Table::streams() {
        let mut parts = layout.parts(table, phase)?;
        while let Some((number, path)) = parts.pop() {
            let (kept, total) = rows_before(&path, table, step)?;
            if kept == total {
                break;
            }
            if kept == 0 {
                move_aside(disk, layout, &path)?;
            } else {
                let replacement = Replacement::new(layout, table, phase, number)?;
                replacement.write(disk, &path, step)?;
                move_aside(disk, layout, &path)?;
                replacement.complete(disk, layout)?;
            }
        }
    }
    if layout.rank() == 0 {
        let mut snapshots = layout.published_snapshots()?;
        // The weights at `step` itself are those that the run resumes from.
        let later = snapshots.split_off(snapshots.partition_point(|&(at, _)| at <= step));
        if !later.is_empty() {
            // Kernel velocities go first: they were measured on the weights that are removed.
            // Velocities of earlier weights are measured again when they are needed.
            for (_, path) in layout.velocities()?.into_iter().rev() {
                move_aside(disk, layout, &path)?;
            }
        }
        for (_, path) in later.into_iter().rev() {
            move_aside(disk, layout, &path)?;
        }
    }
    Ok(())
}

fn rows_before(path: &Path, table: Table, step: u64) -> Result<(u64, u64)> {
    let mut part = PartReader::open(path, table)?;
    let mut kept = 0;
    while let Some(rows) = part.next_row_group(Some(&["step"]))? {
        for rows in rows {
            kept += before(&rows, path, step)?.true_count() as u64;
        }
    }
    Ok((kept, part.rows()))
}

/// Removes everything that a rank has recorded, for a run that starts over under the same name.
pub(crate) fn erase(layout: &RunLayout) -> Result<()> {
    let remove =
        |path: &Path| fs::remove_file(path).map_err(|error| Error::io("remove", path, error));
    for (table, phase) in Table::streams() {
        // Backwards, so that the visible rows stay a prefix.
        for (_, path) in layout.parts(table, phase)?.into_iter().rev() {
            remove(&path)?;
        }
    }
    if layout.rank() == 0 {
        for (_, path) in layout.velocities()?.into_iter().rev() {
            remove(&path)?;
        }
        for (_, path) in layout.published_snapshots()? {
            remove(&path)?;
        }
    }
    for (_, path) in layout.logs()? {
        remove(&path)?;
    }
    for replacement in Replacement::find(layout)? {
        remove(&replacement.path)?;
    }
    layout.drafts()?.iter().try_for_each(|path| remove(path))
}
