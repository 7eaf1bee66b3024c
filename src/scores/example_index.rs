//! Assigns a place to every distinct example id.

use std::collections::HashMap;

use crate::error::{Error, Result};

/// Places are assigned in the order in which ids are first seen, until [`settle`](Self::settle)
/// sorts the existing ones. Row numbers `0..n` then need no look-up at all, other small ids cost
/// one array access, and all others a hash look-up. Memory is proportional to the number of
/// distinct ids in any case.
#[derive(Debug, Default)]
pub(super) struct ExampleIndex {
    ids: Vec<i64>,
    labels: Vec<i32>,
    /// Ids below this are their own places.
    own: usize,
    /// The place plus one of every other small id; 0 for none.
    dense: Vec<u32>,
    sparse: HashMap<i64, u32>,
    /// Whether places are in ascending order of id.
    sorted: bool,
}

impl ExampleIndex {
    /// The number of array entries that an id may cost before it is hashed.
    const SPREAD: usize = 8;
    const FREE: usize = 1 << 16;

    pub(super) fn new() -> Self {
        Self { sorted: true, ..Self::default() }
    }

    /// Makes room for ids `0..examples`, where a run has declared them.
    pub(super) fn expect(&mut self, examples: u64) {
        if let Ok(examples) = usize::try_from(examples)
            && u32::try_from(examples).is_ok()
            && examples > self.dense.len()
        {
            self.dense.resize(examples, 0);
        }
    }

