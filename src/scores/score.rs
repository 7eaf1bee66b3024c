//! The names of scores: the one place where they are written and parsed.

use std::fmt;
use std::str::FromStr;

use super::train_phase_score::TrainPhaseScore;
use crate::error::{Error, Result};
use crate::observe::{Phase, Signal};

/// A score by its name. `Display` writes the name, `FromStr` parses it, and a table of scores has
/// the columns `NAME_mean`, `NAME_std` and `NAME_count` over runs.
///
/// # Examples
///
/// ```
/// use data_diet::observe::{Phase, Signal};
/// use data_diet::scores::{Score, Span};
///
/// let score: Score = "el2n_score_epoch_3".parse()?;
/// let span = Span::epoch(3);
/// assert_eq!(score, Score::Signal { signal: Signal::El2n, phase: Phase::Score, span });
/// let early = Score::Signal { signal: Signal::Loss, phase: Phase::Train, span: Span::epochs(0, 4) };
/// assert_eq!(early.to_string(), "loss_train_epochs_0_to_4");
/// # Ok::<(), data_diet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Score {
    /// `el2n`, `loss`, ...: at the last epoch of the score phase that every run with a score phase
    /// has, or of the train phase if no run has a score phase, or of the held-out phase if there is
    /// neither.
    Latest(Signal),
    /// `el2n_score_epoch_3`, `margin_train_steps_0_to_500`, ...: a run's value is the mean over the
    /// example's observations in this phase and span. The signal says which direction is hard.
    Signal {
        /// The signal.
        signal: Signal,
        /// The phase.
        phase: Phase,
        /// The span.
        span: Span,
    },
    /// `grand`: at the last epoch that every run with `GraNd` scores has.
    LatestGrand,
    /// `grand_epoch_3`, `grand_step_100`, ...: the norm of the gradient of the example's loss; high
    /// is hard. Paul et al. 2021, definition 2.1. At initialization it follows the norm of the
    /// input and prunes badly (Kirsch 2023).
    Grand(Span),
    /// `forgetting`, `aum_epochs_0_to_4`, ...: a score of the presentations in the train phase. With epochs,
    /// only those count, both ends included, as if training had been just that.
    TrainPhase {
        /// The score.
        score: TrainPhaseScore,
        /// The first and the last epoch; `None` for all.
        epochs: Option<(u32, u32)>,
    },
    /// `perplexity`: as [`Perplexity`](Self::Perplexity), at the epoch that a signal by itself refers to.
    LatestPerplexity,
    /// `perplexity_score_epoch_3`, ...: of a sequence of tokens, a run's value is the exponential of the
    /// mean `loss` over its observations in this phase and span; at least 1, high is hard. Marion et al.
    /// 2023, section 3.
    Perplexity {
        /// The phase.
        phase: Phase,
        /// The span.
        span: Span,
    },
}

/// A range of training, both ends included. A single epoch or step is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Span {
    /// `epoch_3` or `epochs_3_to_7`.
    Epochs {
        /// The first epoch.
        first: u32,
        /// The last epoch.
        last: u32,
    },
    /// `step_100` or `steps_0_to_500`.
    Steps {
        /// The first step.
        first: u64,
        /// The last step.
        last: u64,
    },
}

impl Span {
    /// One epoch.
    #[must_use]
    pub fn epoch(epoch: u32) -> Self {
        Self::Epochs { first: epoch, last: epoch }
    }

    /// A range of epochs, both ends included.
    #[must_use]
    pub fn epochs(first: u32, last: u32) -> Self {
        Self::Epochs { first, last }
    }

    /// One step.
    #[must_use]
    pub fn step(step: u64) -> Self {
        Self::Steps { first: step, last: step }
    }

    /// A range of steps, both ends included.
    #[must_use]
    pub fn steps(first: u64, last: u64) -> Self {
        Self::Steps { first, last }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Epochs { first, last } if first == last => write!(f, "epoch_{first}"),
            Self::Epochs { first, last } => write!(f, "epochs_{first}_to_{last}"),
            Self::Steps { first, last } if first == last => write!(f, "step_{first}"),
            Self::Steps { first, last } => write!(f, "steps_{first}_to_{last}"),
        }
    }
}

/// What perplexity is called, with or without a moment.
const PERPLEXITY: &str = "perplexity";

impl Score {
    /// Returns the name without a phase and a moment.
    fn fixed_name(self) -> &'static str {
        match self {
            Self::Latest(signal) | Self::Signal { signal, .. } => signal.name(),
            Self::LatestGrand | Self::Grand(_) => "grand",
            Self::TrainPhase { score, .. } => score.name(),
            Self::LatestPerplexity | Self::Perplexity { .. } => PERPLEXITY,
        }
    }
}

