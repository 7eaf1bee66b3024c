//! The arguments of `data-diet select`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use data_diet::manifest::IdFormat;

use super::choice::Choice;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\n  \
    The ids of the hardest 70 % by EL2N, for NumPy and PyTorch:\n    \
    data-diet select --scores scores.parquet --by el2n --keep highest --fraction 70% -o kept.npy\n\n  \
    What is kept and what is not, as text:\n    \
    ... -o kept.txt --dropped dropped.txt\n\n  \
    Every example with its score and the decision about it, to look at or to join:\n    \
    ... -o decisions.csv --annotate\n\n  \
    The same choice as an earlier one:\n    \
    data-diet select --recipe kept.recipe.json -o kept.npy\n\n\
    An AMOUNT is a share of all examples with a score, 0.05 or 5%, or a number of examples, 500. All \
    choices of `data-diet filter` are there; see its help for examples of them.")]
pub(crate) struct Select {
    /// A table of scores: written by `data-diet scores`, or any Parquet with an `example` column
    /// [default with --recipe: the file that the recipe names]
    #[arg(long, value_name = "FILE", required_unless_present = "recipe")]
    pub(crate) scores: Option<PathBuf>,
    /// Where to write the ids that are kept, ascending; `-` for standard output. Appears when
    /// complete
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Also write the ids that are not kept
    #[arg(long, value_name = "FILE")]
    pub(crate) dropped: Option<PathBuf>,
    /// Write every example, with its label, the scores of the choice and the decision
    #[arg(long, conflicts_with = "dropped")]
    pub(crate) annotate: bool,
    /// How to write [default: by the extension: .npy, .parquet, otherwise text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Replace outputs that exist
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// Take the selection from this recipe
    #[arg(long, value_name = "FILE", help_heading = "Recipes", conflicts_with = "Choice")]
    pub(crate) recipe: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// One id per line; with --annotate, CSV
    Text,
    /// A NumPy array of 64-bit integers
    Npy,
    /// A table with the column `example`
    Parquet,
}

impl Select {
    pub(crate) fn format_of(&self, path: &std::path::Path) -> IdFormat {
        match self.format {
            Some(Format::Text) => IdFormat::Text,
            Some(Format::Npy) => IdFormat::Npy,
            Some(Format::Parquet) => IdFormat::Parquet,
            None => IdFormat::from_path(path),
        }
    }
}
