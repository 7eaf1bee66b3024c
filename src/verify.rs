//! Verifies an experiment: reads every file that was recorded, measured or scored, and compares it
//! with what it claims.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::geometry::{self, Checked};
use crate::run::{Experiment, Verification};
use crate::scores;
use crate::storage::CheckedFile;

/// Where an experiment has its scores by default.
const SCORES: &str = "scores.parquet";

impl Experiment {
    /// Checks every byte, row and count in the experiment's directory and reports everything that
    /// is wrong: the published parts of all runs, the geometry's tables, and the tables of scores
    /// directly in the directory. `progress` is called after every file with the bytes read so far.
    ///
    /// # Errors
    ///
    /// Fails only if a directory or a run's metadata cannot be read. What is wrong with files is in
    /// the result.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<Verification> {
        let mut verification = Verification::default();
        verification.recorded(self, &mut progress)?;
        geometry::verify(self.path(), |Checked { path, outcome }| {
            verification.add(path, outcome);
            progress(verification.bytes);
        })?;
        verification.litter.extend(geometry::litter(self.path()));
        for path in tables_of_scores(self.path()) {
            verification.add(path.clone(), scores::verify(&path));
            progress(verification.bytes);
        }
        Ok(verification)
    }

    /// Returns the size in bytes of the files that [`verify`](Self::verify) reads.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if a directory or a run's metadata cannot be read.
    pub fn bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for run in self.runs()? {
            bytes += run.bytes()?;
        }
        let others = geometry::files(self.path()).into_iter().chain(tables_of_scores(self.path()));
        Ok(bytes + others.map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum::<u64>())
    }
}

impl Verification {
    /// Checks every byte of one table of scores, wherever it is.
    #[must_use]
    pub fn verify_scores(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let mut verification = Self::default();
        verification.add(path.to_owned(), scores::verify(path));
        verification
    }
}

/// Lists the Parquet files directly in a directory that are tables of scores, or are named like
/// one.
fn tables_of_scores(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.retain(|path| {
        let is_parquet = path.extension().is_some_and(|extension| extension == "parquet");
        let is_ours = || !matches!(CheckedFile::open_if_marked(path), Ok(None));
        is_parquet && path.is_file() && (path.ends_with(SCORES) || is_ours())
    });
    found.sort_unstable();
    found
}
