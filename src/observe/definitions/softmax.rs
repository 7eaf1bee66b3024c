//! Signals of logits under a softmax.
//!
//! Logits `z` in `R^K`, `p = softmax(z)`, `y` the one-hot label or a soft target that sums to 1.
//! Everything is computed by log-sum-exp, with the term of the largest logit split off: no finite
//! logit overflows, and the tiny errors of easy examples keep their relative precision, so that even
//! the easiest examples of a data set can be ordered. In `f64`, but for rows of many single-precision
//! logits (`wide_sums`).

use super::wide_sums::{self, Sums};
use super::{ExampleSignals, Target, argmax};
use crate::observe::output_rows::Float;

/// The signals of a row of logits, and the sum by which the softmax divides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SoftmaxSignals {
    pub(crate) signals: ExampleSignals,
    /// `log sum_k exp z_k`; NaN if the row is not finite.
    pub(crate) log_sum_exp: f64,
}

impl SoftmaxSignals {
    const NON_FINITE: Self = Self { signals: ExampleSignals::NON_FINITE, log_sum_exp: f64::NAN };
}

impl ExampleSignals {
    /// Computes the signals of one row of logits under a softmax. Returns
    /// [`NON_FINITE`](Self::NON_FINITE) if a logit is NaN or plus infinity, or all are minus
    /// infinity.
    ///
    /// `logits` has one value per class, at least two. Minus infinity masks a class out: its
    /// probability is 0. If the label itself is masked out, its loss is infinite. A [`Target::Class`]
    /// must be below the number of classes, and a [`Target::Soft`] as long; otherwise the result is
    /// `NON_FINITE` too.
    ///
    /// # Examples
    ///
    /// ```
    /// use data_diet::observe::{ExampleSignals, Target};
    ///
    /// // Two equal logits: p = (1/2, 1/2), so p - y = (-1/2, 1/2).
    /// let signals = ExampleSignals::compute(&[0.0_f32, 0.0], Target::Class(0));
    /// assert_eq!(signals.el2n, 0.5_f32.sqrt());
    /// assert_eq!(signals.loss, 2.0_f32.ln());
    /// assert!(signals.correct, "the lowest index wins the tie");
    /// ```
    #[must_use]
    pub fn compute<T: Float>(logits: &[T], target: Target<'_>) -> Self {
        observe(logits, target).signals
    }

    /// Computes the signals of one logit `z` under a sigmoid: those of two classes with the logits
    /// (0, z).
    ///
    /// `target` is the probability of the positive class, which 0 and 1 make a class. A target from
    /// 0.5 on counts as positive; a logit of 0 answers negative. `NON_FINITE` unless `target` is in
    /// 0 to 1.
    #[must_use]
    pub fn binary<T: Float>(logit: T, target: f32) -> Self {
        let logits = [0.0, logit.into()];
        if target == 0.0 || target == 1.0 {
            return Self::compute(&logits, Target::Class(usize::from(target == 1.0)));
        }
        if !(0.0..=1.0).contains(&target) {
            return Self::NON_FINITE;
        }
        let signals = Self::compute(&logits, Target::Class(usize::from(target >= 0.5)));
        if signals.is_broken() {
            return signals;
        }
        // Both classes miss by the same: sigmoid(z) - y, taken from the side that loses no digits.
        let (z, y) = (logits[1], f64::from(target));
        let tail = (-z.abs()).exp();
        let unlikely = tail / (1.0 + tail);
        let missed = if z > 0.0 { (1.0 - y) - unlikely } else { unlikely - y }.abs();
        let log_odds = if z == f64::NEG_INFINITY && y == 0.0 { 0.0 } else { y * z };
        Self {
            el2n: (std::f64::consts::SQRT_2 * missed) as f32,
            el1n: (2.0 * missed) as f32,
            loss: (z.max(0.0) - log_odds + tail.ln_1p()) as f32,
            ..signals
        }
    }
}

