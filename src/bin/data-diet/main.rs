//! The `data-diet` command: arguments in, calls of the library, text out. Anything that it can do, a
//! program that uses the library can do too.
//!
//! Exit codes: 0 for success, 1 for a failure or a finding, 2 for arguments that make no sense.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line speaks on its standard streams"
)]

mod args;
mod commands;
mod progress;
mod text;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Inspect(arguments) => commands::inspect::run(&arguments),
        Command::Scores(arguments) => commands::scores::run(&arguments),
        Command::Compare(arguments) => commands::compare::run(&arguments),
        Command::Filter(arguments) => commands::filter::run(&arguments),
        Command::Recover(arguments) => commands::recover::run(&arguments),
        Command::Verify(arguments) => commands::verify::run(&arguments),
    };
    let outcome = outcome.and_then(|code| match io::stdout().flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(code),
    });
    match outcome {
        Ok(code) => code,
        Err(Failure::Library(error)) => {
            text::tell(format_args!("data-diet: {error}"));
            match error.kind() {
                data_diet::ErrorKind::InvalidArgument => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
        Err(Failure::Finding(message)) => {
            text::tell(format_args!("data-diet: {message}"));
            ExitCode::FAILURE
        }
        Err(Failure::Arguments(message)) => {
            text::tell(format_args!("data-diet: {message}"));
            ExitCode::from(2)
        }
        // Whoever read our output has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(Failure::Output(error)) => {
            text::tell(format_args!("data-diet: cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Why a command ended early.
#[derive(Debug)]
enum Failure {
    Library(data_diet::Error),
    /// Something is not what it was asked to be.
    Finding(String),
    /// Options that the grammar allows and that make no sense together.
    Arguments(String),
    Output(io::Error),
}

impl From<data_diet::Error> for Failure {
    fn from(error: data_diet::Error) -> Self {
        Self::Library(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
