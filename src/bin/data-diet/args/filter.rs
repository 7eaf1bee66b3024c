//! The grammar of `data-diet filter`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use data_diet::{Amount, Manifest, ManifestCompression, ManifestFormat, Rule};

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
        --key id --by forgetting --min 1 -o - > kept.jsonl\n\n  \
        Keys that are file names, tied to ids by a table of both; a directory of shards:\n    \
        data-diet filter --scores scores.parquet --manifest train/ --key path \\\n        \
        --key-map ids.csv --by el2n --keep highest --fraction 0.7 -o train-kept/\n\n  \
        An image folder (Hugging Face); images stay where they are, so put the output's\n  \
        metadata beside them, or link or copy those that it names to the output:\n    \
        data-diet filter --scores scores.parquet --manifest pets/train --format imagefolder \\\n        \
        --by el2n --keep highest --fraction 0.7 -o pets-kept/train\n\n\
        Files named .csv.gz, .jsonl.zst and so on are read and written compressed. The files of a \
        directory are taken in the order of their names, byte by byte, and their rows are numbered \
        on; its output is a directory of the same names.\n\n\
        EL2N at initialisation or after very few steps can prune badly, and the highest scores \
        can be wrong labels: look at them with `data-diet inspect` first."
)]
pub(crate) struct Filter {
    /// A table of scores, as `data-diet scores` writes it, or any Parquet with an `example` column
    #[arg(long, value_name = "FILE")]
    pub(crate) scores: PathBuf,
    /// The manifest to filter: a file, a directory of files, or `-` for standard input
    #[arg(long, value_name = "PATH")]
    pub(crate) manifest: PathBuf,
    /// The score to choose by: its mean over runs, or a column by its full name
    #[arg(long, value_name = "SCORE")]
    pub(crate) by: String,
    /// The manifest's column with the example id [default: the number of the row, from 0]
    #[arg(long, value_name = "COLUMN")]
    pub(crate) key: Option<String>,
    /// A table that ties keys that are texts to example ids: CSV, TSV, JSONL or Parquet
    #[arg(long, value_name = "FILE")]
    pub(crate) key_map: Option<PathBuf>,
    /// The key map's column of keys [default: the name that `--key` gives]
    #[arg(long, value_name = "COLUMN", requires = "key_map")]
    pub(crate) key_map_key: Option<String>,
    /// The key map's column of example ids
    #[arg(long, value_name = "COLUMN", requires = "key_map", default_value = "example")]
    pub(crate) key_map_example: String,
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
    /// Give every kept row its score as a further column; or these scores, separated by commas
    #[arg(long, value_name = "SCORES", num_args = 0..=1, value_delimiter = ',')]
    pub(crate) with_scores: Option<Vec<String>>,
    /// Where to write the kept rows; `-` for standard output. Appears when complete
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// How to compress text on standard output [default: as the manifest]
    #[arg(long, value_name = "HOW")]
    pub(crate) compress: Option<Compress>,
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
    /// A directory of images and their metadata, as the Hugging Face libraries read it
    Imagefolder,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Compress {
    Plain,
    Gzip,
    Zstd,
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
    /// The manifest's format, if an option names one that files have.
    pub(crate) fn file_format(&self) -> Option<ManifestFormat> {
        self.format.and_then(|format| match format {
            Format::Csv => Some(ManifestFormat::Csv),
            Format::Tsv => Some(ManifestFormat::Tsv),
            Format::Jsonl => Some(ManifestFormat::Jsonl),
            Format::Parquet => Some(ManifestFormat::Parquet),
            Format::Imagefolder => None,
        })
    }

    /// The column of keys; an image folder whose keys a map knows has one without being told.
    pub(crate) fn key(&self, image_folder: bool) -> Option<&str> {
        let images = image_folder && self.key_map.is_some();
        self.key.as_deref().or(images.then_some("file_name"))
    }

    /// How to compress what goes to standard output; `None`: as the manifest is.
    pub(crate) fn compression(&self) -> Option<ManifestCompression> {
        self.compress.map(|compress| match compress {
            Compress::Plain => ManifestCompression::Plain,
            Compress::Gzip => ManifestCompression::Gzip,
            Compress::Zstd => ManifestCompression::Zstd,
        })
    }

    /// The scores to add to every kept row.
    pub(crate) fn added_scores(&self) -> Vec<&str> {
        match &self.with_scores {
            None => Vec::new(),
            Some(names) if names.is_empty() => vec![&self.by],
            Some(names) => names.iter().map(String::as_str).collect(),
        }
    }

    /// How to read a manifest of this format.
    pub(crate) fn manifest(&self, format: ManifestFormat, key: Option<&str>) -> Manifest {
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
        match key {
            Some(key) => manifest.key(key),
            None => manifest,
        }
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
