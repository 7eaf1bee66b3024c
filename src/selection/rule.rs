//! Which examples to choose: by their scores, and with what regard to their classes.

use serde::{Deserialize, Serialize};

use super::{Amount, number};
use crate::error::{Error, Result};

/// Which of the scored examples to choose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Rule {
    /// The highest scores; the lowest-scored examples are pruned, as in the Data Diet paper.
    Highest(Amount),
    /// The lowest scores.
    Lowest(Amount),
    /// What follows after the lowest scores are skipped, as in section 4 of the Data Diet paper, where
    /// the window that trains best need not lie at the end.
    Window {
        /// How many of the lowest scores to skip.
        offset: Amount,
        /// How many to choose from there on.
        keep: Amount,
    },
    /// Scores in `min..=max`, either side open where it is `None`.
    Threshold {
        /// The lowest score that is chosen.
        #[serde(with = "number::optional", default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        /// The highest score that is chosen.
        #[serde(with = "number::optional", default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
    },
    /// A uniformly random subset that depends on the seed and the scored ids alone: the baseline that
    /// any score has to beat. More examples with the same seed contain the fewer.
    Random {
        /// How many to choose.
        amount: Amount,
        /// The same seed gives the same subset.
        seed: u64,
    },
    /// Examples from the whole range of scores (Zheng et al. 2023, *Coverage-centric Coreset
    /// Selection*, algorithm 1): the range of the scores, from the lowest to the highest, is cut into
    /// strata of equal width. The stratum with the fewest examples is served first and gets the
    /// whole part of an equal share of what is left to choose, or all it has; so on with the others.
    /// Within a stratum the choice is uniformly random. Strata of one size are served from the
    /// lowest; a score on a border belongs to the stratum above it, the highest score to the last.
    ///
    /// The paper first drops the hardest examples:
    /// [`Recipe::coverage_centric`](crate::manifest::recipe::Recipe::coverage_centric) is both steps. All scores have to
    /// be finite.
    Stratified {
        /// How many to choose.
        amount: Amount,
        /// The number of strata, in `1..=1_000_000`; the paper takes 50.
        strata: usize,
        /// The same seed gives the same subset.
        seed: u64,
    },
}

/// Whether a choice looks at the classes of the examples. What is said here of choosing holds for
/// dropping too, where a [`Step`](crate::manifest::recipe::Step) drops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Classes {
    /// It does not.
    #[default]
    Ignored,
    /// Equal numbers of every class, which differ by one at most; the larger numbers go to the lower
    /// class indices. A class that has fewer gives all, and what it lacks is divided among the others
    /// in the same way.
    ///
    /// The rule is applied to each class alone: a window skips the class's own lowest scores (as many
    /// as its share of all scored examples), strata are those of the class, and one random sequence
    /// serves the classes in ascending order.
    Balanced,
    /// The same share of every class, in proportion to its examples that have a score: whole parts
    /// first, then one more for the largest remainders, lower class indices first. What a class
    /// lacks, because earlier steps have dropped it, is divided among the others likewise. The rule is
    /// applied to each class alone, as for `Balanced`.
    Proportional,
    /// As the rule would without classes, but of every class at least this many: a count, or a share
    /// of the class's examples that have a score; a class with fewer gives all it has.
    ///
    /// What a class lacks is added in the rule's order, the next best first, and as many are given up
    /// of the classes that are above their floor, the least favoured first, so that the total is what
    /// was asked for. The order of a window runs upwards from its beginning, then downwards from
    /// there; of a random choice it is the random order; of strata, the chosen examples come first, in
    /// random order, then the others, likewise. A threshold asks for no total: there, the examples
    /// nearest to the range are added (below it before above) and none is given up.
    AtLeast(Amount),
}

/// Which end of a score is the hard one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HardEnd {
    /// High scores are hard: EL2N, gradient norms, the loss, forgetting events.
    High,
    /// Low scores are hard: a margin, AUM, confidence.
    Low,
}

