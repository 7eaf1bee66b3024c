//! The geometry of training, measured on recorded weights: how fast the tangent kernel turns, and how
//! high the error barrier between two networks is.
//!
//! [`data_diet::geometry`] has the definitions and the tables; this module runs the model.

pub mod barrier;
mod kernel_velocity;

pub use kernel_velocity::KernelVelocity;
