//! Two scores of the same examples, ranked once and measured many times. Every measure takes a
//! multiplicity per example, so a bootstrap resample never sorts anything.

use std::ops::Range;

use super::Keep;
use crate::selection::ScoreColumn;

/// The examples of two columns, by id.
pub(super) struct Matched {
    /// Both scores of each example that has both, in ascending order of id.
    pub(super) scores: Vec<(f64, f64)>,
    pub(super) without_score: usize,
    pub(super) in_one_only: usize,
}

pub(super) fn matched(first: &ScoreColumn, second: &ScoreColumn) -> Matched {
    let mut matched = Matched { scores: Vec::new(), without_score: 0, in_one_only: 0 };
    let (ids, other_ids) = (first.examples(), second.examples());
    let (mut row, mut other) = (0, 0);
    while row < ids.len() && other < other_ids.len() {
        if ids[row] != other_ids[other] {
            matched.in_one_only += 1;
            if ids[row] < other_ids[other] {
                row += 1;
            } else {
                other += 1;
            }
            continue;
        }
        let scores = (first.scores()[row], second.scores()[other]);
        if scores.0.is_nan() || scores.1.is_nan() {
            matched.without_score += 1;
        } else {
            matched.scores.push(scores);
        }
        (row, other) = (row + 1, other + 1);
    }
    matched.in_one_only += ids.len() - row + other_ids.len() - other;
    matched
}

/// The result of `Pair::measures`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measures {
    pub(super) spearman: f64,
    pub(super) kendall: f64,
    /// The overlap of the kept sets, one for each count.
    pub(super) shared: Vec<f64>,
}

/// Examples are at places in ascending order of the first score, ties by id.
#[derive(Debug)]
pub(super) struct Pair {
    /// The ranges of places that are tied in the first score.
    stretches: Vec<Range<usize>>,
    /// For each place, the rank of its second score among the distinct ones, from 0.
    groups: Vec<u32>,
    group_count: usize,
    /// For each place, a number shared by the places that are tied in both scores.
    joint: Vec<u32>,
    joint_count: usize,
    /// The places in ascending order of the second score, ties by id.
    order: Vec<u32>,
    /// For each place, its position in `order`.
    positions: Vec<u32>,
}

impl Pair {
    /// Ranks both scores of each example. None is NaN, and there are at most `u32::MAX`.
    pub(super) fn new(scores: &[(f64, f64)]) -> Self {
        let n = scores.len();
        // Adding zero turns -0 into 0, as in selections.
        let first = |row: u32| scores[row as usize].0 + 0.0;
        let second = |row: u32| scores[row as usize].1 + 0.0;
        let rows: Vec<u32> = (0..n as u32).collect();
        let mut by_first = rows.clone();
        by_first.sort_unstable_by(|&a, &b| first(a).total_cmp(&first(b)).then(a.cmp(&b)));
        let mut by_second = rows;
        by_second.sort_unstable_by(|&a, &b| second(a).total_cmp(&second(b)).then(a.cmp(&b)));

        let mut place_of = vec![0; n];
        for (place, &row) in by_first.iter().enumerate() {
            place_of[row as usize] = place as u32;
        }
        let order: Vec<u32> = by_second.iter().map(|&row| place_of[row as usize]).collect();
        let (mut groups, mut positions) = (vec![0; n], vec![0; n]);
        let mut group_count = 0;
        for (position, &place) in order.iter().enumerate() {
            let row = by_second[position];
            if position == 0 || second(by_second[position - 1]) != second(row) {
                group_count += 1;
            }
            groups[place as usize] = group_count - 1;
            positions[place as usize] = position as u32;
        }

        let mut stretches: Vec<Range<usize>> = Vec::new();
        for (place, &row) in by_first.iter().enumerate() {
            match stretches.last_mut() {
                Some(stretch) if first(by_first[stretch.start]) == first(row) => {
                    stretch.end = place + 1;
                }
                _ => stretches.push(place..place + 1),
            }
        }
        let (mut joint, mut joint_count) = (vec![0; n], 0);
        for stretch in &stretches {
            let mut places: Vec<usize> = stretch.clone().collect();
            places.sort_unstable_by_key(|&place| groups[place]);
            for (at, &place) in places.iter().enumerate() {
                if at == 0 || groups[places[at - 1]] != groups[place] {
                    joint_count += 1;
                }
                joint[place] = joint_count - 1;
            }
        }
        Self {
            stretches,
            groups,
            group_count: group_count as usize,
            joint,
            joint_count: joint_count as usize,
            order,
            positions,
        }
    }

    /// The number of examples.
    fn len(&self) -> usize {
        self.groups.len()
    }

    /// Measures the multiset that holds the example at each place this many times. The weights sum
    /// to the number of examples, and no kept count exceeds it.
    pub(super) fn measures(
        &self,
        weights: &[u32],
        counts: &[usize],
        keep: Keep,
        workspace: &mut Workspace,
    ) -> Measures {
        workspace.groups.fill(0);
        for (&group, &weight) in self.groups.iter().zip(weights) {
            workspace.groups[group as usize] += weight;
        }
        Measures {
            spearman: self.spearman(weights, workspace),
            kendall: self.kendall(weights, workspace),
            shared: counts.iter().map(|&count| self.shared(weights, count as u64, keep)).collect(),
        }
    }

