//! Attaches [`data_diet`] to a candle training loop: five lines record, for every example at every step,
//! how wrong the network is about it.
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
//! The hook takes shared references to tensors and no optimizer, so it cannot alter training. A
//! background thread does the remaining computation and writes the files. Their format is
//! documented in [`data_diet`]; read them with its `Experiment`, with the `data-diet` command, or
//! with any Parquet reader.
//!
//! Works on CPU and on CUDA (feature `cuda`, where signals are computed on the device and copied without
//! making the training thread wait). Metal takes the same code path as any other device and is untested.
//!
//! # Modules
//!
//! | module | what it owns |
//! |---|---|
//! | [`DataDietHook`], [`DataDietHookBuilder`] | the hook and its options |
//! | [`Shuffled`] | shuffled batches over tensors, with the ids for the hook |
//! | [`nn`] | drop-in versions of candle-nn's layers that expose per-example gradients |
//! | [`gradients`] | GraNd: the norm of every example's gradient, from one backward pass of the batch |
//! | [`weights`] | recorded weights, loaded back into a model |
//! | [`ntk`] | Gram matrices of the tangent kernel |
//! | [`geometry`] | kernel velocity and error barriers, measured on recorded weights |
//! | [`selection`] | a selection as a tensor for `index_select` |

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")
)]

mod arguments;
mod error;
pub mod geometry;
pub mod gradients;
mod hook;
mod kind_targets;
pub mod nn;
pub mod ntk;
mod output_shape;
pub mod selection;
mod shuffled;
mod signals;
mod transfer;
pub mod weights;

pub use arguments::{ExampleIds, Labels, Norms};
pub use error::{Error, Result};
pub use hook::{DataDietHook, DataDietHookBuilder};
pub use shuffled::{Shuffled, ShuffledBatch, ShuffledBatches, ShuffledEpoch};

pub use data_diet::observe::{LogitsFormat, ModelKind, Schedule, Signal};
pub use data_diet::record::{OnFailure, RecorderStatus, RunReport, WhenFull};
pub use data_diet::run::{Durability, RunStatus};

// The Rust code of the pages about attaching and about selections.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/attaching.md")]
struct AttachingPage;
#[cfg(doctest)]
#[doc = include_str!("../../../docs/selections.md")]
struct SelectionsPage;
