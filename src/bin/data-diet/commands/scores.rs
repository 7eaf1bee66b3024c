//! `data-diet scores`.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use data_diet::run::{Run, RunMetadata};
use data_diet::scores::{DerivedSignal, ScoreInfo};
use data_diet::{Experiment, ScoreTable};

use super::outputs::{Files, STANDARD_STREAM};
use crate::args::Scores;
use crate::text::{counted, tell};
use crate::{CommandError, progress};

pub(crate) fn run(arguments: &Scores) -> Result<ExitCode, CommandError> {
    let options = arguments.options()?;
    Files::default().output("--output", Some(&arguments.output)).check(arguments.force)?;
    let experiment = super::open(&arguments.experiment)?;
    let to_stdout = arguments.output == Path::new(STANDARD_STREAM);
    // The reader of a pipe gets a whole table or nothing.
    let spool = if to_stdout { Some(tempfile::tempdir()?) } else { None };
    let output = match &spool {
        Some(directory) => directory.path().join("scores.parquet"),
        None => arguments.output.clone(),
    };
    let bar = progress::bar(rows(&experiment, &arguments.runs)?, "rows");
    let file = ScoreTable::fold_to_file(&experiment, &options, &output, |rows| bar.inc(rows))?;
    bar.finish_and_clear();
    if to_stdout {
        io::copy(&mut File::open(&output)?, &mut io::stdout().lock())?;
    }
    let info = &file.info;
    tell(format_args!(
        "{}, {} over {} ({}) -> {}",
        counted(file.examples as u64, "example"),
        counted(file.scores.len() as u64, "score"),
        counted(info.runs.len() as u64, "run"),
        info.runs.join(", "),
        arguments.output.display()
    ));
    for (alias, score) in &info.aliases {
        tell(format_args!("{alias} is {score}"));
    }
    if arguments.uses_default_scores() && !info.aliases.contains_key("el2n") {
        tell("no score `el2n`: there is no epoch in which every run has recorded it");
    }
    if !info.derived.is_empty() {
        let derived: Vec<String> = info.derived.iter().map(|of| of_signal(of, info)).collect();
        tell(format_args!("not recorded, so derived: {}", derived.join("; ")));
    }
    if info.non_finite > 0 {
        let rows = counted(info.non_finite, "observation");
        tell(format_args!("{rows} with non-finite logits left out"));
    }
    if info.repeated > 0 {
        let rows = counted(info.repeated, "observation");
        tell(format_args!("{rows} repeated on a second rank in an epoch left out"));
    }
    for run in experiment.runs()?.iter().filter(|run| info.runs.iter().any(|it| it == run.name())) {
        for warning in run.ranks().flat_map(RunMetadata::all_warnings) {
            tell(format_args!("run `{}`: {warning}", run.name()));
        }
    }
    if info.relabeled > 0 {
        let (examples, all) = (counted(info.relabeled, "example"), file.examples);
        tell(format_args!(
            "{examples} of {all} have another label in another run: an id must mean the same example in \
             every run, or scores are noise"
        ));
    }
    if info.partial > 0 {
        let examples = counted(info.partial, "example");
        tell(format_args!("{examples} not seen by every run: `runs` says by how many"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Such as `confidence from loss`, with the runs unless all of them lacked the signal.
fn of_signal(derived: &DerivedSignal, info: &ScoreInfo) -> String {
    let DerivedSignal { signal, from, runs, .. } = derived;
    let of_runs = match runs.len() {
        some if some < info.runs.len() => format!(" ({})", runs.join(", ")),
        _ => String::new(),
    };
    format!("{signal} from {from}{of_runs}")
}

/// How many rows the chosen runs have committed, according to their metadata.
fn rows(experiment: &Experiment, names: &[String]) -> data_diet::Result<u64> {
    let chosen = |run: &&Run| names.is_empty() || names.iter().any(|name| name == run.name());
    let runs = experiment.runs()?;
    Ok(runs.iter().filter(chosen).flat_map(Run::ranks).map(|rank| rank.rows.written).sum())
}
