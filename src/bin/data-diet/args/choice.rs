//! Which examples `data-diet filter` and `data-diet select` keep: turns options into a recipe.

use std::str::FromStr;

use clap::{ArgGroup, Args, ValueEnum};
use data_diet::manifest::recipe::{Recipe, Step};
use data_diet::selection::{self, Classes};
use data_diet::{Amount, Rule};

/// The options that a recipe replaces.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Choice",
    group(
        ArgGroup::new("rule")
            .required(true)
            .multiple(true)
            .args(["min", "max", "keep", "recipe"])
    ),
    group(ArgGroup::new("amount").args(["fraction", "count"])),
    group(ArgGroup::new("drop").multiple(true).args(["drop_highest", "drop_lowest", "drop_hardest"])),
)]
pub(crate) struct Choice {
    /// The score to choose by: its mean over runs, or a column by its full name
    #[arg(long, value_name = "SCORE", required_unless_present = "recipe")]
    pub(crate) by: Option<String>,
    /// Keep scores of at least this
    #[arg(long, value_name = "X", allow_negative_numbers = true, conflicts_with = "keep")]
    pub(crate) min: Option<f64>,
    /// Keep scores of at most this
    #[arg(long, value_name = "X", allow_negative_numbers = true, conflicts_with = "keep")]
    pub(crate) max: Option<f64>,
    /// What to keep
    #[arg(long, value_name = "WHICH", requires = "amount")]
    pub(crate) keep: Option<Keep>,
    /// How much to keep: a share of all examples with a score, such as 0.7 or 70%
    #[arg(long, value_name = "F", requires = "keep")]
    pub(crate) fraction: Option<Share>,
    /// How many examples to keep
    #[arg(long, value_name = "N", requires = "keep")]
    pub(crate) count: Option<usize>,
    /// With `--keep window`: how many of the lowest scores to skip
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) offset: Option<Part>,
    /// With `--keep stratified`: how many strata [default: 50]
    #[arg(long, value_name = "K")]
    pub(crate) strata: Option<usize>,
    /// With `--keep beta`: the score that is the prediction mean of an example [default:
    /// `cartography_confidence`]
    #[arg(long, value_name = "SCORE")]
    pub(crate) prediction_mean: Option<String>,
    /// With `--keep beta`: the exponent `c_D`; the higher, the later easy examples are preferred
    /// [default: 4]
    #[arg(long, value_name = "C", allow_negative_numbers = true)]
    pub(crate) c_d: Option<f64>,
    /// The seed of `--keep random`, `--keep stratified` and `--keep beta` [default: 0]
    #[arg(long, value_name = "SEED")]
    pub(crate) seed: Option<u64>,
    /// Drop the highest scores first
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) drop_highest: Option<Part>,
    /// Drop the lowest scores first
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) drop_lowest: Option<Part>,
    /// Drop the hard end of the score first: the highest EL2N, the lowest margin (beta of
    /// coverage-centric selection)
    #[arg(long, value_name = "AMOUNT", conflicts_with_all = ["drop_highest", "drop_lowest"])]
    pub(crate) drop_hardest: Option<Part>,
    /// The score to drop by [default: the score of --by]
    #[arg(long, value_name = "SCORE", requires = "drop")]
    pub(crate) drop_by: Option<String>,
    /// Which end of the score is hard [default: known for the scores of data-diet]
    #[arg(long, value_name = "END", requires = "drop_hardest")]
    pub(crate) hard: Option<HardEnd>,
    /// How to divide what is kept among the classes; what is dropped is then divided in proportion
    #[arg(long, value_name = "HOW", conflicts_with = "class_floor")]
    pub(crate) classes: Option<Division>,
    /// Keep at least this many of every class, or this share of its examples with a score; other
    /// classes give up as many
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) class_floor: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Keep {
    /// The highest scores
    Highest,
    /// The lowest scores
    Lowest,
    /// Skip the lowest scores (--offset), then keep the next lowest
    Window,
    /// A random subset, the baseline
    Random,
    /// Examples from the whole range of scores, see --strata and --drop-hardest
    Stratified,
    /// Draws by score and difficulty: the more is pruned, the easier (DUAL), see --prediction-mean
    Beta,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum HardEnd {
    High,
    Low,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Division {
    /// Equal numbers of every class; what a small class lacks goes to the others
    Balanced,
    /// The same share of every class
    Proportional,
}

/// A share (`0.05`, `5%`) or a number of examples (`500`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part(Amount);

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a share such as 0.05 or 5%, or a number of examples such as 500";
        if let Ok(count) = text.parse() {
            return Ok(Self(Amount::Count(count)));
        }
        let share = share(text).ok_or_else(wrong)?;
        Ok(Self(Amount::Fraction(share)))
    }
}

