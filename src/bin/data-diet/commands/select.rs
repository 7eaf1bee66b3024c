//! `data-diet select`.

use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use data_diet::manifest::IdList;
use data_diet::manifest::recipe::{Recipe, RecipeFile};
use data_diet::selection::ScoreColumn;

use super::outputs::{Files, STANDARD_STREAM};
use crate::CommandError;
use crate::args::Select;
use crate::text::{count, counted, tell};

pub(crate) fn run(arguments: &Select) -> Result<ExitCode, CommandError> {
    let (recipe, scores) = plan(arguments)?;
    Files::default()
        .input("--scores", Some(&scores))
        .input("--recipe", arguments.recipe.as_deref())
        .output("--output", Some(&arguments.output))
        .output("--dropped", arguments.dropped.as_deref())
        .check(arguments.force)?;
    let selection = recipe.select(|score| ScoreColumn::read(&scores, score))?;
    if arguments.annotate {
        let mut columns = Vec::new();
        for name in recipe.scores() {
            columns.push((name, ScoreColumn::read(&scores, name)?));
        }
        let mut list = IdList::annotated(&selection);
        for (name, column) in &columns {
            list = list.with_score(*name, column);
        }
        write(arguments, &list, &arguments.output)?;
    } else {
        write(arguments, &IdList::kept(&selection), &arguments.output)?;
    }
    if let Some(path) = &arguments.dropped {
        write(arguments, &IdList::dropped(&selection), path)?;
    }
    let (kept, considered) = (selection.len() as u64, selection.considered() as u64);
    let share = 100.0 * kept as f64 / considered.max(1) as f64;
    tell(format_args!("kept {} of {} ({share:.1} %)", count(kept), counted(considered, "example")));
    if selection.without_score() > 0 {
        let without = counted(selection.without_score() as u64, "example");
        tell(format_args!("{without} without `{}`", recipe.scores().join("` or `")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the selection and the table of scores.
fn plan(arguments: &Select) -> Result<(Recipe, PathBuf), CommandError> {
    let Some(path) = &arguments.recipe else {
        let recipe = arguments.choice.recipe().map_err(CommandError::Arguments)?;
        // The parser guarantees that they are there.
        return Ok((recipe, arguments.scores.clone().unwrap_or_default()));
    };
    let file = RecipeFile::read(path)?;
    let named = file.scores.map(|origin| PathBuf::from(origin.path));
    let scores = arguments.scores.clone().or(named).ok_or_else(|| {
        let path = path.display();
        CommandError::Arguments(format!("{path}: names no scores; name them by --scores"))
    })?;
    Ok((file.recipe, scores))
}

fn write(arguments: &Select, list: &IdList<'_>, path: &Path) -> Result<(), CommandError> {
    let format = arguments.format_of(path);
    if path == Path::new(STANDARD_STREAM) {
        let mut output = BufWriter::new(io::stdout());
        return match list.write(format, &mut output) {
            Ok(()) => Ok(()),
            Err(error) => Err(CommandError::of_output(error)),
        };
    }
    Ok(list.write_to_file(format, path, arguments.force)?)
}