impl From<TrainPhaseScore> for Score {
    /// Over all epochs.
    fn from(score: TrainPhaseScore) -> Self {
        Self::TrainPhase { score, epochs: None }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal { signal, phase, span } => write!(f, "{signal}_{phase}_{span}"),
            Self::Grand(span) => write!(f, "grand_{span}"),
            Self::TrainPhase { score, epochs: Some((first, last)) } => {
                write!(f, "{}_{}", score.name(), Span::epochs(*first, *last))
            }
            Self::Perplexity { phase, span } => write!(f, "{PERPLEXITY}_{phase}_{span}"),
            _ => f.write_str(self.fixed_name()),
        }
    }
}

impl FromStr for Score {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        // Compared with its own name, so that every score has one name only: no `epoch_03`, no
        // `epochs_3_to_3`.
        parse(name).filter(|score| score.to_string() == name).ok_or_else(|| unknown_score(name))
    }
}

/// The error for an unknown score, listing what can be asked for.
pub(super) fn unknown_score(name: &str) -> Error {
    let signals = Signal::ALL.map(Signal::name).join(", ");
    let phases = Phase::ALL.map(Phase::name).join(", ");
    let of_training = TrainPhaseScore::ALL.map(TrainPhaseScore::name).join(", ");
    Error::invalid(format!(
        "score: expected SIGNAL, SIGNAL_PHASE_epoch_E, SIGNAL_PHASE_epochs_A_to_B, \
         SIGNAL_PHASE_step_S, SIGNAL_PHASE_steps_A_to_B (SIGNAL: {signals}; PHASE: {phases}), \
         TRAINING, TRAINING_epochs_A_to_B (TRAINING: {of_training}), perplexity, \
         perplexity_PHASE_epoch_E and so on, grand, grand_epoch_E or grand_step_S, got `{name}`"
    ))
}

fn parse(name: &str) -> Option<Score> {
    let of_training = TrainPhaseScore::ALL.map(Score::from);
    let fixed = Signal::ALL.into_iter().map(Score::Latest).chain(of_training);
    let fixed = fixed.chain([Score::LatestGrand, Score::LatestPerplexity]);
    if let Some(score) = fixed.into_iter().find(|score| score.fixed_name() == name) {
        return Some(score);
    }
    let over_epochs = |score: TrainPhaseScore| {
        let rest = name.strip_prefix(score.name())?.strip_prefix('_')?;
        match span(rest)? {
            Span::Epochs { first, last } => Some((score, (first, last))),
            Span::Steps { .. } => None,
        }
    };
    if let Some((score, epochs)) = TrainPhaseScore::ALL.into_iter().find_map(over_epochs) {
        return Some(Score::TrainPhase { score, epochs: Some(epochs) });
    }
    let (first, rest) = name.split_once('_')?;
    if first == "grand" {
        return Some(Score::Grand(span(rest)?));
    }
    // A phase may have several words, such as `held_out`.
    let after = |phase: Phase| Some((phase, rest.strip_prefix(phase.name())?.strip_prefix('_')?));
    let (phase, rest) = Phase::ALL.into_iter().find_map(after)?;
    if first == PERPLEXITY {
        return Some(Score::Perplexity { phase, span: span(rest)? });
    }
    Some(Score::Signal { signal: first.parse().ok()?, phase, span: span(rest)? })
}

