//! `data-diet compare`.

mod report;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use data_diet::Experiment;
use data_diet::observe::Phase;
use data_diet::scores::agreement::{Agreement, AgreementOptions, ScoreSeries, SplitAgreement};
use data_diet::selection::ScoreColumn;

use self::report::Report;
use crate::args::{Between, Compare, Subject};
use crate::text::{counted, tell};
use crate::{CommandError, progress};

/// Two scores by name, and their agreement.
struct Comparison {
    first: String,
    second: String,
    agreement: Agreement,
}

pub(crate) fn run(arguments: &Compare) -> Result<ExitCode, CommandError> {
    let subject = arguments.subject().unwrap_or_else(|error| error.exit());
    let options = arguments.options();
    // Checked before the long work.
    options.check()?;
    let (series, pairs) = match subject {
        Subject::Scores(scores) => {
            let read = |(file, score, called): (&Path, &str, &str)| {
                Ok((called.to_owned(), ScoreColumn::read(file, score)?))
            };
            let columns = scores.into_iter().map(read).collect::<data_diet::Result<Vec<_>>>()?;
            let pairs = index_pairs(columns.len());
            (ScoreSeries::new("", columns), pairs)
        }
        Subject::Experiment { path, score, between: Between::Epochs } => {
            let experiment = super::open(path)?;
            let (runs, bar) = (&arguments.runs, rows_bar(&experiment, &arguments.runs)?);
            let told = |rows| bar.inc(rows);
            let series = ScoreSeries::by_epoch(&experiment, runs, score, arguments.phase, told)?;
            bar.finish_and_clear();
            let last = series.columns().len() - 1;
            (series, (0..last).map(|epoch| (epoch, last)).collect())
        }
        Subject::Experiment { path, score, between: Between::Seeds } => {
            let experiment = super::open(path)?;
            let (runs, bar) = (&arguments.runs, rows_bar(&experiment, &arguments.runs)?);
            let series = ScoreSeries::by_run(&experiment, runs, score, |rows| bar.inc(rows))?;
            bar.finish_and_clear();
            let pairs = index_pairs(series.columns().len());
            (series, pairs)
        }
    };
    let comparisons = compare(&series, &pairs, &options)?;
    let splits = match arguments.between {
        Some(Between::Seeds) => split(&series, arguments, &options)?,
        _ => Vec::new(),
    };
    tell_what_is_missing(&comparisons);
    let report = Report { arguments, score: series.score(), comparisons, splits };
    let mut output = io::stdout().lock();
    if arguments.json {
        report.json(&mut output)?;
    } else {
        report.text(&mut output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn index_pairs(columns: usize) -> Vec<(usize, usize)> {
    (0..columns).flat_map(|first| (first + 1..columns).map(move |second| (first, second))).collect()
}

fn compare(
    series: &ScoreSeries,
    pairs: &[(usize, usize)],
    options: &AgreementOptions,
) -> data_diet::Result<Vec<Comparison>> {
    let resamples = options.bootstrap.map_or(0, |bootstrap| bootstrap.resamples);
    let bar = progress::bar((pairs.len() * resamples) as u64, "resamples");
    let columns = series.columns();
    let comparison = |&(first, second): &(usize, usize)| {
        let ((first, one), (second, other)) = (&columns[first], &columns[second]);
        let agreement =
            Agreement::between_with_progress(one, other, options, |resamples| bar.inc(resamples))?;
        Ok(Comparison { first: first.clone(), second: second.clone(), agreement })
    };
    let comparisons = pairs.iter().map(comparison).collect();
    bar.finish_and_clear();
    comparisons
}

fn split(
    series: &ScoreSeries,
    arguments: &Compare,
    options: &AgreementOptions,
) -> data_diet::Result<Vec<SplitAgreement>> {
    let most = series.columns().len() / 2 * arguments.splits;
    let bar = progress::bar(most as u64, "ways to split the runs");
    let splits = series.split_agreement(arguments.splits(), options, |left| {
        bar.set_length(bar.position() + 1 + left);
        bar.inc(1);
    });
    bar.finish_and_clear();
    splits
}

fn tell_what_is_missing(comparisons: &[Comparison]) {
    for Comparison { first, second, agreement } in comparisons {
        for (examples, what) in [
            (agreement.without_score, "without a number for one of them"),
            (agreement.in_one_only, "that only one of them has"),
        ] {
            if examples > 0 {
                let examples = counted(examples as u64, "example");
                tell(format_args!("{first}, {second}: left out: {examples} {what}"));
            }
        }
    }
}

/// A progress bar over the rows of some runs, not all of which may be read.
fn rows_bar(experiment: &Experiment, runs: &[String]) -> data_diet::Result<indicatif::ProgressBar> {
    let mut rows = 0;
    for run in experiment.runs()? {
        if runs.is_empty() || runs.iter().any(|name| name == run.name()) {
            rows += Phase::ALL.into_iter().map(|phase| run.rows(phase)).sum::<Result<u64, _>>()?;
        }
    }
    Ok(progress::bar(rows, "rows"))
}
