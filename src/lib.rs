#![warn(missing_docs)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")
)]
//! tour
mod atomic_file;
mod batch;
mod error;
mod manifest;
mod parquet_output;
mod record;
mod run;
mod scores;
mod selection;
mod signal;
mod step;

pub use batch::{Batch, BatchFormat, LogitsFormat, Targets};
pub use error::{Error, ErrorKind, Result};
pub use manifest::{
    ClassCounts, Duplicates, Manifest, ManifestFormat, ManifestInput, ManifestSummary, Unscored,
};
pub use record::{OnFailure, Recorder, RecorderBuilder, RecorderStatus, RunReport, WhenFull};
pub use run::{
    Durability, Experiment, Finding, Gap, ObservationRows, Observations, Recovered, RowCounts, Run,
    RunMetadata, RunStatus, Verification,
};
pub use scores::{Epochs, Presentations, ScoreInfo, ScoreOptions, ScoreStatistics, ScoreTable};
pub use selection::{Amount, Fate, Member, Rule, ScoreColumn, Selection};
pub use signal::{ExampleSignals, Signal, Target};
pub use step::{Clock, Moment, Phase};
