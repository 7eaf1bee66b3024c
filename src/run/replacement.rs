//! The first rows of a part, which replace it when a run resumes in the middle of it.

use std::path::{Path, PathBuf};

use arrow::array::{Array, BooleanArray, Int64Array};
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;

use super::layout::RunLayout;
use super::part::{PartReader, PartWriter};
use super::schema::Table;
use super::seal::remove_if_there;
use crate::error::{Error, Result};
use crate::observe::Phase;
use crate::storage::Disk;

pub(super) fn before(rows: &RecordBatch, path: &Path, step: u64) -> Result<BooleanArray> {
    let column = rows.column_by_name("step");
    let steps = column.and_then(|column| column.as_any().downcast_ref::<Int64Array>()).ok_or_else(
        || Error::unsupported_format(path, "has no column `step` of 64-bit integers"),
    )?;
    Ok(steps.values().iter().map(|&at| Some((at as u64) < step)).collect())
}

/// The first rows of a part, complete under another name until the part itself is out of sight.
#[derive(Debug)]
pub(crate) struct Replacement {
    pub(super) path: PathBuf,
    table: Table,
    phase: Phase,
    /// The number it will be published under.
    number: u32,
    /// The part that it replaces.
    replaces: u32,
}

impl Replacement {
    pub(super) fn new(
        layout: &RunLayout,
        table: Table,
        phase: Phase,
        replaces: u32,
    ) -> Result<Self> {
        let number = layout.next_number()?;
        let path = layout.replacement(table, phase, number, replaces);
        Ok(Self { path, table, phase, number, replaces })
    }

    /// Finds the replacements that an interrupted cut left behind.
    pub(crate) fn find(layout: &RunLayout) -> Result<Vec<Self>> {
        Ok(layout.replacements()?.into_iter().filter_map(Self::parse).collect())
    }

    /// Parses the name of a file that an interrupted cut left behind.
    fn parse(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".replacement")?;
        let mut words = name.split('.').skip(1);
        let (number, table, phase, replaces) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        Some(Self {
            number: number.parse().ok()?,
            table: Table::ALL.into_iter().find(|known| known.name() == table)?,
            phase: phase.parse().ok()?,
            replaces: replaces.parse().ok()?,
            path,
        })
    }

    pub(super) fn write(&self, disk: &dyn Disk, original: &Path, step: u64) -> Result<()> {
        let mut part = PartReader::open(original, self.table)?;
        let draft = self.path.with_extension("draft");
        let mut writer = PartWriter::create(disk, draft, self.table, part.schema().clone())?;
        while let Some(rows) = part.next_row_group(None)? {
            for rows in rows {
                let kept = filter_record_batch(&rows, &before(&rows, original, step)?);
                let kept = kept.map_err(|error| {
                    Error::corrupt(original, "cannot be cut").with_source(error)
                })?;
                writer.write(&kept)?;
            }
        }
        writer.publish(disk, &self.path).map(drop)
    }

    /// Publishes the replacement if the part that it replaces is out of sight; removes it if the
    /// cut did not get that far.
    pub(crate) fn complete(&self, disk: &dyn Disk, layout: &RunLayout) -> Result<()> {
        if layout.part(self.table, self.phase, self.replaces).exists() {
            return remove_if_there(disk, &self.path);
        }
        let path = layout.part(self.table, self.phase, self.number);
        disk.rename(&self.path, &path).map_err(|error| Error::io("publish", &path, error))
    }
}
