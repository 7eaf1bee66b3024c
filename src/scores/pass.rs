//! One pass over one table of one run: row groups are decoded on several threads and folded in order.
//!
//! Epochs follow one another, and within an epoch the ranks of the run do. An example that a data loader
//! repeated on a second rank in an epoch, to make the ranks equally long, counts on the first one only.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ops::Range;

use super::accumulate::{
    SKIPPED, Share, Slots, Spread, Sum, WindowMean, add_up, count_correct, means, spread_out,
};
use super::buckets::{Buckets, Sorted};
use super::catalogue::{Group, RecordedRun};
use super::fold::{Columns, Fold};
use super::forgetting::Presentations;
use super::pipeline::in_order;
use super::plan::{Computed, Plan, signal_of_training};
use super::score::{Score, Span};
use super::source::Source;
use super::values::Values;
use crate::error::{Error, Result};
use crate::run::{Bits, RowGroup, RowGroupOutline};
use crate::step::Phase;

/// Rows that are folded at once, score by score: few enough to stay in the nearest cache.
const ROWS_AT_ONCE: usize = 8192;
/// Sorted row groups that are folded together.
const ROW_GROUPS_AT_ONCE: usize = 8;

/// What one pass computes.
pub(super) struct Pass<'a> {
    recorded: &'a RecordedRun,
    source: Source,
    /// The columns of floats that are read.
    columns: Vec<&'static str>,
    windows: Vec<OpenWindow>,
    training: Training,
    /// The rank that had an example in this epoch, plus one; `None` for a run of one rank.
    owners: Option<Vec<u32>>,
    places: Vec<u32>,
}

/// A mean over a span that has not ended.
struct OpenWindow {
    computed: usize,
    /// In `Pass::columns`.
    column: usize,
    span: Span,
    /// After this epoch it is complete.
    last_epoch: u32,
    mean: WindowMean,
}

/// What is computed over the whole pass.
#[derive(Default)]
struct Training {
    scores: Vec<(usize, Score)>,
    presentations: Option<Vec<Presentations>>,
    /// Of the margin, with its place in `Pass::columns`.
    margins: Option<(usize, Vec<Sum>)>,
    /// Of the confidence, likewise.
    confidences: Option<(usize, Vec<Spread>)>,
    correct: Option<Vec<Share>>,
}

impl Training {
    fn add(&mut self, computed: usize, score: Score, column: Option<usize>) {
        self.scores.push((computed, score));
        match (score, column) {
            (Score::Aum, Some(column)) => self.margins = Some((column, Vec::new())),
            (Score::CartographyConfidence | Score::CartographyVariability, Some(column)) => {
                self.confidences = Some((column, Vec::new()));
            }
            (Score::CartographyCorrectness, _) => self.correct = Some(Vec::new()),
            _ => self.presentations = Some(Vec::new()),
        }
    }

    fn slots(&mut self) -> impl Iterator<Item = &mut dyn Slots> {
        let presentations = self.presentations.iter_mut().map(|slots| slots as &mut dyn Slots);
        let margins = self.margins.iter_mut().map(|(_, slots)| slots as &mut dyn Slots);
        let confidences = self.confidences.iter_mut().map(|(_, slots)| slots as &mut dyn Slots);
        let correct = self.correct.iter_mut().map(|slots| slots as &mut dyn Slots);
        presentations.chain(margins).chain(confidences).chain(correct)
    }

    /// The columns that go into a mean.
    fn columns(&self) -> impl Iterator<Item = usize> {
        let margins = self.margins.iter().map(|(column, _)| *column);
        margins.chain(self.confidences.iter().map(|(column, _)| *column))
    }

