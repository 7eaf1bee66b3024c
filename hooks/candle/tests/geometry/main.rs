//! Weights, tangent kernels and error barriers of small models, against what is known about them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "expected values are computed on the host, from candle's own read-back"
)]

mod barrier;
mod barrier_refusals;
mod golden;
mod kernel_velocity;
mod kinds;
mod large;
mod models;
mod ntk;
mod ntk_layers;
mod ntk_refusals;
mod pairs;
mod params;
mod siblings;
mod soft_labels;
mod width;