/// As [`ExampleSignals::compute`], with the log-sum-exp.
pub(crate) fn observe<T: Float>(logits: &[T], target: Target<'_>) -> SoftmaxSignals {
    let label = match target {
        Target::Class(class) => class,
        Target::Soft(weights) if weights.len() == logits.len() => argmax(weights),
        Target::Soft(_) => return SoftmaxSignals::NON_FINITE,
    };
    if logits.len() < 2 || label >= logits.len() {
        return SoftmaxSignals::NON_FINITE;
    }
    let Some(top) = top_of(logits) else { return SoftmaxSignals::NON_FINITE };
    let largest: f64 = logits[top].into();
    let Sums { rest, rest_times_depth, rest_squares, second } =
        wide_sums::of_rest(logits, top).unwrap_or_else(|| sums_of_rest(logits, top));
    let total = 1.0 + rest;
    let log_total = rest.ln_1p();
    let label_depth = logits[label].into() - largest;
    let label_term = label_depth.exp();
    let (other_squares, other_largest) = if label == top {
        (rest_squares, second)
    } else {
        // The squares include the largest term, which is 1: nothing is canceled.
        (1.0 + (rest_squares - label_term * label_term).max(0.0), largest)
    };
    let (el2n, el1n, loss) = match target {
        Target::Class(_) => {
            let error = if label == top { rest } else { total - label_term } / total;
            let squares = error * error + other_squares / (total * total);
            (squares.sqrt(), 2.0 * error, log_total - label_depth)
        }
        Target::Soft(weights) => {
            let (mut squares, mut absolutes, mut loss) = (0.0, 0.0, 0.0);
            for (&z, &weight) in logits.iter().zip(weights) {
                let depth = z.into() - largest;
                let error = depth.exp() / total - f64::from(weight);
                squares += error * error;
                absolutes += error.abs();
                if weight > 0.0 {
                    loss += f64::from(weight) * (log_total - depth);
                }
            }
            (squares.sqrt(), absolutes, loss)
        }
    };
    let signals = ExampleSignals {
        el2n: el2n as f32,
        loss: loss as f32,
        margin: (logits[label].into() - other_largest) as f32,
        el1n: el1n as f32,
        confidence: (label_term / total) as f32,
        entropy: (log_total - rest_times_depth / total) as f32,
        correct: top == label,
    };
    SoftmaxSignals { signals, log_sum_exp: largest + log_total }
}

/// Returns the class of the largest logit, the lowest if several are; `None` for a row that is not
/// finite.
fn top_of<T: Float>(logits: &[T]) -> Option<usize> {
    let largest = wide_sums::largest(logits)?;
    if largest.is_infinite() {
        return None;
    }
    logits.iter().position(|&z| z.into() == largest)
}