    fn add_rows(&mut self, places: &[u32], decoded: &Decoded, rows: &Range<usize>) {
        if let Some(presentations) = &mut self.presentations {
            for (&place, row) in places.iter().zip(rows.clone()) {
                if let Some(example) = presentations.get_mut(place as usize) {
                    example.present(decoded.correct.get(row));
                }
            }
        }
        if let Some((column, sums)) = &mut self.margins {
            add_up(sums, places, decoded.values(*column, rows));
        }
        if let Some((column, spreads)) = &mut self.confidences {
            spread_out(spreads, places, decoded.values(*column, rows));
        }
        if let Some(shares) = &mut self.correct {
            count_correct(shares, places, &decoded.correct, rows.start);
        }
    }

    fn values(&self, score: Score) -> Values {
        let presentations = self.presentations.as_deref().unwrap_or_default();
        let forgetting = |value: &dyn Fn(&Presentations) -> f64| {
            let value = |example: &Presentations| match example.count() {
                0 => f64::NAN,
                _ => value(example),
            };
            Values::collect(presentations.len(), |place| value(&presentations[place]))
        };
        let spreads = self.confidences.as_ref().map_or(&[][..], |(_, spreads)| spreads);
        match score {
            Score::Forgetting => {
                let most = presentations.iter().map(Presentations::count).max().unwrap_or(0);
                forgetting(&|example| example.score(most))
            }
            Score::ForgettingInf => forgetting(&Presentations::score_or_infinity),
            Score::NeverLearned => {
                forgetting(&|example| f64::from(u8::from(example.never_learned())))
            }
            Score::FirstLearned => {
                forgetting(&|example| example.first_learned().map_or(f64::NAN, f64::from))
            }
            Score::Presentations => forgetting(&|example| f64::from(example.count())),
            Score::Aum => means(self.margins.as_ref().map_or(&[], |(_, sums)| sums)),
            Score::CartographyConfidence => {
                Values::collect(spreads.len(), |place| spreads[place].mean())
            }
            Score::CartographyVariability => {
                Values::collect(spreads.len(), |place| spreads[place].deviation())
            }
            Score::CartographyCorrectness => {
                let shares = self.correct.as_deref().unwrap_or_default();
                Values::collect(shares.len(), |place| shares[place].share())
            }
            // Not a score of a whole phase.
            _ => Values::F32(Vec::new()),
        }
    }
}

/// A row group on its way to a decoder.
struct Task {
    rank: usize,
    group: Group,
    /// Which of the pass's columns are wanted of it.
    columns: Vec<bool>,
    steps: bool,
    buckets: Option<Buckets>,
}

/// A decoded row group.
struct Decoded {
    rank: usize,
    group: RowGroup,
    epochs: Moments<i32>,
    steps: Moments<i64>,
    examples: Vec<i64>,
    labels: OnceCell<Vec<i32>>,
    correct: Bits,
    columns: Vec<Vec<f32>>,
    /// If rows are not in the order in which they were recorded: they are all of one epoch then.
    sorted: Option<Sorted>,
}

/// When rows were recorded, ascending.
enum Moments<T> {
    /// All of them at one moment, or nobody asks.
    One(T),
    Each(Vec<T>),
}

impl<T: Copy + PartialOrd> Moments<T> {
    /// The rows of `within` from `first` to `last`.
    fn rows(&self, within: &Range<usize>, first: T, last: T) -> Range<usize> {
        match self {
            Self::One(moment) if first <= *moment && *moment <= last => within.clone(),
            Self::One(_) => within.start..within.start,
            Self::Each(moments) => {
                let moments = &moments[within.clone()];
                let start = moments.partition_point(|&moment| moment < first);
                let end = moments.partition_point(|&moment| moment <= last);
                within.start + start..within.start + end
            }
        }
    }
}

