//! The tables of an experiment that hold the geometry of training: how fast its kernel turns, and how
//! high the error barriers are. What the numbers mean stands in [`kernel`](crate::geometry::kernel) and
//! [`barrier`](crate::geometry::barrier); who measures them is a hook's business.
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
pub(crate) use verify::{Checked, files, verify};
