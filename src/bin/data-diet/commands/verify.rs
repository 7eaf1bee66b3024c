//! `data-diet verify`.

use std::io::{self, Write};
use std::process::ExitCode;

use data_diet::Experiment;
use data_diet::run::{RunMetadata, RunStatus, Verification};

use crate::args::Verify;
use crate::text::{bytes, counted, tell};
use crate::{CommandError, progress};

pub(crate) fn run(arguments: &Verify) -> Result<ExitCode, CommandError> {
    if arguments.experiment.is_file() {
        return tell_all(&Verification::verify_scores(&arguments.experiment));
    }
    // Verifying must not change the experiment.
    let experiment = Experiment::open_read_only(&arguments.experiment)?;
    for run in experiment.runs()? {
        for warning in run.ranks().flat_map(RunMetadata::all_warnings) {
            tell(format_args!("run `{}`: {warning}", run.name()));
        }
        if run.status() == RunStatus::Running {
            tell(format_args!(
                "run `{}` is being recorded, or was interrupted: its unpublished rows are not \
                 checked",
                run.name()
            ));
        }
    }
    let bar = progress::bytes(experiment.bytes()?);
    let verification = experiment.verify(|done| bar.set_position(done))?;
    bar.finish_and_clear();
    tell_all(&verification)
}

fn tell_all(verification: &Verification) -> Result<ExitCode, CommandError> {
    let (parts, rows) = (counted(verification.parts, "part"), counted(verification.rows, "row"));
    let summary = format!("{parts}, {rows}, {} checked", bytes(verification.bytes));
    if !verification.litter.is_empty() {
        tell(
            "files that the operating system has left, on which Polars and DuckDB fail; delete them:",
        );
        verification.litter.iter().for_each(|path| tell(format_args!("  {}", path.display())));
    }
    if verification.findings.is_empty() {
        tell(format_args!("{summary}: no problems found"));
        return Ok(ExitCode::SUCCESS);
    }
    let findings = counted(verification.findings.len() as u64, "finding");
    tell(format_args!("{summary}: {findings}"));
    let mut output = io::stdout().lock();
    for finding in &verification.findings {
        match writeln!(output, "{}", finding.error) {
            // A closed pipe does not make the findings go away.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    Ok(ExitCode::FAILURE)
}
