//! `data-diet filter`.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;
use std::process::ExitCode;

use data_diet::{
    ClassCounts, KeyMap, Manifest, ManifestDirectory, ManifestFormat, ManifestInput,
    ManifestSummary, ScoreColumn, Selection,
};

use crate::args::{Filter, Format};
use crate::text::{count, table};
use crate::{Failure, progress};

const STANDARD_STREAM: &str = "-";

pub(crate) fn run(arguments: &Filter) -> Result<ExitCode, Failure> {
    let scores = ScoreColumn::read(&arguments.scores, &arguments.by)?;
    let added = added_scores(arguments, &scores)?;
    let selection = scores.select(arguments.rule())?;
    let output = arguments.output.as_deref();
    let is_directory = arguments.manifest.is_dir();
    let summary = if is_directory || matches!(arguments.format, Some(Format::Imagefolder)) {
        filter_directory(arguments, &selection, added)?
    } else {
        filter_file(arguments, &selection, added)?
    };
    let output = output.filter(|&path| path != Path::new(STANDARD_STREAM));
    tell(&mut io::stderr().lock(), arguments, &selection, &summary, output)?;
    Ok(ExitCode::SUCCESS)
}

/// Scores that the kept rows are to carry, by the names that they get.
type Added<'a> = Vec<(&'a str, ScoreColumn)>;

fn added_scores<'a>(
    arguments: &'a Filter,
    chosen_by: &ScoreColumn,
) -> data_diet::Result<Added<'a>> {
    let read = |name: &'a str| {
        if name == arguments.by {
            return Ok((name, chosen_by.clone()));
        }
        Ok((name, ScoreColumn::read(&arguments.scores, name)?))
    };
    arguments.added_scores().into_iter().map(read).collect()
}

/// How to read the manifest, whose options may name other files to read.
fn manifest(
    arguments: &Filter,
    format: ManifestFormat,
    image_folder: bool,
    added: Added<'_>,
) -> data_diet::Result<Manifest> {
    let key = arguments.key(image_folder);
    let mut manifest = arguments.manifest(format, key);
    if let Some(path) = &arguments.key_map {
        manifest = manifest.key_map(match arguments.key_map_key.as_deref().or(key) {
            Some(name) => KeyMap::read(path, name, &arguments.key_map_example)?,
            // Which the manifest refuses, since there is no key to look up.
            None => KeyMap::default(),
        });
    }
    for (name, scores) in added {
        manifest = manifest.with_score(name, scores);
    }
    Ok(manifest)
}

fn filter_file(
    arguments: &Filter,
    selection: &Selection,
    added: Added<'_>,
) -> Result<ManifestSummary, Failure> {
    let path = &arguments.manifest;
    let format = arguments.file_format().map_or_else(|| ManifestFormat::of_path(path), Ok)?;
    let manifest = manifest(arguments, format, false, added)?;
    let input = if path == Path::new(STANDARD_STREAM) {
        ManifestInput::stream(io::stdin().lock())
    } else {
        ManifestInput::file(path)?
    };
    let bar = input.bytes().map(progress::bytes);
    let input = input.on_progress(|bytes| bar.iter().for_each(|bar| bar.inc(bytes)));
    let summary = match &arguments.output {
        None => manifest.filter(selection, input, &mut io::sink())?,
        Some(path) if path == Path::new(STANDARD_STREAM) => {
            // Whoever reads the pipe gets a whole manifest or nothing.
            let mut spool = BufWriter::new(spool()?);
            let manifest = manifest.compression(arguments.compression());
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
    arguments: &Filter,
    selection: &Selection,
    added: Added<'_>,
) -> Result<ManifestSummary, Failure> {
    let output = arguments.output.as_deref();
    if output == Some(Path::new(STANDARD_STREAM)) {
        let what = "one stream cannot hold the files of a directory; name a directory with `-o`";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what).into());
    }
    let directory = match arguments.format {
        Some(Format::Imagefolder) => ManifestDirectory::image_folder(&arguments.manifest)?,
        _ => ManifestDirectory::open(&arguments.manifest, arguments.file_format())?,
    };
    let (format, image_folder) = (directory.format(), directory.is_image_folder());
    let manifest = manifest(arguments, format, image_folder, added)?;
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
    arguments: &Filter,
    selection: &Selection,
    summary: &ManifestSummary,
    path: Option<&Path>,
) -> io::Result<()> {
    let would = if arguments.dry_run { "would have " } else { "" };
    let to = path.map(|path| format!(" -> {}", path.display())).unwrap_or_default();
    writeln!(output, "{would}{summary}{to}")?;
    if selection.without_score() > 0 {
        let (without, by) = (count(selection.without_score() as u64), &arguments.by);
        writeln!(output, "{without} examples have no `{by}`")?;
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
    if all > MOST_CLASSES {
        // The least kept ones are those that a choice can ruin.
        let kept = |class: &ClassCounts| class.kept as f64 / (class.kept + class.pruned) as f64;
        classes.sort_by(|a, b| kept(a).total_cmp(&kept(b)));
        classes.truncate(MOST_CLASSES);
        writeln!(output, "\nthe {MOST_CLASSES} of {all} classes that keep the smallest share")?;
    } else if all > 0 {
        writeln!(output)?;
    }
    let rows: Vec<_> = classes.iter().map(row).collect();
    table(output, &["class", "rows", "kept", "pruned", "kept"], &rows)
}

/// A longer table hides the sentence above it.
const MOST_CLASSES: usize = 20;
