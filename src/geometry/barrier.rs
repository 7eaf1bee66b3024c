//! Error barriers: how far a curve rises on the line between two networks.
//!
//! Knows plain numbers only; the hook crate measures them. Position `alpha` stands for the weights
//! `alpha w + (1 - alpha) w'`: the first end `w` is at 1, the second end `w'` at 0.

use crate::error::{Error, Result};

/// Values on a grid of positions from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve(Vec<(f64, f64)>);

/// How far a curve rises above its ends, and where.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Barrier {
    /// The largest rise on the grid, in the unit of the values. At least 0, because the grid
    /// includes the ends; NaN if a value is not finite.
    pub height: f64,
    /// The position of the largest rise; the lowest position wins a tie.
    pub alpha: f64,
}

/// What was measured at one position between two networks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RiskPoint {
    /// The weight of the first end, in `0..=1`.
    pub alpha: f64,
    /// The error rate, 1 - accuracy, in `0..=1`; NaN for models that are neither right nor wrong, such as
    /// a regression.
    pub error: f64,
    /// The mean loss; NaN or infinite where the network's output is not finite.
    pub loss: f64,
}

/// Error rate and mean loss along the line between two networks.
#[derive(Clone, Debug, PartialEq)]
pub struct RiskCurve(Vec<RiskPoint>);

impl Curve {
    /// Makes a curve from positions and values.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) unless the positions begin at 0, end at 1 and
    /// ascend without repeating.
    pub fn new(points: Vec<(f64, f64)>) -> Result<Self> {
        check_positions(points.iter().map(|&(alpha, _)| alpha))?;
        Ok(Self(points))
    }

    /// Position and value of every point, in ascending order of position.
    #[must_use]
    pub fn points(&self) -> &[(f64, f64)] {
        &self.0
    }

    /// The largest rise above the straight line between the ends:
    /// `max over alpha of R(alpha) - (alpha R(1) + (1 - alpha) R(0))`, on the grid. The definition of
    /// the Data Diet paper (section 6).
    ///
    /// # Examples
    ///
    /// ```
    /// use data_diet::geometry::barrier::Curve;
    ///
    /// let curve = Curve::new(vec![(0.0, 0.1), (0.5, 0.5), (1.0, 0.2)])?;
    /// let barrier = curve.by_chord();
    /// assert!((barrier.height - 0.35).abs() < 1e-15);
    /// assert_eq!(barrier.alpha, 0.5);
    /// # Ok::<(), data_diet::Error>(())
    /// ```
    #[must_use]
    pub fn by_chord(&self) -> Barrier {
        let (second, first) = self.ends();
        // Exact where the ends are equal, so that a flat curve has a barrier of exactly 0.
        self.above(|alpha| if alpha == 1.0 { first } else { second + alpha * (first - second) })
    }

    /// The largest rise above the mean of the ends: `max over alpha of R(alpha) - (R(0) + R(1)) / 2`, on the
    /// grid (Frankle et al. 2020, section 2).
    #[must_use]
    pub fn by_mean(&self) -> Barrier {
        let (second, first) = self.ends();
        self.above(|_| f64::midpoint(second, first))
    }

    fn ends(&self) -> (f64, f64) {
        (self.0[0].1, self.0[self.0.len() - 1].1)
    }

    fn above(&self, reference: impl Fn(f64) -> f64) -> Barrier {
        let mut barrier = Barrier { height: 0.0, alpha: 0.0 };
        for (place, &(alpha, value)) in self.0.iter().enumerate() {
            let rise = value - reference(alpha);
            if rise.is_nan() || !value.is_finite() {
                return Barrier { height: f64::NAN, alpha: f64::NAN };
            }
            if place == 0 || rise > barrier.height {
                barrier = Barrier { height: rise, alpha };
            }
        }
        // Below both ends there is no barrier; the sum turns -0 into 0.
        barrier.height += 0.0;
        barrier
    }
}

impl RiskCurve {
    /// Makes a curve from what was measured along a line.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) unless the positions begin at 0, end at 1 and
    /// ascend without repeating, and every error rate lies in `0..=1` or every one is NaN.
    pub fn new(points: Vec<RiskPoint>) -> Result<Self> {
        check_positions(points.iter().map(|point| point.alpha))?;
        let curve = Self(points);
        let mut wrong = curve.0.iter().filter(|point| !(0.0..=1.0).contains(&point.error));
        if let Some(point) = wrong.next().filter(|_| curve.has_errors()) {
            return Err(Error::invalid(format!(
                "error: expected a rate between 0 and 1, got {} at alpha {}",
                point.error, point.alpha
            )));
        }
        Ok(curve)
    }

