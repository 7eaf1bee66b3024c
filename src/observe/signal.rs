//! Signals: numbers that the logits and the label of an example give at one moment of training.
//! This is their only definition, a reference implementation on host slices.
//!
//! Logits `z` in `R^K`, `p = softmax(z)`, `y` the one-hot label or a soft target that sums to 1.
//! Everything is computed in `f64` by log-sum-exp, with the term of the largest logit split off: no
//! finite logit overflows, and the tiny errors of easy examples keep their relative precision, so
//! that even the easiest examples of a data set can be ordered.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Lists the signals once: the enum, their column names, and [`PerSignal`] all come from here.
macro_rules! signals {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:ident),+ $(,)?) => {
        /// A per-example quantity that is recorded while training.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        #[non_exhaustive]
        pub enum Signal {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Signal {
            /// Every signal, in the order of the columns on disk.
            pub const ALL: [Self; [$(stringify!($name)),+].len()] = [$(Self::$variant),+];

            /// Returns the name of the signal's column.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($name),)+
                }
            }
        }

        /// One value for each signal.
        ///
        /// Build it as a literal in code that computes signals by other means than
        /// [`ExampleSignals`]: a literal that lacks a signal does not compile.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct PerSignal<T> {
            $(#[doc = concat!("Of [`Signal::", stringify!($variant), "`].")] pub $name: T,)+
        }

        impl<T> PerSignal<T> {
            /// Returns the value of one signal.
            #[must_use]
            pub fn get(&self, signal: Signal) -> &T {
                match signal {
                    $(Signal::$variant => &self.$name,)+
                }
            }
        }
    };
}

signals! {
    /// `||p - y||_2`, in `[0, sqrt 2]`; high is hard. Paul et al. 2021, definition 2.5.
    El2n el2n,
    /// Cross-entropy `-sum_k y_k log p_k`, in nats; high is hard.
    Loss loss,
    /// `z_y - max over k != y of z_k`, in logits; low is hard. The margin of Toneva et al. 2018 and of
    /// AUM (Pleiss et al. 2020).
    Margin margin,
    /// `||p - y||_1`, in `[0, 2]`; high is hard.
    El1n el1n,
    /// `p_y`, in `[0, 1]`; low is hard. Swayamdipta et al. 2020.
    Confidence confidence,
    /// `-sum_k p_k log p_k`, in nats; high is uncertain.
    Entropy entropy,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Signal {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|signal| signal.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::invalid(format!("signal: expected one of {names}, got `{name}`"))
        })
    }
}

/// The label of an example: a class index, or a distribution over the classes.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The index of the correct class, below the number of classes.
    Class(usize),
    /// One weight per class, finite, not negative, summing to 1.
    Soft(&'a [f32]),
}

/// All signals of one example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExampleSignals {
    /// See [`Signal::El2n`].
    pub el2n: f32,
    /// See [`Signal::Loss`].
    pub loss: f32,
    /// See [`Signal::Margin`].
    pub margin: f32,
    /// See [`Signal::El1n`].
    pub el1n: f32,
    /// See [`Signal::Confidence`].
    pub confidence: f32,
    /// See [`Signal::Entropy`].
    pub entropy: f32,
    /// Whether `argmax z == argmax y`; the lowest index wins a tie.
    pub correct: bool,
}

impl ExampleSignals {
    /// The signals recorded for a row with a non-finite logit.
    pub const NON_FINITE: Self = Self {
        el2n: f32::NAN,
        loss: f32::NAN,
        margin: f32::NAN,
        el1n: f32::NAN,
        confidence: f32::NAN,
        entropy: f32::NAN,
        correct: false,
    };

    /// Computes the signals of one row of logits. Returns [`NON_FINITE`](Self::NON_FINITE) if a
    /// logit is infinite or NaN.
    ///
    /// `logits` has one value per class, at least two. A [`Target::Class`] must be below their
    /// number, and a [`Target::Soft`] as long; otherwise the result is `NON_FINITE` too.
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
    pub fn compute<T: Copy + Into<f64>>(logits: &[T], target: Target<'_>) -> Self {
        let label = match target {
            Target::Class(class) => class,
            Target::Soft(weights) if weights.len() == logits.len() => argmax(weights),
            Target::Soft(_) => return Self::NON_FINITE,
        };
        if logits.len() < 2 || label >= logits.len() {
            return Self::NON_FINITE;
        }
        if logits.iter().any(|&z| !z.into().is_finite()) {
            return Self::NON_FINITE;
        }
        let top = argmax(logits);
        let largest: f64 = logits[top].into();
        // Sums over every class but `top`, whose term is exactly 1.
        let (mut rest, mut rest_times_depth) = (0.0, 0.0);
        // Over every class but the label.
        let (mut other_squares, mut other_largest) = (0.0, f64::NEG_INFINITY);
        for (class, &z) in logits.iter().enumerate() {
            let z: f64 = z.into();
            let depth = z - largest;
            let term = if class == top { 1.0 } else { depth.exp() };
            if class != top {
                rest += term;
                // A term that underflows to zero contributes nothing, however low its logit.
                rest_times_depth += if term > 0.0 { term * depth } else { 0.0 };
            }
            if class != label {
                other_squares += term * term;
                other_largest = other_largest.max(z);
            }
        }
        let total = 1.0 + rest;
        let log_total = rest.ln_1p();
        let label_depth = logits[label].into() - largest;
        let confidence = label_depth.exp() / total;
        let (el2n, el1n, loss) = match target {
            Target::Class(_) => {
                let error = if label == top { rest } else { total - label_depth.exp() } / total;
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
        Self {
            el2n: el2n as f32,
            loss: loss as f32,
            margin: (logits[label].into() - other_largest) as f32,
            el1n: el1n as f32,
            confidence: confidence as f32,
            entropy: (log_total - rest_times_depth / total) as f32,
            correct: top == label,
        }
    }

    /// Returns one signal.
    #[must_use]
    pub fn get(&self, signal: Signal) -> f32 {
        match signal {
            Signal::El2n => self.el2n,
            Signal::Loss => self.loss,
            Signal::Margin => self.margin,
            Signal::El1n => self.el1n,
            Signal::Confidence => self.confidence,
            Signal::Entropy => self.entropy,
        }
    }
}

/// Returns the index of the largest value. The lowest index wins a tie; NaN never wins.
pub(crate) fn argmax<T: Copy + Into<f64>>(values: &[T]) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, &value) in values.iter().enumerate() {
        if value.into() > best.1 {
            best = (index, value.into());
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let signals = ExampleSignals::compute(&[1.0, bad], Target::Class(0));
            assert!(!signals.correct);
            assert!(Signal::ALL.iter().all(|&signal| signals.get(signal).is_nan()));
        }
    }
}
