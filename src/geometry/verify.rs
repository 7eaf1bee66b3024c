//! Reads the geometry's tables part by part, and reports parts that are damaged, missing or out of
//! place.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use arrow::record_batch::RecordBatch;

use super::parts::{Parts, part_number};
use super::schema::{ERROR_BARRIER_IDENTITY, KERNEL_VELOCITY_IDENTITY};
use super::{error_barrier_table, kernel_velocity_table};
use crate::error::{Error, Result};
use crate::run::{check_run_name, is_litter};

/// A file, and either the rows and bytes that were checked, or what is wrong with it.
pub(crate) struct Checked {
    pub(crate) path: PathBuf,
    pub(crate) outcome: Result<(u64, u64)>,
}

/// Checks every file of both tables and passes each to `found`.
pub(crate) fn verify(experiment: &Path, mut found: impl FnMut(Checked)) -> Result<()> {
    for run in runs(experiment) {
        let parts = kernel_velocity_table::parts(experiment, &run)?;
        let mut seen = BTreeSet::new();
        check(&parts, &mut found, |path, batches| {
            let rows = kernel_velocity_table::read_rows(path, batches)?;
            let keys = rows.iter().map(|row| {
                let unit = row.dt_unit.name();
                let (set, first, second) = (row.set.clone(), row.first_step, row.second_step);
                format!("`{set}` between steps {first} and {second} in {unit}")
            });
            once(path, &mut seen, keys)
        })?;
    }
    let mut seen = BTreeSet::new();
    check(&error_barrier_table::parts(experiment), &mut found, |path, batches| {
        let rows = error_barrier_table::read_rows(path, batches)?;
        let keys = rows.iter().map(|row| {
            let (first, second, spawn, step, set, statistics) = row.key();
            let spawn = spawn.map_or_else(String::new, |spawn| format!(", spawned at {spawn}"));
            let statistics = statistics.name();
            format!("`{set}` of `{first}` and `{second}` at step {step} ({statistics}{spawn})")
        });
        once(path, &mut seen, keys)
    })?;
    for path in files(experiment) {
        if !belongs(experiment, &path) {
            let what = "is not a part of this table; remove it from the table's directory";
            found(Checked { outcome: Err(Error::unsupported_format(&path, what)), path });
        }
    }
    Ok(())
}

/// Checks the parts of one table or partition, whose numbers must have no gaps.
fn check(
    parts: &Parts,
    found: &mut impl FnMut(Checked),
    mut check_rows: impl FnMut(&Path, &[RecordBatch]) -> Result<()>,
) -> Result<()> {
    let mut expected = 0;
    for (number, path) in parts.list()? {
        for missing in expected..number.min(expected + MAX_MISSING) {
            let missing = parts.part(missing);
            let what = format!("is missing, but part {number} exists");
            found(Checked { outcome: Err(Error::corrupt(&missing, what)), path: missing });
        }
        expected = number.saturating_add(1);
        let outcome = parts.read_part(&path).and_then(|(batches, bytes)| {
            check_rows(&path, &batches)?;
            let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
            Ok((rows, bytes))
        });
        found(Checked { path, outcome });
    }
    Ok(())
}

/// Limits the findings: a part with a made-up number must not report every number below it as
/// missing.
const MAX_MISSING: u32 = 10;

/// Reports rows that occur twice, as two processes measuring at the same time would write: they
/// would count twice in every mean.
fn once(
    path: &Path,
    seen: &mut BTreeSet<String>,
    keys: impl Iterator<Item = String>,
) -> Result<()> {
    for key in keys {
        if seen.contains(&key) {
            return Err(Error::corrupt(path, format!("{key} is already in the table")));
        }
        seen.insert(key);
    }
    Ok(())
}

/// Lists the runs in the table of kernel velocities, sorted.
fn runs(experiment: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(experiment.join(KERNEL_VELOCITY_IDENTITY.table)).into_iter().flatten();
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut runs: Vec<String> = names
        .filter_map(|name| name.strip_prefix("run=").map(str::to_owned))
        .filter(|run| check_run_name(run).is_ok())
        .collect();
    runs.sort_unstable();
    runs
}

/// Lists every file below the directories of the two tables, sorted, but for litter.
pub(crate) fn files(experiment: &Path) -> Vec<PathBuf> {
    let mut files = all_files(experiment);
    files.retain(|path| !is_litter(path));
    files
}

/// Lists what an operating system has left among the files, sorted.
pub(crate) fn litter(experiment: &Path) -> Vec<PathBuf> {
    let mut files = all_files(experiment);
    files.retain(|path| is_litter(path));
    files
}

fn all_files(experiment: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = [KERNEL_VELOCITY_IDENTITY.table, ERROR_BARRIER_IDENTITY.table]
        .map(|it| experiment.join(it))
        .to_vec();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten();
            open.extend(entries.flatten().map(|entry| entry.path()));
        } else if path.exists() {
            found.push(path);
        }
    }
    found.sort_unstable();
    found
}

/// Returns whether a file has the name and the place of a part.
fn belongs(experiment: &Path, path: &Path) -> bool {
    let Some(directory) = path.parent().filter(|_| part_number(path).is_some()) else {
        return false;
    };
    let of_a_run = || {
        let run = directory.file_name()?.to_str()?.strip_prefix("run=")?;
        check_run_name(run).ok()?;
        Some(directory.parent()? == experiment.join(KERNEL_VELOCITY_IDENTITY.table))
    };
    directory == experiment.join(ERROR_BARRIER_IDENTITY.table) || of_a_run() == Some(true)
}
