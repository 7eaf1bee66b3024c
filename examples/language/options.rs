//! The command line.

use std::path::PathBuf;

use clap::{Parser, value_parser};

use super::device::Place;

/// Trains a small transformer on sentences with known noise among them, records how well it predicts
/// each sequence, and shows which noise perplexity and EL2N find. Then it prunes by these scores and
/// trains again on what is left.
#[derive(Clone, Debug, Parser, PartialEq)]
#[command(name = "language")]
pub(crate) struct Options {
    /// Where to record; runs of the same names in it are replaced
    #[arg(long, value_name = "DIR", default_value = "runs/language")]
    pub(crate) experiment: PathBuf,
    /// cpu, or cuda with `--features cuda`
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Place,
    /// Sequences to train on, a fifth of them noise
    #[arg(long, value_name = "N", default_value_t = 1500, value_parser = value_parser!(u32).range(200..=100_000))]
    pub(crate) sequences: u32,
    /// Sequences to test on
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = value_parser!(u32).range(1..=100_000))]
    pub(crate) test: u32,
    /// Epochs per run
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u32).range(1..))]
    pub(crate) epochs: u32,
    /// Runs to record and score by
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u64).range(1..))]
    pub(crate) seeds: u64,
    /// Networks to train on each subset afterwards
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u64).range(1..))]
    pub(crate) retrain: u64,
    /// Share to prune, between 0 and 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.3, value_parser = share)]
    pub(crate) prune: f64,
}

impl Options {
    /// The share of the sequences that is kept.
    pub(crate) fn kept(&self) -> f64 {
        1.0 - self.prune
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| format!("expected a share such as 0.3, got {text}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(["language"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Options::command().debug_assert();
        let options = parsed("--device=cuda --epochs 7 --prune .5").unwrap();
        let expected =
            Options { device: Place::Cuda, epochs: 7, prune: 0.5, ..parsed("").unwrap() };
        assert_eq!(options, expected);
        assert_eq!(parsed("").unwrap().kept(), 0.7);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (line, expected) in [
            ("--epochs 0", "'--epochs <N>'"),
            ("--sequences 199", "'--sequences <N>'"),
            ("--prune 1", "'--prune <SHARE>': expected a share such as 0.3, got 1"),
            ("--prune NaN", "'--prune <SHARE>': expected a share such as 0.3, got NaN"),
            ("--device gpu", "'--device <DEVICE>': expected cpu or cuda, got gpu"),
        ] {
            let error = parsed(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
