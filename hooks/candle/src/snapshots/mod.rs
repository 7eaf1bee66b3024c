//! Weights on their way to the table `snapshots`, and back into a network.
//!
//! ```text
//! VarMap -> source (when, which) -> copies on the host -> data_diet::record::Recorder
//! VarMap <- Weights <- Snapshots (of a run, by step)
//! ```

mod load;
mod source;

pub use load::{Snapshots, Weights};
pub(crate) use source::SnapshotSource;
