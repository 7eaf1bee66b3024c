//! The way from a CUDA device to the files, in the order in which streams, events and threads really go:
//! what arrives is compared with what the same loop records on the CPU. Needs no kernel but the hook's own,
//! so that an emulated driver (`driver.cpp`, started by `.ci/cuda emulate`) can stand in for a device; on a
//! real device it runs just as well. Without either it skips, and says so.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test reads tensors, panics when it fails, and shows that it skips"
)]

#[allow(dead_code, reason = "shared with the tests of the hook")]
#[path = "../hook/fixture.rs"]
mod fixture;

mod batches;
mod device;
mod endings;
mod refusals;
mod weights;
