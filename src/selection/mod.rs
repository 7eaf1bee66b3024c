//! Chooses examples by score. Is independent of signals, runs and the names of scores.
//!
//! ```text
//! ScoreColumn (ids, classes, one score) -+
//! Rule (which), Amount (how many) -------+-> SelectionState, step by step -> Selection
//! Classes (and of which class) ----------+     row_chooser: one rule on some rows; beta_sampling: its weights
//!                                              classes, apportion, strata: how many of which
//! ```
//!
//! Every rule orders the examples by ascending score and breaks ties by example id, so a selection
//! is deterministic. No rule keeps an example whose score is NaN; such examples are counted.

mod amount;
mod apportion;
mod beta_sampling;
mod classes;
mod column;
mod example_set;
mod ids;
mod json_float;
mod label_noise;
mod outcome;
mod random;
mod row_chooser;
mod rule;
mod selection_state;
mod strata;
#[cfg(test)]
mod tests;

pub use amount::Amount;
pub use column::ScoreColumn;
pub use example_set::ExampleSet;
pub use label_noise::{LabelNoise, NoisyLabels};
pub use outcome::{Decision, Kept, SelectedExample, Selection};
pub use random::shuffle_for_epoch;
pub use rule::{Classes, HardEnd, Rule};

pub(crate) use random::SplitMix64;
pub(crate) use selection_state::{Action, SelectionState};
