//! The arguments of `data-diet filter`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use data_diet::manifest::{ImageFiles, Manifest, ManifestCompression, ManifestFormat};

use super::choice::Choice;

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("target").required(true).args(["output", "dry_run"])),
    after_help = "Examples:\n\n  \
        Keep the hardest 70 % by EL2N (the lowest 30 % are pruned, as in the paper):\n    \
        data-diet filter --scores scores.parquet --manifest train.csv --key id --by el2n \\\n        \
        --keep highest --fraction 0.7 -o kept.csv\n\n  \
        Keep what was forgotten at least once, from a pipe to a pipe:\n    \
        cat train.jsonl | data-diet filter --scores scores.parquet --manifest - --format jsonl \\\n        \
        --key id --by forgetting --min 1 -o - > kept.jsonl\n\n  \
        The other choices, in place of `--keep highest --fraction 0.7`:\n    \
        --keep random --fraction 0.7 --seed 1         the baseline to compare with\n    \
        --keep window --offset 10% --fraction 0.5     skip the easiest tenth\n    \
        --keep stratified --fraction 0.1 --drop-hardest 30%\n                                                  \
        coverage-centric: all the range of scores\n    \
        --by dual --keep beta --fraction 0.1          DUAL: the more is pruned, the easier\n\n  \
        Drop what is probably mislabeled first, then keep the hard half of all:\n    \
        ... --by el2n --drop-lowest 5% --drop-by aum --keep highest --fraction 0.5 ...\n\n  \
        Equal numbers of every class; or at least a fifth of every class:\n    \
        ... --keep highest --count 5000 --classes balanced ...\n    \
        ... --keep highest --fraction 0.5 --class-floor 20% ...\n\n  \
        Keys that are file names, tied to ids by a table of both; a directory of shards:\n    \
        data-diet filter --scores scores.parquet --manifest train/ --key path \\\n        \
        --key-map ids.csv --by el2n --keep highest --fraction 0.7 -o train-kept/\n\n  \
        An image folder with metadata (Hugging Face) or a directory for each class (torchvision);\n  \
        the kept images are linked into the output:\n    \
        data-diet filter --scores scores.parquet --manifest pets/train --by el2n --keep highest \\\n        \
        --fraction 0.7 -o pets-kept/train\n\n  \
        Tar shards (webdataset), their samples numbered over all shards:\n    \
        data-diet filter --scores scores.parquet --manifest shards/ --by el2n --keep highest \\\n        \
        --fraction 0.7 -o shards-kept/\n\n  \
        Columns separated by semicolons; and the rows that are not kept in a file of their own:\n    \
        ... --delimiter ';' -o kept.csv --rejected rejected.csv ...\n\n  \
        Do the same again, as kept.recipe.json beside the first output says:\n    \
        data-diet filter --recipe kept.recipe.json -o again.csv\n\n\
        An AMOUNT is a share of all examples with a score, 0.05 or 5%, or a number of examples, 500. \
        Shares always mean all examples with a score, whatever was dropped before: \
        `--drop-highest 5% --keep highest --fraction 0.5` keeps half of all. Ties go by example id; \
        an example without a score is never chosen, and counted.\n\n\
        Files named .csv.gz, .jsonl.zst and so on are read and written compressed. The files of a \
        directory are taken in the order of their names, byte by byte, and their rows are numbered \
        on; its output is a directory of the same names.\n\n\
        EL2N at initialization or after very few steps can prune badly, and the highest scores \
        can be wrong labels: look at them with `data-diet inspect` first."
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Filter {
    /// A table of scores: written by `data-diet scores`, or any Parquet with an `example` column
    /// [default with --recipe: the file that the recipe names]
    #[arg(long, value_name = "FILE", required_unless_present = "recipe")]
    pub(crate) scores: Option<PathBuf>,
    /// The manifest to filter: a file, a directory of files, or `-` for standard input [default
    /// with --recipe: the manifest that the recipe names]
    #[arg(long, value_name = "PATH", required_unless_present = "recipe")]
    pub(crate) manifest: Option<PathBuf>,
    /// The column of the manifest with the example id [default: the row number, from 0]
    #[arg(long, value_name = "COLUMN")]
    pub(crate) key: Option<String>,
    /// A table that maps text keys to example ids: CSV, TSV, JSONL or Parquet
    #[arg(long, value_name = "FILE")]
    pub(crate) key_map: Option<PathBuf>,
    /// The column of the key map with the keys [default: the name given by --key]
    #[arg(long, value_name = "COLUMN", requires = "key_map")]
    pub(crate) key_map_key: Option<String>,
    /// The column of the key map with the example ids
    #[arg(long, value_name = "COLUMN", requires = "key_map", default_value = "example")]
    pub(crate) key_map_example: String,
    /// The format of the manifest [default: by its extension]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// The manifest has no header; --key is a column number, from 0
    #[arg(long)]
    pub(crate) no_header: bool,
    /// What separates the columns of delimited text: one character, or `tab` [default: a comma in
    /// CSV, a tab in TSV]
    #[arg(long, value_name = "CHAR", value_parser = delimiter)]
    pub(crate) delimiter: Option<char>,
    /// `"` quotes fields [default: in CSV]
    #[arg(long, conflicts_with = "no_quotes")]
    pub(crate) quotes: bool,
    /// `"` is an ordinary character [default: in TSV]
    #[arg(long)]
    pub(crate) no_quotes: bool,
    /// How much memory decompression may take, such as 2GiB; `zstd --long=31` needs that
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub(crate) memory: u64,
    /// What to do with rows that repeat an earlier row's id
    #[arg(long, value_name = "POLICY", default_value = "fail")]
    pub(crate) duplicates: Duplicates,
    /// What to do with rows whose example has no score
    #[arg(long, value_name = "POLICY", default_value = "fail")]
    pub(crate) unscored: Unscored,
    /// Add the score to every kept row as a column; or these scores, separated by commas
    #[arg(long, value_name = "SCORES", num_args = 0..=1, value_delimiter = ',')]
    pub(crate) with_scores: Option<Vec<String>>,
    /// Where to write the kept rows; `-` for standard output. Appears when complete
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Also write the rows that are not kept
    #[arg(long, value_name = "PATH", requires = "output")]
    pub(crate) rejected: Option<PathBuf>,
    /// Replace outputs that exist
    #[arg(long)]
    pub(crate) force: bool,
    /// How the kept images of an image folder get into the output
    #[arg(long, value_name = "HOW", default_value = "link")]
    pub(crate) images: Images,
    /// How to compress text on standard output [default: as the manifest]
    #[arg(long, value_name = "HOW")]
    pub(crate) compress: Option<Compress>,
    /// Only report what would be kept
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// Take the selection, and how to read the manifest, from this recipe
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Recipes",
        conflicts_with_all = [
            "Choice", "key", "key_map", "key_map_key", "key_map_example", "format", "no_header",
            "delimiter", "quotes", "no_quotes", "duplicates", "unscored", "with_scores",
        ]
    )]
    pub(crate) recipe: Option<PathBuf>,
    /// Fail if the scores are not byte for byte those of the recipe [default: warn]
    #[arg(long, help_heading = "Recipes")]
    pub(crate) exact: bool,
    /// Write the recipe here [default: beside the output, kept.recipe.json for kept.csv; none with
    /// --dry-run or `-o -`]
    #[arg(long, value_name = "FILE", help_heading = "Recipes")]
    pub(crate) save_recipe: Option<PathBuf>,
    /// Write no recipe
    #[arg(long, conflicts_with = "save_recipe", help_heading = "Recipes")]
    pub(crate) no_recipe: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    Csv,
    Tsv,
    Jsonl,
    Parquet,
    /// A directory of images and their metadata, as the Hugging Face libraries read it
    Imagefolder,
    /// A directory for each class with its images, as torchvision's `ImageFolder` reads them
    Classfolders,
    /// A directory of tar files of samples, as the webdataset library reads them
    Webdataset,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Images {
    /// Hard links; copies where the file system cannot link
    Link,
    /// Copies
    Copy,
    /// Not at all: metadata alone
    Leave,
}

