//! Kernel distance and kernel velocity: how far, and how fast, a kernel turns during training.
//!
//! Knows plain square matrices only; the hook crate computes them. The Data Diet paper takes the
//! data-dependent neural tangent kernel of a group of examples.

use crate::error::{Error, Result};

/// Distances below this are rounding errors between equal matrices.
const ROUNDING: f64 = 1.0 / (1_u128 << 90) as f64;
/// The number of values summed separately before their sum joins the total, for accuracy.
const CHUNK: usize = 512;

/// Returns the kernel distance `S = 1 - <A, B> / (|A| |B|)` of two square matrices, with the
/// Frobenius inner product and norm (Fort et al. 2020; the Data Diet paper, section 5).
///
/// The distance lies in `0..=2`, and in `0..=1` for positive semidefinite matrices such as Gram
/// matrices. It is invariant to positive scaling and symmetric to the bit. It is computed as
/// `|A/|A| - B/|B||^2 / 2`, which is the same number without the cancellation: small distances keep
/// their relative precision, and equal matrices give exactly 0. Positive multiples give exactly 0
/// as well: they differ by rounding only, and a distance below `2^-90` (about `8e-28`) counts as 0.
/// One changed bit of the largest entry of an `f32` matrix of 10,000 rows still gives `2e-23`. Sums
/// are in `f64`.
///
/// `a` and `b` are row-major.
///
/// # Errors
///
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if a length is not that of a square
/// matrix with at least one row, if the sizes differ, if an entry is NaN or infinite, or if a
/// matrix is zero (a zero matrix has no direction).
///
/// # Examples
///
/// ```
/// use data_diet::geometry::kernel;
///
/// let identity = [1.0, 0.0, 0.0, 1.0];
/// assert_eq!(kernel::distance(&identity, &[3.0, 0.0, 0.0, 3.0])?, 0.0);
/// // The cosine with the matrix of ones is 2 / (sqrt(2) * 2).
/// let distance = kernel::distance(&identity, &[1.0, 1.0, 1.0, 1.0])?;
/// assert!((distance - (1.0 - 0.5_f64.sqrt())).abs() < 1e-15);
/// # Ok::<(), data_diet::Error>(())
/// ```
pub fn distance<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> Result<f64> {
    if a.len() != b.len() {
        let (rows, others) = (side("a", a.len())?, side("b", b.len())?);
        return Err(Error::invalid(format!(
            "b: expected a matrix of {rows} rows and columns like `a`, got {others}"
        )));
    }
    side("a", a.len())?;
    let (largest_a, norm_a) = measure("a", a)?;
    let (largest_b, norm_b) = measure("b", b)?;
    let squares = sum(a.len(), |entry| {
        let of_a = a[entry].into() / largest_a / norm_a;
        let of_b = b[entry].into() / largest_b / norm_b;
        (of_a - of_b) * (of_a - of_b)
    });
    let distance = squares / 2.0;
    Ok(if distance < ROUNDING { 0.0 } else { distance.min(2.0) })
}

/// Returns the kernel velocity `v = S(t, t + dt) / dt`: a [`distance`] divided by the time in which
/// it arose, in one over the unit of `dt`.
///
/// # Errors
///
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the distance is outside `0..=2` or
/// `dt` is not a positive number.
pub fn velocity(distance: f64, dt: f64) -> Result<f64> {
    if !(0.0..=2.0).contains(&distance) {
        return Err(Error::invalid(format!("distance: expected between 0 and 2, got {distance}")));
    }
    if !(dt > 0.0 && dt.is_finite()) {
        return Err(Error::invalid(format!("dt: expected a positive number, got {dt}")));
    }
    Ok(distance / dt)
}

fn side(what: &str, entries: usize) -> Result<usize> {
    let rows = entries.isqrt();
    if rows == 0 || rows * rows != entries {
        return Err(Error::invalid(format!(
            "{what}: expected the entries of a square matrix, got {entries} of them"
        )));
    }
    Ok(rows)
}

/// Returns the largest absolute value, and the norm in units of it, so that no entry overflows.
fn measure<T: Copy + Into<f64>>(what: &str, matrix: &[T]) -> Result<(f64, f64)> {
    let mut largest = 0.0_f64;
    for (entry, &value) in matrix.iter().enumerate() {
        let value: f64 = value.into();
        if !value.is_finite() {
            let rows = matrix.len().isqrt();
            return Err(Error::invalid(format!(
                "{what}: expected finite entries, got {value} in row {}, column {}",
                entry / rows,
                entry % rows
            )));
        }
        largest = largest.max(value.abs());
    }
    if largest == 0.0 {
        return Err(Error::invalid(format!("{what}: expected a matrix other than zero")));
    }
    let squares = sum(matrix.len(), |entry| (matrix[entry].into() / largest).powi(2));
    Ok((largest, squares.sqrt()))
}

