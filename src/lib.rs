//! Which training examples matter? `data-diet` records per-example signals while a network trains,
//! turns them into scores, and prunes a data set by them, as in *Deep Learning on a Data Diet* (Paul,
//! Ganguli, Dziugaite 2021).
//!
//! This crate knows no training framework. What attaches to one is a thin crate of its own: for candle
//! `data-diet-candle`, whose `DataDietHook` is five lines in a training loop.
//!
//! # The way of the data
//!
//! ```text
//! trainer -> hook -> Batch (signals) -> Recorder (a thread of its own) -> run directory (Parquet)
//!                                                                                |
//!   manifest <- Manifest <- Selection <- Rule <- ScoreColumn <- ScoreTable <- Experiment
//! ```
//!
//! - [`Signal`] says what is recorded of an example at one moment, [`ExampleSignals`] is its
//!   definition; [`Moment`] says when: [`Phase`], step and epoch.
//! - [`Batch`] is one step's rows, validated once; [`Recorder`] takes batches without making training
//!   wait, and survives crashes and full disks. [`RunReport`] and [`RunMetadata`] tell how it went.
//! - [`Experiment`] opens what was recorded, brings back what a crash left, and
//!   [verifies](Experiment::verify) every byte. The files open in Polars, pandas, DuckDB, pyarrow and
//!   Spark just as well.
//! - [`ScoreTable`] folds the observations of all runs into one row per example: any [`Score`] by its
//!   name, such as EL2N at an epoch, forgetting events, AUM or a dataset map, each with mean, standard
//!   deviation and count over runs.
//! - [`Agreement`] says how far two scores agree, [`ScoreSeries`] how early and after how many runs one
//!   is settled.
//! - [`Rule`] chooses examples by a score, a [`Recipe`] does so in steps that can be stored and
//!   replayed, [`Selection`] is the choice, for a data loader or for [`Manifest`], which applies it to
//!   the files that list a data set: CSV, TSV, JSON Lines or Parquet, compressed or not, one file or a
//!   [directory](ManifestDirectory) of them, whose keys are ids or texts that a [`KeyMap`] ties to ids.
//! - [`kernel`] and [`barrier`] measure the geometry of training on groups of examples
//!   ([`ExampleSet`]), and [`KernelVelocityTable`] and [`ErrorBarrierTable`] keep what was measured.
//!   [`LabelNoise`] spoils labels on purpose.
//!
//! A *signal* is recorded while training; a *score* is derived from signals afterwards. An *example* is
//! a row of the data set; its id is any integer in `0..2^63`.
//!
//! # From a recording to a smaller data set
//!
//! ```
//! use data_diet::{Amount, Experiment, Rule, ScoreOptions, ScoreTable};
//! use data_diet::manifest::{Manifest, ManifestFormat, ManifestInput};
//! use data_diet::observe::{Batch, BatchFormat, Moment, Phase, Targets};
//! use data_diet::record::Recorder;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("runs/toy");
//! // Two runs of one epoch over three examples; a hook does this from within a training loop.
//! let format = BatchFormat::new(2)?;
//! let moment = Moment { phase: Phase::Score, step: 100, epoch: 1 };
//! let labels = Targets::Classes(&[0, 0, 1]);
//! for (run, logits) in [
//!     ("seed-0", [4.0_f32, 0.0, 0.2, 0.0, 0.0, 3.0]),
//!     ("seed-1", [5.0, 0.0, 0.0, 0.1, 0.0, 2.0]),
//! ] {
//!     let mut recorder = Recorder::builder(&path, run, format.clone()).start()?;
//!     recorder.record(Batch::new(&format, moment, &[0, 1, 2], &logits, labels)?)?;
//!     recorder.finish()?.check()?;
//! }
//!
//! let scores = ScoreTable::fold(&Experiment::open(&path)?, &ScoreOptions::default())?;
//! let hard = scores.column("el2n")?.select(Rule::Highest(Amount::Count(2)))?;
//! assert_eq!(hard.examples().collect::<Vec<_>>(), [1, 2]);
//!
//! let manifest = "file\na.png\nb.png\nc.png\n";
//! let mut kept = Vec::new();
//! Manifest::new(ManifestFormat::Csv)
//!     .filter(&hard, ManifestInput::stream(manifest.as_bytes()), &mut kept)?;
//! assert_eq!(kept, b"file\nb.png\nc.png\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! `cli` builds the `data-diet` command, which does the same from a shell.

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
