//! The geometry of training: how fast a kernel turns, and how high error barriers are.
//!
//! [`kernel`] and [`barrier`] define the
//! numbers; the tables store them in the experiment directory. Running models is left to the hook
//! crate.
//!
//! ```text
//! EXPERIMENT/kernel_velocity/run=RUN/part-000000.parquet ...
//! EXPERIMENT/error_barrier/part-000000.parquet ...
//! ```

pub mod barrier;
mod columns;
mod error_barrier_table;
pub mod kernel;
mod kernel_velocity_table;
mod parts;
mod schema;
mod verify;

pub use error_barrier_table::{ErrorBarrierRow, ErrorBarrierTable, MeanBarrier, RunningStatistics};
pub use kernel_velocity_table::{KernelVelocityRow, KernelVelocityTable, TimeUnit};
pub(crate) use verify::{Checked, files, litter, verify};
