//! `data-diet inspect`.

use std::io::{self, Write};
use std::process::ExitCode;

use data_diet::observe::{Phase, Signal};
use data_diet::run::Run;
use data_diet::scores::{Availability, ScoreRequest, available};
use data_diet::{ErrorKind, Experiment, ScoreOptions, ScoreTable};

use crate::CommandError;
use crate::args::Inspect;
use crate::text::{bytes, count, counted, table};

pub(crate) fn run(arguments: &Inspect) -> Result<ExitCode, CommandError> {
    let experiment = super::open(&arguments.experiment)?;
    let mut output = io::stdout().lock();
    let runs = experiment.runs()?;
    writeln!(output, "{}", experiment.path().display())?;
    writeln!(output)?;
    let mut phases = vec![Phase::Train, Phase::Score];
    for run in &runs {
        if !phases.contains(&Phase::HeldOut) && run.rows(Phase::HeldOut)? > 0 {
            phases.push(Phase::HeldOut);
        }
    }
    let of_run = |run| describe(run, &phases);
    let rows = runs.iter().map(of_run).collect::<data_diet::Result<Vec<_>>>()?;
    let counted_rows: Vec<String> = phases.iter().map(|phase| format!("{phase} rows")).collect();
    let mut heading = vec!["run", "status", "ranks", "model"];
    heading.extend(counted_rows.iter().map(String::as_str));
    heading.extend(["steps", "epochs", "size"]);
    table(&mut output, &heading, &rows)?;
    let mut notes = Vec::new();
    for (run, metadata) in runs.iter().flat_map(|run| run.ranks().map(move |rank| (run, rank))) {
        let name = run.name();
        if let Some(failure) = &metadata.failure {
            notes.push(format!("run `{name}` (rank {}): {failure}", metadata.rank));
        }
        for warning in metadata.all_warnings() {
            notes.push(format!("run `{name}` (rank {}): {warning}", metadata.rank));
        }
        let counts = metadata.rows;
        for (rows, what) in [
            (counts.dropped, "dropped because the queue was full"),
            (counts.lost, "lost to a failure"),
            (counts.non_finite, "with non-finite logits"),
        ] {
            if rows > 0 {
                let (rank, rows) = (metadata.rank, counted(rows, "row"));
                notes.push(format!("run `{name}` (rank {rank}): {rows} {what}"));
            }
        }
    }
    for run in runs.iter().filter(|run| run.has_retyped_name()) {
        notes.push(format!(
            "run `{}`: some readers take this name for a number, a Boolean or a date. For the same \
             text everywhere: Polars `scan_parquet(..., hive_schema={{\"run\": pl.String}})`, DuckDB \
             `read_parquet(..., hive_types={{'run': VARCHAR}})`, Spark \
             `spark.sql.sources.partitionColumnTypeInference.enabled=false`, pyarrow and pandas \
             `partitioning=ds.partitioning(pa.schema([(\"run\", pa.string())]), flavor=\"hive\")`",
            run.name()
        ));
    }
    for head in experiment.heads()? {
        notes.push(format!("another head of these models: {}", head.display()));
    }
    for name in experiment.other_names()? {
        notes.push(format!("`_runs/{name}` is left out: no run can have this name"));
    }
    if !notes.is_empty() {
        writeln!(output, "\n{}", notes.join("\n"))?;
    }
    show_scores(&mut output, &runs)?;
    if arguments.examples > 0 {
        show_examples(&mut output, &experiment, arguments.examples)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(run: &Run, phases: &[Phase]) -> data_diet::Result<Vec<String>> {
    let mut row = vec![
        run.name().to_owned(),
        run.status().name().to_owned(),
        run.ranks().len().to_string(),
        run.kind().to_string(),
    ];
    for &phase in phases {
        row.push(count(run.rows(phase)?));
    }
    row.push(count(run.steps()?));
    row.push(run.epochs(Phase::Train)?.len().to_string());
    row.push(bytes(run.bytes()?));
    Ok(row)
}

/// Lists the scores that the runs can give, runs that can give the same together.
fn show_scores(output: &mut dyn Write, runs: &[Run]) -> Result<(), CommandError> {
    // Runs, and what they have in common: a source with the scores that come from it.
    type Listed = Vec<(String, Vec<String>)>;
    let mut groups: Vec<(Vec<&str>, Listed)> = Vec::new();
    for run in runs {
        let scores = available(run, false)?;
        let mut sources: Vec<&Availability> = scores.iter().map(|of| &of.availability).collect();
        sources.sort_unstable();
        sources.dedup();
        let names = |source: &Availability| {
            let from_it = scores.iter().filter(|of| of.availability == *source);
            from_it.map(|of| of.score.to_string()).collect::<Vec<_>>()
        };
        let heading = |source: &Availability| match source {
            Availability::Recorded => "recorded".to_owned(),
            Availability::Derived(from) => format!("from {from}"),
            Availability::Missing(reason) => format!("missing ({reason})"),
            _ => "other".to_owned(),
        };
        let listed: Listed =
            sources.into_iter().map(|source| (heading(source), names(source))).collect();
        match groups.iter_mut().find(|(_, other)| *other == listed) {
            Some((names, _)) => names.push(run.name()),
            None => groups.push((vec![run.name()], listed)),
        }
    }
    for (runs, listed) in groups {
        writeln!(output, "\nscores of {}", runs.join(", "))?;
        for (source, scores) in listed {
            writeln!(output, "  {source}: {}", scores.join(", "))?;
        }
    }
    Ok(())
}

fn show_examples(
    output: &mut dyn Write,
    experiment: &Experiment,
    number: usize,
) -> Result<(), CommandError> {
    let mut options = ScoreOptions::default();
    options.scores = vec![ScoreRequest::signal(Signal::El2n).if_recorded()];
    let scores = match ScoreTable::fold(experiment, &options) {
        Err(error) if error.kind() == ErrorKind::Empty => {
            writeln!(output, "\nno observations are published yet")?;
            return Ok(());
        }
        scores => scores?,
    };
    let Some(el2n) = scores.statistics().iter().find(|score| score.name == "el2n") else {
        writeln!(output, "\nno epoch in which every run has recorded el2n: no examples to show")?;
        return Ok(());
    };
    let mut order: Vec<usize> =
        (0..el2n.mean.len()).filter(|&at| !el2n.mean[at].is_nan()).collect();
    order.sort_by(|&a, &b| el2n.mean[a].total_cmp(&el2n.mean[b]));
    let row = |&at: &usize| {
        vec![
            scores.examples()[at].to_string(),
            scores.labels()[at].to_string(),
            format!("{:.4}", el2n.mean[at]),
            // A single run has no standard deviation.
            if el2n.std[at].is_nan() { "-".to_owned() } else { format!("{:.4}", el2n.std[at]) },
            el2n.count[at].to_string(),
        ]
    };
    let heading = ["example", "label", "el2n", "std", "runs"];
    let source = scores.info().aliases.get("el2n").map_or("el2n", String::as_str);
    writeln!(output, "\nhardest examples ({source})")?;
    let hardest: Vec<_> = order.iter().rev().take(number).map(row).collect();
    table(output, &heading, &hardest)?;
    writeln!(output, "\neasiest examples")?;
    let easiest: Vec<_> = order.iter().take(number).map(row).collect();
    table(output, &heading, &easiest)?;
    Ok(())
}
