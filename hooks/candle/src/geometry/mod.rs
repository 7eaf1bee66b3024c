//! The geometry of training, measured on recorded weights: how fast the tangent kernel turns, and how
//! high the error barrier between two networks is.
//!
//! The definitions and the tables are in [`data_diet::geometry`]; this room runs the model.

pub mod barrier;
mod kernel_velocity;

pub use kernel_velocity::KernelVelocity;
