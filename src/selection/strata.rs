//! Strata of equal width, and how many examples to take from each (Zheng et al. 2023, algorithm 1).

/// A range of scores, cut into strata of equal width.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strata {
    low: f64,
    width: f64,
    number: usize,
}

impl Strata {
    /// Makes the strata of the range of these finite scores.
    pub(super) fn of(scores: impl Iterator<Item = f64>, number: usize) -> Self {
        let (low, high) = scores.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), score| {
            (low.min(score), high.max(score))
        });
        // Halved, so that a range wider than the largest float stays finite.
        Self { low: low / 2.0, width: high / 2.0 - low / 2.0, number }
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Returns the stratum of a score. A score on a border belongs to the upper stratum, the
    /// highest to the last one. If all scores are equal, they are in the first.
    pub(super) fn index(&self, score: f64) -> usize {
        let place = (score / 2.0 - self.low) / self.width * self.number as f64;
        // NaN, where the width is 0, becomes 0.
        (place as usize).min(self.number - 1)
    }
}

/// Returns how many examples to take from each stratum: from the smallest first, an equal share of
/// what is left, rounded down, or all it has. They add up to `total`, or to all examples if there
/// are fewer.
pub(super) fn budgets(total: usize, sizes: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&stratum| (sizes[stratum], stratum));
    let mut budgets = vec![0; sizes.len()];
    let mut left = total;
    for (served, &stratum) in order.iter().enumerate() {
        budgets[stratum] = sizes[stratum].min(left / (sizes.len() - served));
        left -= budgets[stratum];
    }
    budgets
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Strata, budgets};

    #[test]
    fn budgets_by_hand() {
        assert_eq!(budgets(6, &[10, 1, 10]), [2, 1, 3]);
        assert_eq!(budgets(7, &[3, 3, 3]), [2, 2, 3]);
        assert_eq!(budgets(5, &[0, 0, 5, 9]), [0, 0, 2, 3]);
        assert_eq!(budgets(99, &[4, 2]), [4, 2]);
    }

    #[test]
    fn borders_and_ranges() {
        let strata = Strata::of([0.0, 1.0].into_iter(), 4);
        let places = [0.0, 0.1, 0.25, 0.49, 0.5, 0.99, 1.0].map(|score| strata.index(score));
        assert_eq!(places, [0, 0, 1, 1, 2, 3, 3]);
        let strata = Strata::of([f64::MIN, f64::MAX].into_iter(), 2);
        assert_eq!(
            [f64::MIN, -1e300, 0.0, f64::MAX].map(|score| strata.index(score)),
            [0, 0, 1, 1]
        );
        assert_eq!(Strata::of([3.0].into_iter(), 5).index(3.0), 0);
    }

    proptest! {
        #[test]
        fn budgets_add_up(sizes in prop::collection::vec(0..30_usize, 1..12), total in 0..300_usize) {
            let budgets = budgets(total, &sizes);
            prop_assert_eq!(budgets.iter().sum::<usize>(), total.min(sizes.iter().sum()));
            prop_assert!(budgets.iter().zip(&sizes).all(|(budget, size)| budget <= size));
            for (budget, size) in budgets.iter().zip(&sizes) {
                // Up to rounding, a stratum with examples left gives no fewer than any other.
                prop_assert!(budget == size || budgets.iter().all(|other| *other <= budget + 1), "{:?} {:?}", budgets, sizes);
            }
        }
    }
}
