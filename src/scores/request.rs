//! Requests for scores, made before it is known which epochs there are.

use std::num::NonZeroUsize;
use std::str::FromStr;

use super::score::{Score, unknown_score};
use super::train_phase_score::TrainPhaseScore;
use crate::error::{Error, Result};
use crate::observe::{Phase, Signal};

/// What to compute, and from which runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScoreOptions {
    /// The runs by name; empty for all runs of the experiment.
    pub runs: Vec<String>,
    /// The scores, in the order of the columns. Duplicates are computed once. Default:
    /// [`ScoreRequest::standard`].
    pub scores: Vec<ScoreRequest>,
    /// The most threads to use; `None` for as many as the machine has. The results do not depend on
    /// it.
    pub threads: Option<NonZeroUsize>,
    /// Takes the targets of runs that do not say so (those of earlier versions) for classes, and not
    /// for distributions. Signals that were not recorded can then be derived from others: `confidence`
    /// from `loss`, and any from the logits. Default: false.
    pub assume_class_targets: bool,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        let scores = ScoreRequest::standard(&At::EveryEpoch, None);
        Self { runs: Vec::new(), scores, threads: None, assume_class_targets: false }
    }
}

impl ScoreOptions {
    /// Takes every signal and `GraNd` among the scores at these moments; with [`At::EpochRange`], the
    /// scores of the train phase, too.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if no score takes a moment.
    pub fn set_time(&mut self, at: &At) -> Result<()> {
        if !self.scores.iter().any(|request| request.accepts(at)) {
            return Err(Error::invalid(
                "scores: expected a signal or `grand` to take at an epoch or a step, but the name of \
                 each score says when it is taken; scores of the train phase take a range of epochs",
            ));
        }
        let taken = std::mem::take(&mut self.scores).into_iter();
        self.scores = taken.map(|request| request.at(at.clone())).collect();
        Ok(())
    }

    /// Takes every signal among the scores in this phase only.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if no score takes a phase.
    pub fn set_phase(&mut self, phase: Phase) -> Result<()> {
        if !self.scores.iter().any(ScoreRequest::accepts_phase) {
            return Err(Error::invalid(
                "scores: expected a signal to take in one phase, but the name of each score says where \
                 it is taken",
            ));
        }
        let taken = std::mem::take(&mut self.scores).into_iter();
        self.scores = taken.map(|request| request.phase(phase)).collect();
        Ok(())
    }
}

/// When to take a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum At {
    /// Every recorded epoch, one score for each.
    EveryEpoch,
    /// The last epoch of each phase that every run has.
    LastEpoch,
    /// These epochs, one score for each.
    Epochs(Vec<u32>),
    /// One score over these epochs, both ends included.
    EpochRange(u32, u32),
    /// These steps, one score for each.
    Steps(Vec<u64>),
    /// One score over these steps, both ends included.
    StepRange(u64, u64),
}

/// One score, or several of a kind, as far as they are known before the experiment is opened.
///
/// # Examples
///
/// ```
/// use data_diet::ScoreOptions;
/// use data_diet::observe::{Phase, Signal};
/// use data_diet::scores::{At, Score, ScoreRequest, TrainPhaseScore};
///
/// let mut options = ScoreOptions::default();
/// options.scores = vec![
///     // A column for every epoch of the score phase, and one over the first five of training.
///     ScoreRequest::signal(Signal::El2n).at(At::EveryEpoch).phase(Phase::Score),
///     ScoreRequest::signal(Signal::Loss).at(At::EpochRange(0, 4)).phase(Phase::Train),
///     // Scores that have one name only.
///     TrainPhaseScore::Forgetting.into(),
///     "el2n_train_step_500".parse::<Score>()?.into(),
///     // Three columns, where confidence was recorded or can be derived.
///     ScoreRequest::cartography().if_recorded(),
/// ];
/// # Ok::<(), data_diet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoreRequest {
    pub(super) quantity: Quantity,
    pub(super) at: Option<At>,
    pub(super) phase: Option<Phase>,
    pub(super) if_recorded: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    Signal(Signal),
    Grand,
    Perplexity,
    Cartography,
    TrainPhase(TrainPhaseScore),
    Score(Score),
}

impl ScoreRequest {
    /// A signal. Without [`at`](Self::at) and [`phase`](Self::phase) it is the score named like the
    /// signal, [`Score::Latest`]; with a phase alone, it is at the last epoch of that phase.
    #[must_use]
    pub fn signal(signal: Signal) -> Self {
        Self::new(Quantity::Signal(signal))
    }

    /// `GraNd`, which has no phase. Without [`at`](Self::at) it is [`Score::LatestGrand`].
    #[must_use]
    pub fn grand() -> Self {
        Self::new(Quantity::Grand)
    }

    /// Perplexity, of sequences of tokens. Without [`at`](Self::at) and [`phase`](Self::phase) it is
    /// [`Score::LatestPerplexity`].
    #[must_use]
    pub fn perplexity() -> Self {
        Self::new(Quantity::Perplexity)
    }

    /// The three coordinates of a dataset map: [`TrainPhaseScore::CartographyConfidence`],
    /// [`TrainPhaseScore::CartographyVariability`] and [`TrainPhaseScore::CartographyCorrectness`].
    #[must_use]
    pub fn cartography() -> Self {
        Self::new(Quantity::Cartography)
    }

