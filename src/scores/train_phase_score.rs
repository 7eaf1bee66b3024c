//! The scores of the train phase: their names, and the signal that each is made of. How they are
//! accumulated is in `train_phase_scores`.

use crate::observe::Signal;

/// A score of the presentations of an example in the train phase, over all epochs or a span of them. A
/// presentation that belongs to no such epoch counts for nothing: not as a presentation, not as the one
/// before a forgetting event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TrainPhaseScore {
    /// `forgetting`: forgetting events in the train phase. An example that a run never learned
    /// counts as that run's largest number of presentations. High is hard. Toneva et al. 2018,
    /// section 3.
    Forgetting,
    /// `forgetting_inf`: the same, but never learned counts as infinity, as in the Data Diet code.
    ForgettingInf,
    /// `never_learned`: 1 if no presentation in the train phase was classified correctly, else 0.
    NeverLearned,
    /// `first_learned`: the index of the first correct presentation, from 0, over runs that have one.
    FirstLearned,
    /// `presentations`: how often the example was presented in the train phase.
    Presentations,
    /// `aum`: the mean margin, in logits, over the finite observations of the train phase; low is
    /// suspicious of a wrong label. Pleiss et al. 2020, equation 1.
    Aum,
    /// `cartography_confidence`: the mean of `p_y` over the train phase; low is hard. Swayamdipta et
    /// al. 2020, section 2.
    CartographyConfidence,
    /// `cartography_variability`: the population standard deviation of `p_y` over the train phase; high
    /// is ambiguous. Swayamdipta et al. 2020, section 2.
    CartographyVariability,
    /// `cartography_correctness`: the share of correct presentations in the train phase. Swayamdipta et
    /// al. 2020, section 2.
    CartographyCorrectness,
    /// `threshold_closeness`: `m (1 - m)`, where m is the mean of `p_y` over the train phase; high is
    /// ambiguous. From the code of Swayamdipta et al. 2020.
    ThresholdCloseness,
    /// `cartography_forgetting`: forgetting events in the train phase as [`Forgetting`](Self::Forgetting)
    /// counts them, and 1000 for an example that a run never learned, however often it was presented. High
    /// is hard. From the code of Swayamdipta et al. 2020 (`compute_forgetfulness`); Toneva et al. take the
    /// largest number of presentations instead of 1000.
    CartographyForgetting,
    /// `dynamic_uncertainty`: the standard deviation (`n - 1`) of `p_y` in every window of 10 consecutive
    /// presentations of the train phase, averaged over windows; high is uncertain. An example that came
    /// less often has one window; NaN for fewer than 2. He et al. 2023, *Large-scale Dataset Pruning with
    /// Dynamic Uncertainty*, equations 2 and 3.
    DynamicUncertainty,
    /// `dual`: in the same windows, 1 minus the mean of `p_y` times its standard deviation, averaged; high
    /// is worth keeping. Cho et al. 2025, *Lightweight Dataset Pruning without Full Training via Example
    /// Difficulty and Prediction Uncertainty*, equation 4. The paper takes the first 30 epochs.
    Dual,
}

impl TrainPhaseScore {
    /// Every score of the train phase.
    pub const ALL: [Self; 13] = [
        Self::Forgetting,
        Self::ForgettingInf,
        Self::NeverLearned,
        Self::FirstLearned,
        Self::Presentations,
        Self::Aum,
        Self::CartographyConfidence,
        Self::CartographyVariability,
        Self::CartographyCorrectness,
        Self::ThresholdCloseness,
        Self::CartographyForgetting,
        Self::DynamicUncertainty,
        Self::Dual,
    ];

    /// Returns the name, without a span.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forgetting => "forgetting",
            Self::ForgettingInf => "forgetting_inf",
            Self::NeverLearned => "never_learned",
            Self::FirstLearned => "first_learned",
            Self::Presentations => "presentations",
            Self::Aum => "aum",
            Self::CartographyConfidence => "cartography_confidence",
            Self::CartographyVariability => "cartography_variability",
            Self::CartographyCorrectness => "cartography_correctness",
            Self::ThresholdCloseness => "threshold_closeness",
            Self::CartographyForgetting => "cartography_forgetting",
            Self::DynamicUncertainty => "dynamic_uncertainty",
            Self::Dual => "dual",
        }
    }

    /// Returns the signal that it needs; `None` for a score of right and wrong answers.
    #[must_use]
    pub fn signal(self) -> Option<Signal> {
        match self {
            Self::Aum => Some(Signal::Margin),
            Self::CartographyConfidence
            | Self::CartographyVariability
            | Self::ThresholdCloseness
            | Self::DynamicUncertainty
            | Self::Dual => Some(Signal::Confidence),
            Self::Forgetting
            | Self::ForgettingInf
            | Self::NeverLearned
            | Self::FirstLearned
            | Self::Presentations
            | Self::CartographyCorrectness
            | Self::CartographyForgetting => None,
        }
    }
}
