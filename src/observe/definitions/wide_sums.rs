//! Sums over the softmax of a row with many single-precision logits, such as a vocabulary.
//!
//! Written over lanes, so that the compiler can use vector instructions: four times as fast as `f64::exp`
//! one by one. A term has the precision of `f32`, sums of a block's lanes are added up in `f64`.

use crate::observe::output_rows::Float;

/// Sums over every class but the one with the largest logit, whose term `exp(z - largest)` is exactly 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sums {
    /// Of the terms.
    pub(super) rest: f64,
    /// Of each term times `z - largest`.
    pub(super) rest_times_depth: f64,
    /// Of the squared terms.
    pub(super) rest_squares: f64,
    /// The largest logit.
    pub(super) second: f64,
}

impl Sums {
    pub(super) const EMPTY: Self =
        Self { rest: 0.0, rest_times_depth: 0.0, rest_squares: 0.0, second: f64::NEG_INFINITY };
}

/// Rows of fewer classes are summed in double precision, one by one.
const FEWEST_CLASSES: usize = 256;
const LANES: usize = 8;
/// The values whose terms are added up in single precision.
const BLOCK: usize = 8 * LANES;
/// `exp` of less is taken for zero.
const LOWEST_DEPTH: f32 = -87.0;
/// Below this sum, terms that were taken for zero could matter.
const SMALLEST_REST: f64 = 1e-25;

/// Returns the sums of a row, or `None` if double precision is needed: for `f64`, for few classes, and
/// where every other term is tiny.
pub(super) fn of_rest<T: Float>(logits: &[T], top: usize) -> Option<Sums> {
    if !T::IS_SINGLE || logits.len() < FEWEST_CLASSES {
        return None;
    }
    let largest = single(logits[top]);
    let mut sums = Sums::EMPTY;
    let (before, after) = (&logits[..top], &logits[top + 1..]);
    for block in before.chunks(BLOCK).chain(after.chunks(BLOCK)) {
        add_block(block, largest, &mut sums);
    }
    (sums.rest > SMALLEST_REST).then_some(sums)
}

/// Returns the largest logit, or `None` if one is NaN.
pub(super) fn largest<T: Float>(logits: &[T]) -> Option<f64> {
    if !T::IS_SINGLE {
        let mut largest = f64::NEG_INFINITY;
        for &z in logits {
            let z: f64 = z.into();
            if z.is_nan() {
                return None;
            }
            largest = largest.max(z);
        }
        return Some(largest);
    }
    let (lanes, rest) = logits.as_chunks::<LANES>();
    let mut largest = [f32::NEG_INFINITY; LANES];
    let mut nan = [0_u32; LANES];
    for chunk in lanes {
        for lane in 0..LANES {
            let z = single(chunk[lane]);
            largest[lane] = if z > largest[lane] { z } else { largest[lane] };
            nan[lane] |= u32::from(z.is_nan());
        }
    }
    let mut all = f32::NEG_INFINITY;
    let mut any = nan.iter().any(|&nan| nan > 0);
    for z in largest.into_iter().chain(rest.iter().map(|&z| single(z))) {
        any |= z.is_nan();
        all = all.max(z);
    }
    (!any).then_some(f64::from(all))
}

fn single<T: Float>(value: T) -> f32 {
    let value: f64 = value.into();
    value as f32
}

fn add_block<T: Float>(block: &[T], largest: f32, sums: &mut Sums) {
    let mut terms = [0.0_f32; LANES];
    let mut depths = [0.0_f32; LANES];
    let mut squares = [0.0_f32; LANES];
    let mut second = [f32::NEG_INFINITY; LANES];
    let mut add = |values: [f32; LANES]| {
        for lane in 0..LANES {
            let z = values[lane];
            second[lane] = if z > second[lane] { z } else { second[lane] };
            let depth = z - largest;
            // What the subtraction has rounded away (Knuth), up to 1e-6 of a term.
            let moved = depth - z;
            let lost = (z - (depth - moved)) - (largest + moved);
            let kept = depth > LOWEST_DEPTH;
            let depth = if kept { depth } else { LOWEST_DEPTH };
            let whole = exp(depth);
            let term = if kept { whole + whole * lost } else { 0.0 };
            terms[lane] += term;
            depths[lane] += term * depth;
            squares[lane] += term * term;
        }
    };
    let (chunks, rest) = block.as_chunks::<LANES>();
    for chunk in chunks {
        add(chunk.map(single));
    }
    if !rest.is_empty() {
        let mut last = [f32::NEG_INFINITY; LANES];
        last.iter_mut().zip(rest).for_each(|(to, &z)| *to = single(z));
        add(last);
    }
    let sum = |lanes: [f32; LANES]| lanes.into_iter().map(f64::from).sum::<f64>();
    sums.rest += sum(terms);
    sums.rest_times_depth += sum(depths);
    sums.rest_squares += sum(squares);
    sums.second = second.into_iter().map(f64::from).fold(sums.second, f64::max);
}

/// `exp` of a number in `LOWEST_DEPTH..=0`, within two units in the last place: `2^n exp(r)` with `r` at
/// most half of `ln 2`, and the Taylor series of `exp(r)`, whose first term left out is below 6e-9.
#[inline]
fn exp(x: f32) -> f32 {
    /// Adding and subtracting it rounds to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// The leading bits of `ln 2`, whose product with a small integer is exact, and the others.
    const LN_2_HIGH: f32 = 0.693_145_75;
    const LN_2_LOW: f32 = 1.428_606_8e-6;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut series = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * r + coefficient;
    }
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    series * f32::from_bits(exponent << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_right_to_two_units_in_the_last_place() {
        let mut x = 0.0_f32;
        while x > LOWEST_DEPTH {
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "exp({x}) is off by {error}");
            x -= 0.001_37;
        }
        assert_eq!(exp(0.0), 1.0);
    }
}
