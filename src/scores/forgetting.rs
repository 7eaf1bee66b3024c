//! Forgetting events, as Toneva et al. 2018 define them.

/// The presentations of one example in the train phase of one run, in order.
///
/// A *forgetting event* is a presentation at which the example is classified incorrectly, right after
/// one at which it was classified correctly. Presentations are ordered by step, then by position in
/// the batch.
///
/// # Examples
///
/// ```
/// use data_diet::scores::Presentations;
///
/// let mut presentations = Presentations::default();
/// for correct in [false, true, false, false, true, false] {
///     presentations.present(correct);
/// }
/// assert_eq!(presentations.forgetting_events(), 2);
/// assert_eq!(presentations.first_learned(), Some(1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presentations {
    count: u32,
    /// The number of presentations up to the first correct one; 0 if there was none.
    until_learned: u32,
    /// Twice the number of events, plus 1 if the last presentation was correct. An event takes two
    /// presentations, so this does not overflow.
    events_and_last: u32,
}

impl Presentations {
    /// Adds the next presentation. Beyond `u32::MAX` presentations nothing changes.
    pub fn present(&mut self, correct: bool) {
        if self.count == u32::MAX {
            return;
        }
        self.count += 1;
        let (last, correct) = (self.events_and_last & 1, u32::from(correct));
        // An odd number becomes the next even one with an event; otherwise the last bit is set.
        self.events_and_last += last & !correct;
        self.events_and_last |= correct;
        if correct == 1 && self.until_learned == 0 {
            self.until_learned = self.count;
        }
    }

    /// Returns the number of presentations.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the number of forgetting events; 0 for an example that was never learned.
    #[must_use]
    pub fn forgetting_events(&self) -> u32 {
        self.events_and_last / 2
    }

    /// Returns whether the example was presented and never classified correctly.
    #[must_use]
    pub fn never_learned(&self) -> bool {
        self.count > 0 && self.until_learned == 0
    }

    /// Returns the index of the first correct presentation, counted from 0.
    #[must_use]
    pub fn first_learned(&self) -> Option<u32> {
        self.until_learned.checked_sub(1)
    }

    /// Returns the forgetting score of a run under Toneva's convention: the number of events. An
    /// example that was never learned gets the number of presentations, so that it ranks above
    /// every learned one.
    ///
    /// `most_presentations` is the largest [`count`](Self::count) of any example of the run, which
    /// keeps that order even if examples were not presented equally often.
    #[must_use]
    pub fn score(&self, most_presentations: u32) -> f64 {
        f64::from(if self.never_learned() { most_presentations } else { self.forgetting_events() })
    }

    /// Returns the forgetting score of a run as the Data Diet code counts it: the number of events,
    /// and infinity for an example that was never learned.
    #[must_use]
    pub fn score_or_infinity(&self) -> f64 {
        if self.never_learned() { f64::INFINITY } else { f64::from(self.forgetting_events()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Toneva's definition: acc(t) > acc(t + 1).
        #[test]
        fn agrees_with_the_definition(history: Vec<bool>) {
            let mut presentations = Presentations::default();
            for &correct in &history {
                presentations.present(correct);
            }
            let events = history.windows(2).filter(|pair| pair[0] && !pair[1]).count();
            prop_assert_eq!(presentations.forgetting_events() as usize, events);
            let first = history.iter().position(|&correct| correct);
            prop_assert_eq!(presentations.first_learned().map(|index| index as usize), first);
            prop_assert_eq!(presentations.never_learned(), !history.is_empty() && first.is_none());
            prop_assert_eq!(presentations.count() as usize, history.len());
        }

        #[test]
        fn never_learned_ranks_above_every_learned_one(history: Vec<bool>, extra in 0_u32..5) {
            let mut learned = Presentations::default();
            learned.present(true);
            for &correct in &history {
                learned.present(correct);
            }
            let mut never = Presentations::default();
            never.present(false);
            let most = learned.count() + extra;
            prop_assert!(never.score(most) > learned.score(most));
            prop_assert!(never.score_or_infinity() > learned.score_or_infinity());
        }
    }
}
