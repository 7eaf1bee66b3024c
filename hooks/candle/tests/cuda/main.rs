//! The hook beside training loops on a CUDA device.
//!
//! Nearly every test is there twice. `on_cuda` runs it on a device, at full length, and is skipped with
//! a line on standard error where there is none; `on_cpu` runs the same body with few steps on the CPU,
//! so that what the tests compare is tried everywhere. [`place`] tells how to choose. Those that need no
//! kernel of candle's also run against an emulated driver: `.ci/cuda emulate`.
//!
//! Nothing here waits for the device where a test is about not waiting: what is expected is copied on
//! the device, in the training thread's own order, and read when training is over.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "expected values are computed on the host, from candle's own read-back"
)]

#[macro_use]
mod place;

mod agreement;
mod arguments;
mod calls;
mod expected;
#[path = "../hook/fixture.rs"]
#[allow(dead_code, reason = "the tests of the hook on the CPU use more of it")]
mod fixture;
mod gradients;
mod layouts;
mod numbers;
mod snapshots;
mod stress;
mod threads;
mod training;
mod waiting;
