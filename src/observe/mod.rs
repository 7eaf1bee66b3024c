//! What a hook observes while a network trains: signals, batches, training time, weights.
//!
//! Owns the definition of every signal ([`ExampleSignals`]), of training time ([`Moment`]) and of a
//! valid batch ([`BatchFormat`]). Batches and snapshots go on to [`record`](crate::record); files
//! are left to [`run`](crate::run).

mod batch;
mod schedule;
mod signal;
mod snapshot;
mod training_time;

pub use batch::{Batch, BatchFormat, DeviceLogits, DeviceSignals, LogitsFormat, Targets};
pub use schedule::Schedule;
pub use signal::{ExampleSignals, PerSignal, Signal, Target};
pub use snapshot::{Snapshot, SnapshotTensor, TensorValues};
pub use training_time::{Clock, Moment, Phase};

pub(crate) use batch::{LogitRows, Measured, ObservationColumns};
