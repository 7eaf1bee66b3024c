//! `data-diet scores`.

use std::process::ExitCode;

use data_diet::{Experiment, Phase, Run, ScoreOptions, ScoreTable};

use crate::args::Scores;
use crate::text::{counted, tell};
use crate::{Failure, progress};

pub(crate) fn run(arguments: &Scores) -> Result<ExitCode, Failure> {
    let experiment = super::open(&arguments.experiment)?;
    let mut options = ScoreOptions::default();
    options.runs.clone_from(&arguments.runs);
    options.epochs.clone_from(&arguments.epochs);
    let bar = progress::bar(rows(&experiment, &arguments.runs)?, "rows");
    let file =
        ScoreTable::fold_to_file(&experiment, &options, &arguments.output, |rows| bar.inc(rows))?;
    bar.finish_and_clear();
    let info = &file.info;
    tell(format_args!(
        "{}, {} over {} ({}) -> {}",
        counted(file.examples as u64, "example"),
        counted(file.scores.len() as u64, "score"),
        counted(info.runs.len() as u64, "run"),
        info.runs.join(", "),
        arguments.output.display()
    ));
    match &info.el2n {
        Some(el2n) => tell(format_args!("el2n is {el2n}")),
        None => tell("no score `el2n`: there is no epoch in which every run has recorded it"),
    }
    if info.non_finite > 0 {
        let rows = counted(info.non_finite, "observation");
        tell(format_args!("{rows} with non-finite logits left out"));
    }
    if info.repeated > 0 {
        let rows = counted(info.repeated, "observation");
        tell(format_args!("{rows} repeated on a second rank in an epoch left out"));
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(experiment: &Experiment, names: &[String]) -> data_diet::Result<u64> {
    let chosen = |run: &Run| names.is_empty() || names.iter().any(|name| name == run.name());
    let mut rows = 0;
    for run in experiment.runs()?.iter().filter(|run| chosen(run)) {
        for phase in Phase::ALL {
            rows += run.rows(phase)?;
        }
    }
    Ok(rows)
}
