//! Per-example accumulators of one run: slots by place, filled a slice of rows at a time.
//!
//! The inner loops of a fold are here. Each takes two slices, the places and the values of the same
//! rows. A place beyond the slots (`SKIPPED`) marks a row that does not count. Values that are not
//! finite are left out of sums; the fold counts them.

use super::moments::Moments;
use super::values::Values;
use crate::run::Bits;

/// The place of a row that does not count.
pub(super) const SKIPPED: u32 = u32::MAX;

/// Slots that can be reordered.
pub(super) trait Slots {
    /// Makes room for this many places.
    fn grow(&mut self, places: usize);

    /// Moves what is at `from[place]` to `place`.
    fn reorder(&mut self, from: &[u32]);
}

impl<T: Copy + Default> Slots for Vec<T> {
    fn grow(&mut self, places: usize) {
        if self.len() < places {
            self.resize(places, T::default());
        }
    }

    fn reorder(&mut self, from: &[u32]) {
        if self.is_empty() {
            return;
        }
        let of = |&place: &u32| self.get(place as usize).copied().unwrap_or_default();
        *self = from.iter().map(of).collect();
    }
}

/// A sum and the number of its terms, in 12 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    /// The bits of an `f64`, in two halves so that the struct needs no padding.
    bits: [u32; 2],
    count: u32,
}

impl Sum {
    fn add(&mut self, value: f64) {
        let sum = self.sum() + value;
        let bits = sum.to_bits();
        self.bits = [bits as u32, (bits >> 32) as u32];
        self.count = self.count.saturating_add(1);
    }

    fn sum(self) -> f64 {
        f64::from_bits(u64::from(self.bits[0]) | u64::from(self.bits[1]) << 32)
    }

    /// NaN without terms.
    fn mean(self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.sum() / f64::from(self.count) }
    }
}

/// Adds values to sums.
pub(super) fn add_up(sums: &mut [Sum], places: &[u32], values: &[f32]) {
    for (&place, &value) in places.iter().zip(values) {
        if let Some(sum) = sums.get_mut(place as usize)
            && value.is_finite()
        {
            sum.add(value.into());
        }
    }
}

/// Returns the mean of each sum.
pub(super) fn means(sums: &[Sum]) -> Values {
    Values::collect(sums.len(), |place| sums[place].mean())
}

/// Means over a span. Most examples are seen once in an epoch, which takes 4 bytes each. When one
/// is seen twice, all slots become sums.
#[derive(Debug)]
pub(super) enum WindowMean {
    /// The single value of each example, or NaN.
    Once(Vec<f32>),
    Often(Vec<Sum>),
}

impl WindowMean {
    pub(super) fn new() -> Self {
        Self::Once(Vec::new())
    }

    pub(super) fn add(&mut self, places: &[u32], values: &[f32]) {
        let mut row = 0;
        if let Self::Once(once) = self {
            row = add_once(once, places, values);
            if row < places.len() {
                let sum = |&value: &f32| {
                    let mut sum = Sum::default();
                    if !value.is_nan() {
                        sum.add(value.into());
                    }
                    sum
                };
                *self = Self::Often(once.iter().map(sum).collect());
            }
        }
        if let Self::Often(sums) = self {
            add_up(sums, &places[row..], &values[row..]);
        }
    }

    pub(super) fn into_values(self) -> Values {
        match self {
            Self::Once(values) => Values::F32(values),
            Self::Often(sums) => means(&sums),
        }
    }
}

/// Fills empty slots. Returns the first row whose slot is taken, or the number of rows.
fn add_once(once: &mut [f32], places: &[u32], values: &[f32]) -> usize {
    for (row, (&place, &value)) in places.iter().zip(values).enumerate() {
        let Some(slot) = once.get_mut(place as usize) else { continue };
        if value.is_finite() {
            if !slot.is_nan() {
                return row;
            }
            *slot = value;
        }
    }
    places.len()
}

impl Slots for WindowMean {
    fn grow(&mut self, places: usize) {
        match self {
            Self::Once(once) if once.len() < places => once.resize(places, f32::NAN),
            Self::Once(_) => {}
            Self::Often(sums) => sums.grow(places),
        }
    }

    fn reorder(&mut self, from: &[u32]) {
        match self {
            Self::Once(once) if once.is_empty() => {}
            Self::Once(once) => {
                let of = |&place: &u32| once.get(place as usize).copied().unwrap_or(f32::NAN);
                *once = from.iter().map(of).collect();
            }
            Self::Often(sums) => sums.reorder(from),
        }
    }
}

/// Mean and standard deviation over time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread(Moments);

impl Spread {
    /// NaN without values.
    pub(super) fn mean(self) -> f64 {
        self.0.mean()
    }

    /// The population standard deviation (`n`); NaN without values.
    pub(super) fn deviation(self) -> f64 {
        self.0.population_deviation()
    }
}

/// Adds values to mean and standard deviation.
pub(super) fn spread_out(spreads: &mut [Spread], places: &[u32], values: &[f32]) {
    for (&place, &value) in places.iter().zip(values) {
        if let Some(spread) = spreads.get_mut(place as usize)
            && value.is_finite()
        {
            spread.0.add(value.into());
        }
    }
}

/// The share of correct presentations.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CorrectRate {
    correct: u32,
    count: u32,
}

impl CorrectRate {
    /// NaN without presentations.
    pub(super) fn share(self) -> f64 {
        if self.count == 0 { f64::NAN } else { f64::from(self.correct) / f64::from(self.count) }
    }
}

/// Counts correct presentations. `correct` has the first of these rows at `first`.
pub(super) fn count_correct(
    shares: &mut [CorrectRate],
    places: &[u32],
    correct: &Bits,
    first: usize,
) {
    for (row, &place) in places.iter().enumerate() {
        if let Some(share) = shares.get_mut(place as usize) {
            share.count = share.count.saturating_add(1);
            share.correct += u32::from(correct.get(first + row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_value_makes_a_mean_and_broken_ones_are_left_out() {
        let mut mean = WindowMean::new();
        mean.grow(3);
        mean.add(&[2, SKIPPED, 0], &[0.5, 9.0, f32::NAN]);
        assert!(matches!(mean, WindowMean::Once(_)));
        mean.add(&[0, 2, 1, 2], &[1.0, 1.0, f32::INFINITY, 0.75]);
        assert!(matches!(mean, WindowMean::Often(_)));
        mean.grow(4);
        mean.reorder(&[2, 3, 1, 0]);
        let values = mean.into_values();
        assert_eq!((values.get(0), values.get(3)), (0.75, 1.0));
        assert!(values.get(1).is_nan() && values.get(2).is_nan());
    }
}