fn sum(terms: usize, term: impl Fn(usize) -> f64) -> f64 {
    let chunk = |start: usize| -> f64 { (start..terms.min(start + CHUNK)).map(&term).sum() };
    (0..terms).step_by(CHUNK).map(chunk).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition as the paper gives it.
    fn by_cosine(a: &[f64], b: &[f64]) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        1.0 - dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
    }

    fn matrix(rows: usize) -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(-10.0..10.0_f64, rows * rows)
            .prop_filter("a zero matrix has no direction", |m| m.iter().any(|v| v.abs() > 1e-3))
    }

    fn pair() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
        (1..9_usize).prop_flat_map(|rows| (matrix(rows), matrix(rows)))
    }

    proptest! {
        #[test]
        fn agrees_with_the_cosine_and_keeps_its_bounds((a, b) in pair()) {
            let forth = distance(&a, &b).unwrap();
            prop_assert!((forth - by_cosine(&a, &b)).abs() < 1e-13);
            prop_assert!((0.0..=2.0).contains(&forth));
            prop_assert_eq!(forth.to_bits(), distance(&b, &a).unwrap().to_bits());
        }

        #[test]
        fn sees_no_positive_factor((a, b) in pair(), factor in 1e-12..1e12_f64) {
            let scaled: Vec<f64> = a.iter().map(|value| value * factor).collect();
            prop_assert_eq!(distance(&a, &a).unwrap().to_bits(), 0);
            prop_assert_eq!(distance(&a, &scaled).unwrap().to_bits(), 0);
            let (plain, other) = (distance(&a, &b).unwrap(), distance(&scaled, &b).unwrap());
            prop_assert!((plain - other).abs() <= 1e-12 * plain);
        }

        #[test]
        fn of_gram_matrices_is_at_most_one((a, b) in pair()) {
            let gram = |m: &[f64]| -> Vec<f64> {
                let rows = m.len().isqrt();
                let dot = |i, j| (0..rows).map(|k| m[i * rows + k] * m[j * rows + k]).sum();
                (0..rows * rows).map(|entry| dot(entry / rows, entry % rows)).collect()
            };
            prop_assert!(distance(&gram(&a), &gram(&b)).unwrap() <= 1.0 + 1e-12);
        }

        #[test]
        fn one_changed_bit_is_seen(a in matrix(8), place in 0..64_usize) {
            let a: Vec<f32> = a.iter().map(|&value| value as f32).collect();
            let mut b = a.clone();
            b[place] = f32::from_bits(b[place].to_bits() ^ 1);
            prop_assume!(b[place].is_normal() && b[place].abs() > 1e-2);
            prop_assert!(distance(&a, &b).unwrap() > 0.0);
        }
    }

    #[test]
    fn closed_forms() {
        assert_eq!(distance(&[2.0], &[5.0]).unwrap(), 0.0);
        assert_eq!(distance(&[2.0], &[-5.0]).unwrap(), 2.0);
        assert_eq!(distance(&[1.0, 0.0, 0.0, 0.0], &[0.0, 0.0, 0.0, 4.0]).unwrap(), 1.0);
        // A turn by a small angle x is 1 - cos x = x^2 / 2, which the cosine cannot tell from 0.
        let angle = 1e-9;
        let turned = distance(&[1.0, 0.0, 0.0, 0.0], &[1.0, angle, 0.0, 0.0]).unwrap();
        assert!((turned / (angle * angle / 2.0) - 1.0).abs() < 1e-6, "{turned}");
        let far = [f64::MAX, f64::MIN_POSITIVE, 0.0, f64::MAX / 2.0];
        assert_eq!(distance(&far, &far).unwrap(), 0.0);
        assert_eq!(velocity(0.5, 2.0).unwrap(), 0.25);
        assert_eq!(velocity(0.0, 1e-3).unwrap(), 0.0);
    }

    #[test]
    fn refusals_name_the_argument() {
        let message = |a: &[f64], b: &[f64]| distance(a, b).unwrap_err().to_string();
        let unit = [1.0, 0.0, 0.0, 1.0];
        assert_eq!(message(&[], &[]), "a: expected the entries of a square matrix, got 0 of them");
        assert!(message(&unit, &[1.0; 3]).starts_with("b: expected the entries of a square"));
        assert_eq!(
            message(&unit, &[1.0; 9]),
            "b: expected a matrix of 2 rows and columns like `a`, got 3"
        );
        assert_eq!(
            message(&unit, &[1.0, 1.0, f64::NAN, 1.0]),
            "b: expected finite entries, got NaN in row 1, column 0"
        );
        assert!(
            message(&[f64::INFINITY], &[1.0]).starts_with("a: expected finite entries, got inf")
        );
        assert_eq!(message(&unit, &[0.0; 4]), "b: expected a matrix other than zero");
        assert!(velocity(0.1, 0.0).unwrap_err().to_string().starts_with("dt: expected"));
        assert!(velocity(0.1, f64::NAN).is_err());
        assert!(velocity(f64::NAN, 1.0).unwrap_err().to_string().starts_with("distance: expected"));
        assert!(velocity(-0.1, 1.0).is_err());
    }
}
