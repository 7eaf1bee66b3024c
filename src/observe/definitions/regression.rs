//! Signals of numbers that are predicted by squared error.

use super::ExampleSignals;
use crate::observe::output_rows::Float;

impl ExampleSignals {
    /// Computes the signals of predictions `z` against targets `y` of the same length: `el2n` is
    /// `||z - y||_2`, the norm of the gradient of the loss in the predictions, and `loss` is half its
    /// square. The other signals are NaN, and nothing is `correct`.
    ///
    /// The result is [`NON_FINITE`](Self::NON_FINITE) if a prediction is not finite or the lengths
    /// differ.
    ///
    /// # Examples
    ///
    /// ```
    /// use data_diet::observe::ExampleSignals;
    ///
    /// let signals = ExampleSignals::regression(&[3.0_f32, 0.0], &[0.0, 4.0]);
    /// assert_eq!((signals.el2n, signals.loss), (5.0, 12.5));
    /// ```
    #[must_use]
    pub fn regression<T: Float>(predictions: &[T], targets: &[f32]) -> Self {
        if predictions.len() != targets.len() {
            return Self::NON_FINITE;
        }
        let mut squares = 0.0;
        for (&prediction, &target) in predictions.iter().zip(targets) {
            let prediction: f64 = prediction.into();
            if !prediction.is_finite() {
                return Self::NON_FINITE;
            }
            let error = prediction - f64::from(target);
            squares += error * error;
        }
        Self { el2n: squares.sqrt() as f32, loss: (0.5 * squares) as f32, ..Self::NON_FINITE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Signal;

    #[test]
    fn only_the_error_and_its_square_are_there() {
        let signals = ExampleSignals::regression(&[1.0_f64, -2.0], &[0.0, 0.0]);
        assert!((signals.el2n - 5.0_f32.sqrt()).abs() < 1e-6 && signals.loss == 2.5);
        assert!(!signals.correct);
        for signal in [Signal::Margin, Signal::El1n, Signal::Confidence, Signal::Entropy] {
            assert!(signals.get(signal).is_nan(), "{signal}");
        }
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(ExampleSignals::regression(&[broken], &[0.0]).is_broken());
        }
        assert!(ExampleSignals::regression(&[0.0_f32; 2], &[0.0]).is_broken());
    }
}
