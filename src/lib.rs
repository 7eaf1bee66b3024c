#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed test should panic"))]
//! tour
mod batch;
mod error;
mod signal;
mod step;

pub use batch::{Batch, BatchFormat, LogitsFormat, Targets};
pub use error::{Error, ErrorKind, Result};
pub use signal::{ExampleSignals, Signal, Target};
pub use step::{Clock, Moment, Phase};
mod selection;
pub use selection::{Amount, Member, Rule, ScoreColumn, Selection};
