//! `run.json`: the settings of a run, its state, and its counts.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::layout::RunLayout;
use super::warnings::LabelCounts;
use crate::error::{Error, Result};
use crate::observe::{BatchFormat, TargetForm};
use crate::storage::{Disk, replace_file};

/// The version of the tables of a run and of `run.json`. A reader refuses a newer one.
///
/// 2: kinds of models beside `classes`, the phase `held_out`, the form of the targets.
pub(crate) const SCHEMA_VERSION: u32 = 2;

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RunStatus {
    /// A process is recording, or was when it died.
    Running,
    /// Everything that was handed to the recorder is in the tables.
    Finished,
    /// Recording ended early: the process died, or the user chose to fail.
    Failed,
    /// Recording stopped at a failure while training went on.
    Degraded,
}

impl RunStatus {
    /// Returns the word in `run.json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Degraded => "degraded",
        }
    }
}

/// How many rows of a run were recorded or lost. A row is one example at one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Safe: in published parts, or committed to a log that becomes one.
    pub written: u64,
    /// Dropped because the queue was full and the run was set to drop.
    pub dropped: u64,
    /// Recorded with NaN signals because a logit was not finite; part of `written`.
    pub non_finite: u64,
    /// Accepted and then lost to a failure.
    pub lost: u64,
    /// Sequences without a token that counts, which are not recorded.
    #[serde(default)]
    pub without_tokens: u64,
}

/// How many snapshots of a run were recorded or lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCounts {
    /// Published.
    pub written: u64,
    /// Not copied, because too many copies waited for the disk and the run was set to drop.
    pub skipped: u64,
    /// Copied and then lost to a failure.
    pub lost: u64,
}

/// The weights that a run started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnPoint {
    /// The parent, a run of the same experiment.
    pub run: String,
    /// The step of the parent's snapshot.
    pub step: u64,
}

/// A range of steps from which batches were dropped because the queue was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first step with a dropped batch.
    pub first_step: u64,
    /// The last step with a dropped batch.
    pub last_step: u64,
    /// The number of dropped batches.
    pub batches: u64,
    /// The number of rows in them.
    pub rows: u64,
}

/// The content of `run.json` for one rank of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunMetadata {
    /// The version of the tables and of this file.
    pub schema_version: u32,
    /// The version of the crate that recorded.
    pub data_diet_version: String,
    /// The framework hook that recorded and its version, if the hook named itself.
    pub recorded_by: Option<String>,
    /// The run's name.
    pub run: String,
    /// The process within the run, from 0.
    pub rank: u32,
    /// The state of the run.
    pub status: RunStatus,
    /// When recording began, in milliseconds since 1970-01-01 UTC.
    pub started_unix_ms: u64,
    /// When this file was last written, in milliseconds since 1970-01-01 UTC.
    pub updated_unix_ms: u64,
    /// The format of the batches.
    pub format: BatchFormat,
    /// What the targets were so far; `None` where nothing was recorded yet, where examples have no
    /// class, and in runs of earlier versions.
    #[serde(default)]
    pub targets: Option<TargetForm>,
    /// The seed of initialization and order, if one was given.
    pub seed: Option<u64>,
    /// The step of the first batch; above 0 for a run that continues from a checkpoint or a parent.
    pub first_step: u64,
    /// The run whose weights this run started with, if any.
    #[serde(default)]
    pub spawned_from: Option<SpawnPoint>,
    /// How many rows were recorded or lost.
    pub rows: RowCounts,
    /// How many snapshots were recorded or lost.
    #[serde(default)]
    pub snapshots: SnapshotCounts,
    /// The seconds that training waited for the recorder.
    pub waited_seconds: f64,
    /// Where batches were dropped. Beyond a thousand gaps the last one grows.
    pub gaps: Vec<Gap>,
    /// The first failure, if any.
    pub failure: Option<String>,
    /// Whether examples kept their labels.
    #[serde(default)]
    pub labels: LabelCounts,
    /// What the recording program warned of, each once. See [`all_warnings`](Self::all_warnings).
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl RunMetadata {
    pub(crate) fn new(layout: &RunLayout, format: BatchFormat) -> Self {
        let now = unix_ms();
        Self {
            schema_version: SCHEMA_VERSION,
            data_diet_version: env!("CARGO_PKG_VERSION").to_owned(),
            recorded_by: None,
            run: layout.run().to_owned(),
            rank: layout.rank(),
            status: RunStatus::Running,
            started_unix_ms: now,
            updated_unix_ms: now,
            format,
            targets: None,
            seed: None,
            first_step: 0,
            spawned_from: None,
            rows: RowCounts::default(),
            snapshots: SnapshotCounts::default(),
            waited_seconds: 0.0,
            gaps: Vec::new(),
            failure: None,
            labels: LabelCounts::default(),
            warnings: Vec::new(),
        }
    }

    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        /// Read first, so that a newer file is not taken for a damaged one.
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", path, error)),
        };
        let broken = |error: serde_json::Error| {
            Error::corrupt(path, "is not a run's metadata").with_source(error)
        };
        let Version { schema_version } = serde_json::from_slice(&text).map_err(broken)?;
        if schema_version > SCHEMA_VERSION {
            return Err(Error::unsupported_format(
                path,
                format!(
                    "has schema version {schema_version}, this crate knows up to {SCHEMA_VERSION}; \
                     a newer data-diet reads it"
                ),
            ));
        }
        serde_json::from_slice(&text).map(Some).map_err(broken)
    }

    pub(crate) fn write(&mut self, disk: &dyn Disk, path: &Path) -> Result<()> {
        self.updated_unix_ms = unix_ms();
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::invalid("run metadata").with_source(error))?;
        text.push(b'\n');
        replace_file(disk, path, &text).map_err(|error| Error::io("write", path, error))
    }
}

fn unix_ms() -> u64 {
    // A clock before 1970 is wrong, but no training run depends on it.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
