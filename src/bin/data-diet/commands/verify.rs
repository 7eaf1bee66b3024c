//! `data-diet verify`.

use std::process::ExitCode;

use data_diet::Experiment;

use crate::args::Verify;
use crate::text::{bytes, count};
use crate::{Failure, progress};

pub(crate) fn run(arguments: &Verify) -> Result<ExitCode, Failure> {
    // Looking must not change what is looked at.
    let experiment = Experiment::open_read_only(&arguments.experiment)?;
    let mut total = 0;
    for run in experiment.runs()? {
        total += run.bytes()?;
    }
    let bar = progress::bytes(total);
    let verification = experiment.verify(|done| bar.set_position(done))?;
    bar.finish_and_clear();
    for finding in &verification.findings {
        println!("{}", finding.error);
    }
    let (parts, rows) = (count(verification.parts), count(verification.rows));
    let findings = verification.findings.len();
    let summary = format!("{parts} parts, {rows} rows, {} checked", bytes(verification.bytes));
    if findings == 0 {
        eprintln!("{summary}: all well");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{summary}: {findings} findings");
    Ok(ExitCode::FAILURE)
}
