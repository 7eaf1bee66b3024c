//! Mean and standard deviation over runs, one pair per example.

/// Running moments by Welford's method, which does not cancel.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    mean: f64,
    /// The sum of squared deviations from the mean.
    squares: f64,
    count: u32,
}

impl Moments {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        let deviation = value - self.mean;
        if self.count == 1 {
            // As it is, a negative zero too.
            self.mean = value;
            self.squares = if value.is_infinite() { f64::NAN } else { 0.0 };
            return;
        }
        // Infinity enters whole: the update's quotient would turn it into NaN.
        if value.is_infinite() || self.mean.is_infinite() {
            self.mean += value;
        } else {
            self.mean += deviation / f64::from(self.count);
        }
        self.squares += deviation * (value - self.mean);
    }

    /// NaN if nothing was added.
    pub(crate) fn mean(self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.mean }
    }

    /// With `n - 1`; NaN for fewer than two values, or an infinite one.
    pub(crate) fn standard_deviation(self) -> f64 {
        if self.count < 2 { f64::NAN } else { (self.squares / f64::from(self.count - 1)).sqrt() }
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
        [f64::INFINITY, 1.0].into_iter().for_each(|value| first.add(value));
        assert!(first.mean() == f64::INFINITY && first.standard_deviation().is_nan());
    }
}