/// Sums over every class but `top`, whose term is exactly 1.
fn sums_of_rest<T: Float>(logits: &[T], top: usize) -> Sums {
    let largest: f64 = logits[top].into();
    let mut sums = Sums::EMPTY;
    for (class, &z) in logits.iter().enumerate() {
        if class == top {
            continue;
        }
        let z: f64 = z.into();
        let depth = z - largest;
        let term = depth.exp();
        sums.rest += term;
        // A term that underflows to zero contributes nothing, however low its logit.
        sums.rest_times_depth += if term > 0.0 { term * depth } else { 0.0 };
        sums.rest_squares += term * term;
        sums.second = sums.second.max(z);
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::signal::Signal;

    fn close(a: f32, b: f64) {
        let tolerance = 1e-6 * b.abs().max(1e-30);
        assert!((f64::from(a) - b).abs() <= tolerance, "{a} is not {b}");
    }

    #[test]
    fn closed_forms_of_uniform_logits() {
        let signals = ExampleSignals::compute(&[3.0_f32; 5], Target::Class(2));
        close(signals.el2n, (0.8_f64.powi(2) + 4.0 * 0.04).sqrt());
        close(signals.el1n, 1.6);
        close(signals.loss, 5.0_f64.ln());
        close(signals.entropy, 5.0_f64.ln());
        close(signals.confidence, 0.2);
        assert_eq!(signals.margin, 0.0);
        assert!(!signals.correct, "class 0 wins the tie");
    }

    #[test]
    fn tiny_errors_keep_their_precision() {
        // 1 - p_y is about e^-60, far below the precision of 1 - p.
        let signals = ExampleSignals::compute(&[60.0_f32, 0.0], Target::Class(0));
        close(signals.el2n, 2.0_f64.sqrt() * (-60.0_f64).exp());
        close(signals.loss, (-60.0_f64).exp());
        // Also in a row that is wide enough for sums in single precision.
        let mut wide = vec![0.0_f32; 1000];
        wide[7] = 69.0;
        let signals = ExampleSignals::compute(&wide, Target::Class(7));
        close(signals.loss, 999.0 * (-69.0_f64).exp());
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let signals = ExampleSignals::compute(&[1e300_f64, -1e300], Target::Class(1));
        assert!(signals.loss.is_infinite(), "2e300 nats is more than f32 holds, not NaN");
        close(signals.el2n, 2.0_f64.sqrt());
        let signals = ExampleSignals::compute(&[3.4e38_f32, -3.4e38], Target::Class(0));
        assert_eq!((signals.el2n, signals.loss, signals.entropy), (0.0, 0.0, 0.0));
    }

    #[test]
    fn one_hot_soft_targets_agree_with_classes() {
        let logits = [0.3_f32, -2.0, 5.5, 1.25];
        let hard = ExampleSignals::compute(&logits, Target::Class(3));
        let soft = ExampleSignals::compute(&logits, Target::Soft(&[0.0, 0.0, 0.0, 1.0]));
        for signal in Signal::ALL {
            close(soft.get(signal), f64::from(hard.get(signal)));
        }
        assert_eq!(hard.correct, soft.correct);
    }

    #[test]
    fn rows_that_are_not_finite_are_not_correct() {
        let masked = f32::NEG_INFINITY;
        for bad in [[1.0, f32::NAN], [f32::NAN, 1.0], [1.0, f32::INFINITY], [masked, masked]] {
            let signals = ExampleSignals::compute(&bad, Target::Class(0));
            assert!(!signals.correct);
            assert!(Signal::ALL.iter().all(|&signal| signals.get(signal).is_nan()), "{bad:?}");
            let mut wide = vec![bad[0]; 400];
            wide[399] = bad[1];
            let signals = ExampleSignals::compute(&wide, Target::Class(0));
            assert!(Signal::ALL.iter().all(|&signal| signals.get(signal).is_nan()), "{bad:?}");
        }
    }

    #[test]
    fn a_masked_label_has_an_infinite_loss_and_nothing_else_is_lost() {
        let signals = ExampleSignals::compute(&[0.0_f32, f32::NEG_INFINITY, 0.0], Target::Class(1));
        assert_eq!((signals.loss, signals.confidence), (f32::INFINITY, 0.0));
        close(signals.el2n, 1.5_f64.sqrt());
        close(signals.entropy, 2.0_f64.ln());
        assert!(!signals.correct);
    }

    proptest! {
        /// A soft target of two classes, where that loses no digits.
        #[test]
        fn a_soft_binary_target_is_that_of_two_classes(z in -8.0_f64..8.0, target in 0.0_f32..1.0) {
            let got = ExampleSignals::binary(z, target);
            let weights = [1.0 - target, target];
            let expected = ExampleSignals::compute(&[0.0, z], Target::Soft(&weights));
            for signal in Signal::ALL {
                if target == 0.5 && matches!(signal, Signal::Margin | Signal::Confidence) {
                    continue;
                }
                let (got, expected) = (got.get(signal), expected.get(signal));
                prop_assert!((got - expected).abs() < 1e-6, "{} {} {}", signal, got, expected);
            }
        }
    }

    #[test]
    fn half_a_target_counts_as_positive() {
        let signals = ExampleSignals::binary(2.0_f32, 0.5);
        assert!(signals.correct && signals.margin == 2.0);
        assert!(!ExampleSignals::binary(-2.0_f32, 0.5).correct);
        assert!(ExampleSignals::binary(0.0_f32, 0.0).correct, "0 answers negative");
        for broken in [-0.1, 1.5, f32::NAN] {
            assert!(ExampleSignals::binary(1.0_f32, broken).is_broken(), "{broken}");
        }
    }

    proptest! {
        /// A class that is masked out is as if it did not exist.
        #[test]
        fn masked_classes_leave_no_trace(
            logits in prop::collection::vec(-20.0_f32..20.0, 2..400),
            masked in prop::collection::vec(0_usize..400, 1..20),
            label in 0_usize..400,
        ) {
            let label = label % logits.len();
            let expected = ExampleSignals::compute(&logits, Target::Class(label));
            let mut with = logits.clone();
            let mut place = label;
            for at in masked {
                let at = at % (with.len() + 1);
                with.insert(at, f32::NEG_INFINITY);
                place += usize::from(at <= place);
            }
            let got = ExampleSignals::compute(&with, Target::Class(place));
            prop_assert_eq!(got.correct, expected.correct);
            for signal in Signal::ALL {
                let (got, expected) = (got.get(signal), expected.get(signal));
                prop_assert!((got - expected).abs() <= 2e-6 * expected.abs() + 1e-30, "{} {} {}", signal, got, expected);
            }
        }

        /// Rows wide enough for single precision give what double precision gives, to its rounding.
        #[test]
        fn wide_rows_agree_with_double_precision(
            scale in prop::sample::select(vec![0.01_f32, 1.0, 8.0, 60.0]),
            logits in prop::collection::vec(prop_oneof![20 => -1.0_f32..1.0, 1 => Just(f32::NEG_INFINITY)], 300..900),
            label in 0_usize..300,
        ) {
            let logits: Vec<f32> = logits.iter().map(|z| z * scale).collect();
            let double: Vec<f64> = logits.iter().copied().map(f64::from).collect();
            let got = ExampleSignals::compute(&logits, Target::Class(label));
            let expected = ExampleSignals::compute(&double, Target::Class(label));
            prop_assert_eq!(got.correct, expected.correct);
            for signal in Signal::ALL {
                let (got, expected) = (got.get(signal), expected.get(signal));
                prop_assert!(
                    got == expected || (got - expected).abs() <= 1e-6 * expected.abs(),
                    "{} {} {}", signal, got, expected
                );
            }
        }
    }
}