/// A share: `0.7`, `70%` or `70 %`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share(f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a share from 0 to 1 such as 0.7, or from 0% to 100% such as 70%";
        share(text).map(Self).ok_or_else(|| wrong().to_owned())
    }
}

fn share(text: &str) -> Option<f64> {
    any_share(text).ok().filter(|share| (0.0..=1.0).contains(share))
}

/// Parses a share whose range the library checks.
pub(super) fn any_share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let number = number.parse::<f64>();
    number
        .map(|number| number / unit)
        .map_err(|_not_a_number| format!("expected a share such as 0.7 or 70%, got `{text}`"))
}

impl Choice {
    /// Returns the recipe that the options describe, or what is wrong with them. The grammar
    /// guarantees that there is a score and a rule.
    pub(crate) fn recipe(&self) -> Result<Recipe, String> {
        self.check()?;
        let by = self.by.as_deref().unwrap_or_default();
        let amount = match (self.fraction, self.count) {
            (Some(Share(fraction)), _) => Amount::Fraction(fraction),
            (None, count) => Amount::Count(count.unwrap_or(0)),
        };
        let seed = self.seed.unwrap_or(0);
        let rule = match (self.keep, self.offset) {
            (Some(Keep::Highest), _) => Rule::Highest(amount),
            (Some(Keep::Lowest), _) => Rule::Lowest(amount),
            (Some(Keep::Window), offset) => {
                let offset = offset.ok_or("--keep window needs --offset, how many to skip")?.0;
                Rule::Window { offset, keep: amount }
            }
            (Some(Keep::Random), _) => Rule::Random { amount, seed },
            (Some(Keep::Stratified), _) => {
                Rule::Stratified { amount, strata: self.strata.unwrap_or(50), seed }
            }
            (Some(Keep::Beta), _) => Rule::Beta { amount, c_d: self.c_d.unwrap_or(4.0), seed },
            (None, _) => Rule::Threshold { min: self.min, max: self.max },
        };
        let (dropped, kept) = match (self.classes, self.class_floor) {
            // A class must not lose more than its share because it is hard.
            (Some(Division::Balanced), _) => (Classes::Proportional, Classes::Balanced),
            (Some(Division::Proportional), _) => (Classes::Proportional, Classes::Proportional),
            (None, Some(floor)) => (Classes::Ignored, Classes::AtLeast(floor.0)),
            (None, None) => (Classes::Ignored, Classes::Ignored),
        };
        let drop_by = self.drop_by.as_deref().unwrap_or(by);
        let mut recipe = Recipe::new();
        if let Some(Part(amount)) = self.drop_hardest {
            let hard = match self.hard {
                Some(HardEnd::High) => Some(selection::HardEnd::High),
                Some(HardEnd::Low) => Some(selection::HardEnd::Low),
                None => selection::HardEnd::for_score(drop_by),
            };
            let unknown =
                || format!("--drop-hardest: which end of `{drop_by}` is hard? Say --hard");
            let rule = hard.ok_or_else(unknown)?.hardest(amount);
            recipe = recipe.then(Step::drop(drop_by, rule).classes(dropped));
        }
        if let Some(Part(amount)) = self.drop_highest {
            recipe = recipe.then(Step::drop(drop_by, Rule::Highest(amount)).classes(dropped));
        }
        if let Some(Part(amount)) = self.drop_lowest {
            recipe = recipe.then(Step::drop(drop_by, Rule::Lowest(amount)).classes(dropped));
        }
        let mut keep = Step::keep(by, rule).classes(kept);
        if self.keep == Some(Keep::Beta) {
            let mean = self.prediction_mean.as_deref().unwrap_or("cartography_confidence");
            keep = keep.prediction_mean(mean);
        }
        Ok(recipe.then(keep))
    }

    /// An option without effect is a mistake.
    fn check(&self) -> Result<(), String> {
        let keep = |keeps: &[Keep]| self.keep.is_some_and(|keep| keeps.contains(&keep));
        for (given, serves, option, with) in [
            (self.offset.is_some(), keep(&[Keep::Window]), "--offset", "--keep window"),
            (self.strata.is_some(), keep(&[Keep::Stratified]), "--strata", "--keep stratified"),
            (
                self.seed.is_some(),
                keep(&[Keep::Random, Keep::Stratified, Keep::Beta]),
                "--seed",
                "--keep random, --keep stratified or --keep beta",
            ),
            (
                self.prediction_mean.is_some(),
                keep(&[Keep::Beta]),
                "--prediction-mean",
                "--keep beta",
            ),
            (self.c_d.is_some(), keep(&[Keep::Beta]), "--c-d", "--keep beta"),
        ] {
            if given && !serves {
                return Err(format!("{option} goes with {with}"));
            }
        }
        Ok(())
    }
}
