//! The grammar of `data-diet filter`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use data_diet::{Amount, Manifest, ManifestFormat, Rule};

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("rule").required(true).multiple(true).args(["min", "max", "keep"])),
    group(ArgGroup::new("amount").args(["fraction", "count"])),
    group(ArgGroup::new("target").required(true).args(["output", "dry_run"])),
    after_help = "Examples:\n\n  \
        Keep the hardest 70 % by EL2N (the lowest 30 % are pruned, as in the paper):\n    \
        data-diet filter --scores scores.parquet --manifest train.csv --key id --by el2n \\\n        \
        --keep highest --fraction 0.7 -o kept.csv\n\n  \
        Keep what was forgotten at least once, from a pipe to a pipe:\n    \
        cat train.jsonl | data-diet filter --scores scores.parquet --manifest - --format jsonl \\\n        \
        --key id --by forgetting --min 1 -o - > kept.jsonl\n\n\
        EL2N at initialisation or after very few steps can prune badly, and the highest scores \
        can be wrong labels: look at them with `data-diet inspect` first."
)]
pub(crate) struct Filter {
    /// A table of scores, as `data-diet scores` writes it, or any Parquet with an `example` column
    #[arg(long, value_name = "FILE")]
    pub(crate) scores: PathBuf,
    /// The manifest to filter; `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: PathBuf,
    /// The score to choose by: its mean over runs, or a column by its full name
    #[arg(long, value_name = "SCORE")]
    pub(crate) by: String,
    /// The manifest's column with the example id [default: the number of the row, from 0]
    #[arg(long, value_name = "COLUMN")]
    pub(crate) key: Option<String>,
    /// The manifest's format [default: by its extension]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Keep scores of at least this
    #[arg(long, value_name = "X", allow_negative_numbers = true, conflicts_with = "keep")]
    pub(crate) min: Option<f64>,
    /// Keep scores of at most this
    #[arg(long, value_name = "X", allow_negative_numbers = true, conflicts_with = "keep")]
    pub(crate) max: Option<f64>,
    /// Keep the highest or lowest scores, or a random part as the baseline
    #[arg(long, value_name = "WHICH", requires = "amount")]
    pub(crate) keep: Option<Keep>,
    /// How much to keep, of all examples with a score, from 0 to 1
    #[arg(long, value_name = "F", requires = "keep")]
    pub(crate) fraction: Option<f64>,
    /// How many to keep
    #[arg(long, value_name = "N", requires = "keep")]
    pub(crate) count: Option<usize>,
    /// The seed of `--keep random`
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Delimited text has no line of column names; `--key` is a column's number, from 0
    #[arg(long)]
    pub(crate) no_header: bool,
    /// `"` is an ordinary character, as in some TSV files
    #[arg(long)]
    pub(crate) no_quotes: bool,
    /// What to do with rows that repeat an earlier row's id
    #[arg(long, value_name = "POLICY", default_value = "fail")]
    pub(crate) duplicates: Duplicates,
    /// What to do with rows whose example has no score
    #[arg(long, value_name = "POLICY", default_value = "fail")]
    pub(crate) unscored: Unscored,
    /// Where to write the kept rows; `-` for standard output. Appears when complete
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Only say what would be kept
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    Csv,
    Tsv,
    Jsonl,
    Parquet,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Keep {
    Highest,
    Lowest,
    Random,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Unscored {
    /// Stop, and say how many there are
    Fail,
    /// Keep them
    Keep,
    /// Prune them
    Prune,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Duplicates {
    /// Stop, and say how many there are
    Fail,
    /// Decide about all of them alike
    Allow,
}

impl Filter {
    /// How to read the manifest.
    pub(crate) fn manifest(&self) -> data_diet::Result<Manifest> {
        let format = match self.format {
            Some(Format::Csv) => ManifestFormat::Csv,
            Some(Format::Tsv) => ManifestFormat::Tsv,
            Some(Format::Jsonl) => ManifestFormat::Jsonl,
            Some(Format::Parquet) => ManifestFormat::Parquet,
            None => ManifestFormat::of_path(&self.manifest)?,
        };
        let unscored = match self.unscored {
            Unscored::Fail => data_diet::Unscored::Fail,
            Unscored::Keep => data_diet::Unscored::Keep,
            Unscored::Prune => data_diet::Unscored::Prune,
        };
        let duplicates = match self.duplicates {
            Duplicates::Fail => data_diet::Duplicates::Fail,
            Duplicates::Allow => data_diet::Duplicates::Allow,
        };
        let manifest = Manifest::new(format)
            .header(!self.no_header)
            .quotes(!self.no_quotes)
            .unscored(unscored)
            .duplicates(duplicates);
        Ok(match &self.key {
            Some(key) => manifest.key(key),
            None => manifest,
        })
    }

    /// The rule that the options describe. The grammar has made sure that there is one.
    pub(crate) fn rule(&self) -> Rule {
        let amount = match (self.fraction, self.count) {
            (Some(fraction), _) => Amount::Fraction(fraction),
            (None, count) => Amount::Count(count.unwrap_or(0)),
        };
        match self.keep {
            Some(Keep::Highest) => Rule::Highest(amount),
            Some(Keep::Lowest) => Rule::Lowest(amount),
            Some(Keep::Random) => Rule::Random { amount, seed: self.seed },
            None => Rule::Threshold { min: self.min, max: self.max },
        }
    }
}
