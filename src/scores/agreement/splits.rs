//! How many seeds are enough: compares the mean over some runs with the mean over all others.

use std::collections::BTreeSet;

use super::series::ScoreSeries;
use super::{Agreement, AgreementOptions};
use crate::error::{Error, Result};
use crate::selection::SplitMix64;

/// Which ways of splitting the runs in two to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SplitOptions {
    /// How many splits to try for each number of runs: all of them if there are no more, otherwise
    /// this many different random ones. At least 1.
    pub most: usize,
    /// The seed of that choice.
    pub seed: u64,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self { most: 30, seed: 0 }
    }
}

/// A number over several splits.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Spread {
    /// The mean over the splits; NaN if none has a result.
    pub mean: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let fold = |pick: fn(f64, f64) -> f64| values.iter().copied().fold(f64::NAN, pick);
        Self { mean, low: fold(f64::min), high: fold(f64::max) }
    }
}

/// The agreement of the mean over some runs with the mean over all others.
///
/// Both means are noisy, so this underestimates the agreement with the expectation over all seeds.
/// It is closest while the others are many.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SplitAgreement {
    /// The number of runs on the one side.
    pub runs: usize,
    /// The number of runs on the other.
    pub others: usize,
    /// The number of different splits.
    pub splits: usize,
    /// See [`Agreement::spearman`].
    pub spearman: Spread,
    /// See [`Agreement::kendall`].
    pub kendall: Spread,
    /// The fractions, each with the overlap of the kept sets; see [`Overlap`](super::Overlap).
    pub shared: Vec<(f64, Spread)>,
}

impl ScoreSeries {
    /// Compares the mean over k columns with the mean over all others, for k from 1 to half of
    /// them. Computes no bootstrap. `progress` is called after each comparison with the number that
    /// is left.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if `most` is 0; otherwise as for
    /// [`Agreement::between`].
    pub fn split_agreement(
        &self,
        splits: SplitOptions,
        options: &AgreementOptions,
        mut progress: impl FnMut(u64),
    ) -> Result<Vec<SplitAgreement>> {
        if splits.most == 0 {
            return Err(Error::invalid("splits: expected at least 1, got 0"));
        }
        let options = AgreementOptions { bootstrap: None, ..options.clone() };
        let runs = self.columns().len();
        let sizes: Vec<Vec<Vec<usize>>> =
            (1..=runs / 2).map(|size| subsets(runs, size, splits)).collect();
        let mut left = sizes.iter().map(Vec::len).sum::<usize>() as u64;
        let mut agreements = Vec::new();
        for subsets in sizes {
            let mut measured = Vec::new();
            for subset in &subsets {
                let others: Vec<usize> = (0..runs).filter(|run| !subset.contains(run)).collect();
                let (some, others) = (self.mean(subset)?, self.mean(&others)?);
                measured.push(Agreement::between(&some, &others, &options)?);
                left -= 1;
                progress(left);
            }
            let spread = |of: &dyn Fn(&Agreement) -> f64| Spread::of(measured.iter().map(of));
            let shared = |(at, &fraction): (usize, &f64)| {
                (fraction, spread(&|agreement| agreement.overlaps[at].shared.value))
            };
            let size = subsets[0].len();
            agreements.push(SplitAgreement {
                runs: size,
                others: runs - size,
                splits: subsets.len(),
                spearman: spread(&|agreement| agreement.spearman.value),
                kendall: spread(&|agreement| agreement.kendall.value),
                shared: options.fractions.iter().enumerate().map(shared).collect(),
            });
        }
        Ok(agreements)
    }
}

/// Different subsets of `0..all`, ascending: all of them if there are no more than `splits.most`.
/// Of two halves only the one with 0, since the other makes the same comparison.
fn subsets(all: usize, size: usize, splits: SplitOptions) -> Vec<Vec<usize>> {
    let halves = 2 * size == all;
    let (free, chosen) = if halves { (all - 1, size - 1) } else { (all, size) };
    let whole = |subset: Vec<usize>| {
        let shifted = subset.iter().map(|&member| member + usize::from(halves));
        halves.then_some(0).into_iter().chain(shifted).collect()
    };
    if combinations(free, chosen) <= splits.most as u64 {
        let mut subset: Vec<usize> = (0..chosen).collect();
        let mut found = vec![whole(subset.clone())];
        while advance(&mut subset, free) {
            found.push(whole(subset.clone()));
        }
        return found;
    }
    let mut random = SplitMix64::new(splits.seed);
    let mut found = BTreeSet::new();
    while found.len() < splits.most {
        let mut members: Vec<usize> = (0..free).collect();
        for place in 0..chosen {
            let other = place + random.below((free - place) as u64) as usize;
            members.swap(place, other);
        }
        members.truncate(chosen);
        members.sort_unstable();
        found.insert(members);
    }
    found.into_iter().map(whole).collect()
}

/// Returns the next subset in lexicographic order, if any.
fn advance(subset: &mut [usize], all: usize) -> bool {
    let size = subset.len();
    let Some(at) = (0..size).rev().find(|&at| subset[at] < all - (size - at)) else { return false };
    subset[at] += 1;
    for next in at + 1..size {
        subset[next] = subset[next - 1] + 1;
    }
    true
}

/// The number of subsets, saturating.
fn combinations(all: usize, size: usize) -> u64 {
    let mut count: u128 = 1;
    for taken in 0..size.min(all - size) {
        count = count * (all - taken) as u128 / (taken as u128 + 1);
        if count > u128::from(u64::MAX) {
            return u64::MAX;
        }
    }
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_subsets_where_they_are_few() {
        let splits = SplitOptions::default();
        assert_eq!(subsets(3, 1, splits), [[0], [1], [2]]);
        assert_eq!(subsets(2, 1, splits), [[0]]);
        assert_eq!(subsets(4, 2, splits), [[0, 1], [0, 2], [0, 3]]);
        assert_eq!(subsets(5, 2, splits).len(), 10);
        assert_eq!(subsets(8, 3, SplitOptions { most: 56, seed: 0 }).len(), 56);
    }

    #[test]
    fn some_different_ones_where_they_are_many() {
        let splits = SplitOptions { most: 25, seed: 3 };
        for (all, size) in [(10, 2), (10, 5), (40, 17)] {
            let found = subsets(all, size, splits);
            assert_eq!(found.len(), 25);
            let distinct: BTreeSet<&Vec<usize>> = found.iter().collect();
            assert_eq!(distinct.len(), 25);
            for subset in &found {
                assert_eq!(subset.len(), size);
                assert!(subset.is_sorted_by(|a, b| a < b) && subset.iter().all(|&at| at < all));
                assert!(2 * size != all || subset[0] == 0);
            }
            assert_eq!(subsets(all, size, splits), found);
            assert_ne!(subsets(all, size, SplitOptions { seed: 4, ..splits }), found);
        }
    }

    #[test]
    fn combinations_are_counted_without_overflow() {
        assert_eq!(combinations(10, 5), 252);
        assert_eq!(combinations(5, 0), 1);
        assert_eq!(combinations(200, 100), u64::MAX);
    }
}
