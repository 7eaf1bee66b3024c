//! A directory for one test.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use data_diet::observe::BatchFormat;
use data_diet::record::{Recorder, RecorderBuilder};
use tempfile::TempDir;

/// Holds an experiment and whatever else a test needs on disk; removed when dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    root: TempDir,
}

impl Directory {
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    /// A path inside.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Where the experiment of the test is.
    pub(crate) fn experiment(&self) -> PathBuf {
        self.join("experiment")
    }

    /// A recorder of a run of the experiment.
    pub(crate) fn recorder(&self, run: &str, format: &BatchFormat) -> RecorderBuilder {
        Recorder::builder(self.experiment(), run, format.clone())
    }
}

/// Copies every file of a directory, as a process that is killed now leaves them: nothing holds a lock
/// on the copy.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file under a directory with its length, for the message of a failed test.
pub(crate) fn listing(directory: &Path) -> String {
    let mut text = String::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            entries.sort_unstable_by(|a, b| b.cmp(a));
            left.extend(entries);
        } else {
            let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            let relative = path.strip_prefix(directory).unwrap_or(&path).display();
            writeln!(text, "  {bytes:>10} {relative}").unwrap();
        }
    }
    text
}
