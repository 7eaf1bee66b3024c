//! Groups rows by example id, so that the slots of a fold stay in the cache.
//!
//! The rows of an epoch come in random order, so each would fetch its slot from main memory. Sorted
//! into buckets of neighboring ids, over several row groups at once, the slots of one bucket stay
//! in the cache until all its rows are done. The sort is stable and an example is in one bucket
//! only, so its rows keep their order and sums are the same to the bit.

use std::ops::Range;

/// How ids are divided into buckets; the same for all row groups of a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets {
    shift: u32,
}

impl Buckets {
    const NUMBER: usize = 64;
    /// The slots of fewer examples fit in the cache anyway.
    const MIN_EXAMPLES: usize = if cfg!(test) { 50 } else { 100_000 };

    /// Makes buckets for about this many examples with ids up to `last`. Returns `None` where they
    /// would not pay.
    pub(super) fn new(examples: usize, last: i64) -> Option<Self> {
        let bits = 64 - last.max(0).leading_zeros();
        let shift = bits.saturating_sub(Self::NUMBER.ilog2());
        (examples >= Self::MIN_EXAMPLES).then_some(Self { shift })
    }

    fn of(self, id: i64) -> usize {
        // Ids are not negative. An id above `last` goes into the last bucket.
        ((id as u64 >> self.shift) as usize).min(Self::NUMBER - 1)
    }

    /// Returns where each row goes, and the rows of each bucket.
    pub(super) fn sort(self, ids: &[i64]) -> BucketOrder {
        let mut ends = [0_u32; Self::NUMBER];
        for &id in ids {
            ends[self.of(id)] += 1;
        }
        let mut next = 0;
        let ranges = ends.iter_mut().map(|end| {
            let start = next;
            next += *end;
            *end = start;
            start as usize..next as usize
        });
        let ranges = ranges.collect();
        let place = |&id: &i64| {
            let end = &mut ends[self.of(id)];
            *end += 1;
            *end - 1
        };
        BucketOrder { places: ids.iter().map(place).collect(), ranges }
    }
}

/// A stable order of rows by bucket.
#[derive(Debug)]
pub(super) struct BucketOrder {
    /// Where each row goes.
    pub(super) places: Vec<u32>,
    /// The rows of each bucket.
    pub(super) ranges: Vec<Range<usize>>,
}

impl BucketOrder {
    /// Returns the values of a column in this order.
    pub(super) fn scatter<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        let mut scattered = vec![T::default(); values.len()];
        for (&place, &value) in self.places.iter().zip(values) {
            if let Some(slot) = scattered.get_mut(place as usize) {
                *slot = value;
            }
        }
        scattered
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn buckets_ascend_and_keep_the_order_within(
            ids in prop::collection::vec(prop_oneof![0..1000_i64, 0..i64::MAX], 0..300),
            told: i64,
        ) {
            let last = if told % 2 == 0 { told } else { ids.iter().copied().max().unwrap_or(0) };
            let buckets = Buckets::new(Buckets::MIN_EXAMPLES, last).unwrap();
            let sorted = buckets.sort(&ids);
            let mut expected: Vec<(usize, usize)> =
                ids.iter().map(|&id| buckets.of(id)).zip(0..).collect();
            expected.sort_unstable();
            let rows: Vec<usize> = (0..ids.len()).collect();
            let by_hand: Vec<usize> = expected.iter().map(|&(_, row)| row).collect();
            prop_assert_eq!(sorted.scatter(&rows), by_hand);
            for (bucket, range) in sorted.ranges.iter().enumerate() {
                prop_assert!(expected[range.clone()].iter().all(|&(of, _)| of == bucket));
            }
            prop_assert_eq!(sorted.ranges.last().map(|range| range.end), Some(ids.len()));
        }
    }

    #[test]
    fn row_numbers_fill_the_buckets_evenly_and_few_examples_get_none() {
        let buckets = Buckets::new(1 << 20, (1 << 20) - 1).unwrap();
        let ids: Vec<i64> = (0..1 << 20).collect();
        assert!(buckets.sort(&ids).ranges.iter().all(|range| range.len() == 1 << 14));
        assert!(Buckets::new(Buckets::MIN_EXAMPLES - 1, 999).is_none());
    }
}
