//! Gradient norms from outside: every number is compared with one that candle-nn's own layers and a
//! backward pass per example give, with differences of losses, or with JAX.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "expected values are computed on the host, from candle's own read-back"
)]

mod golden;
mod images;
mod kinds;
mod last_layer;
mod losses;
mod pieces;
mod reference;
mod refusals;
mod sequences;
mod shared_weights;
mod theory;
mod training;
