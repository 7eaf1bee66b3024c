//! A place for every distinct example id, in the order in which ids are first seen.

use std::collections::HashMap;

/// Ids that are near-dense row numbers are found by one array access, all others by hashing; memory
/// is proportional to the number of distinct ids in any case.
#[derive(Debug, Default)]
pub(crate) struct ExampleIndex {
    ids: Vec<i64>,
    labels: Vec<i32>,
    /// The place plus one of each small id; 0 for none.
    dense: Vec<u32>,
    sparse: HashMap<i64, u32>,
}

impl ExampleIndex {
    /// How many array entries an id may cost before it is hashed.
    const SPREAD: usize = 8;
    const FREE: usize = 1 << 16;

    /// Room for ids `0..examples`, where a run has declared them.
    pub(crate) fn expect(&mut self, examples: u64) {
        if let Ok(examples) = usize::try_from(examples)
            && u32::try_from(examples).is_ok()
            && examples > self.dense.len()
        {
            self.dense.resize(examples, 0);
        }
    }

    /// The place of an id, made if it is new. The first label of an id is the one that is kept.
    pub(crate) fn place(&mut self, id: i64, label: i32) -> usize {
        let small = usize::try_from(id).unwrap_or(usize::MAX);
        match self.dense.get(small) {
            Some(&place) if place > 0 => return place as usize - 1,
            _ => {}
        }
        if !self.sparse.is_empty()
            && let Some(&place) = self.sparse.get(&id)
        {
            return place as usize;
        }
        let place = self.ids.len();
        if small < Self::FREE.max(self.ids.len() * Self::SPREAD).max(self.dense.len()) {
            if small >= self.dense.len() {
                self.dense.resize(small + 1, 0);
            }
            self.dense[small] = place as u32 + 1;
        } else {
            self.sparse.insert(id, place as u32);
        }
        self.ids.push(id);
        self.labels.push(label);
        place
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The places in ascending order of id.
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        order.sort_unstable_by_key(|&place| self.ids[place]);
        order
    }

    pub(crate) fn ids(&self) -> &[i64] {
        &self.ids
    }

    pub(crate) fn labels(&self) -> &[i32] {
        &self.labels
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_are_those_of_a_map(
            ids in prop::collection::vec(prop_oneof![0..300_i64, 60_000..70_000_i64, 0..i64::MAX], 0..400),
            expected in 0_u64..1000,
        ) {
            let mut index = ExampleIndex::default();
            index.expect(expected);
            let mut reference = HashMap::new();
            for &id in &ids {
                let next = reference.len();
                let place = *reference.entry(id).or_insert(next);
                prop_assert_eq!(index.place(id, 1), place);
            }
            prop_assert_eq!(index.len(), reference.len());
        }
    }
}