    /// The default scores: `el2n`, EL2N at these moments, the forgetting scores, `aum`, perplexity of
    /// tokens, and cartography. Each is left out if what it needs was neither recorded nor can be derived.
    /// With [`At::EpochRange`] the scores of the train phase are over these epochs, too.
    #[must_use]
    pub fn standard(at: &At, phase: Option<Phase>) -> Vec<Self> {
        let el2n = Self { phase, ..Self::signal(Signal::El2n).at(at.clone()) };
        let mut scores = vec![Self::signal(Signal::El2n), el2n];
        let of_training = [
            TrainPhaseScore::Forgetting,
            TrainPhaseScore::ForgettingInf,
            TrainPhaseScore::NeverLearned,
            TrainPhaseScore::FirstLearned,
            TrainPhaseScore::Presentations,
            TrainPhaseScore::Aum,
        ];
        scores.extend(of_training.map(|score| Self::from(score).at(at.clone())));
        scores.push(Self::cartography().at(at.clone()));
        scores.push(Self::perplexity());
        scores.into_iter().map(Self::if_recorded).collect()
    }

    /// Sets when to take a signal, `GraNd` or perplexity. Scores of the train phase take
    /// [`At::EpochRange`]: only these epochs count. Does nothing to other scores.
    #[must_use]
    pub fn at(mut self, at: At) -> Self {
        if self.accepts(&at) {
            self.at = Some(at);
        }
        self
    }

    /// Sets the phase in which to take a signal; by default all. Does nothing to other scores.
    #[must_use]
    pub fn phase(mut self, phase: Phase) -> Self {
        if self.accepts_phase() {
            self.phase = Some(phase);
        }
        self
    }

    /// Leaves the score out, instead of failing, if what it needs was not recorded in any chosen run
    /// and cannot be derived.
    #[must_use]
    pub fn if_recorded(mut self) -> Self {
        self.if_recorded = true;
        self
    }

    /// Returns whether it has a value at every moment, as a signal has; [`at`](Self::at) sets any. Scores of
    /// the train phase accept a range of epochs only.
    #[must_use]
    pub fn accepts_time(&self) -> bool {
        matches!(self.quantity, Quantity::Signal(_) | Quantity::Grand | Quantity::Perplexity)
    }

    fn accepts(&self, at: &At) -> bool {
        let of_training = matches!(self.quantity, Quantity::Cartography | Quantity::TrainPhase(_));
        self.accepts_time() || (of_training && matches!(at, At::EpochRange(..)))
    }

    /// Returns the span of a score of the train phase.
    pub(super) fn epochs(&self) -> Option<(u32, u32)> {
        match self.at {
            Some(At::EpochRange(first, last)) => Some((first, last)),
            _ => None,
        }
    }

    fn accepts_phase(&self) -> bool {
        matches!(self.quantity, Quantity::Signal(_) | Quantity::Perplexity)
    }

    fn new(quantity: Quantity) -> Self {
        Self { quantity, at: None, phase: None, if_recorded: false }
    }
}

impl From<Score> for ScoreRequest {
    fn from(score: Score) -> Self {
        Self::new(match score {
            Score::Latest(signal) => Quantity::Signal(signal),
            Score::LatestGrand => Quantity::Grand,
            Score::LatestPerplexity => Quantity::Perplexity,
            Score::TrainPhase { score, epochs: None } => Quantity::TrainPhase(score),
            score => Quantity::Score(score),
        })
    }
}

impl From<TrainPhaseScore> for ScoreRequest {
    /// Over all epochs, unless [`at`](Self::at) says which.
    fn from(score: TrainPhaseScore) -> Self {
        Self::new(Quantity::TrainPhase(score))
    }
}

impl FromStr for ScoreRequest {
    type Err = Error;

    /// Parses a score's name, or `cartography`.
    fn from_str(name: &str) -> Result<Self> {
        if name == "cartography" {
            return Ok(Self::cartography());
        }
        name.parse::<Score>().map(Self::from).map_err(|_error| unknown_score(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_no_moment_in_its_name_takes_one() {
        let at = At::Steps(vec![5]);
        for (name, takes) in [
            ("el2n", true),
            ("grand", true),
            ("cartography", false),
            ("aum", false),
            ("aum_epochs_0_to_4", false),
            ("el2n_train_epoch_1", false),
            ("grand_epoch_1", false),
        ] {
            let request: ScoreRequest = name.parse().unwrap();
            assert_eq!(request.accepts_time(), takes, "{name}");
            assert_eq!(request.at(at.clone()).at.is_some(), takes, "{name}");
        }
        let early = At::EpochRange(0, 4);
        for (name, takes) in [
            ("el2n", true),
            ("cartography", true),
            ("aum", true),
            ("aum_epochs_0_to_2", false),
            ("el2n_train_epoch_1", false),
        ] {
            let request: ScoreRequest = name.parse().unwrap();
            assert_eq!(request.at(early.clone()).at.is_some(), takes, "{name}");
        }
        assert!("cartographer".parse::<ScoreRequest>().is_err());
    }
}