    /// A placeholder for points that have not been read yet.
    pub(crate) fn empty() -> Self {
        Self(Vec::new())
    }

    /// What was measured, in ascending order of position.
    #[must_use]
    pub fn points(&self) -> &[RiskPoint] {
        &self.0
    }

    /// Whether there is an error rate; otherwise only the loss tells how good the networks are.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|point| !point.error.is_nan())
    }

    /// What a barrier is measured by: the error rate, or the mean loss if there is none.
    #[must_use]
    pub fn risks(&self) -> Curve {
        if self.has_errors() { self.errors() } else { self.losses() }
    }

    /// The error rate along the line; NaN if there is none.
    #[must_use]
    pub fn errors(&self) -> Curve {
        Curve(self.0.iter().map(|point| (point.alpha, point.error)).collect())
    }

    /// The mean loss along the line.
    #[must_use]
    pub fn losses(&self) -> Curve {
        Curve(self.0.iter().map(|point| (point.alpha, point.loss)).collect())
    }
}

/// Checks the positions on a line from one end to the other.
fn check_positions(alphas: impl Iterator<Item = f64>) -> Result<()> {
    let alphas: Vec<f64> = alphas.collect();
    if let Some(alpha) = alphas.iter().find(|alpha| !(0.0..=1.0).contains(*alpha)) {
        return Err(Error::invalid(format!(
            "alpha: expected positions between 0 and 1, got {alpha}"
        )));
    }
    if let Some(pair) = alphas.windows(2).find(|pair| pair[0] >= pair[1]) {
        let (before, after) = (pair[0], pair[1]);
        return Err(Error::invalid(format!(
            "alpha: expected ascending positions, got {after} after {before}"
        )));
    }
    match (alphas.first(), alphas.last()) {
        (Some(0.0), Some(1.0)) => Ok(()),
        (Some(first), Some(last)) => Err(Error::invalid(format!(
            "alpha: expected positions from 0 to 1, both included, got {first} to {last}"
        ))),
        _ => Err(Error::invalid("alpha: expected positions from 0 to 1, got none")),
    }
}

