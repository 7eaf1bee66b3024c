//! The tables that a fold reads, each with one or more values per example and moment.

use super::signal_source::SignalSource;
use crate::error::Result;
use crate::observe::{Phase, Signal};
use crate::run::{PartReader, Run, RunMetadata, Table};

/// A table of a run, folded in a pass of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RunTable {
    Observations(Phase),
    /// One `grand` per example and moment; no phase and no `correct`.
    Grand,
}

impl RunTable {
    /// In the order of the passes.
    pub(super) const ALL: [Self; 4] = [
        Self::Observations(Phase::Train),
        Self::Observations(Phase::Score),
        Self::Observations(Phase::HeldOut),
        Self::Grand,
    ];

    /// Returns the name in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Observations(phase) => phase.name(),
            Self::Grand => "grand",
        }
    }

    /// Opens the published parts of one rank, in order.
    pub(super) fn parts(self, run: &Run, rank: usize) -> Result<Vec<PartReader>> {
        match self {
            Self::Observations(phase) => run.open_parts(Table::Observations, phase, rank),
            Self::Grand => run.open_parts(Table::Grand, Phase::Score, rank),
        }
    }

    /// Returns where one rank of a run has the values of a column, unless it has none.
    pub(super) fn source_of(
        self,
        column: &str,
        rank: &RunMetadata,
        assume_classes: bool,
    ) -> Option<SignalSource> {
        match self {
            Self::Observations(_) => {
                let signal = Signal::ALL.into_iter().find(|signal| signal.name() == column)?;
                SignalSource::of(rank, signal, assume_classes)
            }
            Self::Grand => (column == GRAND).then_some(SignalSource::Recorded),
        }
    }
}

/// The column that holds `GraNd`.
pub(super) const GRAND: &str = "grand";

/// Returns the signals that the run records.
pub(super) fn recorded_signals(run: &Run) -> Vec<&'static str> {
    let recorded = |signal: &Signal| run.ranks().any(|rank| rank.format.signals.contains(signal));
    Signal::ALL.into_iter().filter(recorded).map(Signal::name).collect()
}
