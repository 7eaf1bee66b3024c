//! Shuffled batches that know which examples they hold, for loops over tensors whose rows are the examples.
//! Loads no data: the caller takes the rows of its own tensors. The order of an epoch is the core's.

use candle_core::{Device, Tensor};
use data_diet::selection::shuffle_for_epoch;

use crate::error::{Error, Result};

/// Rows of a data set in a new random order every epoch. Its batches hold the row numbers, which are the ids
/// for the hook and the indices for `index_select`, so that an id always belongs to its example.
///
/// The order depends on seed and epoch only: a resumed run sees the same batches again, and
/// `.batches(size)?.skip(n)` goes on within an epoch.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use data_diet_candle::{DataDietHook, Shuffled};
///
/// # fn main() -> candle_core::Result<()> {
/// # let directory = tempfile::tempdir()?;
/// # let experiment = directory.path().join("runs/toy");
/// let device = Device::Cpu;
/// let images = Tensor::randn(0.0_f32, 1.0, (64, 3), &device)?;
/// let labels = Tensor::zeros(64, candle_core::DType::U32, &device)?;
/// let order = Shuffled::new(64, 7);
///
/// let mut hook = DataDietHook::builder(&experiment, "seed-7").classes(3).seed(7).build()?;
/// for epoch in 0..2 {
///     for batch in order.epoch(epoch).batches(16)? {
///         let rows = batch.indices(&device)?;
///         let (images, labels) = (images.index_select(&rows, 0)?, labels.index_select(&rows, 0)?);
///         let logits = images; // of your model, followed by the optimizer's step
///         hook.on_step_end(batch.ids(), &logits, &labels)?;
///     }
///     hook.on_epoch_end()?;
/// }
/// # assert_eq!(hook.finish()?.rows.written, 128);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Shuffled {
    rows: Vec<i64>,
    seed: u64,
}

impl Shuffled {
    /// Takes all rows of a data set of so many examples: `0..examples`.
    #[must_use]
    pub fn new(examples: usize, seed: u64) -> Self {
        Self::of_rows(0..examples as i64, seed)
    }

    /// Takes some rows of a data set, such as those that a
    /// [`Selection`](data_diet::selection::Selection) keeps. They keep their numbers, and so their ids. A row
    /// that is given twice comes twice in every epoch.
    ///
    /// ```
    /// # use data_diet::{Amount, Rule, selection::ScoreColumn};
    /// # use data_diet_candle::Shuffled;
    /// # let el2n = ScoreColumn::new(vec![0, 1, 2, 3], vec![0; 4], vec![0.9, 0.1, 0.4, 0.2]).unwrap();
    /// let hard = el2n.select(Rule::Highest(Amount::Count(2)))?;
    /// let order = Shuffled::of_rows(hard.examples(), 7);
    /// # assert_eq!(order.len(), 2);
    /// # Ok::<(), data_diet::Error>(())
    /// ```
    #[must_use]
    pub fn of_rows(rows: impl IntoIterator<Item = i64>, seed: u64) -> Self {
        Self { rows: rows.into_iter().collect(), seed }
    }

    /// Returns the number of rows in an epoch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the rows in the order of an epoch.
    #[must_use]
    pub fn epoch(&self, epoch: u32) -> ShuffledEpoch {
        let mut rows = self.rows.clone();
        shuffle_for_epoch(&mut rows, self.seed, epoch);
        ShuffledEpoch { rows }
    }
}

/// The rows of a data set in the order of one epoch.
#[derive(Clone, Debug)]
pub struct ShuffledEpoch {
    rows: Vec<i64>,
}

impl ShuffledEpoch {
    /// Returns the row numbers in this order.
    #[must_use]
    pub fn rows(&self) -> &[i64] {
        &self.rows
    }

    /// Cuts the epoch into batches of `size` rows; the last one may be smaller.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if `size` is 0.
    pub fn batches(self, size: usize) -> Result<ShuffledBatches> {
        if size == 0 {
            let message = "size: expected at least 1 row in a batch, got 0".to_owned();
            return Err(Error::Argument(message));
        }
        Ok(ShuffledBatches { rows: self.rows, next: 0, size })
    }
}

