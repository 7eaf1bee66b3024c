//! The state of a recording, and the report at its end.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::run::{LabelCounts, RowCounts, RunStatus, SnapshotCounts};

/// The current state of a recording. Cheap to ask for at every step.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RecorderStatus {
    /// Rows handed over, whatever happened to them.
    pub rows: u64,
    /// Rows that would survive a crash of the process now.
    pub committed: u64,
    /// Rows dropped because the queue was full.
    pub dropped: u64,
    /// Rows recorded with NaN signals.
    pub non_finite: u64,
    /// Rows lost to a failure.
    pub lost: u64,
    /// Sequences without a token that counts, which are not recorded.
    pub without_tokens: u64,
    /// The bytes of a row in all tables together, before compression.
    pub bytes_per_row: usize,
    /// Whether examples keep their labels.
    pub labels: LabelCounts,
    /// What the recording program warned of.
    pub warnings: Vec<String>,
    /// Snapshots so far.
    pub snapshots: SnapshotCounts,
    /// Bytes waiting in the queue.
    pub queued_bytes: usize,
    /// How long training has waited for the recorder.
    pub waited: Duration,
    /// Failed writes that were retried.
    pub retries: u64,
    /// The first failure that stopped the recording; training goes on without it.
    pub failure: Option<Error>,
}

impl fmt::Display for RecorderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, {} committed", self.rows, self.committed)?;
        let rows = RowCounts {
            written: self.committed,
            dropped: self.dropped,
            non_finite: self.non_finite,
            lost: self.lost,
            without_tokens: self.without_tokens,
        };
        write_problems(f, &rows, self.waited)?;
        write_warnings(f, self.labels, &self.warnings)?;
        match &self.failure {
            Some(failure) => write!(f, "; RECORDING STOPPED: {failure}"),
            None => Ok(()),
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
#[must_use = "a run whose recording failed says so here"]
#[non_exhaustive]
pub struct RunReport {
    /// The experiment directory.
    pub experiment: PathBuf,
    /// The run's name; empty for a disabled hook.
    pub run: String,
    /// The process within the run.
    pub rank: u32,
    /// How the run ended; `Finished` if all went well.
    pub status: RunStatus,
    /// How many rows were written, dropped, non-finite or lost.
    pub rows: RowCounts,
    /// The bytes of a row in all tables together, before compression.
    pub bytes_per_row: usize,
    /// Whether examples kept their labels.
    pub labels: LabelCounts,
    /// What the recording program warned of.
    pub warnings: Vec<String>,
    /// How many snapshots were written, skipped or lost.
    pub snapshots: SnapshotCounts,
    /// How long training waited for the recorder.
    pub waited: Duration,
    /// The first failure, if any.
    pub failure: Option<Error>,
}

impl RunReport {
    /// Returns the report of a disabled hook: no run and no rows.
    pub fn disabled() -> Self {
        Self {
            experiment: PathBuf::new(),
            run: String::new(),
            rank: 0,
            status: RunStatus::Finished,
            rows: RowCounts::default(),
            bytes_per_row: 0,
            labels: LabelCounts::default(),
            warnings: Vec::new(),
            snapshots: SnapshotCounts::default(),
            waited: Duration::ZERO,
            failure: None,
        }
    }

    /// Adds what went wrong with another head of the model, under its name.
    pub fn add_head(&mut self, name: &str, head: Self) {
        let of_head = |text: String| format!("head `{name}`: {text}");
        self.warnings.extend(head.labels.warning().into_iter().chain(head.warnings).map(of_head));
        if self.failure.is_none() {
            self.failure = head.failure.map(|failure| failure.context(format!("head `{name}`")));
        }
    }

    /// Checks that nothing was lost to a failure.
    ///
    /// # Errors
    ///
    /// The first failure.
    pub fn check(&self) -> Result<()> {
        match &self.failure {
            Some(failure) => Err(failure.clone().context(format!("run `{}`", self.run))),
            None => Ok(()),
        }
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.run.is_empty() {
            return f.write_str("nothing recorded: the hook is disabled");
        }
        let (run, status) = (&self.run, self.status.name());
        write!(f, "run `{run}` {status}: {} rows", self.rows.written)?;
        if self.snapshots.written > 0 {
            write!(f, " and {} snapshots", self.snapshots.written)?;
        }
        let (path, bytes) = (self.experiment.display(), self.bytes_per_row);
        write!(f, " in {path}, {bytes} bytes a row before compression")?;
        for (snapshots, what) in
            [(self.snapshots.skipped, "skipped"), (self.snapshots.lost, "LOST")]
        {
            if snapshots > 0 {
                write!(f, ", {snapshots} snapshots {what}")?;
            }
        }
        write_problems(f, &self.rows, self.waited)?;
        write_warnings(f, self.labels, &self.warnings)?;
        match &self.failure {
            // A batch that was refused after it was handed over.
            Some(failure) if self.status == RunStatus::Finished => write!(f, "; {failure}"),
            Some(failure) => write!(f, "; RECORDING STOPPED: {failure}"),
            None => Ok(()),
        }
    }
}

fn write_warnings(
    f: &mut fmt::Formatter<'_>,
    labels: LabelCounts,
    warnings: &[String],
) -> fmt::Result {
    labels.warning().iter().chain(warnings).try_for_each(|it| write!(f, "; WARNING: {it}"))
}

fn write_problems(f: &mut fmt::Formatter<'_>, rows: &RowCounts, waited: Duration) -> fmt::Result {
    for (rows, what) in [
        (rows.dropped, "dropped"),
        (rows.non_finite, "non-finite"),
        (rows.lost, "LOST"),
        (rows.without_tokens, "sequences without a token that counts"),
    ] {
        if rows > 0 {
            write!(f, ", {rows} {what}")?;
        }
    }
    if waited > Duration::from_millis(100) {
        write!(f, ", training waited {:.1} s for the recorder", waited.as_secs_f64())?;
    }
    Ok(())
}
