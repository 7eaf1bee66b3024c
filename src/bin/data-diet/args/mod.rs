//! The arguments of the command, parsed and nothing else. Commands with many options have a file
//! each.

mod choice;
mod compare;
mod filter;
mod scores;
mod select;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use compare::{Between, Compare, Subject};
pub(crate) use filter::{Filter, Format};
pub(crate) use scores::Scores;
pub(crate) use select::Select;

/// Find out which training examples matter: score what a training run has recorded, and prune a
/// data set
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "A typical session, after training with the hook attached:\n\n  \
        data-diet inspect runs/digits\n  \
        data-diet scores runs/digits -o runs/digits/scores.parquet\n  \
        data-diet filter --scores runs/digits/scores.parquet --manifest train.csv --key id \\\n      \
        --by el2n --keep highest --fraction 70% -o train.kept.csv\n\n\
        Exit codes: 0 success, 1 failure or finding, 2 wrong arguments."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the runs of an experiment, and its hardest and easiest examples
    Inspect(Inspect),
    /// Compute the scores of every example and write them as one Parquet table
    Scores(Scores),
    /// Compare scores with each other, between epochs or between seeds
    Compare(Compare),
    /// Keep what a selection by score keeps: rows of CSV, TSV, JSONL or Parquet, images, or samples
    /// in tar shards
    Filter(Box<Filter>),
    /// Write the ids of the examples that a selection keeps: text, .npy or Parquet
    Select(Box<Select>),
    /// Turn what interrupted runs have left unfinished into Parquet parts
    ///
    /// Run it after a crash if you read the files with other tools; the commands of data-diet that
    /// read an experiment do it by themselves.
    Recover(Recover),
    /// Check every finished file against its checksums and row counts
    ///
    /// Covers what was recorded, the geometry's tables, and tables of scores directly in the
    /// experiment's directory.
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The experiment directory, such as runs/digits
    pub(crate) experiment: PathBuf,
    /// How many of the hardest and of the easiest examples to show
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) examples: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// The experiment directory, such as runs/digits
    pub(crate) experiment: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The experiment directory, such as runs/digits, or one table of scores
    pub(crate) experiment: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }
}
