//! The rules of selection: which examples to choose by score, and how to treat classes.

use serde::{Deserialize, Serialize};

use super::{Amount, json_float};
use crate::error::{Error, Result};

/// Which of the scored examples to choose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Rule {
    /// The highest scores. The lowest-scored examples are pruned, as in the Data Diet paper.
    Highest(Amount),
    /// The lowest scores.
    Lowest(Amount),
    /// Skips the lowest scores and chooses the next ones above them (Data Diet paper, section 4:
    /// the best window for training need not be the one with the highest scores).
    Window {
        /// How many of the lowest scores to skip.
        offset: Amount,
        /// How many to choose after those.
        keep: Amount,
    },
    /// Scores in `min..=max`; `None` leaves a side open.
    Threshold {
        /// The lowest score that is chosen.
        #[serde(with = "json_float::optional", default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        /// The highest score that is chosen.
        #[serde(with = "json_float::optional", default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
    },
    /// A uniformly random subset that depends on the seed and the scored ids only: the baseline
    /// that every score has to beat. With the same seed, a larger subset contains the smaller ones.
    Random {
        /// How many to choose.
        amount: Amount,
        /// The same seed gives the same subset.
        seed: u64,
    },
    /// Examples from the whole range of scores (Zheng et al. 2023, *Coverage-centric Coreset
    /// Selection*, algorithm 1). The range from the lowest to the highest score is cut into strata
    /// of equal width. The stratum with the fewest examples is served first: it gets an equal share
    /// of what is left to choose, rounded down, or all it has; then the next, and so on. Within a
    /// stratum the choice is uniformly random. Strata of equal size are served from the lowest. A
    /// score on a border belongs to the stratum above it, the highest score to the last stratum.
    ///
    /// The paper first drops the hardest examples;
    /// [`Recipe::coverage_centric`](crate::manifest::recipe::Recipe::coverage_centric) does both
    /// steps. All scores must be finite.
    Stratified {
        /// How many to choose.
        amount: Amount,
        /// The number of strata, in `1..=1_000_000`; the paper takes 50.
        strata: usize,
        /// The same seed gives the same subset.
        seed: u64,
    },
    /// Pruning-ratio-adaptive Beta sampling (Cho et al. 2025, *Lightweight Dataset Pruning without Full
    /// Training via Example Difficulty and Prediction Uncertainty*). Examples are drawn one after the
    /// other without replacement, each with a probability in proportion to its weight
    ///
    /// ```text
    /// w = score * Beta(m; a, b)    b = 15 (1 - mu) (1 - r^c_D)    a = 16 - b
    /// ```
    ///
    /// where m is the example's prediction mean (the mean of `p_y` over training, in `0..=1`), mu the mean
    /// of m over the ten highest scores, and r the share that is pruned: 1 minus the number to choose over
    /// the number of scored examples. The more is pruned, the easier are the examples that are likely.
    /// The paper's score is DUAL. The formulas are those of the authors' program.
    ///
    /// The prediction mean is a second score, which
    /// [`Step::prediction_mean`](crate::manifest::recipe::Step::prediction_mean) names; only a step that
    /// keeps can have this rule. Scores must be finite and not negative. An example of score 0 is drawn
    /// after all others. A mean of 0 or 1 counts as 2^-24 away from it, so that no weight is infinite. With
    /// classes, the weights are those of the rule without classes.
    Beta {
        /// How many to choose.
        amount: Amount,
        /// The exponent `c_D`, above 0, which says how fast the distribution moves to easy examples: the
        /// higher, the later. The authors' program takes 4 for CIFAR and 11 for `ImageNet` by default.
        #[serde(with = "json_float")]
        c_d: f64,
        /// The same seed gives the same subset.
        seed: u64,
    },
}

