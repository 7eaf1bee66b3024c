//! The `data-diet` command: parses arguments, calls the library, prints text. A program that uses
//! the library can do everything that the command can.
//!
//! Exit codes: 0 for success, 1 for a failure or a finding, 2 for invalid arguments.

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
        Command::Select(arguments) => commands::select::run(&arguments),
        Command::Recover(arguments) => commands::recover::run(&arguments),
        Command::Verify(arguments) => commands::verify::run(&arguments),
    };
    let outcome = outcome.and_then(|code| match io::stdout().flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(code),
    });
    match outcome {
        Ok(code) => code,
        Err(CommandError::Library(error)) => {
            text::tell(format_args!("data-diet: {error}"));
            match error.kind() {
                data_diet::ErrorKind::InvalidArgument => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
        Err(CommandError::Finding(message)) => {
            text::tell(format_args!("data-diet: {message}"));
            ExitCode::FAILURE
        }
        Err(CommandError::Arguments(message)) => {
            text::tell(format_args!("data-diet: {message}"));
            ExitCode::from(2)
        }
        // The reader of our output has closed it.
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(CommandError::Output(error)) => {
            text::tell(format_args!("data-diet: cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Why a command ended early.
#[derive(Debug)]
enum CommandError {
    Library(data_diet::Error),
    /// A check found a problem.
    Finding(String),
    /// Options that parse but contradict each other.
    Arguments(String),
    Output(io::Error),
}

impl CommandError {
    /// An error of the library that was writing to standard output: it may be that of a pipe whose
    /// reader has had enough.
    fn of_output(error: data_diet::Error) -> Self {
        let source = std::error::Error::source(&error);
        let closed = source.and_then(|source| source.downcast_ref::<io::Error>());
        match closed.map(io::Error::kind) {
            Some(io::ErrorKind::BrokenPipe) => io::Error::from(io::ErrorKind::BrokenPipe).into(),
            _ => Self::Library(error),
        }
    }
}

impl From<data_diet::Error> for CommandError {
    fn from(error: data_diet::Error) -> Self {
        Self::Library(error)
    }
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
