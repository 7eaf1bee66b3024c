//! The fold over all observations: run after run, table after table.
//!
//! What is held is the state of one run per example, and what the columns keep. A column is handed on
//! as soon as it is complete, an epoch's at the end of that epoch.

use super::accumulate::{SKIPPED, Slots};
use super::catalogue::{self, RecordedRun};
use super::file::Keys;
use super::index::ExampleIndex;
use super::pass::Pass;
use super::plan::{Computed, Plan, Window, nothing_at};
use super::request::ScoreOptions;
use super::source::Source;
use super::table::ScoreInfo;
use super::values::Values;
use crate::error::{Error, ErrorKind, Result};
use crate::run::{Experiment, Run};

/// Where finished columns go.
pub(super) trait Columns {
    /// So many columns will come, some of them several times, once for each run, others never.
    fn expect(&mut self, columns: usize);

    /// Takes a run's values of a column, by place; examples that turn up later have none.
    fn push(&mut self, column: usize, values: Values) -> Result<()>;
}

/// What a fold knows beside its columns.
pub(super) struct Folded {
    /// The places of the examples in ascending order of id; `None` if they are in that order.
    pub(super) order: Option<Vec<u32>>,
    pub(super) keys: Keys,
    /// The columns of the table by name, each with the column that was pushed.
    pub(super) columns: Vec<(String, usize)>,
    pub(super) info: ScoreInfo,
}

/// The most threads that these options allow.
pub(super) fn threads(options: &ScoreOptions) -> usize {
    let machine = || std::thread::available_parallelism().ok();
    options.threads.or_else(machine).map_or(1, std::num::NonZero::get)
}

/// Folds the observations of an experiment's runs. `progress` is called now and then with the number of
/// rows that were read since the last call.
pub(super) fn fold(
    experiment: &Experiment,
    options: &ScoreOptions,
    columns: &mut dyn Columns,
    progress: &mut dyn FnMut(u64),
) -> Result<Folded> {
    let runs = catalogue::open(experiment, &options.runs)?;
    let is_empty =
        |run: &RecordedRun| Source::ALL.iter().all(|&source| run.table(source).epochs.is_empty());
    if runs.iter().all(is_empty) {
        return Err(Error::new(
            ErrorKind::Empty,
            format!("{}: the runs have no published observations", experiment.path().display()),
        ));
    }
    let plan = Plan::new(&options.scores, &runs)?;
    columns.expect(plan.computed.len());
    let mut fold = Fold::new(&runs, plan.computed.len());
    let mut with_rows = 0;
    for run in &runs {
        for source in Source::ALL {
            if let Some(pass) = Pass::new(&plan, run, source) {
                pass.run(&mut fold, threads(options), columns, progress)?;
            }
        }
        // A row group whose range of epochs or steps covers the wanted ones need not have any of them.
        with_rows += i32::from(fold.number_seen > 0);
        fold.end_run();
    }
    let left = plan.without_empty_columns(&fold.rows, &runs)?;
    Ok(fold.into_folded(plan, left, &runs, with_rows))
}

impl Plan {
    /// The columns without those of steps that no row turned out to be at, if the other phase has such
    /// rows. Footers tell the first and the last step of a row group, not which there are.
    fn without_empty_columns(
        &self,
        rows: &[u64],
        runs: &[RecordedRun],
    ) -> Result<Vec<(String, usize)>> {
        for group in self.steps.iter().filter(|group| group.iter().all(|&at| rows[at] == 0)) {
            let window = |&at: &usize| match self.computed[at] {
                Computed::Window(window) => Some(window),
                Computed::OfTraining(_) => None,
            };
            let windows: Vec<Window> = group.iter().filter_map(window).collect();
            if let [Window { column, span, .. }, ..] = windows[..] {
                let sources: Vec<Source> = windows.iter().map(|window| window.source).collect();
                return Err(nothing_at(span, &sources, runs, column));
            }
        }
        let of_steps = |at: &usize| self.steps.iter().any(|group| group.contains(at));
        let is_left = |(_, at): &&(String, usize)| rows[*at] > 0 || !of_steps(at);
        Ok(self.columns.iter().filter(is_left).cloned().collect())
    }
}

/// What is known of all examples so far, whichever score is asked for.
pub(super) struct Fold {
    pub(super) index: ExampleIndex,
    /// In how many of the runs before this one each example was seen.
    runs: Vec<i32>,
    /// Whether this run has seen it, and how many it has.
    seen: Vec<bool>,
    number_seen: usize,
    settled: bool,
    /// The rows that went into each column.
    pub(super) rows: Vec<u64>,
    /// Observations left out of a mean because their value is not finite.
    pub(super) non_finite: u64,
    /// Observations left out because another rank had the example in the same epoch.
    pub(super) repeated: u64,
}

impl Fold {
    fn new(runs: &[RecordedRun], columns: usize) -> Self {
        let mut index = ExampleIndex::new();
        let ranks = runs.iter().flat_map(|run| run.run.ranks());
        index.expect(ranks.filter_map(|rank| rank.format.examples).max().unwrap_or(0));
        Self {
            index,
            runs: Vec::new(),
            seen: Vec::new(),
            number_seen: 0,
            settled: false,
            rows: vec![0; columns],
            non_finite: 0,
            repeated: 0,
        }
    }

    /// Notes that this run has these examples.
    pub(super) fn see(&mut self, places: &[u32]) {
        let examples = self.index.len();
        if self.number_seen == examples {
            return;
        }
        self.seen.grow(examples);
        for &place in places.iter().filter(|place| **place != SKIPPED) {
            let seen = &mut self.seen[place as usize];
            self.number_seen += usize::from(!*seen);
            *seen = true;
        }
    }

    /// Whether the places of most examples are known and sorted.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Sorts the places, once. Returns the old place of each new one, if any has moved.
    pub(super) fn settle(&mut self) -> Option<Vec<u32>> {
        if self.settled || self.index.len() == 0 {
            return None;
        }
        self.settled = true;
        let from = self.index.settle()?;
        self.seen.reorder(&from);
        self.runs.reorder(&from);
        Some(from)
    }

    fn end_run(&mut self) {
        self.runs.grow(self.index.len());
        for (runs, seen) in self.runs.iter_mut().zip(&mut self.seen) {
            *runs += i32::from(std::mem::take(seen));
        }
        self.number_seen = 0;
    }

    fn into_folded(
        self,
        plan: Plan,
        columns: Vec<(String, usize)>,
        recorded: &[RecordedRun],
        with_rows: i32,
    ) -> Folded {
        // Rows of a second rank can bring up examples that no score has a row of.
        let is_whole = self.index.is_sorted() && self.runs.iter().all(|&runs| runs > 0);
        let order = (!is_whole).then(|| {
            let mut order = self.index.order();
            order.retain(|&place| self.runs[place as usize] > 0);
            order
        });
        let partial = self.runs.iter().filter(|&&runs| 0 < runs && runs < with_rows).count();
        let (examples, labels) = self.index.into_keys();
        let keys = Keys { examples, labels, runs: self.runs }.in_order(order.as_deref());
        let names = columns.iter().map(|(name, _)| name.as_str());
        let mut aliases = plan.aliases;
        aliases.retain(|alias, _| names.clone().any(|name| name == alias));
        let info = ScoreInfo {
            runs: recorded.iter().map(|run| Run::name(&run.run).to_owned()).collect(),
            aliases,
            non_finite: self.non_finite,
            repeated: self.repeated,
            partial: partial as u64,
        };
        Folded { order, keys, columns, info }
    }
}
