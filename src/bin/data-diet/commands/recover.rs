//! `data-diet recover`.

use std::process::ExitCode;

use crate::Failure;
use crate::args::Recover;

pub(crate) fn run(arguments: &Recover) -> Result<ExitCode, Failure> {
    let experiment = super::open(&arguments.experiment)?;
    if experiment.recovered().is_empty() {
        eprintln!("nothing to recover: every run is finished, recovered or being recorded");
    }
    Ok(ExitCode::SUCCESS)
}
