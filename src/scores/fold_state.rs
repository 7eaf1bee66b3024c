//! What a fold knows about the examples while it reads run after run, whichever scores are asked
//! for.

use super::accumulate::{SKIPPED, Slots};
use super::catalogue::RecordedRun;
use super::column_sink::Keys;
use super::example_index::ExampleIndex;
use crate::observe::TargetForm;

/// What is known about the examples so far.
pub(super) struct FoldState {
    pub(super) index: ExampleIndex,
    /// In how many of the earlier runs each example was seen.
    runs: Vec<i32>,
    /// Whether this run has seen each example.
    seen: Vec<bool>,
    pub(super) number_seen: usize,
    settled: bool,
    /// The rows in the span of each column, whether or not they count; one per run for scores of the train
    /// phase.
    pub(super) rows: Vec<u64>,
    /// Observations left out of a mean because their value is not finite.
    pub(super) non_finite: u64,
    /// Observations left out because another rank had the example in the same epoch.
    pub(super) repeated: u64,
    labels: LabelComparison,
    /// Whether each example had another label in an earlier run.
    relabeled: Vec<bool>,
}

/// Whether a run's labels have been compared with those of earlier runs. One epoch of each run is, since
/// decoding labels takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LabelComparison {
    /// Some labels are no classes, which an example would have in every run.
    Never,
    FirstRun,
    Due,
    UnderWay,
    Done,
}

impl LabelComparison {
    fn new(runs: &[RecordedRun]) -> Self {
        let has_classes = runs.iter().all(|run| run.run.targets() == Some(TargetForm::Classes));
        if has_classes { Self::FirstRun } else { Self::Never }
    }
}

impl FoldState {
    pub(super) fn new(runs: &[RecordedRun], columns: usize) -> Self {
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
            labels: LabelComparison::new(runs),
            relabeled: Vec::new(),
        }
    }

    /// Returns whether the labels of the rows that come now are to be compared with those of earlier
    /// runs: of the first epoch that is read of a run, since decoding them takes time.
    pub(super) fn compares_labels(&self) -> bool {
        matches!(self.labels, LabelComparison::Due | LabelComparison::UnderWay)
    }

    /// Compares the labels of some rows with those of earlier runs.
    pub(super) fn compare_labels(&mut self, places: &[u32], labels: &[i32]) {
        self.labels = LabelComparison::UnderWay;
        self.relabeled.grow(self.index.len());
        for (&place, &label) in places.iter().zip(labels) {
            // A row that does not count has no such place.
            if self.index.label(place).is_some_and(|first| first != label) {
                self.relabeled[place as usize] = true;
            }
        }
    }

    /// Ends an epoch of a pass.
    pub(super) fn end_epoch(&mut self) {
        if self.labels == LabelComparison::UnderWay {
            self.labels = LabelComparison::Done;
        }
    }

    /// Returns the number of examples that have not the same label in all runs.
    pub(super) fn relabeled(&self) -> u64 {
        self.relabeled.iter().filter(|&&relabeled| relabeled).count() as u64
    }

    /// Marks these examples as seen by this run.
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

    /// Returns whether the places are sorted and most examples known.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Sorts the places by id, once. Returns the old place of each new one, or `None` if nothing
    /// moved.
    pub(super) fn settle(&mut self) -> Option<Vec<u32>> {
        if self.settled || self.index.len() == 0 {
            return None;
        }
        self.settled = true;
        let from = self.index.settle()?;
        self.seen.reorder(&from);
        self.runs.reorder(&from);
        self.relabeled.reorder(&from);
        Some(from)
    }

    pub(super) fn end_run(&mut self) {
        self.runs.grow(self.index.len());
        for (runs, seen) in self.runs.iter_mut().zip(&mut self.seen) {
            *runs += i32::from(std::mem::take(seen));
        }
        // What a run without rows has not shown cannot be compared.
        let has_shown = self.number_seen > 0 || self.labels != LabelComparison::FirstRun;
        if self.labels != LabelComparison::Never && has_shown {
            self.labels = LabelComparison::Due;
        }
        self.number_seen = 0;
    }

    /// Returns the examples in ascending order of id, once all runs have been read. `with_rows` is
    /// the number of runs that had rows.
    pub(super) fn into_examples(self, with_rows: i32) -> FoldedExamples {
        // Rows of a second rank can contain examples that no score has a row of.
        let is_whole = self.index.is_sorted() && self.runs.iter().all(|&runs| runs > 0);
        let order = (!is_whole).then(|| {
            let mut order = self.index.order();
            order.retain(|&place| self.runs[place as usize] > 0);
            order
        });
        let partial = self.runs.iter().filter(|&&runs| 0 < runs && runs < with_rows).count();
        let (examples, labels) = self.index.into_keys();
        let keys = Keys { examples, labels, runs: self.runs }.in_order(order.as_deref());
        FoldedExamples { order, keys, partial: partial as u64 }
    }
}

/// The examples that a fold has seen.
pub(super) struct FoldedExamples {
    /// Their places in ascending order of id; `None` if they are in that order.
    pub(super) order: Option<Vec<u32>>,
    pub(super) keys: Keys,
    /// The number of examples that some of the runs have not seen.
    pub(super) partial: u64,
}