/// How a choice treats the classes of the examples. Where a [`Step`](crate::manifest::recipe::Step)
/// drops examples, the same applies to what is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Classes {
    /// Classes are ignored.
    #[default]
    Ignored,
    /// Equal numbers of every class, differing by one at most; lower class indices get the extra
    /// one. A class that has fewer examples gives all it has, and the rest is divided among the
    /// other classes in the same way.
    ///
    /// The rule is applied to each class separately: a window skips the class's own lowest scores
    /// (in proportion to the class's share of all scored examples), strata are those of the class,
    /// and one random sequence serves the classes in ascending order.
    Balanced,
    /// The same share of every class, in proportion to its number of examples that have a score.
    /// Shares are rounded down, and the largest remainders get one more, lower class indices first.
    /// What a class lacks because earlier steps have dropped it is divided among the others in the
    /// same way. The rule is applied to each class separately, as for `Balanced`.
    Proportional,
    /// Like [`Ignored`](Self::Ignored), but with a minimum for each class: a count, or a share of
    /// the class's examples that have a score. A class that has fewer gives all it has.
    ///
    /// What a class lacks is added in the rule's order, best first. To keep the total the same, an
    /// equal number of examples is removed, worst first, from classes that are above their minimum.
    /// For a window, the order goes upward from the start of the window to the highest score, then
    /// downward from the start of the window. A random choice uses its random order. For strata,
    /// the chosen examples come first and then the others, each in random order. A score range
    /// (`min..=max`) has no fixed total, so nothing is removed; the examples nearest to the range
    /// are added, ties going to those below it.
    AtLeast(Amount),
}

/// Which end of a score is hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HardEnd {
    /// High scores are hard: EL2N, gradient norms, the loss, forgetting events.
    High,
    /// Low scores are hard: a margin, AUM, confidence.
    Low,
}

impl HardEnd {
    /// Returns the hard end of one of this crate's scores by its name, or `None` if the score has
    /// no hard end or the name is unknown.
    ///
    /// # Examples
    ///
    /// ```
    /// use data_diet::selection::HardEnd;
    ///
    /// assert_eq!(HardEnd::for_score("el2n_score_epoch_10"), Some(HardEnd::High));
    /// assert_eq!(HardEnd::for_score("aum"), Some(HardEnd::Low));
    /// assert_eq!(HardEnd::for_score("my_score"), None);
    /// ```
    #[must_use]
    pub fn for_score(name: &str) -> Option<Self> {
        let name = name.strip_suffix("_mean").unwrap_or(name);
        // The standard deviation over runs has no hard end.
        if name.ends_with("_std") || name.ends_with("_count") {
            return None;
        }
        // Scores of the train phase, with or without a span of epochs.
        match name.split_once("_epoch").map_or(name, |(score, _span)| score) {
            "forgetting"
            | "forgetting_inf"
            | "never_learned"
            | "first_learned"
            | "cartography_forgetting"
            | "dual" => return Some(Self::High),
            "aum" | "cartography_confidence" | "cartography_correctness" => return Some(Self::Low),
            _ => {}
        }
        // For a signal at some moment.
        let (signal, moment) = name.split_once('_').unwrap_or((name, ""));
        let begins = |word: &str| {
            moment.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        };
        let is_moment = moment.is_empty()
            || ["train", "score", "held_out", "epoch", "epochs", "step", "steps"]
                .into_iter()
                .any(begins);
        if !is_moment {
            return None;
        }
        match signal {
            "el2n" | "el1n" | "loss" | "entropy" | "grand" | "perplexity" => Some(Self::High),
            "margin" | "confidence" => Some(Self::Low),
            _ => None,
        }
    }

    /// Returns the rule that chooses the hardest examples.
    #[must_use]
    pub fn hardest(self, amount: Amount) -> Rule {
        match self {
            Self::High => Rule::Highest(amount),
            Self::Low => Rule::Lowest(amount),
        }
    }
}

/// Each stratum costs memory, and no data set needs more.
const MAX_STRATA: usize = 1_000_000;

impl Rule {
    /// The rule's name in messages and files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Highest(_) => "highest",
            Self::Lowest(_) => "lowest",
            Self::Window { .. } => "window",
            Self::Threshold { .. } => "threshold",
            Self::Random { .. } => "random",
            Self::Stratified { .. } => "stratified",
            Self::Beta { .. } => "beta",
        }
    }

    /// Checks what can be checked without the scores.
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
                if !(1..=MAX_STRATA).contains(&strata) {
                    return Err(Error::invalid(format!(
                        "strata: expected between 1 and {MAX_STRATA}, got {strata}"
                    )));
                }
                amount.validate()
            }
            Self::Beta { amount, c_d, .. } => {
                if !(c_d > 0.0 && c_d.is_finite()) {
                    return Err(Error::invalid(format!(
                        "c_d: expected a finite number above 0, got {c_d}"
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
