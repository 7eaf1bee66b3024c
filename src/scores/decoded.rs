//! Row groups that a pass reads: chosen by their footer, decoded, and sorted if that pays.

use std::cell::OnceCell;
use std::ops::Range;

use super::buckets::{BucketOrder, Buckets};
use super::catalogue::Group;
use super::derived_columns::{LogitsRows, confidence_of_losses};
use super::run_table::RunTable;
use super::score::Span;
use super::signal_source::SignalSource;
use crate::error::{Error, Result};
use crate::observe::Signal;
use crate::run::{Bits, RowGroup, RowGroupOutline};

/// A row group to decode.
pub(super) struct Task {
    pub(super) rank: usize,
    pub(super) group: Group,
    /// Where each of the pass's columns comes from, if it is needed and there is one.
    pub(super) columns: Vec<Option<SignalSource>>,
    /// The rows of logits that belong to this row group, if a column comes from them.
    pub(super) logits: Option<LogitsRows>,
    pub(super) steps: bool,
    pub(super) buckets: Option<Buckets>,
}

/// A decoded row group.
pub(super) struct DecodedRowGroup {
    pub(super) rank: usize,
    group: RowGroup,
    pub(super) epochs: Moments<i32>,
    steps: Moments<i64>,
    pub(super) examples: Vec<i64>,
    labels: OnceCell<Vec<i32>>,
    pub(super) correct: Bits,
    columns: Vec<Vec<f32>>,
    /// If rows are not in the order in which they were recorded; all of them are of one epoch then.
    pub(super) sorted: Option<BucketOrder>,
}

/// When rows were recorded, in ascending order.
pub(super) enum Moments<T> {
    /// All rows at one moment, or at moments that do not matter.
    One(T),
    Each(Vec<T>),
}

impl<T: Copy + PartialOrd> Moments<T> {
    /// Returns the rows of `within` from `first` to `last`.
    pub(super) fn rows(&self, within: &Range<usize>, first: T, last: T) -> Range<usize> {
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
    pub(super) fn decode(
        &self,
        source: RunTable,
        names: &[&'static str],
        bits: bool,
    ) -> Result<DecodedRowGroup> {
        let RowGroupOutline { epochs, steps, .. } = &self.group.outline;
        let path = || self.group.part.path();
        let group = self.group.part.row_group(self.group.index)?;
        let group = group.ok_or_else(|| Error::corrupt(path(), "a row group is missing"))?;
        let fall = |what: &str| {
            Error::corrupt(
                path(),
                format!("{what} are not in ascending order in {}", source.name()),
            )
        };
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
        let mut correct = if bits { group.bits("correct")? } else { Bits::default() };
        let wanted = names.iter().zip(&self.columns);
        let column = |(name, source): (&&str, &Option<SignalSource>)| match source {
            Some(SignalSource::Recorded) => group.float32(name),
            Some(SignalSource::Loss) => {
                Ok(confidence_of_losses(&group.float32(Signal::Loss.name())?))
            }
            // Below, all of them at once.
            Some(SignalSource::Logits | SignalSource::TopLogits) | None => Ok(Vec::new()),
        };
        let mut columns = wanted.map(column).collect::<Result<Vec<_>>>()?;
        if let Some(logits) = &self.logits {
            let signals = self.signals_of_logits(names);
            let steps = group.int64("step")?;
            let places: Vec<Signal> = signals.iter().map(|(_, signal)| *signal).collect();
            let derived = logits.signals(&steps, &examples, &places)?;
            for ((place, _), values) in signals.into_iter().zip(derived) {
                columns[place] = values;
            }
        }
        let sorted = self.buckets.map(|buckets| buckets.sort(&examples));
        if let Some(sorted) = &sorted {
            examples = sorted.scatter(&examples);
            correct = correct.scattered(&sorted.places);
            for column in columns.iter_mut().filter(|column| !column.is_empty()) {
                *column = sorted.scatter(column);
            }
        }
        let (rank, labels) = (self.rank, OnceCell::new());
        Ok(DecodedRowGroup {
            rank,
            group,
            epochs,
            steps,
            examples,
            labels,
            correct,
            columns,
            sorted,
        })
    }

    /// Returns the columns that come from logits: their places, and their signals.
    fn signals_of_logits(&self, names: &[&'static str]) -> Vec<(usize, Signal)> {
        let columns = names.iter().zip(&self.columns).enumerate();
        let columns =
            columns.filter(|(_, (_, source))| source.is_some_and(SignalSource::is_of_logits));
        let signal = |name: &str| Signal::ALL.into_iter().find(|signal| signal.name() == name);
        columns.filter_map(|(place, (name, _))| Some((place, signal(name)?))).collect()
    }
}

impl DecodedRowGroup {
    pub(super) fn rows(&self) -> usize {
        self.examples.len()
    }

    pub(super) fn values(&self, column: usize, rows: &Range<usize>) -> &[f32] {
        self.columns[column].get(rows.clone()).unwrap_or_default()
    }

    /// Decodes the labels, which are needed only where an example is new.
    pub(super) fn labels(&self, rows: &Range<usize>) -> Result<&[i32]> {
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

    /// Returns the rows of a span among rows of one epoch.
    pub(super) fn rows_of(&self, span: Span, rows: &Range<usize>, epoch: u32) -> Range<usize> {
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

/// Returns whether a row group may hold rows of a span.
pub(super) fn overlaps(outline: &RowGroupOutline, span: Span) -> bool {
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