    /// Appends the places of some ids to `places`. A new id gets the next place and its label;
    /// `labels` is called only then, and returns the labels of all these ids.
    pub(super) fn places<'a>(
        &mut self,
        ids: &[i64],
        mut labels: impl FnMut() -> Result<&'a [i32]>,
        places: &mut Vec<u32>,
    ) -> Result<()> {
        let own = self.own as u64;
        // Not `all`, which stops at the first miss and so cannot be vectorized.
        if ids.iter().filter(|&&id| id as u64 >= own).count() == 0 {
            places.extend(ids.iter().map(|&id| id as u32));
            return Ok(());
        }
        places.reserve(ids.len());
        for (row, &id) in ids.iter().enumerate() {
            let place = match self.find(id) {
                Some(place) => place,
                None => self.insert(id, labels()?.get(row).copied().unwrap_or_default())?,
            };
            places.push(place);
        }
        Ok(())
    }

    fn find(&self, id: i64) -> Option<u32> {
        let small = usize::try_from(id).unwrap_or(usize::MAX);
        if small < self.own {
            return Some(small as u32);
        }
        match self.dense.get(small) {
            Some(&place) if place > 0 => return Some(place - 1),
            _ => {}
        }
        if self.sparse.is_empty() { None } else { self.sparse.get(&id).copied() }
    }

    fn insert(&mut self, id: i64, label: i32) -> Result<u32> {
        let place = u32::try_from(self.ids.len()).ok().filter(|&place| place < u32::MAX);
        let place = place.ok_or_else(|| {
            Error::invalid(format!("examples: expected fewer than {} distinct ones", u32::MAX))
        })?;
        self.sorted &= self.ids.last().is_none_or(|&last| last < id);
        self.ids.push(id);
        self.labels.push(label);
        self.enter(id, place);
        Ok(place)
    }

    /// Makes an id's place findable.
    fn enter(&mut self, id: i64, place: u32) {
        let small = usize::try_from(id).unwrap_or(usize::MAX);
        if small == place as usize && self.own == small {
            self.own += 1;
        } else if small < Self::FREE.max(self.ids.len() * Self::SPREAD).max(self.dense.len()) {
            if small >= self.dense.len() {
                self.dense.resize(small + 1, 0);
            }
            self.dense[small] = place + 1;
        } else {
            self.sparse.insert(id, place);
        }
    }

    /// Sorts the places by id. Returns the old place of each new one, or `None` if nothing has moved.
    pub(super) fn settle(&mut self) -> Option<Vec<u32>> {
        if self.sorted {
            return None;
        }
        let from = self.order();
        self.ids = from.iter().map(|&place| self.ids[place as usize]).collect();
        self.labels = from.iter().map(|&place| self.labels[place as usize]).collect();
        (self.own, self.dense, self.sparse, self.sorted) = (0, Vec::new(), HashMap::new(), true);
        for place in 0..self.ids.len() {
            self.enter(self.ids[place], place as u32);
        }
        Some(from)
    }

    /// Returns the label with which an example was first seen.
    pub(super) fn label(&self, place: u32) -> Option<i32> {
        self.labels.get(place as usize).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Returns whether places are in ascending order of id.
    pub(super) fn is_sorted(&self) -> bool {
        self.sorted
    }

    /// Returns the places in ascending order of id.
    pub(super) fn order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.ids.len() as u32).collect();
        order.sort_unstable_by_key(|&place| self.ids[place as usize]);
        order
    }

    /// Returns the ids and labels, by place.
    pub(super) fn into_keys(self) -> (Vec<i64>, Vec<i32>) {
        (self.ids, self.labels)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Dense ids in order, dense ids in any order, ids at the bounds, and hashes.
    fn ids() -> impl Strategy<Value = Vec<i64>> {
        let id = prop_oneof![0..300_i64, 60_000..70_000_i64, 0..i64::MAX];
        let row_numbers = (0..300_i64).prop_map(|count| (0..count).collect::<Vec<_>>());
        let shuffled = row_numbers.clone().prop_shuffle();
        prop_oneof![prop::collection::vec(id, 0..400), row_numbers, shuffled]
    }

    proptest! {
        #[test]
        fn places_are_those_of_a_map(
            (first, second, third) in (ids(), ids(), ids()),
            expected in 0_u64..1000,
        ) {
            let mut index = ExampleIndex::new();
            index.expect(expected);
            let mut reference: HashMap<i64, u32> = HashMap::new();
            let look_up = |index: &mut ExampleIndex, reference: &mut HashMap<i64, u32>, ids: &[i64]| {
                let labels: Vec<i32> = ids.iter().map(|id| (id % 10) as i32).collect();
                let mut places = Vec::new();
                index.places(ids, || Ok(&labels), &mut places).unwrap();
                for (&id, &place) in ids.iter().zip(&places) {
                    let next = reference.len() as u32;
                    assert_eq!(place, *reference.entry(id).or_insert(next));
                }
                assert_eq!(index.len(), reference.len());
            };
            look_up(&mut index, &mut reference, &first);
            look_up(&mut index, &mut reference, &second);
            let mut sorted: Vec<i64> = reference.keys().copied().collect();
            sorted.sort_unstable();
            if let Some(from) = index.settle() {
                let moved = |new: usize| (sorted[new], new as u32);
                for (new, old) in from.iter().enumerate() {
                    prop_assert_eq!(reference[&sorted[new]], *old);
                }
                reference = (0..sorted.len()).map(moved).collect();
            }
            prop_assert!(index.is_sorted());
            look_up(&mut index, &mut reference, &third);
            look_up(&mut index, &mut reference, &first);
            prop_assert_eq!(index.is_sorted(), index.ids.is_sorted());
            let ordered: Vec<i64> =
                index.order().iter().map(|&place| index.ids[place as usize]).collect();
            prop_assert!(ordered.is_sorted());
            let (ids, labels) = index.into_keys();
            prop_assert!(ids.iter().zip(&labels).all(|(id, &label)| (id % 10) as i32 == label));
        }
    }

    #[test]
    fn row_numbers_need_no_table_once_they_are_settled() {
        let mut index = ExampleIndex::new();
        let ids: Vec<i64> = (0..1000).map(|row| row * 7 % 1000).collect();
        index.places(&ids, || Ok(&[]), &mut Vec::new()).unwrap();
        assert!(index.own < 1000);
        assert!(index.settle().is_some() && index.settle().is_none());
        assert_eq!((index.own, index.dense.len(), index.sparse.len()), (1000, 0, 0));
    }
}
