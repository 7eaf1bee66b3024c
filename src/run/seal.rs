//! Turns a log into Parquet parts: re-reads it, writes drafts, publishes them by rename, and
//! removes the log last.
//!
//! The same code seals the log of a healthy run and one that a crash left behind.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::path::Path;

use super::layout::RunLayout;
use super::log::LogReader;
use super::part::PartWriter;
use super::schema::Table;
use crate::error::{Error, Result};
use crate::observe::Phase;
use crate::storage::Disk;

/// The result of sealing a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Rows in the log, whether this call or an earlier one published them.
    pub(crate) rows: u64,
    /// Whether the log held a whole frame whose checksum was wrong. It was moved aside, not
    /// removed.
    pub(crate) damaged: bool,
}

/// Publishes everything in a log under the log's number. The caller holds the rank's lock.
pub(crate) fn seal(
    disk: &dyn Disk,
    layout: &RunLayout,
    number: u32,
    mut log: LogReader,
) -> Result<Sealed> {
    let path = log.path().to_owned();
    let mut sealed = Sealed::default();
    let mut parts: BTreeMap<(Table, Phase), Option<PartWriter>> = BTreeMap::new();
    while let Some(sections) = log.next_frame()? {
        for section in sections {
            let (table, phase) = (section.table, section.phase);
            if table.is_counted() {
                sealed.rows += section.rows.num_rows() as u64;
            }
            let part = match parts.entry((table, phase)) {
                Entry::Occupied(part) => part.into_mut(),
                Entry::Vacant(place) => {
                    // A part of this number was complete before it became visible: the crash came
                    // between its publication and the removal of the log.
                    let part = if layout.part(table, phase, number).exists() {
                        // The crash may have come before its rename was synced.
                        let directory = layout.partition(table, phase);
                        disk.sync_dir(&directory)
                            .map_err(|error| Error::io("sync", &directory, error))?;
                        None
                    } else {
                        let draft = layout.draft(table, phase, number);
                        remove_if_there(disk, &draft)?;
                        Some(PartWriter::create(disk, draft, table, section.rows.schema())?)
                    };
                    place.insert(part)
                }
            };
            if let Some(part) = part {
                part.write(&section.rows)?;
            }
        }
    }
    for ((table, phase), part) in parts {
        if let Some(part) = part {
            part.publish(disk, &layout.part(table, phase, number))?;
        }
    }
    sealed.damaged = log.damaged();
    if sealed.damaged {
        move_aside(disk, layout, &path)?;
    } else {
        disk.remove(&path).map_err(|error| Error::io("remove", &path, error))?;
    }
    Ok(sealed)
}

/// Moves a file that must not be deleted out of the way without replacing another.
pub(crate) fn move_aside(disk: &dyn Disk, layout: &RunLayout, path: &Path) -> Result<()> {
    let aside = layout.aside();
    disk.create_dir_all(&aside).map_err(|error| Error::io("create", &aside, error))?;
    // In the flat directory, the name must contain the table and the phase.
    let relative = path.strip_prefix(layout.experiment()).unwrap_or(path);
    let mut name = relative.to_string_lossy().replace(['/', '\\'], ".");
    while aside.join(&name).exists() {
        name.push('~');
    }
    disk.rename(path, &aside.join(name)).map_err(|error| Error::io("move aside", path, error))
}

pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// The length of a file in bytes, or 0 if it cannot be read.
pub(crate) fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}