/// Checks the positions at which a curve is to be measured.
///
/// # Errors
///
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) unless they begin at 0, end at 1 and ascend without
/// repeating.
pub fn check_grid(alphas: &[f64]) -> Result<()> {
    check_positions(alphas.iter().copied())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn curve(values: &[f64]) -> Curve {
        let last = (values.len() - 1) as f64;
        let point = |(place, &value): (usize, &f64)| (place as f64 / last, value);
        Curve::new(values.iter().enumerate().map(point).collect()).unwrap()
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(0.0..1.0_f64, 2..20)
    }

    proptest! {
        #[test]
        fn is_the_largest_rise_of_the_definition(values in values()) {
            let (first, last) = (values[values.len() - 1], values[0]);
            let steps = (values.len() - 1) as f64;
            let rises = values.iter().enumerate().map(|(place, value)| {
                let alpha = place as f64 / steps;
                (value - (alpha * first + (1.0 - alpha) * last), value - f64::midpoint(first, last))
            });
            let (chord, mean) = rises.fold((f64::MIN, f64::MIN), |most, (chord, mean)| {
                (most.0.max(chord), most.1.max(mean))
            });
            let curve = curve(&values);
            prop_assert!((curve.by_chord().height - chord).abs() < 1e-14);
            prop_assert!((curve.by_mean().height - mean).abs() < 1e-14);
            prop_assert!(curve.by_chord().height >= 0.0 && curve.by_mean().height >= 0.0);
        }

        #[test]
        fn does_not_depend_on_which_end_is_first(values in values()) {
            let turned: Vec<f64> = values.iter().rev().copied().collect();
            let (curve, turned) = (curve(&values), curve(&turned));
            prop_assert!((curve.by_chord().height - turned.by_chord().height).abs() < 1e-15);
            prop_assert_eq!(curve.by_mean().height, turned.by_mean().height);
        }

        #[test]
        fn of_a_constant_curve_is_positive_zero(value in -1e300..1e300_f64, points in 2..30_usize) {
            let curve = curve(&vec![value; points]);
            prop_assert_eq!(curve.by_chord().height.to_bits(), 0);
            prop_assert_eq!(curve.by_mean().height.to_bits(), 0);
        }

        #[test]
        fn of_a_convex_curve_is_zero(a in 0.1..5.0_f64, b in -5.0..5.0_f64, points in 2..30_usize) {
            let last = (points - 1) as f64;
            let values: Vec<f64> =
                (0..points).map(|x| a * (x as f64 / last).powi(2) + b * x as f64 / last).collect();
            prop_assert!(curve(&values).by_chord().height < 1e-14);
        }

        #[test]
        fn does_not_fall_when_points_are_added(values in values(), extra in 0.0..1.0_f64) {
            let curve = curve(&values);
            let mut points = curve.points().to_vec();
            points.insert(1, (points[1].0 / 2.0, extra));
            let finer = Curve::new(points).unwrap();
            prop_assert!(finer.by_chord().height >= curve.by_chord().height);
        }
    }

    #[test]
    fn tells_where_the_largest_rise_is() {
        let barrier = curve(&[0.2, 0.7, 0.7, 0.2, 0.2]).by_chord();
        assert_eq!((barrier.height, barrier.alpha), (0.7 - 0.2, 0.25));
        let below = curve(&[0.5, 0.1, 0.5]).by_chord();
        assert_eq!((below.height.to_bits(), below.alpha), (0, 0.0));
        // By the mean of the ends, the worse end is itself a rise.
        let slope = curve(&[0.0, 0.25, 0.5]);
        assert_eq!(slope.by_chord().height, 0.0);
        assert_eq!(slope.by_mean(), Barrier { height: 0.25, alpha: 1.0 });
    }

    #[test]
    fn what_is_not_finite_is_told() {
        for value in [f64::NAN, f64::INFINITY] {
            for place in 0..3 {
                let mut values = [0.1; 3];
                values[place] = value;
                assert!(curve(&values).by_chord().height.is_nan(), "{values:?}");
                assert!(curve(&values).by_mean().height.is_nan(), "{values:?}");
            }
        }
    }

    #[test]
    fn refusals_name_the_argument() {
        let message = |alphas: &[f64]| check_grid(alphas).unwrap_err().to_string();
        assert_eq!(message(&[]), "alpha: expected positions from 0 to 1, got none");
        assert_eq!(
            message(&[0.0, 0.9]),
            "alpha: expected positions from 0 to 1, both included, got 0 to 0.9"
        );
        assert!(message(&[0.1, 1.0]).ends_with("got 0.1 to 1"));
        assert_eq!(
            message(&[0.0, -0.5, 1.0]),
            "alpha: expected positions between 0 and 1, got -0.5"
        );
        assert!(message(&[0.0, 1.5]).ends_with("got 1.5"));
        assert!(message(&[0.0, f64::NAN, 1.0]).ends_with("got NaN"));
        assert_eq!(
            message(&[0.0, 0.6, 0.4, 1.0]),
            "alpha: expected ascending positions, got 0.4 after 0.6"
        );
        assert!(message(&[0.0, 0.5, 0.5, 1.0]).ends_with("got 0.5 after 0.5"));
        let point = |alpha, error| RiskPoint { alpha, error, loss: 0.0 };
        let error = RiskCurve::new(vec![point(0.0, 0.5), point(1.0, 1.5)]).unwrap_err();
        assert_eq!(error.to_string(), "error: expected a rate between 0 and 1, got 1.5 at alpha 1");
        assert!(RiskCurve::new(vec![point(0.0, f64::NAN), point(1.0, 0.5)]).is_err());
    }

    #[test]
    fn without_error_rates_the_loss_is_the_risk() {
        let curve = |errors: [f64; 3]| {
            let losses = [1.0, 4.0, 2.0];
            let point = |place: usize| RiskPoint {
                alpha: place as f64 / 2.0,
                error: errors[place],
                loss: losses[place],
            };
            RiskCurve::new((0..3).map(point).collect()).unwrap()
        };
        let with = curve([0.0, 0.5, 0.5]);
        assert!(with.has_errors());
        assert_eq!(with.risks(), with.errors());
        let without = curve([f64::NAN; 3]);
        assert!(!without.has_errors() && without.errors().by_chord().height.is_nan());
        assert_eq!(without.risks().by_chord(), Barrier { height: 2.5, alpha: 0.5 });
    }
}
