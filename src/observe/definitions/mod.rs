//! The signals of one example, computed on the host: the only definition of each, which every other
//! implementation is tested against.
//!
//! One file for each way to a loss: [`softmax`] (classes, tokens, and binary as two classes),
//! [`multi_label`] (sigmoids) and [`regression`]. [`token_means`] makes a sequence of its tokens.

mod multi_label;
mod regression;
mod softmax;
mod token_means;
mod wide_sums;

pub(crate) use softmax::observe;
pub(crate) use token_means::TokenMeans;

use super::signal::Signal;

/// The label of an example: a class index, or a distribution over the classes.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The index of the correct class, below the number of classes.
    Class(usize),
    /// One weight per class, finite, not negative, summing to 1.
    Soft(&'a [f32]),
}

/// All signals of one example. A signal that the kind of model does not have is NaN.
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
    /// Whether the answer is right; false where there is no right answer.
    pub correct: bool,
}

impl ExampleSignals {
    /// The signals recorded for a row with an output that is not finite.
    pub const NON_FINITE: Self = Self {
        el2n: f32::NAN,
        loss: f32::NAN,
        margin: f32::NAN,
        el1n: f32::NAN,
        confidence: f32::NAN,
        entropy: f32::NAN,
        correct: false,
    };

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

    /// The signals of an example of which only the loss is known; NaN if it is not finite.
    #[must_use]
    pub fn of_loss(loss: f64) -> Self {
        let loss = if loss.is_finite() { loss as f32 } else { f32::NAN };
        Self { loss, ..Self::NON_FINITE }
    }

    /// Returns whether the row had outputs that are not finite, whatever the kind of model.
    pub(crate) fn is_broken(&self) -> bool {
        self.loss.is_nan()
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