impl From<Images> for ImageFiles {
    fn from(images: Images) -> Self {
        match images {
            Images::Link => Self::Link,
            Images::Copy => Self::Copy,
            Images::Leave => Self::Leave,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Compress {
    Plain,
    Gzip,
    Zstd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Unscored {
    /// Fail, and say how many there are
    Fail,
    /// Keep them
    Keep,
    /// Prune them
    Prune,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Duplicates {
    /// Fail, and say how many there are
    Fail,
    /// Treat them all alike
    Allow,
}

impl Filter {
    /// The manifest's format, if --format names a file format.
    pub(crate) fn file_format(&self) -> Option<ManifestFormat> {
        self.format.and_then(|format| match format {
            Format::Csv => Some(ManifestFormat::Csv),
            Format::Tsv => Some(ManifestFormat::Tsv),
            Format::Jsonl => Some(ManifestFormat::Jsonl),
            Format::Parquet => Some(ManifestFormat::Parquet),
            Format::Imagefolder => None,
            Format::Classfolders => Some(ManifestFormat::ClassFolders),
            Format::Webdataset => Some(ManifestFormat::WebDataset),
        })
    }

    /// The key column; an image folder with a key map has one by default.
    pub(crate) fn key(&self, image_folder: bool) -> Option<&str> {
        let images = image_folder && self.key_map.is_some();
        self.key.as_deref().or(images.then_some("file_name"))
    }

    /// How to compress standard output; `None` means like the manifest.
    pub(crate) fn compression(&self) -> Option<ManifestCompression> {
        self.compress.map(|compress| match compress {
            Compress::Plain => ManifestCompression::Plain,
            Compress::Gzip => ManifestCompression::Gzip,
            Compress::Zstd => ManifestCompression::Zstd,
        })
    }

    /// The scores to add to every kept row.
    pub(crate) fn added_scores(&self) -> Vec<String> {
        match &self.with_scores {
            None => Vec::new(),
            Some(names) if names.is_empty() => self.choice.by.clone().into_iter().collect(),
            Some(names) => names.clone(),
        }
    }

    /// How to read a manifest of this format.
    pub(crate) fn manifest(&self, format: ManifestFormat, key: Option<&str>) -> Manifest {
        let unscored = match self.unscored {
            Unscored::Fail => data_diet::manifest::Unscored::Fail,
            Unscored::Keep => data_diet::manifest::Unscored::Keep,
            Unscored::Prune => data_diet::manifest::Unscored::Prune,
        };
        let duplicates = match self.duplicates {
            Duplicates::Fail => data_diet::manifest::Duplicates::Fail,
            Duplicates::Allow => data_diet::manifest::Duplicates::Allow,
        };
        let mut manifest = Manifest::new(format);
        if self.quotes || self.no_quotes {
            manifest = manifest.quotes(self.quotes);
        }
        if let Some(delimiter) = self.delimiter {
            manifest = manifest.delimiter(delimiter);
        }
        let manifest = manifest.header(!self.no_header).unscored(unscored).duplicates(duplicates);
        match key {
            Some(key) => manifest.key(key),
            None => manifest,
        }
    }
}

fn delimiter(text: &str) -> Result<char, String> {
    let mut characters = text.chars();
    match (text, characters.next(), characters.next()) {
        ("tab" | "\\t", ..) => Ok('\t'),
        (_, Some(one), None) if one.is_ascii() => Ok(one),
        _ => Err("expected one ASCII character such as `;`, or `tab`".to_owned()),
    }
}

/// Parses a number of bytes.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "expected a number of bytes, such as 512MiB or 2GiB".to_owned();
    let unit_at = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_not_a_number| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_and_sizes_are_parsed() {
        assert_eq!([";", "tab", "\\t", "|"].map(delimiter), [';', '\t', '\t', '|'].map(Ok));
        assert!(["", ";;", "§"].iter().all(|text| delimiter(text).is_err()));
        let sizes = ["512", "4KiB", "2 GiB", "1g"].map(size);
        assert_eq!(sizes, [512, 4096, 2 << 30, 1 << 30].map(Ok));
        assert!(["", "x", "1TB", "-1", "99999999999G"].iter().all(|text| size(text).is_err()));
    }
}
