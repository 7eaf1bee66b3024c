//! `data-diet scores`.

use std::process::ExitCode;

use data_diet::{Experiment, Phase, Run, ScoreOptions, ScoreTable};

use crate::args::Scores;
use crate::text::count;
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
    eprintln!(
        "{} examples, {} scores over {} runs ({}) -> {}",
        count(file.examples as u64),
        file.scores.len(),
        info.runs.len(),
        info.runs.join(", "),
        arguments.output.display()
    );
    if let Some(el2n) = &info.el2n {
        eprintln!("el2n is {el2n}");
    }
    if info.non_finite > 0 {
        eprintln!("{} observations with non-finite logits left out", count(info.non_finite));
    }
    if info.repeated > 0 {
        let repeated = count(info.repeated);
        eprintln!("{repeated} observations repeated on a second rank in an epoch left out");
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
