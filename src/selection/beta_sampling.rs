//! Beta sampling (Cho et al. 2025): a random choice whose weights follow the scores, and a Beta
//! distribution over the examples' mean predictions that moves with the share that is pruned. Turns
//! weights into keys; `row_chooser` takes the rows with the lowest keys.

use super::ids::Ids;
use super::random::SplitMix64;
use super::row_chooser::by_score;
use crate::error::{Error, Result};

/// The sum of the two parameters of the Beta distribution, in the authors' program.
const SUM_OF_PARAMETERS: f64 = 16.0;
/// The largest second parameter, in the authors' program.
const LARGEST_B: f64 = 15.0;
/// How many of the highest scores say where the distribution ends up when most examples are kept.
const HIGHEST: usize = 10;
/// How near a mean prediction may be to 0 and 1, where the density can be 0 or infinite: the spacing of
/// `f32`, as which confidence is recorded.
const NEAREST: f64 = 1.0 / (1 << 24) as f64;
/// Added to the key of an example of weight 0, which puts it behind all others: the logarithm of any
/// other weight is far smaller.
const LAST: f64 = 1e6;

/// Scores and mean predictions by row.
#[derive(Clone, Copy, Debug)]
pub(super) struct BetaSampling<'a> {
    pub(super) scores: &'a [f64],
    pub(super) prediction_means: &'a [f64],
    pub(super) c_d: f64,
    pub(super) seed: u64,
}

