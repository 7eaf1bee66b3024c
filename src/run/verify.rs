//! Reads everything that a run has published and compares it with what the run claims.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::{Array, Int64Array};

use super::layout::{RunLayout, is_litter, part_number};
use super::metadata::{RunMetadata, RunStatus};
use super::part::PartReader;
use super::reader::{Experiment, Run};
use super::schema::Table;
use super::snapshots;
use crate::error::{Error, Result};

/// A problem in an experiment directory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: Error,
}

/// The outcome of [`Experiment::verify`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Verification {
    /// Files that were read: parts of tables, and tables of scores.
    pub parts: u64,
    /// Rows in them, of all tables.
    pub rows: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Files that an operating system has left (`.DS_Store`, `._*`, `Thumbs.db`, `desktop.ini`).
    /// They do no harm here, but some readers fail on them: delete them.
    pub litter: Vec<PathBuf>,
    /// The problems; empty if all is well.
    pub findings: Vec<Finding>,
}

impl Verification {
    /// Checks the published parts of all runs.
    pub(crate) fn recorded(
        &mut self,
        experiment: &Experiment,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let runs = experiment.runs()?;
        for run in &runs {
            self.run(run, progress)?;
        }
        for name in experiment.other_names()? {
            let path = experiment.path().join("_runs").join(name);
            let what = "its name cannot be that of a run; rename it, or remove it from `_runs`";
            self.findings.push(Finding { error: Error::unsupported_format(&path, what), path });
        }
        let runs = runs.iter().map(|run| format!("run={}", run.name())).collect();
        for table in Table::ALL {
            self.strays(&experiment.path().join(table.name()), &runs)?;
        }
        Ok(())
    }

    /// Counts a file that was checked, by its rows and bytes, or its problem.
    pub(crate) fn add(&mut self, path: PathBuf, outcome: Result<(u64, u64)>) {
        match outcome {
            Ok((rows, bytes)) => {
                self.parts += 1;
                self.rows += rows;
                self.bytes += bytes;
            }
            Err(error) => self.findings.push(Finding { path, error }),
        }
    }

    fn run(&mut self, run: &Run, progress: &mut dyn FnMut(u64)) -> Result<()> {
        for (layout, metadata) in run.layouts() {
            let mut counted = 0;
            for (table, phase) in Table::streams() {
                let mut last_step = i64::MIN;
                for (_, path) in layout.parts(table, phase)? {
                    match self.part(&path, table, metadata, &mut last_step) {
                        Ok(rows) if table.is_counted() => counted += rows,
                        Ok(_) => {}
                        Err(error) => self.findings.push(Finding { path, error }),
                    }
                    progress(self.bytes);
                }
            }
            self.counts(layout, metadata, counted);
            if layout.rank() == 0 {
                self.snapshots(layout, metadata, progress)?;
            }
        }
        Ok(())
    }

    fn part(
        &mut self,
        path: &Path,
        table: Table,
        metadata: &RunMetadata,
        last_step: &mut i64,
    ) -> Result<u64> {
        let mut part = PartReader::open(path, table)?;
        self.parts += 1;
        self.bytes += part.bytes();
        if table
            .schema(&metadata.format)
            .is_none_or(|schema| schema.fields() != part.schema().fields())
        {
            return Err(Error::corrupt(path, "its columns are not those of the run's `run.json`"));
        }
        let mut rows = 0;
        while let Some(batches) = part.next_row_group(None)? {
            for batch in batches {
                rows += batch.num_rows() as u64;
                let column = batch.column_by_name("step");
                let steps = column.and_then(|column| column.as_any().downcast_ref::<Int64Array>());
                for &step in steps.map_or(&[][..], |steps| steps.values()) {
                    if step < *last_step {
                        let what = format!("step {step} comes after step {last_step}");
                        return Err(Error::corrupt(path, what));
                    }
                    *last_step = step;
                }
            }
        }
        self.rows += rows;
        if rows != part.rows() {
            let what = format!("the footer counts {} rows, the file holds {rows}", part.rows());
            return Err(Error::corrupt(path, what));
        }
        Ok(rows)
    }

    fn snapshots(
        &mut self,
        layout: &RunLayout,
        metadata: &RunMetadata,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let published = layout.published_snapshots()?;
        let (written, found) = (metadata.snapshots.written, published.len() as u64);
        for (step, path) in published {
            let outcome = snapshots::verify(&path, step);
            self.add(path, outcome);
            progress(self.bytes);
        }
        if metadata.status != RunStatus::Running && written != found {
            let path = layout.metadata();
            let what = format!("counts {written} snapshots, there are {found}");
            self.findings.push(Finding { error: Error::corrupt(&path, what), path });
        }
        Ok(())
    }

    fn counts(&mut self, layout: &RunLayout, metadata: &RunMetadata, counted: u64) {
        let written = metadata.rows.written;
        if metadata.status == RunStatus::Running || written == counted {
            return;
        }
        let path = layout.metadata();
        let what = format!("counts {written} rows, the intact parts hold {counted}");
        self.findings.push(Finding { error: Error::corrupt(&path, what), path });
    }

    /// Readers that scan a table's directory take every Parquet file in it for rows of the table,
    /// and some fail on any other file.
    fn strays(&mut self, table: &Path, runs: &BTreeSet<String>) -> Result<()> {
        self.strays_below(table, &|path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let run = path.strip_prefix(table).ok().and_then(|path| path.iter().next());
            let is_part = part_number(name).is_some();
            let of_a_run = run.and_then(|run| run.to_str()).is_some_and(|run| runs.contains(run));
            if !is_part {
                Some("is not a part of any run; remove it from the table's directory")
            } else if !of_a_run {
                Some("belongs to a run that is not in `_runs`")
            } else {
                None
            }
        })
    }

    fn strays_below(
        &mut self,
        directory: &Path,
        stray: &dyn Fn(&Path) -> Option<&'static str>,
    ) -> Result<()> {
        let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
        for entry in entries {
            let path = entry.map_err(|error| Error::io("list", directory, error))?.path();
            if path.is_dir() {
                self.strays_below(&path, stray)?;
            } else if is_litter(&path) {
                self.litter.push(path);
            } else if let Some(what) = stray(&path) {
                self.findings.push(Finding { error: Error::unsupported_format(&path, what), path });
            }
        }
        Ok(())
    }
}
