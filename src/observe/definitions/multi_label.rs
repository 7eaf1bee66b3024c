//! Signals of several labels at once, each with a sigmoid of its own.

use super::ExampleSignals;
use crate::observe::output_rows::Float;

impl ExampleSignals {
    /// Computes the signals of one row of logits `z` under sigmoids, against targets `y` in 0 to 1,
    /// one for each label.
    ///
    /// - `el2n` is `||sigmoid(z) - y||_2`, the norm of the gradient of the loss in the logits, as EL2N
    ///   is under a softmax; in `[0, sqrt labels]`;
    /// - `loss` is the binary cross-entropy, `-sum_k y_k log p_k + (1 - y_k) log(1 - p_k)`, in nats;
    /// - `margin` is the smallest `(2 y_k - 1) z_k`: positive if every label is on its side;
    /// - `correct` says that every label is right: `z_k > 0` where `y_k >= 0.5`, and only there.
    ///
    /// The other signals are NaN. The result is [`NON_FINITE`](Self::NON_FINITE) if a logit is NaN or
    /// plus infinity, or `targets` is not as long as `logits`. Minus infinity means a probability of 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use data_diet::observe::ExampleSignals;
    ///
    /// let signals = ExampleSignals::multi_label(&[0.0_f32, -3.0], &[1.0, 0.0]);
    /// assert_eq!(signals.margin, 0.0);
    /// assert!(!signals.correct, "a logit of 0 answers no");
    /// ```
    #[must_use]
    pub fn multi_label<T: Float>(logits: &[T], targets: &[f32]) -> Self {
        if logits.len() != targets.len() {
            return Self::NON_FINITE;
        }
        let (mut squares, mut loss, mut margin, mut correct) = (0.0, 0.0, f64::INFINITY, true);
        for (&z, &target) in logits.iter().zip(targets) {
            let (z, y): (f64, f64) = (z.into(), target.into());
            if z.is_nan() || z == f64::INFINITY {
                return Self::NON_FINITE;
            }
            // exp(-|z|), so that nothing overflows and the errors of easy labels keep their precision.
            let tail = (-z.abs()).exp();
            let (likely, unlikely) = (1.0 / (1.0 + tail), tail / (1.0 + tail));
            let (yes, no) = if z > 0.0 { (likely, unlikely) } else { (unlikely, likely) };
            let error = if y > 0.5 { (1.0 - y) - no } else { yes - y };
            squares += error * error;
            let log_odds = if y == 0.0 { 0.0 } else { y * z };
            loss += z.max(0.0) - log_odds + tail.ln_1p();
            let side = 2.0 * y - 1.0;
            margin = margin.min(if side == 0.0 { 0.0 } else { side * z });
            correct &= (z > 0.0) == (y >= 0.5);
        }
        Self {
            el2n: squares.sqrt() as f32,
            loss: loss as f32,
            margin: margin as f32,
            correct,
            ..Self::NON_FINITE
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::Target;

    #[test]
    fn one_label_is_a_binary_classifier() {
        for z in [-30.0_f32, -2.5, 0.0, 0.5, 40.0] {
            for y in [0.0_f32, 1.0] {
                let one = ExampleSignals::multi_label(&[z], &[y]);
                let two = ExampleSignals::compute(&[0.0, z], Target::Class(y as usize));
                // Of two classes, both miss by the same.
                let expected = f64::from(two.el2n) / 2.0_f64.sqrt();
                assert!((f64::from(one.el2n) - expected).abs() <= 1e-6 * expected, "{z} {y}");
                assert!((one.loss - two.loss).abs() <= 1e-6 * two.loss, "{z} {y}");
                assert_eq!((one.margin, one.correct), (two.margin, two.correct), "{z} {y}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_said_and_a_masked_label_is_not() {
        for broken in [f32::NAN, f32::INFINITY] {
            assert!(ExampleSignals::multi_label(&[1.0, broken], &[1.0, 0.0]).is_broken());
        }
        assert!(ExampleSignals::multi_label(&[1.0_f32], &[1.0, 0.0]).is_broken());
        let masked = ExampleSignals::multi_label(&[1.0, f32::NEG_INFINITY], &[1.0, 0.0]);
        let alone = ExampleSignals::multi_label(&[1.0_f32], &[1.0]);
        assert_eq!((masked.el2n, masked.loss, masked.margin), (alone.el2n, alone.loss, 1.0));
        let missed = ExampleSignals::multi_label(&[1.0, f32::NEG_INFINITY], &[1.0, 1.0]);
        assert_eq!((missed.loss, missed.correct), (f32::INFINITY, false));
    }

    proptest! {
        /// The formulas as they are written, where they lose no digits.
        #[test]
        fn agrees_with_the_formulas(
            rows in prop::collection::vec((-6.0_f64..6.0, prop_oneof![Just(0.0_f32), Just(1.0), 0.0_f32..1.0]), 1..20),
        ) {
            let (logits, targets): (Vec<f64>, Vec<f32>) = rows.into_iter().unzip();
            let got = ExampleSignals::multi_label(&logits, &targets);
            let p: Vec<f64> = logits.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
            let pairs = || p.iter().zip(&targets).map(|(&p, &y)| (p, f64::from(y)));
            let el2n = pairs().map(|(p, y)| (p - y).powi(2)).sum::<f64>().sqrt();
            let loss = pairs().map(|(p, y)| -(y * p.ln() + (1.0 - y) * (1.0 - p).ln())).sum::<f64>();
            let margin = logits.iter().zip(&targets).map(|(z, &y)| (2.0 * f64::from(y) - 1.0) * z);
            let margin = margin.fold(f64::INFINITY, f64::min);
            let near = |got: f32, expected: f64| (f64::from(got) - expected).abs() <= 1e-6 * expected.abs() + 1e-9;
            prop_assert!(near(got.el2n, el2n) && near(got.loss, loss) && near(got.margin, margin));
            prop_assert_eq!(got.correct, pairs().all(|(p, y)| (p > 0.5) == (y >= 0.5)));
        }
    }
}
