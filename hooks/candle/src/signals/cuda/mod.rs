//! Computes a batch's signals on a CUDA device while training continues.
//!
//! On the stream that training uses, one kernel reads the logits in place and writes a few bytes
//! per row to a buffer of the hook. An event marks that point. A second stream waits for the event
//! on the device and copies the buffer to pinned host memory; the recorder's thread waits for the
//! end of that copy. The training thread only queues commands and never waits. Nothing of the
//! user's is read after the event, so tensors may be freed and weights overwritten as usual.
//!
//! ```text
//! training's stream   ... forward, backward | kernel | E1 | next step ...
//! the hook's stream                                  wait E1 | copy to the host | E2
//! recorder's thread                                                   wait E2 | check, write
//! ```
//!
//! This order depends on the stream of the thread that calls the hook. candle's default is one
//! stream per thread: call the hook on the thread that computed the logits.

#![allow(
    unsafe_code,
    reason = "a kernel launch takes addresses, which the safe interface cannot check"
)]

mod batches;
mod kernel;
mod kernel_arguments;
mod result_layout;

pub(crate) use batches::DeviceBatches;
