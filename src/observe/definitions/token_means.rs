//! A sequence as the mean of its tokens.
//!
//! Each signal of a sequence is the mean of that signal over its counted tokens. Marion et al. 2023,
//! *When Less is More: Investigating Data Pruning for Pretraining LLMs at Scale*, section 3, take EL2N
//! and perplexity of a sequence so (perplexity is the exponential of the mean loss).

/// Adds up the counted tokens of one sequence.
#[derive(Clone, Debug)]
pub(crate) struct TokenMeans {
    sums: Vec<f64>,
    tokens: u32,
    correct: u32,
    is_finite: bool,
}

impl TokenMeans {
    /// Begins a sequence with this many signals per token.
    pub(crate) fn new(signals: usize) -> Self {
        Self { sums: vec![0.0; signals], tokens: 0, correct: 0, is_finite: true }
    }

    /// Adds a token. One whose logits are not finite makes the whole sequence NaN.
    pub(crate) fn add(&mut self, signals: impl Iterator<Item = f32>, correct: bool, finite: bool) {
        self.sums.iter_mut().zip(signals).for_each(|(sum, signal)| *sum += f64::from(signal));
        self.tokens += 1;
        self.correct += u32::from(correct);
        self.is_finite &= finite;
    }

    /// Returns the mean of each signal.
    pub(crate) fn means(&self) -> impl Iterator<Item = f32> + '_ {
        let tokens = f64::from(self.tokens);
        let mean = move |sum: &f64| (sum / tokens) as f32;
        self.sums.iter().map(move |sum| if self.is_finite { mean(sum) } else { f32::NAN })
    }

    /// Returns the number of tokens.
    pub(crate) fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Returns the share of the tokens that are right.
    pub(crate) fn accuracy(&self) -> f32 {
        (f64::from(self.correct) / f64::from(self.tokens)) as f32
    }

    /// Returns whether all tokens are right.
    pub(crate) fn is_correct(&self) -> bool {
        self.correct == self.tokens
    }

    /// Returns whether the logits of all tokens were finite.
    pub(crate) fn is_finite(&self) -> bool {
        self.is_finite
    }

    /// Begins the next sequence.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.sums.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_the_mean_of_its_tokens() {
        let mut sequence = TokenMeans::new(2);
        sequence.add([1.0, 0.5].into_iter(), true, true);
        sequence.add([2.0, -0.25].into_iter(), false, true);
        sequence.add([6.0, 0.5].into_iter(), true, true);
        assert_eq!(sequence.means().collect::<Vec<_>>(), [3.0, 0.25]);
        assert_eq!((sequence.tokens(), sequence.accuracy()), (3, 2.0 / 3.0));
        assert!(!sequence.is_correct());
        sequence.add([f32::NAN, f32::NAN].into_iter(), false, false);
        assert!(sequence.means().all(f32::is_nan) && !sequence.is_finite());
        sequence.clear();
        sequence.add([f32::INFINITY, 1.0].into_iter(), true, true);
        assert_eq!(sequence.means().collect::<Vec<_>>(), [f32::INFINITY, 1.0]);
        assert!(sequence.is_correct());
    }
}
