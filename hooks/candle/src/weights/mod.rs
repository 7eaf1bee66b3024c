//! A model's weights: which to record and when, as snapshots on disk, and as parameters to load.
//!
//! ```text
//! VarMap -> SnapshotSource (which, when) -> copies on the host -> data_diet::record::Recorder
//! VarMap <- Weights <- Snapshots (of one run, by step)
//! ```

#[cfg(feature = "cuda")]
mod device_snapshots;
mod params;
mod snapshot_source;
mod snapshots;

pub use params::{NamedTensors, Params, interpolate};
pub(crate) use snapshot_source::SnapshotSource;
pub use snapshots::{Snapshots, Weights};
