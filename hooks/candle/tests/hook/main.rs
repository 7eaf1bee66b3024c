//! The hook from outside, as a training loop uses it: every test records through [`DataDietHook`] and
//! reads back what lies on disk.
//!
//! [`DataDietHook`]: data_diet_candle::DataDietHook

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "expected values are computed on the host, from candle's own read-back"
)]

mod arguments;
mod failures;
mod fixture;
mod gradients;
mod heads;
mod kinds;
mod logits;
mod loops;
mod options;
mod publish;
mod reference;
mod refusals;
mod selection;
mod shuffled;
mod snapshots;
mod training;
