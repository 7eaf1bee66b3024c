//! Running mean and standard deviation: over runs, and over the presentations of an example.

/// Running moments by the method of Youngs and Cramer (1971), which like Welford's does not suffer
/// from cancellation. The mean is a sum and one division, so runs with the same total have the same
/// mean in any order, as far as the sum is exact, which it is for counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    sum: f64,
    /// The sum of squared deviations from the mean.
    squares: f64,
    count: u32,
}

impl Moments {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        if self.count == 1 {
            // Assigned, not added, to keep a negative zero.
            self.sum = value;
            self.squares = if value.is_infinite() { f64::NAN } else { 0.0 };
            return;
        }
        self.sum += value;
        let count = f64::from(self.count);
        // Infinity makes it NaN: there is no deviation from an infinite mean.
        let deviation = count * value - self.sum;
        self.squares += deviation * deviation / (count * (count - 1.0));
    }

    /// Returns the mean; NaN if nothing was added.
    pub(crate) fn mean(self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.sum / f64::from(self.count) }
    }

    /// Returns the sample standard deviation (`n - 1`); NaN for fewer than two values, or an
    /// infinite one.
    pub(crate) fn standard_deviation(self) -> f64 {
        if self.count < 2 { f64::NAN } else { (self.squares / f64::from(self.count - 1)).sqrt() }
    }

    /// Returns the population standard deviation (`n`); NaN if nothing was added, or for an
    /// infinite value.
    pub(crate) fn population_deviation(self) -> f64 {
        if self.count == 0 { f64::NAN } else { (self.squares / f64::from(self.count)).sqrt() }
    }

    pub(crate) fn count(self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_the_two_pass_formula(values in prop::collection::vec(-1e6..1e6, 0..20)) {
            let mut moments = Moments::default();
            for &value in &values {
                moments.add(value);
            }
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
            let close = |a: f64, b: f64| (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-6;
            prop_assert!(close(moments.mean(), mean));
            let expected = if values.len() < 2 { f64::NAN } else { variance.sqrt() };
            prop_assert!(close(moments.standard_deviation(), expected));
        }
    }

    /// Equal totals must tie, so that the example id decides.
    #[test]
    fn the_order_of_counts_does_not_show() {
        let mean = |counts: [u32; 5]| {
            let mut moments = Moments::default();
            for count in counts {
                moments.add(count.into());
            }
            moments.mean()
        };
        for (counts, other) in
            [([1, 2, 0, 0, 7], [7, 0, 0, 1, 2]), ([3, 0, 3, 1, 0], [1, 1, 1, 1, 3])]
        {
            assert_eq!(mean(counts).to_bits(), mean(other).to_bits());
            assert_eq!(mean(counts), f64::from(counts.iter().sum::<u32>()) / 5.0);
        }
    }

    #[test]
    fn one_infinity_makes_the_mean_infinite() {
        let mut moments = Moments::default();
        for value in [1.0, f64::INFINITY, 2.0, f64::INFINITY] {
            moments.add(value);
        }
        assert_eq!(moments.mean(), f64::INFINITY);
        assert!(moments.standard_deviation().is_nan());
        assert_eq!(moments.count(), 4);
        let mut first = Moments::default();
        for value in [f64::INFINITY, 1.0] {
            first.add(value);
        }
        assert!(first.mean() == f64::INFINITY && first.standard_deviation().is_nan());
    }
}
