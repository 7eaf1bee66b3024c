//! Notices examples whose label changes while a run is recorded.
//!
//! Ids that count positions while the loader shuffles look like ids: every file is sound, and every score
//! is noise. They show in one thing: an example then has another label in the next epoch.

use std::collections::HashMap;

use crate::observe::{Batch, TargetForm};
use crate::run::LabelCounts;

/// The first label of each example.
#[derive(Debug, Default)]
pub(super) struct FirstLabels {
    /// Of small ids, by id.
    dense: Vec<i32>,
    sparse: HashMap<i64, i32>,
    counts: LabelCounts,
}

/// Of an example that has not come yet.
const UNSEEN: i32 = -1;
/// Of an example that is already counted.
const CHANGED: i32 = -2;
/// Ids below this are looked up in the vector, however few there are.
const FREE: usize = 1 << 16;
/// The entries of the vector that an id may cost.
const SPREAD: u64 = 8;

impl FirstLabels {
    /// Compares the labels of a batch with those before. Soft targets may change, as mixup changes them;
    /// they are left out.
    pub(super) fn compare(&mut self, batch: &Batch) {
        if batch.targets() != Some(TargetForm::Classes) {
            return;
        }
        for (&example, &label) in batch.examples.iter().zip(&batch.labels) {
            // No class, of sequences.
            if label >= 0 {
                self.add(example, label);
            }
        }
    }

    fn add(&mut self, example: i64, label: i32) {
        let most = (self.counts.examples * SPREAD).max(FREE as u64);
        let small = usize::try_from(example).ok().filter(|&id| {
            id < self.dense.len() || (id as u64) < most && !self.sparse.contains_key(&example)
        });
        let first = if let Some(id) = small {
            if id >= self.dense.len() {
                self.dense.resize((id + 1).next_power_of_two(), UNSEEN);
            }
            // A small id that came while the vector was short.
            if self.dense[id] == UNSEEN
                && let Some(first) = self.sparse.remove(&example)
            {
                self.dense[id] = first;
            }
            &mut self.dense[id]
        } else {
            self.sparse.entry(example).or_insert(UNSEEN)
        };
        if *first == UNSEEN {
            *first = label;
            self.counts.examples += 1;
        } else if *first != label && *first != CHANGED {
            *first = CHANGED;
            self.counts.changed += 1;
        }
    }

    /// Returns how many examples had a label, and how many of them another one later.
    pub(super) fn counts(&self) -> LabelCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn examples_are_counted_once_as_by_a_map(
            rows in prop::collection::vec(
                (
                    prop_oneof![0..40_i64, 60_000..70_000_i64, 500_000..500_040_i64, Just(i64::MAX)],
                    0..3_i32,
                ),
                0..400,
            ),
        ) {
            let mut labels = FirstLabels::default();
            let mut all: BTreeMap<i64, Vec<i32>> = BTreeMap::new();
            for (example, label) in rows {
                labels.add(example, label);
                all.entry(example).or_default().push(label);
            }
            let changed = all.values().filter(|labels| labels.iter().any(|label| *label != labels[0])).count();
            let expected = LabelCounts { examples: all.len() as u64, changed: changed as u64 };
            prop_assert_eq!(labels.counts(), expected);
        }
    }
}