impl HardEnd {
    /// The hard end of a score of this crate by its name; `None` for scores that have none or whose
    /// name is not known.
    ///
    /// # Examples
    ///
    /// ```
    /// use data_diet::selection::HardEnd;
    ///
    /// assert_eq!(HardEnd::of_score("el2n_score_epoch_10"), Some(HardEnd::High));
    /// assert_eq!(HardEnd::of_score("aum"), Some(HardEnd::Low));
    /// assert_eq!(HardEnd::of_score("my_score"), None);
    /// ```
    #[must_use]
    pub fn of_score(name: &str) -> Option<Self> {
        let name = name.strip_suffix("_mean").unwrap_or(name);
        match name {
            "forgetting" | "forgetting_inf" | "never_learned" | "first_learned" => {
                return Some(Self::High);
            }
            "aum" | "cartography_confidence" | "cartography_correctness" => return Some(Self::Low),
            _ => {}
        }
        // A signal at some moment; how much it differs between runs has no hard end.
        let (signal, moment) = name.split_once('_').unwrap_or((name, ""));
        let is_moment = ["", "train", "score", "epoch", "epochs", "step", "steps"]
            .contains(&moment.split_once('_').map_or(moment, |(word, _)| word));
        if !is_moment || name.ends_with("_std") || name.ends_with("_count") {
            return None;
        }
        match signal {
            "el2n" | "el1n" | "loss" | "entropy" | "grand" => Some(Self::High),
            "margin" | "confidence" => Some(Self::Low),
            _ => None,
        }
    }

    /// The rule that chooses the hardest examples.
    #[must_use]
    pub fn hardest(self, amount: Amount) -> Rule {
        match self {
            Self::High => Rule::Highest(amount),
            Self::Low => Rule::Lowest(amount),
        }
    }
}

/// More strata than examples on any machine serve nobody, and each costs memory.
const MOST_STRATA: usize = 1_000_000;

impl Rule {
    /// Its name in messages and files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Highest(_) => "highest",
            Self::Lowest(_) => "lowest",
            Self::Window { .. } => "window",
            Self::Threshold { .. } => "threshold",
            Self::Random { .. } => "random",
            Self::Stratified { .. } => "stratified",
        }
    }

    /// What can be wrong with it whatever the scores.
    pub(crate) fn validate(self) -> Result<()> {
        match self {
            Self::Highest(amount) | Self::Lowest(amount) | Self::Random { amount, .. } => {
                amount.validate()
            }
            Self::Window { offset, keep } => {
                offset.validate().map_err(|error| error.context("offset"))?;
                keep.validate()
            }
            Self::Threshold { min, max } => {
                let side = |value: Option<f64>| value.is_some_and(f64::is_nan);
                if side(min) || side(max) || (min.is_none() && max.is_none()) {
                    return Err(Error::invalid("threshold: expected a minimum, a maximum or both"));
                }
                Ok(())
            }
            Self::Stratified { amount, strata, .. } => {
                if !(1..=MOST_STRATA).contains(&strata) {
                    return Err(Error::invalid(format!(
                        "strata: expected 1..={MOST_STRATA}, got {strata}"
                    )));
                }
                amount.validate()
            }
        }
    }
}

impl Classes {
    pub(crate) fn validate(self, rule: Rule) -> Result<()> {
        match (self, rule) {
            (Self::Balanced | Self::Proportional, Rule::Threshold { .. }) => {
                let way = if self == Self::Balanced { "balanced" } else { "proportional" };
                Err(Error::invalid(format!(
                    "classes: expected a rule with an amount to divide among the classes \
                     ({way}), got a threshold"
                )))
            }
            (Self::AtLeast(floor), _) => {
                floor.validate().map_err(|error| error.context("class floor"))
            }
            _ => Ok(()),
        }
    }
}