    /// Pearson's correlation of the ranks. Ranks are the middle of their tie, doubled and centered
    /// on zero, so they are integers.
    fn spearman(&self, weights: &[u32], workspace: &mut Workspace) -> f64 {
        let total = self.len() as f64;
        let mut below = 0.0;
        for (rank, &weight) in workspace.ranks.iter_mut().zip(&workspace.groups) {
            *rank = 2.0 * below + f64::from(weight) - total;
            below += f64::from(weight);
        }
        let (mut squares, mut other_squares, mut products) = (0.0, 0.0, 0.0);
        let mut below = 0.0;
        for stretch in &self.stretches {
            let weights = &weights[stretch.clone()];
            let tied: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            let rank = 2.0 * below + tied - total;
            below += tied;
            for (&group, &weight) in self.groups[stretch.clone()].iter().zip(weights) {
                let (weight, other) = (f64::from(weight), workspace.ranks[group as usize]);
                squares += weight * rank * rank;
                other_squares += weight * other * other;
                products += weight * rank * other;
            }
        }
        ratio(products, squares, other_squares)
    }

    /// Tau-b. Discordant pairs are counted in ascending order of the first score with a Fenwick
    /// tree over the groups of the second; concordant pairs follow from the numbers of ties.
    fn kendall(&self, weights: &[u32], workspace: &mut Workspace) -> f64 {
        let tree = &mut workspace.tree;
        tree.clear();
        workspace.joint.fill(0);
        let (mut discordant, mut below, mut tied_first) = (0, 0, 0);
        for stretch in &self.stretches {
            let groups_and_weights = || {
                let groups = self.groups[stretch.clone()].iter();
                groups.zip(&weights[stretch.clone()]).filter(|&(_, &weight)| weight > 0)
            };
            for (&group, &weight) in groups_and_weights() {
                discordant += u64::from(weight) * (below - tree.up_to(group as usize));
            }
            let mut tied = 0;
            for (&group, &weight) in groups_and_weights() {
                tree.add(group as usize, weight);
                tied += u64::from(weight);
            }
            below += tied;
            tied_first += pairs(tied);
        }
        for (&joint, &weight) in self.joint.iter().zip(weights) {
            workspace.joint[joint as usize] += weight;
        }
        let tied =
            |weights: &[u32]| weights.iter().map(|&tied| pairs(u64::from(tied))).sum::<u64>();
        let (tied_second, tied_both) = (tied(&workspace.groups), tied(&workspace.joint));
        let all = pairs(self.len() as u64);
        let (untied_first, untied_second) = (all - tied_first, all - tied_second);
        let ordered = untied_first + tied_both - tied_second;
        ratio(ordered as f64 - 2.0 * discordant as f64, untied_first as f64, untied_second as f64)
    }

    /// The share of what the first score keeps that the second keeps too, copy by copy.
    fn shared(&self, weights: &[u32], count: u64, keep: Keep) -> f64 {
        if count == 0 {
            return f64::NAN;
        }
        let last = self.len() - 1;
        let from_the_end = |step: usize| match keep {
            Keep::Highest => last - step,
            Keep::Lowest => step,
        };
        let first = cut(count, |step| weights[from_the_end(step)]);
        let second = cut(count, |step| weights[self.order[from_the_end(step)] as usize]);
        let mut shared = 0;
        for step in 0..=first.step {
            let place = from_the_end(step);
            let position = self.positions[place] as usize;
            // Reversal is its own inverse.
            let second_kept = second.kept(from_the_end(position), weights[place]);
            shared += first.kept(step, weights[place]).min(second_kept);
        }
        shared as f64 / count as f64
    }
}

/// Where a kept set ends.
struct Cut {
    /// The last step from the kept end that is kept.
    step: usize,
    /// How many copies of it are kept.
    copies: u64,
}

impl Cut {
    /// Returns how many copies of the example at a step are kept.
    fn kept(&self, step: usize, weight: u32) -> u64 {
        match step.cmp(&self.step) {
            std::cmp::Ordering::Less => u64::from(weight),
            std::cmp::Ordering::Equal => self.copies,
            std::cmp::Ordering::Greater => 0,
        }
    }
}

/// Finds the end of the set that keeps `count` copies, which must exist.
fn cut(count: u64, weight: impl Fn(usize) -> u32) -> Cut {
    let (mut step, mut left) = (0, count);
    loop {
        let here = u64::from(weight(step));
        if here >= left {
            return Cut { step, copies: left };
        }
        left -= here;
        step += 1;
    }
}

/// The number of pairs.
fn pairs(count: u64) -> u64 {
    count * count.saturating_sub(1) / 2
}

/// `numerator / sqrt(a b)`, NaN if either is zero. A score against itself is exactly 1.
fn ratio(numerator: f64, a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 {
        return f64::NAN;
    }
    (numerator / (a * b).sqrt()).clamp(-1.0, 1.0)
}

/// Buffers of one thread, reused for every resample.
#[derive(Debug)]
pub(super) struct Workspace {
    /// The weight of each group of the second score.
    groups: Vec<u32>,
    ranks: Vec<f64>,
    joint: Vec<u32>,
    tree: Tree,
}

impl Workspace {
    pub(super) fn new(pair: &Pair) -> Self {
        Self {
            groups: vec![0; pair.group_count],
            ranks: vec![0.0; pair.group_count],
            joint: vec![0; pair.joint_count],
            tree: Tree { sums: vec![0; pair.group_count] },
        }
    }
}

/// A Fenwick tree (Fenwick 1994): prefix sums that can be updated.
#[derive(Debug)]
struct Tree {
    sums: Vec<u32>,
}

impl Tree {
    fn clear(&mut self) {
        self.sums.fill(0);
    }

    fn add(&mut self, mut at: usize, weight: u32) {
        while let Some(sum) = self.sums.get_mut(at) {
            *sum += weight;
            at |= at + 1;
        }
    }

    /// Returns the sum up to and including a place.
    fn up_to(&self, at: usize) -> u64 {
        let (mut sum, mut end) = (0, at + 1);
        while end > 0 {
            sum += u64::from(self.sums[end - 1]);
            end &= end - 1;
        }
        sum
    }
}
