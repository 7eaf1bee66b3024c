//! The recorder: a handle for the training thread, and a thread that does everything slow.
//!
//! The handle hands finished [`Batch`](crate::observe::Batch)es, or batches that a device is still
//! computing, over a channel that is bounded in bytes. The thread drives a `Sink` and is
//! independent of Parquet and paths.

mod builder;
mod byte_budget;
mod channel;
mod first_labels;
mod handle;
mod message;
mod policy;
mod report;
mod shared;
mod sink;
mod worker;

#[cfg(test)]
mod tests;

pub use builder::RecorderBuilder;
pub use handle::Recorder;
pub use policy::{OnFailure, WhenFull};
pub use report::{RecorderStatus, RunReport};
