//! The whole of data-diet from outside: recorder, command line, and what survives a crash.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed test should panic, and a re-executed child speaks on its standard output"
)]

mod architecture;
mod cli;
mod corrupt;
mod earlier_versions;
mod geometry;
mod harness;
mod kill;
mod kill_snapshots;
mod properties;
mod recording;
mod scores;