impl Task {
    fn decode(&self, source: Source, columns: &[&'static str], bits: bool) -> Result<Decoded> {
        let RowGroupOutline { epochs, steps, .. } = &self.group.outline;
        let path = || self.group.part.path();
        let group = self.group.part.row_group(self.group.index)?;
        let group = group.ok_or_else(|| Error::corrupt(path(), "a row group is missing"))?;
        let fall = |what: &str| Error::corrupt(path(), format!("{what} fall in {}", source.name()));
        let epochs = if epochs.start() == epochs.end() {
            Moments::One(*epochs.start())
        } else {
            let epochs = group.int32("epoch")?;
            if !epochs.is_sorted() {
                return Err(fall("epochs"));
            }
            Moments::Each(epochs)
        };
        let steps = if self.steps && steps.start() != steps.end() {
            let steps = group.int64("step")?;
            if !steps.is_sorted() {
                return Err(fall("steps"));
            }
            Moments::Each(steps)
        } else {
            Moments::One(*steps.start())
        };
        let mut examples = group.int64("example")?;
        let sorted = self.buckets.map(|buckets| buckets.sort(&examples));
        let mut correct = if bits { group.bits("correct")? } else { Bits::default() };
        let wanted = columns.iter().zip(&self.columns);
        let column = |(name, &wanted): (&&str, &bool)| {
            if wanted { group.float32(name) } else { Ok(Vec::new()) }
        };
        let mut columns = wanted.map(column).collect::<Result<Vec<_>>>()?;
        if let Some(sorted) = &sorted {
            examples = sorted.scatter(&examples);
            correct = correct.scattered(&sorted.places);
            for column in columns.iter_mut().filter(|column| !column.is_empty()) {
                *column = sorted.scatter(column);
            }
        }
        let (rank, labels) = (self.rank, OnceCell::new());
        Ok(Decoded { rank, group, epochs, steps, examples, labels, correct, columns, sorted })
    }
}

impl Decoded {
    fn rows(&self) -> usize {
        self.examples.len()
    }

    fn values(&self, column: usize, rows: &Range<usize>) -> &[f32] {
        self.columns[column].get(rows.clone()).unwrap_or_default()
    }

    /// Decoded only where an example is new.
    fn labels(&self, rows: &Range<usize>) -> Result<&[i32]> {
        let labels = if let Some(labels) = self.labels.get() {
            labels
        } else {
            let labels = self.group.int32("label")?;
            let labels = match &self.sorted {
                Some(sorted) => sorted.scatter(&labels),
                None => labels,
            };
            self.labels.get_or_init(|| labels)
        };
        Ok(labels.get(rows.clone()).unwrap_or_default())
    }

