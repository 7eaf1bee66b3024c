//! `data-diet recover`.

use std::process::ExitCode;

use crate::CommandError;
use crate::args::Recover;
use crate::text::tell;

pub(crate) fn run(arguments: &Recover) -> Result<ExitCode, CommandError> {
    let experiment = super::open(&arguments.experiment)?;
    if experiment.recovered().is_empty() {
        tell("nothing to recover: no run was interrupted");
    }
    Ok(ExitCode::SUCCESS)
}
