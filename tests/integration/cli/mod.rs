//! The command line as a user meets it: what it prints, where, and with which exit code.

mod compare;
mod filter;
mod inspect;
mod labels;
mod manifests;
mod names;
mod outputs;
mod recipes;
mod scores;
mod streams;
mod trouble;

use std::path::PathBuf;

use tempfile::TempDir;

use crate::harness::recorded;

/// Two finished runs of twelve examples in three epochs.
struct Twelve {
    directory: TempDir,
}

impl Twelve {
    fn new() -> Self {
        let twelve = Self { directory: tempfile::tempdir().unwrap() };
        recorded::finished(&twelve.path(), "seed-0", 0);
        recorded::finished(&twelve.path(), "seed-1", 1);
        twelve
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("digits")
    }

    fn shown(&self) -> String {
        self.path().display().to_string()
    }

    /// A place beside the experiment.
    fn beside(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// The first published part of a run's training observations.
    fn part(&self, run: &str) -> PathBuf {
        let partition = format!("observations/run={run}/phase=train/rank=0");
        self.path().join(partition).join("part-000000.parquet")
    }
}
