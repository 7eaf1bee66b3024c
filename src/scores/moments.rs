//! Mean and standard deviation over runs, one pair per example.

use std::io::{self, Read, Write};

/// Running moments by Welford's method, which does not cancel.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    mean: f64,
    /// The sum of squared deviations from the mean.
    squares: f64,
    count: u32,
}

impl Moments {
    /// The length of what `write` writes.
    pub(crate) const BYTES: usize = 20;

    pub(crate) fn write(self, output: &mut impl Write) -> io::Result<()> {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.mean.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.squares.to_le_bytes());
        bytes[16..].copy_from_slice(&self.count.to_le_bytes());
        output.write_all(&bytes)
    }

    pub(crate) fn read(input: &mut impl Read) -> io::Result<Self> {
        let (mut mean, mut squares, mut count) = ([0; 8], [0; 8], [0; 4]);
        input.read_exact(&mut mean)?;
        input.read_exact(&mut squares)?;
        input.read_exact(&mut count)?;
        Ok(Self {
            mean: f64::from_le_bytes(mean),
            squares: f64::from_le_bytes(squares),
            count: u32::from_le_bytes(count),
        })
    }

    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        let deviation = value - self.mean;
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
    }
}
