//! `data-diet filter`.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;
use std::process::ExitCode;

use data_diet::manifest::recipe::{Outcome, Recipe};
use data_diet::manifest::{
    ClassCounts, Manifest, ManifestDirectory, ManifestInput, ManifestSummary,
};
use data_diet::selection::{ScoreColumn, Selection};

use super::outputs::STANDARD_STREAM;
use super::plan::Plan;
use crate::args::Filter;
use crate::text::{self, count, counted, table};
use crate::{CommandError, progress};

pub(crate) fn run(arguments: &Filter) -> Result<ExitCode, CommandError> {
    let plan = Plan::of(arguments)?;
    plan.check_files(arguments)?;
    let selection = plan.recipe.select(|score| ScoreColumn::read(&plan.scores, score))?;
    let manifest = plan.read_as()?;
    let output = arguments.output.as_deref();
    let summary = match plan.directory()? {
        Some(directory) => {
            let summary = filter_directory(&manifest, directory, &selection, output)?;
            if let (Some(rejected), Some(again)) = (&arguments.rejected, plan.directory()?) {
                let manifest = manifest.rejected(true);
                filter_directory(&manifest, again, &selection, Some(rejected))?;
            }
            summary
        }
        None => filter_file(&plan, arguments, &manifest, &selection)?,
    };
    let output = output.filter(|&path| path != Path::new(STANDARD_STREAM));
    tell(&mut io::stderr().lock(), &plan.recipe, &selection, &summary, output, arguments.dry_run)?;
    if let Some(path) = &arguments.rejected {
        text::tell(format_args!(
            "the other {} -> {}",
            counted(summary.pruned(), "row"),
            path.display()
        ));
    }
    // Written last, so that no recipe describes an output that does not exist.
    if let Some((path, mut file)) = plan.file() {
        file.outcome = Some(Outcome::new(&selection, &summary));
        file.write(&path)?;
        text::tell(format_args!("recipe -> {}", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn filter_file(
    plan: &Plan,
    arguments: &Filter,
    manifest: &Manifest,
    selection: &Selection,
) -> Result<ManifestSummary, CommandError> {
    let Some(rejected) = &arguments.rejected else {
        let input = if plan.manifest == Path::new(STANDARD_STREAM) {
            ManifestInput::stream(io::stdin().lock())
        } else {
            ManifestInput::file(&plan.manifest)?
        };
        return write(arguments, manifest, selection, input, arguments.output.as_deref());
    };
    // The manifest is read twice.
    let mut copy = None;
    if plan.manifest == Path::new(STANDARD_STREAM) {
        let mut file = spool()?;
        io::copy(&mut io::stdin().lock(), &mut file)?;
        copy = Some(file);
    }
    let input = || match &copy {
        Some(file) => {
            let mut file = file.try_clone()?;
            file.rewind()?;
            Ok::<_, CommandError>(ManifestInput::stream(file))
        }
        None => Ok(ManifestInput::file(&plan.manifest)?),
    };
    let summary = write(arguments, manifest, selection, input()?, arguments.output.as_deref())?;
    let others = manifest.clone().rejected(true);
    write(arguments, &others, selection, input()?, Some(rejected))?;
    Ok(summary)
}

fn write(
    arguments: &Filter,
    manifest: &Manifest,
    selection: &Selection,
    input: ManifestInput<'_>,
    output: Option<&Path>,
) -> Result<ManifestSummary, CommandError> {
    let bar = input.bytes().map(progress::bytes);
    let input = input.on_progress(|bytes| bar.iter().for_each(|bar| bar.inc(bytes)));
    let summary = match output {
        None => manifest.filter(selection, input, &mut io::sink())?,
        Some(path) if path == Path::new(STANDARD_STREAM) => {
            // The reader of a pipe gets a whole manifest or nothing.
            let mut spool = BufWriter::new(spool()?);
            let manifest = manifest.clone().compression(arguments.compression());
            let summary = manifest.filter(selection, input, &mut spool)?;
            let mut spool = spool.into_inner().map_err(io::IntoInnerError::into_error)?;
            spool.rewind()?;
            io::copy(&mut spool, &mut io::stdout().lock())?;
            summary
        }
        Some(path) => manifest.filter_to_file(selection, input, path)?,
    };
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    Ok(summary)
}

fn filter_directory(
    manifest: &Manifest,
    directory: ManifestDirectory<'_>,
    selection: &Selection,
    output: Option<&Path>,
) -> Result<ManifestSummary, CommandError> {
    if output == Some(Path::new(STANDARD_STREAM)) {
        let what = "one stream cannot hold the files of a directory; name a directory with `-o`";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what).into());
    }
    let bar = progress::bytes(directory.bytes());
    let directory = directory.on_progress(|bytes| bar.inc(bytes));
    let summary = manifest.filter_directory(selection, directory, output)?;
    bar.finish_and_clear();
    Ok(summary)
}

fn spool() -> io::Result<File> {
    tempfile::tempfile()
}

fn tell(
    output: &mut dyn Write,
    recipe: &Recipe,
    selection: &Selection,
    summary: &ManifestSummary,
    path: Option<&Path>,
    dry_run: bool,
) -> io::Result<()> {
    let would = if dry_run { "would have " } else { "" };
    let to = path.map(|path| format!(" -> {}", path.display())).unwrap_or_default();
    writeln!(output, "{would}{summary}{to}")?;
    if selection.without_score() > 0 {
        let without = count(selection.without_score() as u64);
        let scores = recipe.scores().join("` or no `");
        writeln!(output, "{without} examples have no `{scores}`")?;
    }
    let share = |kept: u64, rows: u64| format!("{:.1} %", 100.0 * kept as f64 / rows as f64);
    let row = |class: &ClassCounts| {
        let rows = class.kept + class.pruned;
        vec![
            class.label.to_string(),
            count(rows),
            count(class.kept),
            count(class.pruned),
            share(class.kept, rows),
        ]
    };
    let mut classes = summary.classes.clone();
    let all = classes.len();
    if all > MAX_CLASSES {
        // Classes with the fewest kept examples come first: a selection can ruin them.
        let kept = |class: &ClassCounts| class.kept as f64 / (class.kept + class.pruned) as f64;
        classes.sort_by(|a, b| kept(a).total_cmp(&kept(b)));
        classes.truncate(MAX_CLASSES);
        writeln!(output, "\nthe {MAX_CLASSES} of {all} classes that keep the smallest share")?;
    } else if all > 0 {
        writeln!(output)?;
    }
    let rows: Vec<_> = classes.iter().map(row).collect();
    table(output, &["class", "rows", "kept", "pruned", "kept"], &rows)
}

/// A longer table would hide the sentence above it.
const MAX_CLASSES: usize = 20;