/// An iterator over the batches of one epoch.
#[derive(Clone, Debug)]
pub struct ShuffledBatches {
    rows: Vec<i64>,
    next: usize,
    size: usize,
}

impl Iterator for ShuffledBatches {
    type Item = ShuffledBatch;

    fn next(&mut self) -> Option<ShuffledBatch> {
        let rows = self.rows[self.next..].chunks(self.size).next()?.to_vec();
        self.next += rows.len();
        Some(ShuffledBatch { rows })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.rows.len() - self.next).div_ceil(self.size);
        (left, Some(left))
    }
}

impl ExactSizeIterator for ShuffledBatches {}

/// The row numbers of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShuffledBatch {
    rows: Vec<i64>,
}

impl ShuffledBatch {
    /// Returns the ids for the hook: the row numbers, in the order of the batch.
    #[must_use]
    pub fn ids(&self) -> &[i64] {
        &self.rows
    }

    /// Returns the row numbers as a tensor `[batch]` of `i64`, for `index_select` on tensors of that device.
    ///
    /// # Errors
    ///
    /// [`Error::Candle`] if the device fails.
    pub fn indices(&self, device: &Device) -> Result<Tensor> {
        Tensor::from_slice(&self.rows, self.rows.len(), device).map_err(Error::Candle)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the test reads what it has computed on the host")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(examples: usize, seed: u64, epoch: u32) -> Vec<i64> {
        Shuffled::new(examples, seed).epoch(epoch).rows().to_vec()
    }

    /// From a few lines of Python: `SplitMix64` as published, Fisher and Yates from the front. A run that is
    /// resumed with a later version must see the same order.
    #[test]
    fn the_order_of_a_seed_never_changes() {
        assert_eq!(order(10, 7, 0), [6, 5, 3, 7, 8, 4, 2, 1, 0, 9]);
        assert_eq!(order(10, 7, 1), [2, 9, 0, 1, 6, 4, 3, 5, 8, 7]);
        assert_eq!(order(10, 8, 0), [4, 7, 8, 0, 6, 9, 2, 1, 3, 5]);
    }

    #[test]
    fn batches_of_no_rows_are_refused() {
        let error = Shuffled::new(3, 0).epoch(0).batches(0).unwrap_err();
        assert_eq!(error.to_string(), "size: expected at least 1 row in a batch, got 0");
        assert_eq!(Shuffled::new(0, 0).epoch(0).batches(4).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn an_epoch_has_every_row_once_in_batches_of_the_size(
            rows in prop::collection::btree_set(0..1_000_i64, 0..90),
            seed: u64,
            epoch: u32,
            size in 1..40_usize,
        ) {
            let shuffled = Shuffled::of_rows(rows.iter().copied(), seed);
            let batches = shuffled.epoch(epoch).batches(size).unwrap();
            prop_assert_eq!(batches.len(), rows.len().div_ceil(size));
            let batches: Vec<ShuffledBatch> = batches.collect();
            for batch in batches.iter().rev().skip(1) {
                prop_assert_eq!(batch.ids().len(), size);
            }
            for batch in &batches {
                let indices = batch.indices(&Device::Cpu).unwrap();
                prop_assert_eq!(indices.to_vec1::<i64>().unwrap(), batch.ids());
            }
            let mut ids: Vec<i64> = batches.iter().flat_map(ShuffledBatch::ids).copied().collect();
            let again = shuffled.epoch(epoch);
            prop_assert_eq!(&ids, again.rows(), "the same seed and epoch, the same order");
            ids.sort_unstable();
            prop_assert_eq!(ids, rows.into_iter().collect::<Vec<_>>());
        }

        // Of 40! orders two are the same by chance once in 10^47.
        #[test]
        fn epochs_and_seeds_differ_in_order(seed: u64, other: u64, epoch: u32, later: u32) {
            prop_assume!(seed != other && epoch != later);
            let first = order(40, seed, epoch);
            prop_assert_ne!(&first, &order(40, seed, later));
            prop_assert_ne!(&first, &order(40, other, epoch));
        }
    }
}
