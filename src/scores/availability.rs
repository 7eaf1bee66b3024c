//! Which scores a run can give and where each comes from, told from metadata and footers without
//! reading rows.

use super::catalogue::RecordedRun;
use super::run_table::{GRAND, RunTable};
use super::score::Score;
use super::signal_source::{SignalSource, why_missing};
use super::train_phase_score::TrainPhaseScore;
use crate::error::Result;
use crate::observe::{Phase, Signal};
use crate::run::Run;

/// A score of a run, and whether the run can give it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScoreAvailability {
    /// The score. A signal stands for its scores at all moments.
    pub score: Score,
    /// Where it comes from.
    pub availability: Availability,
}

/// Where a score of a run comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Availability {
    /// What it needs was recorded.
    Recorded,
    /// What it needs follows exactly from this.
    Derived(&'static str),
    /// The run cannot give it, for this reason.
    Missing(String),
}

/// Lists every score with its source in a run: signals, scores of the train phase, `GraNd`.
/// `assume_class_targets` is that of [`ScoreOptions`](crate::ScoreOptions).
///
/// # Errors
///
/// [`Io`](crate::ErrorKind::Io) or [`Corrupt`](crate::ErrorKind::Corrupt) if a part cannot be opened.
pub fn available(run: &Run, assume_class_targets: bool) -> Result<Vec<ScoreAvailability>> {
    let recorded = RecordedRun::open(run.clone(), assume_class_targets)?;
    let signals = Signal::ALL.into_iter().map(Score::Latest);
    let others = [Score::LatestPerplexity, Score::LatestGrand];
    let scores = signals.chain(TrainPhaseScore::ALL.map(Score::from)).chain(others);
    let of_run = |score| ScoreAvailability { score, availability: of_score(score, &recorded) };
    Ok(scores.map(of_run).collect())
}

fn of_score(score: Score, run: &RecordedRun) -> Availability {
    let is_empty = |source: RunTable| run.table(source).epochs.is_empty();
    let missing = |reason: &str| Availability::Missing(reason.to_owned());
    match score {
        Score::LatestGrand | Score::Grand(_) if is_empty(RunTable::Grand) => {
            missing("no gradient norms")
        }
        Score::LatestGrand | Score::Grand(_) => of_column(GRAND, RunTable::Grand, None, run),
        Score::LatestPerplexity | Score::Perplexity { .. } if !run.run.kind().has_tokens() => {
            missing("no tokens")
        }
        Score::LatestPerplexity | Score::Perplexity { .. } => {
            of_score(Score::Latest(Signal::Loss), run)
        }
        Score::Latest(signal) | Score::Signal { signal, .. } => {
            let phases = Phase::ALL.map(RunTable::Observations);
            match phases.into_iter().find(|&phase| !is_empty(phase)) {
                Some(phase) => of_column(signal.name(), phase, Some(signal), run),
                None => missing("no rows"),
            }
        }
        Score::TrainPhase { score, .. } => {
            let train = RunTable::Observations(Phase::Train);
            match score.signal() {
                _ if is_empty(train) => missing("no rows in the train phase"),
                Some(signal) => of_column(signal.name(), train, Some(signal), run),
                None if run.run.kind().has_correct() => Availability::Recorded,
                None => Availability::Missing(format!("no right answers in {}", run.run.kind())),
            }
        }
    }
}

fn of_column(
    column: &str,
    source: RunTable,
    signal: Option<Signal>,
    run: &RecordedRun,
) -> Availability {
    let sources: Vec<SignalSource> = run.sources_of(source, column).flatten().collect();
    match (sources.first(), run.run.ranks().next(), signal) {
        (Some(first), ..) => match first.derived_from() {
            Some(from) if !sources.contains(&SignalSource::Recorded) => Availability::Derived(from),
            _ => Availability::Recorded,
        },
        (None, Some(rank), Some(signal)) => Availability::Missing(why_missing(rank, signal)),
        _ => Availability::Missing("not recorded".to_owned()),
    }
}
