//! Agreement between two scores: rank correlations, and how much of what one score keeps the other
//! keeps too.
//!
//! ```text
//! two ScoreColumns -> Pair (matched, ranked once) -> Measures of all examples       -> Agreement
//!                                  \-> bootstrap: Measures of each resample, by multiplicity /
//! ```

mod bootstrap;
mod pair;
mod series;
mod splits;
#[cfg(test)]
mod tests;

use crate::error::{Error, ErrorKind, Result};
use crate::selection::{Amount, ScoreColumn};

use bootstrap::{percentile_interval, resample};
use pair::{Measures, Pair, Workspace};

pub use series::ScoreSeries;
pub use splits::{SplitAgreement, SplitOptions, Spread};

/// Which end of the scores is kept, as by [`Rule::Highest`](crate::selection::Rule::Highest) and
/// [`Rule::Lowest`](crate::selection::Rule::Lowest).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// The highest scores.
    #[default]
    Highest,
    /// The lowest scores.
    Lowest,
}

/// Bootstrap intervals: examples are resampled with replacement, and intervals are taken by the
/// percentile method of Efron (1979).
///
/// They show how precisely these examples determine a number. They do not show how much it varies
/// from seed to seed of training; only more runs can.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Bootstrap {
    /// How many resamples to draw; at least 1.
    pub resamples: usize,
    /// The share of resamples that an interval holds, in `0..1`, both ends excluded.
    pub level: f64,
    /// The same seed gives the same intervals on every machine.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 1000, level: 0.95, seed: 0 }
    }
}

/// What to compare, and whether to compute intervals.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AgreementOptions {
    /// The shares to keep, each above 0 and at most 1.
    pub fractions: Vec<f64>,
    /// Which end is kept.
    pub keep: Keep,
    /// Whether and how to compute intervals.
    pub bootstrap: Option<Bootstrap>,
    /// The number of threads that draw resamples; 0 for as many as the machine has. The results do
    /// not depend on it.
    pub threads: usize,
}

impl Default for AgreementOptions {
    fn default() -> Self {
        Self {
            fractions: vec![0.3, 0.5, 0.7],
            keep: Keep::default(),
            bootstrap: Some(Bootstrap::default()),
            threads: 0,
        }
    }
}

impl AgreementOptions {
    /// Checks the options before any work is done.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if an option is out of range.
    pub fn check(&self) -> Result<()> {
        if let Some(fraction) = self.fractions.iter().find(|&&f| !(f > 0.0 && f <= 1.0)) {
            return Err(Error::invalid(format!(
                "fraction: expected above 0 and at most 1, got {fraction}"
            )));
        }
        if let Some(Bootstrap { resamples, level, .. }) = self.bootstrap {
            if resamples == 0 {
                return Err(Error::invalid("resamples: expected at least 1, got 0"));
            }
            if !(level > 0.0 && level < 1.0) {
                return Err(Error::invalid(format!(
                    "level: expected between 0 and 1, both excluded, got {level}"
                )));
            }
        }
        Ok(())
    }
}

/// A number and its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Estimate {
    /// The number, over all examples.
    pub value: f64,
    /// The bootstrap interval, low and high; `None` if it was not asked for.
    pub interval: Option<(f64, f64)>,
}

/// How much of what one score keeps the other keeps too.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Overlap {
    /// The share that was asked for.
    pub fraction: f64,
    /// The number of examples that each score keeps.
    pub kept: usize,
    /// `|A ∩ B| / |A|`, in `0..=1`; NaN if the share rounds to no example.
    pub shared: Estimate,
    /// The expected overlap of two random sets of that size: `kept / examples`, the fraction up to
    /// rounding.
    pub by_chance: f64,
}

/// The agreement of two scores on the examples that have both.
///
/// - `spearman`: Pearson's correlation of ranks, where tied scores get the mean of their ranks
///   (Spearman 1904); in `-1..=1`.
/// - `kendall`: tau-b, `(C - D) / sqrt((P - T_a) (P - T_b))` of concordant and discordant pairs
///   among all `P`, of which `T` are tied in one score (Kendall 1945); in `-1..=1`.
/// - `overlaps`: see [`Overlap`]. Kept sets are those of [`ScoreColumn::select`], with ties broken
///   by id.
///
/// Infinity is a score like any other, tied with infinity; only NaN is left out. If a score is the
/// same for all examples, there are no ranks to correlate: `spearman` and `kendall` are NaN.
///
/// Intervals resample examples with replacement and treat the resample as the data set: copies of
/// one example are tied with each other, and shared examples count with their copies. Resamples
/// without a result (all examples tied) are left out; if none has a result, the interval is NaN.
/// Everything is exact, nothing is subsampled: `O(n log n)` time and about 30 bytes per example for
/// each resample.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Agreement {
    /// The examples compared: those with a number for both scores.
    pub examples: usize,
    /// Examples in both columns that have NaN for one of the scores.
    pub without_score: usize,
    /// Examples that are in one of the columns only.
    pub in_one_only: usize,
    /// Spearman's rho.
    pub spearman: Estimate,
    /// Kendall's tau-b.
    pub kendall: Estimate,
    /// One entry for each fraction, in the order asked for.
    pub overlaps: Vec<Overlap>,
}

