//! Lists what the chosen runs have recorded, from the footers of their parts, without decoding any
//! rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::run_table::RunTable;
use super::signal_source::SignalSource;
use crate::error::{Error, Result};
use crate::run::{Experiment, PartReader, RowGroupOutline, Run};

/// A run and its tables.
pub(super) struct RecordedRun {
    pub(super) run: Run,
    /// One per [`RunTable`], in the order of `RunTable::ALL`.
    tables: Vec<RecordedTable>,
    /// Whether targets of an unknown form are taken for classes.
    assume_classes: bool,
}

/// One table of a run.
pub(super) struct RecordedTable {
    /// The row groups of each rank, in the order in which they were recorded.
    pub(super) ranks: Vec<Vec<Group>>,
    /// The distinct epochs.
    pub(super) epochs: BTreeSet<u32>,
}

/// A row group that can be read.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) part: Arc<PartReader>,
    pub(super) index: usize,
    pub(super) outline: RowGroupOutline,
}

impl RecordedRun {
    pub(super) fn open(run: Run, assume_classes: bool) -> Result<Self> {
        let tables = RunTable::ALL.map(|source| RecordedTable::open(&run, source));
        let tables = tables.into_iter().collect::<Result<_>>()?;
        Ok(Self { run, tables, assume_classes })
    }

    pub(super) fn table(&self, source: RunTable) -> &RecordedTable {
        let place = RunTable::ALL.iter().position(|&other| other == source).unwrap_or(0);
        &self.tables[place]
    }

    /// Returns whether the run has rows with this column, recorded or derived.
    pub(super) fn has(&self, source: RunTable, column: &str) -> bool {
        !self.table(source).epochs.is_empty()
            && self.sources_of(source, column).any(|s| s.is_some())
    }

    /// Returns where each rank has the values of a column.
    pub(super) fn sources_of(
        &self,
        source: RunTable,
        column: &str,
    ) -> impl Iterator<Item = Option<SignalSource>> {
        self.run.ranks().map(move |rank| source.source_of(column, rank, self.assume_classes))
    }
}

impl RecordedTable {
    fn open(run: &Run, source: RunTable) -> Result<Self> {
        let (mut ranks, mut epochs) = (Vec::new(), BTreeSet::new());
        for rank in 0..run.ranks().len() {
            let mut groups = Vec::new();
            for part in source.parts(run, rank)? {
                epochs.extend(part.epochs().iter().filter_map(|&epoch| u32::try_from(epoch).ok()));
                let part = Arc::new(part);
                let outlines = part.outlines().enumerate().filter(|(_, outline)| outline.rows > 0);
                let group = |(index, outline)| Group { part: Arc::clone(&part), index, outline };
                groups.extend(outlines.map(group));
            }
            ranks.push(groups);
        }
        Ok(Self { ranks, epochs })
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.ranks.iter().flatten()
    }

    /// Returns the first and the last step.
    pub(super) fn steps(&self) -> Option<(u64, u64)> {
        let first = self.groups().map(|group| *group.outline.steps.start()).min()?;
        let last = self.groups().map(|group| *group.outline.steps.end()).max()?;
        Some((u64::try_from(first).ok()?, u64::try_from(last).ok()?))
    }
}

/// Opens the runs of these names, or all, and checks that they can be averaged.
pub(super) fn open(
    experiment: &Experiment,
    names: &[String],
    assume_classes: bool,
) -> Result<Vec<RecordedRun>> {
    let runs = if names.is_empty() {
        experiment.runs()?
    } else {
        let names: BTreeSet<&String> = names.iter().collect();
        names.into_iter().map(|name| experiment.run(name)).collect::<Result<_>>()?
    };
    let kind = |run: &Run| format!("`{}` has {}", run.name(), run.kind());
    if let Some(other) = runs.iter().find(|run| run.kind() != runs[0].kind()) {
        return Err(Error::invalid(format!(
            "runs: expected one kind of model, but {} and {}; choose the runs by name",
            kind(&runs[0]),
            kind(other)
        )));
    }
    runs.into_iter().map(|run| RecordedRun::open(run, assume_classes)).collect()
}
