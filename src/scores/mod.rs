//! Scores: what runs recorded, folded into one row per example.
//!
//! A *signal* is recorded while training, a *score* is derived from signals afterwards. Every table
//! of every run is read in one streaming pass, epoch by epoch; memory is proportional to the number
//! of examples, never to the number of observations. A signal that was not recorded is derived where
//! that is exact, from the loss or from the table `logits`, read along with the observations.
//!
//! ```text
//! requests + catalogue of parts -> plan
//! row groups, decoded on several threads -> pass over one table of one run -> a column per score and run
//!     -> moments over runs, in memory or from a spill -> ScoreTable or scores.parquet
//! ```

mod accumulate;
pub mod agreement;
mod availability;
mod buckets;
mod catalogue;
mod column_sink;
mod decoded;
mod derived_columns;
mod example_index;
mod fold;
mod fold_state;
mod forgetting;
mod info;
mod moments;
mod ordered_parallel;
mod pass;
mod plan;
mod presentation_windows;
mod reader;
mod request;
mod run_table;
mod schema;
mod score;
mod signal_source;
mod spill;
mod table;
#[cfg(test)]
mod tests;
mod train_phase_score;
mod train_phase_scores;
mod values;
mod writer;

pub use availability::{Availability, ScoreAvailability, available};
pub use forgetting::Presentations;
pub use info::{DerivedSignal, ScoreInfo};
pub(crate) use moments::Moments;
pub(crate) use reader::verify;
pub use request::{At, ScoreOptions, ScoreRequest};
pub use score::{Score, Span};
pub use table::{ScoreFileSummary, ScoreStatistics, ScoreTable};
pub use train_phase_score::TrainPhaseScore;
