//! Folds all observations, run by run and table by table.
//!
//! Memory holds the state of one run per example, and what the column sink keeps. A column is
//! handed on as soon as it is complete; that of an epoch at the end of the epoch.

use super::catalogue::{self, RecordedRun};
use super::column_sink::{ColumnSink, Keys};
use super::fold_state::{FoldState, FoldedExamples};
use super::info::{DerivedSignal, ScoreInfo};
use super::pass::Pass;
use super::plan::{ComputedColumn, Plan, Window, nothing_at};
use super::request::ScoreOptions;
use super::run_table::RunTable;
use super::signal_source::SignalSource;
use crate::error::{Error, ErrorKind, Result};
use crate::run::{Experiment, Run};

/// The result of a fold besides its columns.
pub(super) struct FoldResult {
    /// The places of the examples in ascending order of id; `None` if they are in that order.
    pub(super) order: Option<Vec<u32>>,
    pub(super) keys: Keys,
    /// The columns of the table: their names, each with the index of the column that was pushed.
    pub(super) columns: Vec<(String, usize)>,
    pub(super) info: ScoreInfo,
}

/// Returns the number of threads that these options allow.
pub(super) fn threads(options: &ScoreOptions) -> usize {
    let machine = || std::thread::available_parallelism().ok();
    options.threads.or_else(machine).map_or(1, std::num::NonZero::get)
}

/// Folds the observations of an experiment's runs. `progress` is called now and then with the
/// number of rows read since the last call.
pub(super) fn fold(
    experiment: &Experiment,
    options: &ScoreOptions,
    columns: &mut dyn ColumnSink,
    progress: &mut dyn FnMut(u64),
) -> Result<FoldResult> {
    let runs = catalogue::open(experiment, &options.runs, options.assume_class_targets)?;
    let is_empty =
        |run: &RecordedRun| RunTable::ALL.iter().all(|&source| run.table(source).epochs.is_empty());
    if runs.iter().all(is_empty) {
        return Err(Error::new(
            ErrorKind::Empty,
            format!("{}: the runs have no published observations", experiment.path().display()),
        ));
    }
    let plan = Plan::new(&options.scores, &runs)?;
    columns.expect(plan.computed.len());
    let mut fold = FoldState::new(&runs, plan.computed.len());
    let mut with_rows = 0;
    for run in &runs {
        for source in RunTable::ALL {
            if let Some(pass) = Pass::new(&plan, run, source) {
                pass.run(&mut fold, threads(options), columns, progress)?;
            }
        }
        // A row group whose range of epochs or steps includes the wanted ones need not contain
        // them.
        with_rows += i32::from(fold.number_seen > 0);
        fold.end_run();
    }
    let left = plan.without_empty_columns(&fold.rows, &runs)?;
    let (non_finite, repeated, relabeled) = (fold.non_finite, fold.repeated, fold.relabeled());
    let FoldedExamples { order, keys, partial } = fold.into_examples(with_rows);
    let derived = plan.derived(&left, &runs);
    let mut aliases = plan.aliases;
    aliases.retain(|alias, _| left.iter().any(|(name, _)| name == alias));
    let runs = runs.iter().map(|run| Run::name(&run.run).to_owned()).collect();
    let info = ScoreInfo { runs, aliases, non_finite, repeated, partial, relabeled, derived };
    Ok(FoldResult { order, keys, columns: left, info })
}

impl Plan {
    /// Returns what is derived for these columns of the table.
    fn derived(&self, columns: &[(String, usize)], runs: &[RecordedRun]) -> Vec<DerivedSignal> {
        let mut derived: Vec<DerivedSignal> = Vec::new();
        for (score, at) in columns {
            let Some((source, column)) = self.computed[*at].column() else { continue };
            for run in runs.iter().filter(|run| !run.table(source).epochs.is_empty()) {
                let sources = run.sources_of(source, column).flatten();
                for from in sources.filter_map(SignalSource::derived_from) {
                    let of_it =
                        |other: &DerivedSignal| other.signal == column && other.from == from;
                    let place = derived.iter().position(of_it).unwrap_or_else(|| {
                        let (signal, from) = (column.to_owned(), from.to_owned());
                        derived.push(DerivedSignal { signal, from, ..DerivedSignal::default() });
                        derived.len() - 1
                    });
                    let DerivedSignal { scores, runs, .. } = &mut derived[place];
                    for (names, name) in [(scores, score.as_str()), (runs, run.run.name())] {
                        if !names.iter().any(|other| other == name) {
                            names.push(name.to_owned());
                        }
                    }
                }
            }
        }
        derived
    }

    /// Returns the columns without those at steps that no row turned out to have, if the other
    /// phase has such rows. Footers give the first and the last step of a row group only.
    fn without_empty_columns(
        &self,
        rows: &[u64],
        runs: &[RecordedRun],
    ) -> Result<Vec<(String, usize)>> {
        for group in self.steps.iter().filter(|group| group.iter().all(|&at| rows[at] == 0)) {
            let window = |&at: &usize| match self.computed[at] {
                ComputedColumn::Window(window) => Some(window),
                ComputedColumn::TrainPhase { .. } => None,
            };
            let windows: Vec<Window> = group.iter().filter_map(window).collect();
            if let [Window { column, span, .. }, ..] = windows[..] {
                let sources: Vec<RunTable> = windows.iter().map(|window| window.source).collect();
                return Err(nothing_at(span, &sources, runs, Some(column)));
            }
        }
        let of_steps = |at: &usize| self.steps.iter().any(|group| group.contains(at));
        let is_left = |(_, at): &&(String, usize)| rows[*at] > 0 || !of_steps(at);
        Ok(self.columns.iter().filter(is_left).cloned().collect())
    }
}
