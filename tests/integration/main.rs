//! The whole of data-diet from outside: recorder, command line, and what survives a crash.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")]

mod cli;
mod command;
mod recorded;
mod scores;
