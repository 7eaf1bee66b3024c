//! How batches and weights leave a CUDA device while training goes on.
//!
//! On the stream that training uses, one kernel reads the logits where they lie and leaves a few bytes a
//! row in memory of the hook's own; or, for a snapshot, the weights are copied there. An event marks that
//! point, and a second stream, which waits for the event on the device, copies the result into pinned
//! memory of the host. The recorder's thread waits for the end of that copy. The training thread only
//! hands over commands: it never waits, and nothing of the user's is read after the point that the event
//! marks, so that tensors may be freed and weights overwritten as ever.
//!
//! ```text
//! training's stream   ... forward, backward | kernel | E1 | next step ...
//! the hook's stream                                  wait E1 | copy to the host | E2
//! recorder's thread                                                   wait E2 | check, write
//! ```
//!
//! The order of everything rests on the stream of the thread that calls the hook. candle's default is a
//! stream for each thread: call the hook on the thread that computed the logits.

#![allow(
    unsafe_code,
    reason = "a kernel launch takes addresses, which the safe interface cannot check"
)]

mod batches;
mod kernel;
mod sections;
mod task;

pub(crate) use batches::DeviceBatches;
