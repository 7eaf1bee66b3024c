//! Computes a batch's signals from logits that are still on a device.
//!
//! Two implementations of the signals that [`ExampleSignals`](data_diet::observe::ExampleSignals)
//! defines: candle operations for any device but the CPU, and a CUDA kernel. Both are tested
//! against the definition. On the CPU, `Batch::new` runs the definition itself.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod operations;
