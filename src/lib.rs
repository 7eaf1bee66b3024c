//! Records, while a network trains, which examples it finds hard, and turns the recording into scores,
//! selections and pruned data sets.
//!
//! The signals and scores are those of *Deep Learning on a Data Diet* (Paul, Ganguli, Dziugaite 2021)
//! and its successors: EL2N, GraNd, forgetting events, AUM, dataset cartography.
//!
//! This crate does not depend on a training framework. `data-diet-candle` connects it to a candle
//! training loop in five lines; the `data-diet` command (feature `cli`) offers the same
//! functionality from the shell.
//!
//! # From a recording to a smaller data set
//!
//! ```no_run
//! use data_diet::manifest::{Manifest, ManifestFormat, ManifestInput};
//! use data_diet::{Amount, Experiment, Rule, ScoreOptions, ScoreTable};
//!
//! // One row per example: EL2N and the other scores, averaged over the runs.
//! let scores = ScoreTable::fold(&Experiment::open("runs/digits")?, &ScoreOptions::default())?;
//!
//! // Prune the 30 % of the examples that score lowest.
//! let kept = scores.column("el2n")?.select(Rule::Highest(Amount::Fraction(0.7)))?;
//!
//! // Copy the manifest rows of the kept examples.
//! let manifest = Manifest::new(ManifestFormat::Csv).key("id");
//! manifest.filter_to_file(&kept, ManifestInput::file("digits.csv")?, "kept.csv")?;
//! # Ok::<(), data_diet::Error>(())
//! ```
//!
//! A *signal* is recorded while training. A *score* is derived from signals afterwards. An *example* is a
//! row of the data set; its id is any integer in `0..2^63`.
//!
//! # Modules
//!
//! Data flows from the top of this list to the bottom:
//!
//! | module | what it owns |
//! |---|---|
//! | [`observe`] | the signals and their definitions, batches, training time, weight snapshots |
//! | [`record`] | the recorder: a handle for the training thread, and a thread that writes |
//! | [`run`] | the run directory: file names, schemas, writing, reading, crash recovery |
//! | [`scores`] | signals folded into one row of scores per example; agreement between scores |
//! | [`selection`] | rules that choose examples by score; random baselines; label noise |
//! | [`manifest`] | a selection applied to CSV, TSV, JSON Lines or Parquet files; recipes that repeat it |
//! | [`geometry`] | kernel velocity and error barriers: definitions and tables |
//!
//! [`Experiment::verify`] checks every byte that these modules have written.

#![warn(missing_docs)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")
)]

mod error;
pub mod geometry;
pub mod manifest;
pub mod observe;
pub mod record;
pub mod run;
pub mod scores;
pub mod selection;
mod storage;
mod verify;

pub use error::{Error, ErrorKind, Result};
pub use run::Experiment;
pub use scores::{ScoreOptions, ScoreTable};
pub use selection::{Amount, Rule};
