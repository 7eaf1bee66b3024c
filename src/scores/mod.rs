//! Columns in, scores out: what runs recorded, folded into one row per example.
//!
//! A *signal* is recorded while training, a *score* is derived from signals afterwards. One streaming
//! pass over the observations of all runs, epoch by epoch; memory is proportional to the number of
//! examples, never to the number of observations.
//!
//! ```text
//! observations of every run and rank -> fold (one epoch at a time) -> moments over runs -> ScoreTable
//!                                          \-> forgetting counters /
//! ```

mod file;
mod fold;
mod forgetting;
mod index;
mod moments;
mod spill;
mod table;

pub use fold::{Epochs, ScoreOptions};
pub use forgetting::Presentations;
pub(crate) use moments::Moments;
pub use table::{ScoreFile, ScoreInfo, ScoreStatistics, ScoreTable};