    /// The rows of a span within some rows of one epoch.
    fn rows_of(&self, span: Span, rows: &Range<usize>, epoch: u32) -> Range<usize> {
        match span {
            Span::Epochs { first, last } if (first..=last).contains(&epoch) => rows.clone(),
            Span::Epochs { .. } => rows.start..rows.start,
            Span::Steps { first, last } => match i64::try_from(first) {
                Ok(first) => self.steps.rows(rows, first, i64::try_from(last).unwrap_or(i64::MAX)),
                Err(_beyond) => rows.start..rows.start,
            },
        }
    }
}

/// Whether a row group may hold rows of a span.
fn overlaps(outline: &RowGroupOutline, span: Span) -> bool {
    match span {
        Span::Epochs { first, last } => {
            i64::from(*outline.epochs.start()) <= i64::from(last)
                && i64::from(first) <= i64::from(*outline.epochs.end())
        }
        Span::Steps { first, last } => {
            i128::from(*outline.steps.start()) <= i128::from(last)
                && i128::from(first) <= i128::from(*outline.steps.end())
        }
    }
}

impl<'a> Pass<'a> {
    /// What a plan has to do with one table of a run; `None` if that is nothing.
    pub(super) fn new(plan: &Plan, recorded: &'a RecordedRun, source: Source) -> Option<Self> {
        let mut columns: Vec<&'static str> = Vec::new();
        let mut place = |name: &'static str| {
            columns.iter().position(|&column| column == name).unwrap_or_else(|| {
                columns.push(name);
                columns.len() - 1
            })
        };
        let table = recorded.table(source);
        let (mut windows, mut training) = (Vec::new(), Training::default());
        for (computed, what) in plan.computed.iter().enumerate() {
            match *what {
                Computed::Window(window) => {
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
                        });
                    }
                }
                Computed::OfTraining(score) if source == Source::Observations(Phase::Train) => {
                    let signal = signal_of_training(score);
                    if signal.is_none_or(|signal| recorded.has(source, signal.name())) {
                        training.add(computed, score, signal.map(|signal| place(signal.name())));
                    }
                }
                Computed::OfTraining(_) => {}
            }
        }
        let idle = table.epochs.is_empty() || (windows.is_empty() && training.scores.is_empty());
        let owners = (table.ranks.len() > 1).then(Vec::new);
        (!idle).then_some(Self {
            recorded,
            source,
            columns,
            windows,
            training,
            owners,
            places: Vec::new(),
        })
    }

    /// How to sort rows by example; none of the first epoch is sorted if that shows what examples there
    /// are, and none that has to be told apart by its step.
    fn buckets(&self, fold: &Fold) -> (Option<Buckets>, Option<i32>) {
        let groups = || self.recorded.table(self.source).groups().map(|group| &group.outline);
        let last = groups().map(|outline| outline.last_example).max().unwrap_or(0);
        if fold.is_settled() {
            return (Buckets::new(fold.index.len(), last), None);
        }
        let first = groups().map(|outline| *outline.epochs.start()).min();
        let of_first = groups().filter(|outline| Some(*outline.epochs.start()) == first);
        (Buckets::new(of_first.map(|outline| outline.rows).sum(), last), first)
    }

    /// The row groups to read, in the order of epochs, then of ranks.
    fn tasks(&self, fold: &Fold) -> Vec<Task> {
        let (buckets, unsorted) = self.buckets(fold);
        let table = self.recorded.table(self.source);
        let whole = !self.training.scores.is_empty();
        let wanted = |group: &&Group| {
            whole || self.windows.iter().any(|window| overlaps(&group.outline, window.span))
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
            for group in groups.iter().filter(needed) {
                let mut columns = vec![false; self.columns.len()];
                self.training.columns().for_each(|column| columns[column] = true);
                let mut steps = false;
                for window in self.windows.iter().filter(|w| overlaps(&group.outline, w.span)) {
                    columns[window.column] = true;
                    steps |= matches!(window.span, Span::Steps { .. });
                }
                let (first, last) = (*group.outline.epochs.start(), *group.outline.epochs.end());
                let sorts = first == last && !steps && unsorted != Some(first);
                let buckets = buckets.filter(|_| sorts);
                tasks.push(Task { rank, group: group.clone(), columns, steps, buckets });
            }
        }
        // Stable: the row groups of a rank stay in their order.
        tasks.sort_by_key(|task| (*task.group.outline.epochs.start(), task.rank));
        tasks
    }

    /// Reads the table and hands finished columns on.
    pub(super) fn run(
        mut self,
        fold: &mut Fold,
        threads: usize,
        columns: &mut dyn Columns,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let tasks = self.tasks(fold);
        let (source, names) = (self.source, self.columns.clone());
        // `grand` has no column `correct`, and nobody asks it for one.
        let bits = self.training.presentations.is_some() || self.training.correct.is_some();
        let first_epochs: Vec<(i32, usize)> =
            tasks.iter().map(|task| (*task.group.outline.epochs.start(), task.rank)).collect();
        let epochs: BTreeSet<u32> = self.recorded.table(source).epochs.clone();
        let ranks = self.recorded.table(source).ranks.len();
        let decode = |task: &Task| task.decode(source, &names, bits);
        in_order(threads, &tasks, decode, |next| {
            let mut upcoming = first_epochs.iter().peekable();
            // A row group that reaches into later epochs waits for them, with the first row it has left.
            let mut waiting: Vec<Option<(Decoded, usize)>> = (0..ranks).map(|_| None).collect();
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
    fn add_batch(&mut self, fold: &mut Fold, batch: &mut Vec<Decoded>, epoch: u32) -> Result<()> {
        let ranges = |decoded: &Decoded| decoded.sorted.as_ref().map_or(0, |s| s.ranges.len());
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
        fold: &mut Fold,
        decoded: &Decoded,
        rows: &Range<usize>,
        epoch: u32,
    ) -> Result<()> {
        // Which rows count at all, and which of them for which window.
        let whole = !self.training.scores.is_empty();
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
        if whole {
            fold.see(&places);
        } else {
            for (_, of_window) in &open {
                fold.see(&places[of_window.start - rows.start..of_window.end - rows.start]);
            }
        }
        let broken = self
            .columns_of(&open, rows)
            .any(|(column, rows)| has_broken(decoded.values(column, &rows)));
        if broken {
            fold.non_finite += self.count_broken(&open, decoded, rows, &places);
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
        if whole {
            self.training.slots().for_each(|slots| slots.grow(examples));
            self.training.add_rows(&places, decoded, rows);
        }
        self.places = places;
        Ok(())
    }

    /// The columns that go into means, each with the rows for which it does.
    fn columns_of<'b>(
        &'b self,
        open: &'b [(usize, Range<usize>)],
        rows: &'b Range<usize>,
    ) -> impl Iterator<Item = (usize, Range<usize>)> + 'b {
        let windows = open.iter().map(|(at, rows)| (self.windows[*at].column, rows.clone()));
        windows.chain(self.training.columns().map(|column| (column, rows.clone())))
    }

    /// How many rows are left out of a mean.
    fn count_broken(
        &self,
        open: &[(usize, Range<usize>)],
        decoded: &Decoded,
        rows: &Range<usize>,
        places: &[u32],
    ) -> u64 {
        let is_broken = |row: usize| {
            self.columns_of(open, rows).any(|(column, rows)| {
                rows.contains(&row) && has_broken(decoded.values(column, &(row..row + 1)))
            })
        };
        let counted = rows.clone().zip(places).filter(|(_, place)| **place != SKIPPED);
        counted.filter(|(row, _)| is_broken(*row)).count() as u64
    }

    /// Hands on what ends with an epoch.
    fn end_epoch(&mut self, epoch: u32, fold: &mut Fold, columns: &mut dyn Columns) -> Result<()> {
        // After the first epoch, nearly all examples are known: from here on their places are sorted.
        if let Some(from) = fold.settle() {
            self.windows.iter_mut().for_each(|window| window.mean.reorder(&from));
            self.training.slots().for_each(|slots| slots.reorder(&from));
        }
        let (ended, open): (Vec<OpenWindow>, Vec<OpenWindow>) =
            std::mem::take(&mut self.windows).into_iter().partition(|w| w.last_epoch <= epoch);
        self.windows = open;
        let mut ended = ended.into_iter();
        ended.try_for_each(|window| columns.push(window.computed, window.mean.into_values()))
    }

    fn end(self, fold: &mut Fold, columns: &mut dyn Columns) -> Result<()> {
        for window in self.windows {
            columns.push(window.computed, window.mean.into_values())?;
        }
        for &(computed, score) in &self.training.scores {
            fold.rows[computed] += 1;
            columns.push(computed, self.training.values(score))?;
        }
        Ok(())
    }
}

/// Whether a value is not finite: the exponent's bits are all set.
fn has_broken(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    let is_broken = |value: &f32| value.to_bits() & EXPONENT == EXPONENT;
    values.iter().fold(false, |broken, value| broken | is_broken(value))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use crate::batch::{Batch, BatchFormat, LogitsFormat, Targets};
    use crate::record::Recorder;
    use crate::run::Experiment;
    use crate::scores::{At, Score, ScoreOptions, ScoreRequest, ScoreTable};
    use crate::signal::Signal;
    use crate::step::{Moment, Phase};

    /// What one example went through: its values, and whether they came from a correct answer.
    type Rows = BTreeMap<i64, Vec<(u32, f32, bool)>>;

    /// Many examples, some of them several times in an epoch, some of them new in a late one, each epoch
    /// in parts of its own: the rows of all but the first epoch are sorted into buckets.
    fn record(path: &std::path::Path, ids: impl Fn(u32) -> i64) -> Rows {
        let mut format = BatchFormat::new(2).unwrap();
        format.logits = LogitsFormat::Off;
        let builder = Recorder::builder(path, "seed-0", format.clone()).flush_rows(1);
        let mut recorder = builder.publish_interval(Duration::ZERO).start().unwrap();
        let mut rows = Rows::new();
        for (step, epoch) in (0..).zip([0, 0, 1, 1, 1, 2, 4]) {
            let ids: Vec<i64> = (0..300).map(|row| ids(row * 7919 + step * 311)).collect();
            let margin = |row: usize| ((row as f32 + step as f32 * 0.7) * 12.9898).sin();
            let logits: Vec<f32> = (0..ids.len()).flat_map(|row| [margin(row), 0.0]).collect();
            for (row, &id) in ids.iter().enumerate() {
                let margin = margin(row);
                rows.entry(id).or_default().push((epoch, margin, margin >= 0.0));
            }
            let labels = vec![0; ids.len()];
            let moment = Moment { phase: Phase::Train, step: step.into(), epoch };
            let batch = Batch::new(&format, moment, &ids, &logits, Targets::Classes(&labels));
            recorder.record(batch.unwrap()).unwrap();
        }
        recorder.finish().unwrap().check().unwrap();
        rows
    }

    fn mean(values: impl Iterator<Item = f64>) -> f64 {
        let values: Vec<f64> = values.collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    /// To the bit, so that the order of additions counts.
    #[test]
    fn sorted_rows_give_the_same_sums() {
        let dense = |row: u32| i64::from(row % 263 + 30 * u32::from(row % 97 == 5));
        let sparse = |row: u32| i64::from(row % 263) * 1_000_000_000_000_007 % (i64::MAX / 2);
        for ids in [&dense as &dyn Fn(u32) -> i64, &sparse] {
            let directory = tempfile::tempdir().unwrap();
            let rows = record(directory.path(), ids);
            let experiment = Experiment::open(directory.path()).unwrap();
            let mut options = ScoreOptions::default();
            options.scores = vec![
                ScoreRequest::signal(Signal::Margin).at(At::EveryEpoch),
                Score::Aum.into(),
                Score::Forgetting.into(),
                Score::Presentations.into(),
                Score::CartographyCorrectness.into(),
            ];
            let table = ScoreTable::fold(&experiment, &options).unwrap();
            assert!(rows.keys().eq(table.examples()) && rows.len() > 250);
            let column = |name: &str| {
                table.statistics().iter().find(|score| score.name == name).unwrap().mean.clone()
            };
            let same = |name: &str, value: &dyn Fn(&[(u32, f32, bool)]) -> f64| {
                let expected: Vec<u64> = rows.values().map(|rows| value(rows).to_bits()).collect();
                let got: Vec<u64> = column(name).iter().map(|value| value.to_bits()).collect();
                assert_eq!(got, expected, "{name}");
            };
            same("aum", &|rows| mean(rows.iter().map(|row| row.1.into())));
            for epoch in [0, 1, 2, 4] {
                let of_epoch = |rows: &[(u32, f32, bool)]| {
                    let rows = rows.iter().filter(|row| row.0 == epoch);
                    let mean = mean(rows.map(|row| row.1.into()));
                    if mean.is_nan() { f64::NAN } else { mean }
                };
                same(&format!("margin_train_epoch_{epoch}"), &of_epoch);
            }
            same("presentations", &|rows| rows.len() as f64);
            same("cartography_correctness", &|rows| mean(rows.iter().map(|row| row.2.into())));
            let most = rows.values().map(Vec::len).max().unwrap() as f64;
            same("forgetting", &|rows| {
                let events = rows.windows(2).filter(|pair| pair[0].2 && !pair[1].2).count();
                if rows.iter().any(|row| row.2) { events as f64 } else { most }
            });
        }
    }
}
