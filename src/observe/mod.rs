//! What a hook observes while a network trains: signals, batches, training time, weights.
//!
//! Owns the kinds of models ([`ModelKind`]), the definition of every signal ([`ExampleSignals`]), of
//! training time ([`Moment`]) and of a valid batch ([`BatchFormat`]). Batches and snapshots go on to [`record`](crate::record); files
//! are left to [`run`](crate::run).

mod batch;
mod definitions;
mod model_kind;
mod output_rows;
mod schedule;
mod signal;
mod snapshot;
mod training_time;

pub use batch::{
    Batch, BatchFormat, BatchIds, DeviceLogits, DeviceSignals, LabelLogits, LogitsFormat,
    TargetForm, Targets,
};
pub use definitions::{ExampleSignals, Target};
pub use model_kind::ModelKind;
pub use output_rows::{Float, OutputRows, RowLayout};
pub use schedule::Schedule;
pub use signal::{PerSignal, Signal};
pub use snapshot::{Snapshot, SnapshotTensor, TensorValues};
pub use training_time::{Clock, Moment, Phase};

pub(crate) use batch::{LogitRows, Measured, ObservationColumns, TokenColumns};
