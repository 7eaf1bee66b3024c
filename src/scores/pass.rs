//! One pass over one table of one run. Row groups are decoded on several threads and folded in
//! order.
//!
//! Rows come epoch by epoch, and within an epoch rank by rank. An example that a data loader
//! repeated on a second rank in an epoch, to make the ranks equally long, counts on the first rank
//! only.

use std::collections::BTreeSet;
use std::ops::Range;

use super::accumulate::{SKIPPED, Slots, WindowMean};
use super::buckets::Buckets;
use super::catalogue::{Group, RecordedRun};
use super::column_sink::ColumnSink;
use super::decoded::{DecodedRowGroup, Moments, Task, overlaps};
use super::derived_columns::{LogitsRows, LogitsTable};
use super::fold_state::FoldState;
use super::ordered_parallel::in_order;
use super::plan::{ComputedColumn, Plan};
use super::run_table::RunTable;
use super::score::Span;
use super::signal_source::SignalSource;
use super::train_phase_scores::Training;
use super::values::Values;
use crate::error::Result;
use crate::observe::Phase;

/// The number of rows that are folded at once, score by score: few enough to stay in the L1 cache.
const ROWS_AT_ONCE: usize = 8192;
/// The number of sorted row groups that are folded together.
const ROW_GROUPS_AT_ONCE: usize = 8;

/// What one pass computes.
pub(super) struct Pass<'a> {
    recorded: &'a RecordedRun,
    source: RunTable,
    /// The columns of floats that are read.
    columns: Vec<&'static str>,
    windows: Vec<OpenWindow>,
    /// One for each span of epochs.
    trainings: Vec<Training>,
    /// The rank that had an example in this epoch, plus one; `None` for a run of one rank.
    owners: Option<Vec<u32>>,
    places: Vec<u32>,
}

/// A mean over a span that has not ended.
struct OpenWindow {
    computed: usize,
    /// An index into `Pass::columns`.
    column: usize,
    span: Span,
    /// The epoch after which the mean is complete.
    last_epoch: u32,
    mean: WindowMean,
    is_exponential: bool,
}

impl OpenWindow {
    fn into_values(self) -> Values {
        let means = self.mean.into_values();
        if self.is_exponential {
            Values::collect(means.len(), |place| means.get(place).exp())
        } else {
            means
        }
    }
}

