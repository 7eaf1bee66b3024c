//! Computes a batch's signals from logits that are still on a device.
//!
//! Two bodies of one definition, [`ExampleSignals`](data_diet::observe::ExampleSignals): plain candle
//! operations for any device, and a kernel for CUDA. Both are tested against the definition. On the host
//! the definition itself runs, in `Batch::new`.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod operations;
