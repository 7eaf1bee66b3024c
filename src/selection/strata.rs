//! Strata of equal width, and how many examples each gives (Zheng et al. 2023, algorithm 1).

/// The range of some scores, cut into strata of equal width.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strata {
    low: f64,
    width: f64,
    number: usize,
}

impl Strata {
    /// The strata of the range of these finite scores.
    pub(super) fn of(scores: impl Iterator<Item = f64>, number: usize) -> Self {
        let (low, high) = scores.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), score| {
            (low.min(score), high.max(score))
        });
        // Halves, so that a range above the largest float is a number.
        Self { low: low / 2.0, width: high / 2.0 - low / 2.0, number }
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// The stratum of a score of the range. One on a border belongs to the upper one, the highest to
    /// the last; equal scores are all in the first.
    pub(super) fn index(&self, score: f64) -> usize {
        let place = (score / 2.0 - self.low) / self.width * self.number as f64;
        // NaN, where the width is 0, becomes 0.
        (place as usize).min(self.number - 1)
    }
}

/// How many examples each stratum gives: the smallest first, a whole part of an equal share of what is
/// left, or all it has. They add up to `total`, or to all there are.
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
                // A stratum with examples left gives no fewer than any other, but for whole parts.
                prop_assert!(budget == size || budgets.iter().all(|other| *other <= budget + 1), "{:?} {:?}", budgets, sizes);
            }
        }
    }
}