fn span(text: &str) -> Option<Span> {
    fn ends<T: FromStr + PartialOrd>(text: &str) -> Option<(T, T)> {
        let (first, last) = text.split_once("_to_")?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some((first, last))
    }
    let (unit, rest) = text.split_once('_')?;
    Some(match unit {
        "epoch" => Span::epoch(rest.parse().ok()?),
        "step" => Span::step(rest.parse().ok()?),
        "epochs" => ends(rest).map(|(first, last)| Span::epochs(first, last))?,
        "steps" => ends(rest).map(|(first, last)| Span::steps(first, last))?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::selection::HardEnd;

    /// Selections know scores by name only, so a new score must be added there, too.
    #[test]
    fn the_hard_end_of_every_score_is_known() {
        let has_none = [
            TrainPhaseScore::Presentations,
            TrainPhaseScore::CartographyVariability,
            TrainPhaseScore::ThresholdCloseness,
            TrainPhaseScore::DynamicUncertainty,
        ];
        let has_none = has_none.map(Score::from);
        let of_training = TrainPhaseScore::ALL.map(Score::from);
        let scores = Signal::ALL.map(Score::Latest);
        let others = [Score::LatestGrand, Score::LatestPerplexity];
        for score in scores.into_iter().chain(of_training).chain(others) {
            let hard = HardEnd::for_score(&score.to_string());
            assert_eq!(hard.is_none(), has_none.contains(&score), "{score}");
        }
        for score in TrainPhaseScore::ALL {
            let hard = HardEnd::for_score(score.name());
            for epochs in [(0, 4), (3, 3)] {
                let name = Score::TrainPhase { score, epochs: Some(epochs) }.to_string();
                assert_eq!(HardEnd::for_score(&name), hard, "{name}");
                assert_eq!(HardEnd::for_score(&format!("{name}_mean")), hard, "{name}");
                assert_eq!(HardEnd::for_score(&format!("{name}_std")), None, "{name}");
            }
        }
        for signal in Signal::ALL {
            let bare = HardEnd::for_score(signal.name());
            for phase in Phase::ALL {
                for span in [Span::epoch(3), Span::epochs(3, 7), Span::step(0), Span::steps(1, 2)] {
                    let score = Score::Signal { signal, phase, span };
                    assert_eq!(HardEnd::for_score(&score.to_string()), bare, "{score}");
                }
            }
        }
    }

    fn score() -> impl Strategy<Value = Score> {
        let signal = prop::sample::select(Signal::ALL.to_vec());
        let phase = prop::sample::select(Phase::ALL.to_vec());
        let epochs = (0..=u32::MAX).prop_flat_map(|first| {
            (first..=u32::MAX).prop_map(move |last| Span::epochs(first, last))
        });
        let steps = (0..=u64::MAX).prop_flat_map(|first| {
            (first..=u64::MAX).prop_map(move |last| Span::steps(first, last))
        });
        let single = (0_u32..200).prop_map(Span::epoch);
        let span = prop_oneof![epochs, steps, single, (0_u64..200).prop_map(Span::step)];
        let span = span.boxed();
        prop_oneof![
            signal.clone().prop_map(Score::Latest),
            (signal, phase, span.clone()).prop_map(|(signal, phase, span)| Score::Signal {
                signal,
                phase,
                span
            }),
            span.prop_map(Score::Grand),
            (prop::sample::select(TrainPhaseScore::ALL.to_vec()), any::<Option<(u32, u32)>>())
                .prop_map(|(score, epochs)| {
                    let epochs = epochs.map(|(a, b)| (a.min(b), a.max(b)));
                    Score::TrainPhase { score, epochs }
                }),
            Just(Score::LatestGrand),
            Just(Score::LatestPerplexity),
        ]
    }

    proptest! {
        #[test]
        fn names_read_back(score in score()) {
            prop_assert_eq!(score.to_string().parse::<Score>().unwrap(), score);
        }
    }

    #[test]
    fn names_are_what_the_columns_are_called() {
        for name in [
            "el2n",
            "entropy",
            "el2n_train_epoch_0",
            "el1n_score_epochs_3_to_7",
            "loss_train_step_100",
            "el2n_held_out_epoch_3",
            "margin_held_out_steps_0_to_500",
            "margin_train_steps_0_to_500",
            "forgetting",
            "forgetting_inf",
            "never_learned",
            "first_learned",
            "presentations",
            "aum",
            "cartography_confidence",
            "cartography_variability",
            "cartography_correctness",
            "threshold_closeness",
            "aum_epoch_3",
            "forgetting_epochs_0_to_4",
            "forgetting_inf_epochs_2_to_4",
            "cartography_confidence_epochs_0_to_4",
            "cartography_forgetting",
            "dynamic_uncertainty",
            "dual",
            "perplexity",
            "perplexity_score_epoch_3",
            "perplexity_held_out_epochs_0_to_2",
            "grand",
            "grand_epoch_4",
            "grand_step_0",
        ] {
            assert_eq!(name.parse::<Score>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn what_is_no_name_is_told_what_there_is() {
        for name in [
            "",
            "el3n",
            "EL2N",
            "el2n_train",
            "el2n_test_epoch_1",
            "el2n_held_epoch_1",
            "el2n_held_out",
            "el2n_held_outepoch_1",
            "el2n_out_epoch_1",
            "el2n_train_epoch_",
            "el2n_epoch_1",
            "el2n_train_epoch_03",
            "el2n_train_epoch_+3",
            "el2n_train_epoch_-1",
            "el2n_train_epochs_3_to_3",
            "el2n_train_epochs_7_to_3",
            "el2n_train_epochs_3",
            "el2n_train_epoch_4294967296",
            "grand_train_epoch_1",
            "cartography",
            "aum_epochs_3_to_3",
            "aum_epochs_4_to_3",
            "aum_steps_3_to_4",
            "aum_train_epochs_0_to_4",
            "cartography_epochs_0_to_4",
            "perplexity_epoch_3",
            "dual_train_epoch_3",
        ] {
            let error = name.parse::<Score>().unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::InvalidArgument);
            let message = error.to_string();
            assert!(
                message.starts_with("score: expected SIGNAL, SIGNAL_PHASE_epoch_E"),
                "{message}"
            );
            assert!(message.contains("forgetting_inf") && message.contains("el2n, loss"));
            assert!(message.contains("PHASE: train, score, held_out)"), "{message}");
            assert!(message.ends_with(&format!("got `{name}`")), "{message}");
        }
    }
}