impl<'a> Pass<'a> {
    /// Makes the pass that a plan needs over one table of a run. Returns `None` if it needs nothing
    /// from the table.
    pub(super) fn new(plan: &Plan, recorded: &'a RecordedRun, source: RunTable) -> Option<Self> {
        let mut columns: Vec<&'static str> = Vec::new();
        let mut place = |name: &'static str| {
            columns.iter().position(|&column| column == name).unwrap_or_else(|| {
                columns.push(name);
                columns.len() - 1
            })
        };
        let table = recorded.table(source);
        let (mut windows, mut trainings) = (Vec::new(), Vec::<Training>::new());
        for (computed, what) in plan.computed.iter().enumerate() {
            match *what {
                ComputedColumn::Window(window) => {
                    if window.source == source && recorded.has(source, window.column) {
                        let of_span =
                            table.groups().filter(|group| overlaps(&group.outline, window.span));
                        let last = of_span.map(|group| *group.outline.epochs.end()).max();
                        let last_epoch = match (window.span, last) {
                            (Span::Epochs { last, .. }, Some(_)) => last,
                            (Span::Steps { .. }, Some(last)) => u32::try_from(last).unwrap_or(0),
                            (_, None) => continue,
                        };
                        windows.push(OpenWindow {
                            computed,
                            column: place(window.column),
                            span: window.span,
                            last_epoch,
                            mean: WindowMean::new(),
                            is_exponential: window.is_exponential,
                        });
                    }
                }
                ComputedColumn::TrainPhase { score, epochs }
                    if source == RunTable::Observations(Phase::Train) =>
                {
                    let signal = score.signal();
                    if signal.is_some_and(|signal| !recorded.has(source, signal.name())) {
                        continue;
                    }
                    let of_span = trainings.iter().position(|other| other.epochs() == epochs);
                    let of_span = of_span.unwrap_or_else(|| {
                        trainings.push(Training::new(epochs));
                        trainings.len() - 1
                    });
                    let column = signal.map(|signal| place(signal.name()));
                    trainings[of_span].add(computed, score, column);
                }
                ComputedColumn::TrainPhase { .. } => {}
            }
        }
        let idle = table.epochs.is_empty() || (windows.is_empty() && trainings.is_empty());
        let owners = (table.ranks.len() > 1).then(Vec::new);
        (!idle).then_some(Self {
            recorded,
            source,
            columns,
            windows,
            trainings,
            owners,
            places: Vec::new(),
        })
    }

    /// Returns how to sort rows by example. Rows of the first epoch are not sorted if that epoch
    /// shows which examples there are, nor are rows that a span tells apart by step.
    fn buckets(&self, fold: &FoldState) -> (Option<Buckets>, Option<i32>) {
        let groups = || self.recorded.table(self.source).groups().map(|group| &group.outline);
        let last = groups().map(|outline| outline.last_example).max().unwrap_or(0);
        if fold.is_settled() {
            return (Buckets::new(fold.index.len(), last), None);
        }
        let first = groups().map(|outline| *outline.epochs.start()).min();
        let of_first = groups().filter(|outline| Some(*outline.epochs.start()) == first);
        (Buckets::new(of_first.map(|outline| outline.rows).sum(), last), first)
    }

    /// Returns the row groups to read, in the order of epochs, then of ranks.
    fn tasks(&self, fold: &FoldState) -> Result<Vec<Task>> {
        let (buckets, unsorted) = self.buckets(fold);
        let table = self.recorded.table(self.source);
        let wanted = |group: &&Group| {
            self.trainings.iter().any(|training| training.overlaps(&group.outline))
                || self.windows.iter().any(|window| overlaps(&group.outline, window.span))
        };
        // Whether a row counts depends on the epoch's rows of all lower ranks.
        let mut epochs: Vec<Span> = Vec::new();
        if self.owners.is_some() {
            epochs.extend(table.groups().filter(wanted).map(|group| {
                let epoch = |epoch: i32| u32::try_from(epoch).unwrap_or(0);
                let epochs = &group.outline.epochs;
                Span::epochs(epoch(*epochs.start()), epoch(*epochs.end()))
            }));
            epochs.sort_unstable();
            epochs.dedup();
        }
        let mut tasks = Vec::new();
        for (rank, groups) in table.ranks.iter().enumerate() {
            let needed = |group: &&Group| {
                wanted(group) || epochs.iter().any(|&epochs| overlaps(&group.outline, epochs))
            };
            let sources = self.sources_of(rank);
            let logits = self.logits_of(rank, &sources)?;
            let mut rows = 0;
            for group in groups {
                let first = rows;
                rows += group.outline.rows;
                if !needed(&group) {
                    continue;
                }
                let mut wanted = vec![false; self.columns.len()];
                for training in self.trainings.iter().filter(|it| it.overlaps(&group.outline)) {
                    training.columns().for_each(|column| wanted[column] = true);
                }
                let mut steps = false;
                for window in self.windows.iter().filter(|w| overlaps(&group.outline, w.span)) {
                    wanted[window.column] = true;
                    steps |= matches!(window.span, Span::Steps { .. });
                }
                let columns: Vec<Option<SignalSource>> = sources
                    .iter()
                    .zip(wanted)
                    .map(|(source, wanted)| source.filter(|_| wanted))
                    .collect();
                let logits = logits.as_ref().filter(|_| comes_from_logits(&columns));
                let logits: Option<LogitsRows> = logits.map(|logits| logits.rows(&(first..rows)));
                let (first, last) = (*group.outline.epochs.start(), *group.outline.epochs.end());
                let sorts = first == last && !steps && unsorted != Some(first);
                let buckets = buckets.filter(|_| sorts);
                tasks.push(Task { rank, group: group.clone(), columns, logits, steps, buckets });
            }
        }
        // Stable: the row groups of a rank keep their order.
        tasks.sort_by_key(|task| (*task.group.outline.epochs.start(), task.rank));
        Ok(tasks)
    }

    /// Returns where one rank has each column; ranks need not have recorded the same signals.
    fn sources_of(&self, rank: usize) -> Vec<Option<SignalSource>> {
        let of = |name: &&str| self.recorded.sources_of(self.source, name).nth(rank).flatten();
        self.columns.iter().map(of).collect()
    }

    /// Opens the logits of a rank if one of its columns comes from them.
    fn logits_of(
        &self,
        rank: usize,
        sources: &[Option<SignalSource>],
    ) -> Result<Option<LogitsTable>> {
        match self.source {
            RunTable::Observations(phase) if comes_from_logits(sources) => {
                LogitsTable::open(&self.recorded.run, phase, rank).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Reads the table and hands on finished columns.
    pub(super) fn run(
        mut self,
        fold: &mut FoldState,
        threads: usize,
        columns: &mut dyn ColumnSink,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let tasks = self.tasks(fold)?;
        let (source, names) = (self.source, self.columns.clone());
        // The table `grand` has no column `correct`, and no score needs it.
        let bits = self.trainings.iter().any(Training::reads_correct);
        let first_epochs: Vec<(i32, usize)> =
            tasks.iter().map(|task| (*task.group.outline.epochs.start(), task.rank)).collect();
        let epochs: BTreeSet<u32> = self.recorded.table(source).epochs.clone();
        let ranks = self.recorded.table(source).ranks.len();
        let decode = |task: &Task| task.decode(source, &names, bits);
        in_order(threads, &tasks, decode, |next| {
            let mut upcoming = first_epochs.iter().peekable();
            // A row group that reaches into later epochs waits for them, from its first remaining
            // row.
            let mut waiting: Vec<Option<(DecodedRowGroup, usize)>> =
                (0..ranks).map(|_| None).collect();
            let mut batch = Vec::new();
            for &epoch in &epochs {
                let now = i32::try_from(epoch).unwrap_or(i32::MAX);
                if let Some(owners) = &mut self.owners {
                    owners.fill(0);
                }
                for rank in 0..ranks {
                    loop {
                        let (decoded, start) = if let Some(waiting) = waiting[rank].take() {
                            waiting
                        } else {
                            let is_due = |task: &&(i32, usize)| task.0 <= now && task.1 == rank;
                            if upcoming.next_if(is_due).is_none() {
                                break;
                            }
                            let Some(decoded) = next() else { break };
                            let decoded = decoded?;
                            progress(decoded.rows() as u64);
                            (decoded, 0)
                        };
                        if decoded.sorted.is_some() {
                            batch.push(decoded);
                            if batch.len() == ROW_GROUPS_AT_ONCE {
                                self.add_batch(fold, &mut batch, epoch)?;
                            }
                            continue;
                        }
                        self.add_batch(fold, &mut batch, epoch)?;
                        let left = start..decoded.rows();
                        let rows = decoded.epochs.rows(&left, now, now);
                        for start in rows.clone().step_by(ROWS_AT_ONCE) {
                            let rows = start..rows.end.min(start + ROWS_AT_ONCE);
                            self.add(fold, &decoded, &rows, epoch)?;
                        }
                        if matches!(decoded.epochs, Moments::Each(_)) && rows.end < left.end {
                            waiting[rank] = Some((decoded, rows.end));
                            break;
                        }
                    }
                    self.add_batch(fold, &mut batch, epoch)?;
                }
                self.end_epoch(epoch, fold, columns)?;
            }
            Ok(())
        })?;
        self.end(fold, columns)
    }

    /// Folds row groups of one epoch and rank whose rows are sorted, bucket by bucket.
    fn add_batch(
        &mut self,
        fold: &mut FoldState,
        batch: &mut Vec<DecodedRowGroup>,
        epoch: u32,
    ) -> Result<()> {
        let ranges =
            |decoded: &DecodedRowGroup| decoded.sorted.as_ref().map_or(0, |s| s.ranges.len());
        for bucket in 0..batch.iter().map(ranges).max().unwrap_or(0) {
            for decoded in batch.iter() {
                if let Some(rows) = decoded.sorted.as_ref().and_then(|s| s.ranges.get(bucket)) {
                    self.add(fold, decoded, rows, epoch)?;
                }
            }
        }
        batch.clear();
        Ok(())
    }

    /// Folds some rows of one epoch.
    fn add(
        &mut self,
        fold: &mut FoldState,
        decoded: &DecodedRowGroup,
        rows: &Range<usize>,
        epoch: u32,
    ) -> Result<()> {
        // First, the rows that count at all; then those that count for each window.
        let whole = self.trainings.iter().any(|training| training.includes(epoch));
        let open: Vec<(usize, Range<usize>)> = (0..self.windows.len())
            .map(|at| (at, decoded.rows_of(self.windows[at].span, rows, epoch)))
            .filter(|(_, of_window)| !of_window.is_empty())
            .collect();
        let counts = |row: usize| whole || open.iter().any(|(_, rows)| rows.contains(&row));
        if !whole && open.is_empty() && self.owners.is_none() {
            return Ok(());
        }
        let mut places = std::mem::take(&mut self.places);
        places.clear();
        let labels = || decoded.labels(rows);
        fold.index.places(&decoded.examples[rows.clone()], labels, &mut places)?;
        if let Some(owners) = &mut self.owners {
            owners.grow(fold.index.len());
            let rank = decoded.rank as u32 + 1;
            for (place, row) in places.iter_mut().zip(rows.clone()) {
                let owner = &mut owners[*place as usize];
                if *owner != 0 && *owner != rank {
                    fold.repeated += u64::from(counts(row));
                    *place = SKIPPED;
                } else {
                    *owner = rank;
                }
            }
        }
        if fold.compares_labels() {
            fold.compare_labels(&places, decoded.labels(rows)?);
        }
        if whole {
            fold.see(&places);
        } else {
            for (_, of_window) in &open {
                fold.see(&places[of_window.start - rows.start..of_window.end - rows.start]);
            }
        }
        let broken = self
            .columns_of(&open, rows, epoch)
            .any(|(column, rows)| has_non_finite(decoded.values(column, &rows)));
        if broken {
            fold.non_finite += self.count_non_finite(&open, decoded, rows, &places, epoch);
        }
        let examples = fold.index.len();
        for (at, of_window) in &open {
            let window = &mut self.windows[*at];
            window.mean.grow(examples);
            let values = decoded.values(window.column, of_window);
            let places = &places[of_window.start - rows.start..of_window.end - rows.start];
            window.mean.add(places, values);
            fold.rows[window.computed] += of_window.len() as u64;
        }
        for training in self.trainings.iter_mut().filter(|training| training.includes(epoch)) {
            training.slots().for_each(|slots| slots.grow(examples));
            training.add_rows(&places, decoded, rows);
        }
        self.places = places;
        Ok(())
    }

    /// Returns the columns that go into means, each with the rows that count.
    fn columns_of<'b>(
        &'b self,
        open: &'b [(usize, Range<usize>)],
        rows: &'b Range<usize>,
        epoch: u32,
    ) -> impl Iterator<Item = (usize, Range<usize>)> + 'b {
        let windows = open.iter().map(|(at, rows)| (self.windows[*at].column, rows.clone()));
        let trainings = self.trainings.iter().filter(move |training| training.includes(epoch));
        let of_trainings = trainings.flat_map(Training::columns);
        windows.chain(of_trainings.map(|column| (column, rows.clone())))
    }

    /// Counts the rows that are left out of a mean.
    fn count_non_finite(
        &self,
        open: &[(usize, Range<usize>)],
        decoded: &DecodedRowGroup,
        rows: &Range<usize>,
        places: &[u32],
        epoch: u32,
    ) -> u64 {
        let is_broken = |row: usize| {
            self.columns_of(open, rows, epoch).any(|(column, rows)| {
                rows.contains(&row) && has_non_finite(decoded.values(column, &(row..row + 1)))
            })
        };
        let counted = rows.clone().zip(places).filter(|(_, place)| **place != SKIPPED);
        counted.filter(|(row, _)| is_broken(*row)).count() as u64
    }

    /// Hands on the columns that end with an epoch.
    fn end_epoch(
        &mut self,
        epoch: u32,
        fold: &mut FoldState,
        columns: &mut dyn ColumnSink,
    ) -> Result<()> {
        fold.end_epoch();
        // After the first epoch nearly all examples are known, so places are sorted from here on.
        if let Some(from) = fold.settle() {
            self.windows.iter_mut().for_each(|window| window.mean.reorder(&from));
            let slots = self.trainings.iter_mut().flat_map(Training::slots);
            slots.for_each(|slots| slots.reorder(&from));
        }
        let (ended, open): (Vec<OpenWindow>, Vec<OpenWindow>) =
            std::mem::take(&mut self.windows).into_iter().partition(|w| w.last_epoch <= epoch);
        self.windows = open;
        for window in ended {
            columns.push(window.computed, window.into_values())?;
        }
        let (ended, open): (Vec<Training>, Vec<Training>) =
            std::mem::take(&mut self.trainings).into_iter().partition(|it| it.ends_by(epoch));
        self.trainings = open;
        ended.into_iter().try_for_each(|training| end_training(&training, fold, columns))
    }

    fn end(self, fold: &mut FoldState, columns: &mut dyn ColumnSink) -> Result<()> {
        for window in self.windows {
            columns.push(window.computed, window.into_values())?;
        }
        let mut left = self.trainings.into_iter();
        left.try_for_each(|training| end_training(&training, fold, columns))
    }
}

/// Hands on the scores of the train phase that are over the same epochs.
fn end_training(
    training: &Training,
    fold: &mut FoldState,
    columns: &mut dyn ColumnSink,
) -> Result<()> {
    for &(computed, score) in &training.scores {
        fold.rows[computed] += 1;
        columns.push(computed, training.values(score))?;
    }
    Ok(())
}

fn comes_from_logits(sources: &[Option<SignalSource>]) -> bool {
    sources.iter().flatten().any(|source| source.is_of_logits())
}

/// Returns whether a value is not finite: all bits of its exponent are set.
fn has_non_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    let is_broken = |value: &f32| value.to_bits() & EXPONENT == EXPONENT;
    values.iter().fold(false, |broken, value| broken | is_broken(value))
}
