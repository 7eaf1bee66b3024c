//! Applies one rule to some rows: which rows come first, and in which order.

use std::cmp::Ordering;

use super::strata::{Strata, budgets};
use crate::selection::random::SplitMix64;

/// Which rows come first.
#[derive(Clone, Copy, Debug)]
pub(super) enum RowOrder {
    Highest,
    Lowest,
    Window,
    Random,
    Stratified { strata: usize },
}

/// Orders rows, which are positions in `scores`. Rows come in ascending order, which is that of
/// example ids, so ties break by id. No row has the score NaN.
#[derive(Debug)]
pub(super) struct RowChooser<'a> {
    scores: &'a [f64],
    preference: RowOrder,
    random: SplitMix64,
}

impl<'a> RowChooser<'a> {
    pub(super) fn new(scores: &'a [f64], preference: RowOrder, seed: u64) -> Self {
        Self { scores, preference, random: SplitMix64::new(seed) }
    }

    /// Brings the `count` best rows to the front, after skipping `skip` rows for a window. `count`
    /// and `skip` together are at most the number of rows.
    pub(super) fn select_best(&mut self, rows: &mut [u32], skip: usize, count: usize) {
        let ascending = |&a: &u32, &b: &u32| by_score(self.scores, a, b);
        match self.preference {
            RowOrder::Highest => select(rows, count, |a, b| ascending(b, a)),
            RowOrder::Lowest => select(rows, count, ascending),
            RowOrder::Window => {
                select(rows, skip, ascending);
                select(&mut rows[skip..], count, ascending);
                rows.rotate_left(skip);
            }
            RowOrder::Random => self.random.shuffle_front(rows, count),
            RowOrder::Stratified { strata } => self.select_stratified(rows, strata, count),
        }
    }

    /// Sorts all rows, best first. The first `count` are those that [`select_best`](Self::select_best)
    /// chooses.
    pub(super) fn sort_best(&mut self, rows: &mut [u32], skip: usize, count: usize) {
        let ascending = |&a: &u32, &b: &u32| by_score(self.scores, a, b);
        match self.preference {
            RowOrder::Highest => rows.sort_unstable_by(|a, b| ascending(b, a)),
            RowOrder::Lowest => rows.sort_unstable_by(ascending),
            RowOrder::Window => {
                rows.sort_unstable_by(ascending);
                rows.rotate_left(skip);
                let skipped = rows.len() - skip;
                rows[skipped..].reverse();
            }
            RowOrder::Random => self.random.shuffle_front(rows, rows.len()),
            RowOrder::Stratified { strata } => {
                self.select_stratified(rows, strata, count);
                let (chosen, others) = rows.split_at_mut(count);
                self.random.shuffle_front(chosen, chosen.len());
                self.random.shuffle_front(others, others.len());
            }
        }
    }

    fn select_stratified(&mut self, rows: &mut [u32], strata: usize, count: usize) {
        let score = |row: u32| self.scores[row as usize];
        let strata = Strata::of(rows.iter().map(|&row| score(row)), strata);
        let (mut grouped, sizes) = group(rows, strata.number(), |row| strata.index(score(row)));
        let (mut chosen, mut other) = (0, count);
        let mut start = 0;
        for (size, budget) in sizes.iter().zip(budgets(count, &sizes)) {
            let stratum = &mut grouped[start..start + size];
            start += size;
            self.random.shuffle_front(stratum, budget);
            let (best, rest) = stratum.split_at(budget);
            rows[chosen..chosen + best.len()].copy_from_slice(best);
            rows[other..other + rest.len()].copy_from_slice(rest);
            chosen += best.len();
            other += rest.len();
        }
    }
}

/// Ascending by score, then by row.
pub(super) fn by_score(scores: &[f64], a: u32, b: u32) -> Ordering {
    // -0 equals 0.
    let score = |row: u32| scores[row as usize] + 0.0;
    score(a).total_cmp(&score(b)).then(a.cmp(&b))
}

/// Brings the first `count` rows of an order to the front, in no particular order.
fn select(rows: &mut [u32], count: usize, order: impl FnMut(&u32, &u32) -> Ordering) {
    if count > 0 && count < rows.len() {
        rows.select_nth_unstable_by(count, order);
    }
}

/// Returns the rows group by group, each group in the order of the rows, and the size of each
/// group.
pub(super) fn group(
    rows: &[u32],
    groups: usize,
    of: impl Fn(u32) -> usize,
) -> (Vec<u32>, Vec<usize>) {
    let mut sizes = vec![0; groups];
    for &row in rows {
        sizes[of(row)] += 1;
    }
    let mut places = Vec::with_capacity(groups);
    let mut start = 0;
    for size in &sizes {
        places.push(start);
        start += size;
    }
    let mut grouped = vec![0; rows.len()];
    for &row in rows {
        let place = &mut places[of(row)];
        grouped[*place] = row;
        *place += 1;
    }
    (grouped, sizes)
}