impl Agreement {
    /// Compares two scores.
    ///
    /// # Errors
    ///
    /// [`Empty`](ErrorKind::Empty) if fewer than 2 examples have both scores;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if a fraction, a level or a number of
    /// resamples is out of range.
    ///
    /// # Examples
    ///
    /// ```
    /// use data_diet::scores::agreement::{Agreement, AgreementOptions};
    /// use data_diet::selection::ScoreColumn;
    ///
    /// let column = |scores: &[f64]| {
    ///     ScoreColumn::new((0..4).collect(), vec![0; 4], scores.to_vec())
    /// };
    /// let (early, late) = (column(&[0.1, 0.2, 0.3, 0.4])?, column(&[0.1, 0.3, 0.2, 0.9])?);
    /// let mut options = AgreementOptions::default();
    /// options.fractions = vec![0.5];
    /// let agreement = Agreement::between(&early, &late, &options)?;
    /// assert_eq!(agreement.spearman.value, 0.8);
    /// assert_eq!(agreement.kendall.value, 2.0 / 3.0);
    /// // The one keeps 2 and 3, the other 1 and 3.
    /// assert_eq!(agreement.overlaps[0].shared.value, 0.5);
    /// # Ok::<(), data_diet::Error>(())
    /// ```
    pub fn between(
        first: &ScoreColumn,
        second: &ScoreColumn,
        options: &AgreementOptions,
    ) -> Result<Self> {
        Self::between_with_progress(first, second, options, |_resamples| {})
    }

    /// Like [`between`](Self::between). `progress` is called now and then with the number of resamples
    /// measured since the last call.
    ///
    /// # Errors
    ///
    /// As for [`between`](Self::between).
    pub fn between_with_progress(
        first: &ScoreColumn,
        second: &ScoreColumn,
        options: &AgreementOptions,
        mut progress: impl FnMut(u64),
    ) -> Result<Self> {
        options.check()?;
        let matched = pair::matched(first, second);
        let examples = matched.scores.len();
        if examples < 2 {
            return Err(Error::new(
                ErrorKind::Empty,
                format!(
                    "agreement: expected at least 2 examples with both scores, got {examples} ({} in \
                     the first column, {} in the second)",
                    first.examples().len(),
                    second.examples().len()
                ),
            ));
        }
        if u32::try_from(examples).is_err() {
            let most = u32::MAX;
            return Err(Error::invalid(format!(
                "agreement: expected at most {most} examples, got {examples}"
            )));
        }
        let pair = Pair::new(&matched.scores);
        let counts = options
            .fractions
            .iter()
            .map(|&fraction| Amount::Fraction(fraction).of(examples, examples));
        let counts = counts.collect::<Result<Vec<usize>>>()?;
        let mut workspace = Workspace::new(&pair);
        let all = pair.measures(&vec![1; examples], &counts, options.keep, &mut workspace);
        let resamples = match &options.bootstrap {
            None => None,
            Some(bootstrap) => {
                let measure = |weights: &[u32], workspace: &mut Workspace| {
                    pair.measures(weights, &counts, options.keep, workspace)
                };
                let start = || Workspace::new(&pair);
                let threads = options.threads;
                let measures =
                    resample(examples, bootstrap, threads, start, measure, &mut progress);
                Some((measures, bootstrap.level))
            }
        };
        let estimate = |value: f64, of: &dyn Fn(&Measures) -> f64| Estimate {
            value,
            interval: resamples.as_ref().map(|(measures, level)| {
                percentile_interval(measures.iter().map(of).collect(), *level)
            }),
        };
        let overlap = |(at, (&fraction, &kept)): (usize, (&f64, &usize))| Overlap {
            fraction,
            kept,
            shared: estimate(all.shared[at], &|measures| measures.shared[at]),
            by_chance: kept as f64 / examples as f64,
        };
        Ok(Self {
            examples,
            without_score: matched.without_score,
            in_one_only: matched.in_one_only,
            spearman: estimate(all.spearman, &|measures| measures.spearman),
            kendall: estimate(all.kendall, &|measures| measures.kendall),
            overlaps: options.fractions.iter().zip(&counts).enumerate().map(overlap).collect(),
        })
    }
}
