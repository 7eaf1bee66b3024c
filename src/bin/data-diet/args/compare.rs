//! The arguments of `data-diet compare`.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, ValueEnum};
use data_diet::observe::Phase;
use data_diet::scores::agreement::{AgreementOptions, Bootstrap, SplitOptions};

use super::Arguments;
use super::choice::any_share;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\n  \
    Do EL2N and forgetting agree, and would they keep the same examples?\n    \
    data-diet compare --scores scores.parquet el2n forgetting\n\n  \
    The same score of two experiments, of which the easiest half is kept:\n    \
    data-diet compare a/scores.parquet:el2n b/scores.parquet:el2n --keep lowest --fractions 0.5\n\n  \
    How early is early enough? Each epoch against the last one:\n    \
    data-diet compare runs/digits --score el2n --between epochs\n\n  \
    How many seeds are enough? Each two runs, and the mean over 1, 2, ... runs against the others':\n    \
    data-diet compare runs/digits --score el2n --between seeds\n\n\
    spearman, kendall   rank correlations in -1..=1, ties included (tau-b); 0 for unrelated scores\n\
    keep 30 %           what the kept 30 % of the one and of the other have in common, as a share;\n\
    \x20                   two random choices share 30 %\n\n\
    Below each number is its interval from resampling the examples. It says how well the number is \
    known from this data set, not how much it varies from seed to seed: more runs say that.")]
pub(crate) struct Compare {
    /// Two or more scores as `FILE:SCORE`, or as `SCORE` with --scores; with --between, an experiment
    /// directory such as runs/digits
    #[arg(required = true, value_name = "WHAT")]
    pub(crate) what: Vec<String>,
    /// The table with every SCORE that is given without a file: written by `data-diet scores`, or
    /// any Parquet with an `example` column
    #[arg(long, value_name = "FILE", conflicts_with = "between")]
    pub(crate) scores: Option<PathBuf>,
    /// Compare a score with itself: each epoch with the last, or runs of different seeds
    #[arg(long, value_name = "WHAT", requires = "score")]
    pub(crate) between: Option<Between>,
    /// The score to compare with itself; for epochs a signal such as el2n
    #[arg(long, value_name = "SCORE", requires = "between")]
    pub(crate) score: Option<String>,
    /// Only these runs; repeat for several
    #[arg(long = "run", value_name = "NAME", requires = "between")]
    pub(crate) runs: Vec<String>,
    /// The phase whose epochs are compared [default: the first of score, train
    /// and `held_out` that was recorded]
    #[arg(long, value_name = "PHASE", requires = "between")]
    pub(crate) phase: Option<Phase>,
    /// How much to keep: shares such as 0.3 or 30%
    #[arg(long, value_name = "F,...", value_delimiter = ',', default_value = "0.3,0.5,0.7",
        value_parser = any_share)]
    pub(crate) fractions: Vec<f64>,
    /// Which end is kept
    #[arg(long, value_name = "WHICH", default_value = "highest")]
    pub(crate) keep: Keep,
    /// How many bootstrap resamples the intervals come from; 0 for no intervals
    #[arg(long, value_name = "B", default_value_t = 1000)]
    pub(crate) bootstrap: usize,
    /// The share of resamples that an interval holds, such as 0.95 or 95%
    #[arg(long, value_name = "L", default_value = "0.95", value_parser = any_share)]
    pub(crate) level: f64,
    /// The seed of the resamples and of --splits
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub(crate) seed: u64,
    /// For each number of runs, how many ways to split the runs in two at most
    #[arg(long, value_name = "N", default_value_t = 30, requires = "between")]
    pub(crate) splits: usize,
    /// Print JSON; NaN is null
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Between {
    /// Each epoch with the last one
    Epochs,
    /// Every two runs, and the mean over some runs with the mean over the others
    Seeds,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Keep {
    Highest,
    Lowest,
}

impl Keep {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Highest => "highest",
            Self::Lowest => "lowest",
        }
    }
}

/// What is compared.
#[derive(Debug)]
pub(crate) enum Subject<'a> {
    /// Scores: the file of each, its name in the file, and its name on the command line.
    Scores(Vec<(&'a Path, &'a str, &'a str)>),
    /// A score of an experiment, compared with itself.
    Experiment { path: &'a Path, score: &'a str, between: Between },
}

impl Compare {
    /// Returns what to compare, or an error like those of the parser.
    pub(crate) fn subject(&self) -> Result<Subject<'_>, clap::Error> {
        let wrong = |kind, message: String| Err(Arguments::command().error(kind, message));
        if let (Some(between), Some(score)) = (self.between, &self.score) {
            let [path] = self.what.as_slice() else {
                let got = self.what.len();
                let message = format!("--between: expected one experiment directory, got {got}");
                return wrong(ErrorKind::WrongNumberOfValues, message);
            };
            if self.phase.is_some() && between == Between::Seeds {
                let message = "--phase: only epochs have one; say `--score el2n_train_epoch_3` to \
                               compare it between seeds";
                return wrong(ErrorKind::ArgumentConflict, message.to_owned());
            }
            return Ok(Subject::Experiment { path: Path::new(path), score, between });
        }
        let mut scores = Vec::new();
        for what in &self.what {
            scores.push(match (what.rsplit_once(':'), &self.scores) {
                (Some((file, score)), _) if !file.is_empty() && !score.is_empty() => {
                    (Path::new(file), score, what.as_str())
                }
                (None, Some(file)) => (file.as_path(), what.as_str(), what.as_str()),
                _ if Path::new(what).is_dir() => {
                    let message = format!(
                        "{what} is a directory; to compare a score of an experiment with itself, add \
                         --score NAME and --between epochs or seeds"
                    );
                    return wrong(ErrorKind::MissingRequiredArgument, message);
                }
                _ => {
                    let message =
                        format!("expected FILE:SCORE, or SCORE with --scores FILE, got `{what}`");
                    return wrong(ErrorKind::ValueValidation, message);
                }
            });
        }
        if let [(_, _, only)] = scores[..] {
            let message = format!("expected two or more scores to compare, got only `{only}`");
            return wrong(ErrorKind::WrongNumberOfValues, message);
        }
        Ok(Subject::Scores(scores))
    }

    pub(crate) fn options(&self) -> AgreementOptions {
        let mut options = AgreementOptions::default();
        options.fractions.clone_from(&self.fractions);
        options.keep = match self.keep {
            Keep::Highest => data_diet::scores::agreement::Keep::Highest,
            Keep::Lowest => data_diet::scores::agreement::Keep::Lowest,
        };
        let mut bootstrap = Bootstrap::default();
        bootstrap.resamples = self.bootstrap;
        bootstrap.level = self.level;
        bootstrap.seed = self.seed;
        options.bootstrap = (self.bootstrap > 0).then_some(bootstrap);
        options
    }

    pub(crate) fn splits(&self) -> SplitOptions {
        let mut splits = SplitOptions::default();
        splits.most = self.splits;
        splits.seed = self.seed;
        splits
    }
}