impl BetaSampling<'_> {
    /// Checks the scores and mean predictions of these rows.
    pub(super) fn check(&self, rows: &[u32], ids: &Ids) -> Result<()> {
        for &row in rows {
            let (score, mean) = (self.scores[row as usize], self.prediction_means[row as usize]);
            let id = || ids.at(row as usize);
            if !(0.0..f64::INFINITY).contains(&score) {
                return Err(Error::invalid(format!(
                    "beta: expected finite scores of at least 0, got {score} of example {}",
                    id()
                )));
            }
            if !(0.0..=1.0).contains(&mean) {
                return Err(Error::invalid(format!(
                    "beta: expected mean predictions between 0 and 1, got {mean} of example {}",
                    id()
                )));
            }
        }
        Ok(())
    }

    /// Returns a key for every row, NaN for those that are not among `rows`. The rows with the lowest
    /// keys are those of successive draws without replacement, each with a probability in proportion
    /// to the weights of what is left: the row whose exponentially distributed waiting time, with its
    /// weight as rate, ends first (Efraimidis and Spirakis 2006). Keys are logarithms of these times.
    pub(super) fn keys(&self, rows: &[u32], pruned: f64) -> Vec<f64> {
        let (a, b) = self.parameters(rows, pruned);
        let mut random = SplitMix64::new(self.seed);
        let mut keys = vec![f64::NAN; self.scores.len()];
        for &row in rows {
            let waiting = (-random.between_0_and_1().ln()).ln();
            let score = self.scores[row as usize];
            keys[row as usize] = if score == 0.0 {
                LAST + waiting
            } else {
                let mean = self.prediction_means[row as usize].clamp(NEAREST, 1.0 - NEAREST);
                // The density's constant factor is the same for all rows.
                let density = (a - 1.0) * mean.ln() + (b - 1.0) * (1.0 - mean).ln();
                waiting - score.ln() - density
            };
        }
        keys
    }

    /// Returns the parameters of the Beta distribution.
    fn parameters(&self, rows: &[u32], pruned: f64) -> (f64, f64) {
        let mut highest = rows.to_vec();
        let number = HIGHEST.min(highest.len());
        if number < highest.len() {
            highest.select_nth_unstable_by(number, |&x, &y| by_score(self.scores, y, x));
            highest.truncate(number);
        }
        // In the order of ids, so that the sum does not depend on how they were found.
        highest.sort_unstable();
        let sum: f64 = highest.iter().map(|&row| self.prediction_means[row as usize]).sum();
        let mean = sum / number as f64;
        let b = LARGEST_B * (1.0 - mean) * (1.0 - pruned.powf(self.c_d));
        (SUM_OF_PARAMETERS - b, b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling<'a>(scores: &'a [f64], prediction_means: &'a [f64], seed: u64) -> BetaSampling<'a> {
        BetaSampling { scores, prediction_means, c_d: 4.0, seed }
    }

    fn rows(number: u32) -> Vec<u32> {
        (0..number).collect()
    }

    #[test]
    fn parameters_by_hand() {
        // The ten highest scores have a mean prediction of 0.25, the others of 1.
        let scores: Vec<f64> = (0..12).map(f64::from).collect();
        let means: Vec<f64> = (0..12).map(|row| if row < 2 { 1.0 } else { 0.25 }).collect();
        let sampling = sampling(&scores, &means, 0);
        assert_eq!(sampling.parameters(&rows(12), 0.0), (4.75, 11.25));
        assert_eq!(sampling.parameters(&rows(12), 0.5), (16.0 - 11.25 * 0.9375, 11.25 * 0.9375));
        assert_eq!(sampling.parameters(&rows(12), 1.0), (16.0, 0.0));
        // Fewer than ten: (1 + 1 + 0.25) / 3 = 0.75.
        assert_eq!(sampling.parameters(&rows(3), 0.0), (12.25, 3.75));
    }

    /// Every order of draws by itself: the probability that a row is among the first two.
    #[test]
    fn rows_come_as_often_as_draws_without_replacement_say() {
        let (scores, means) = ([0.5, 0.1, 0.3, 0.05_f64], [0.2, 0.6, 0.4, 0.9_f64]);
        let (pruned, draws) = (0.5_f64, 40_000);
        let anchor = (0.2 + 0.6 + 0.4 + 0.9) / 4.0;
        let b = 15.0 * (1.0 - anchor) * (1.0 - pruned.powi(4));
        let a = 16.0 - b;
        let weight =
            |row: usize| scores[row] * means[row].powf(a - 1.0) * (1.0 - means[row]).powf(b - 1.0);
        let total: f64 = (0..4).map(weight).sum();
        let mut expected = [0.0; 4];
        for first in 0..4 {
            for second in (0..4).filter(|&second| second != first) {
                let left = total - weight(first);
                let probability = weight(first) / total * (weight(second) / left);
                expected[first] += probability;
                expected[second] += probability;
            }
        }
        let mut seen = [0.0; 4];
        for seed in 0..draws {
            let keys = sampling(&scores, &means, seed).keys(&rows(4), pruned);
            let mut order = rows(4);
            order.sort_by(|&x, &y| keys[x as usize].total_cmp(&keys[y as usize]));
            order[..2].iter().for_each(|&row| seen[row as usize] += 1.0 / draws as f64);
        }
        for (seen, expected) in seen.into_iter().zip(expected) {
            // Six standard deviations of a share.
            let tolerance = 6.0 * (expected * (1.0 - expected) / draws as f64).sqrt();
            assert!((seen - expected).abs() < tolerance, "{seen} {expected}");
        }
        assert!(expected.iter().any(|&share| share < 0.4) && expected.iter().any(|&s| s > 0.6));
    }

    /// Saturated predictions have finite keys, and scores of 0 come last, in random order.
    #[test]
    fn extreme_means_and_scores_of_zero_are_ordered() {
        let scores = [0.0, 0.2, 0.0, 1e-300, 0.2, 0.0];
        let means = [0.5, 1.0, 1.0, 0.5, 0.0, 0.0];
        let mut last = std::collections::BTreeSet::new();
        for seed in 0..50 {
            for pruned in [0.0, 0.3, 0.999_999, 1.0] {
                let keys = sampling(&scores, &means, seed).keys(&rows(6), pruned);
                assert!(keys.iter().all(|key| key.is_finite()), "{keys:?}");
                let zero = keys.iter().zip(scores).filter(|(_, score)| *score == 0.0);
                let lowest = zero.map(|(key, _)| *key).fold(f64::INFINITY, f64::min);
                let other = keys.iter().zip(scores).filter(|(_, score)| *score > 0.0);
                assert!(other.map(|(key, _)| *key).all(|key| key < lowest), "{keys:?}");
                last.insert([0, 2, 5].into_iter().max_by(|&x, &y| keys[x].total_cmp(&keys[y])));
            }
        }
        assert_eq!(last.len(), 3);
    }
}
