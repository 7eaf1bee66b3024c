//! Attach [data-diet](data_diet) to a candle training loop: five lines record, for every example at
//! every step, how wrong the network is about it, on any device.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::{Linear, Module, Optimizer, SGD, VarBuilder, VarMap, linear, loss::cross_entropy};
//! use data_diet_candle::DataDietHook;
//!
//! # fn main() -> candle_core::Result<()> {
//! # let directory = tempfile::tempdir()?;
//! # let experiment = directory.path().join("runs/toy");
//! let device = Device::Cpu;
//! let images = Tensor::randn(0.0_f32, 1.0, (64, 8), &device)?;
//! let labels = Tensor::arange(0_u32, 64, &device)?.broadcast_div(&Tensor::new(22_u32, &device)?)?;
//! let weights = VarMap::new();
//! let model = linear(8, 3, VarBuilder::from_varmap(&weights, DType::F32, &device))?;
//! let mut optimizer = SGD::new(weights.all_vars(), 0.1)?;
//!
//! let mut hook = DataDietHook::builder(&experiment, "seed-0").classes(3).build()?; // 1
//! for epoch in 0..2 {
//!     for start in (0..64).step_by(16) {
//!         let (images, labels) = (images.narrow(0, start, 16)?, labels.narrow(0, start, 16)?);
//!         let logits = model.forward(&images)?;
//!         optimizer.backward_step(&cross_entropy(&logits, &labels)?)?;
//!         hook.on_step_end(&(start..start + 16), &logits, &labels)?;               // 2
//!     }
//!     hook.on_epoch_end()?;                                                        // 3
//!     // Scores as the paper computes them: one pass with the weights held still.
//!     hook.on_score_batch(&(0..64_usize), &model.forward(&images)?, &labels)?;     // 4
//! }
//! let run = hook.finish()?;                                                        // 5
//! println!("{run}");
//! # Ok(())
//! # }
//! ```
//!
//! The hook reads tensors and returns; signals, files and failures are the business of the
//! [recorder](data_diet::record::Recorder)'s own thread. What it writes is described by [`data_diet`], whose
//! `Experiment` and `data-diet` command read it.
//!
//! ```text
//! arguments (ids, labels) -+
//!                          +-> transfer (to the host) -> data_diet::observe::Batch -> data_diet::record::Recorder
//! logits ------------------+
//! ```
//!
//! [`GradientNorms`] gives GraNd, the norm of every example's own gradient, at about the price of a
//! training step for models that are built from [`nn`]: candle-nn's layers under the same names.
//!
//! ```text
//! nn (layers) -> tape (what passes through them) -> contribution -> squares -> GradientNorms
//! ```
//!
//! When the weights have been recorded too, [`KernelVelocity`] and [`barrier::ErrorBarrier`] measure the
//! geometry of training: how fast the tangent kernel turns, and how far the error rises between two
//! networks, which [`barrier::Siblings`] finds by where they were spawned.
//!
//! ```text
//! weights of a run (Params) -> ntk (Gram matrices)    -> data_diet::geometry::kernel  -> KernelVelocityTable
//! weights of two runs ------> barrier (along a line)  -> data_diet::geometry::barrier -> ErrorBarrierTable
//! ```

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")
)]

mod arguments;
mod error;
pub mod geometry;
pub mod gradients;
mod hook;
pub mod nn;
pub mod ntk;
pub mod selection;
mod signals;
mod transfer;
pub mod weights;

pub use arguments::{ExampleIds, Labels, Norms};
pub use error::{Error, Result};
pub use hook::{DataDietHook, DataDietHookBuilder};

pub use data_diet::observe::{LogitsFormat, Schedule, Signal};
pub use data_diet::record::{OnFailure, RecorderStatus, RunReport, WhenFull};
pub use data_diet::run::{Durability, RunStatus};
