//! What a hook observes while a network trains: the kinds of signal, the moment, the batch, the weights.
//!
//! Owns the definition of every signal ([`ExampleSignals`]), of training time ([`Moment`]) and of what
//! makes a batch valid ([`BatchFormat`]). Leaves files to [`run`](crate::run) and threads to
//! [`record`](crate::record), where a [`Batch`] and a [`Snapshot`] go next.

mod batch;
mod schedule;
mod signal;
mod snapshot;
mod step;

pub use batch::{Batch, BatchFormat, LogitsFormat, Observed, ObservedLogits, Targets};
pub use schedule::Schedule;
pub use signal::{ExampleSignals, PerSignal, Signal, Target};
pub use snapshot::{Snapshot, SnapshotTensor, TensorValues};
pub use step::{Clock, Moment, Phase};

pub(crate) use batch::{LogitRows, Measured, ObservationColumns};
