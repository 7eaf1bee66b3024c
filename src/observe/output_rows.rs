//! The outputs of a model where they lie in memory: rows of numbers, read a block at a time.
//!
//! A batch of a language model can take a gigabyte (128,000 classes times 2,048 tokens), so nothing
//! here copies it: a row that is contiguous single or double precision is borrowed, and others are
//! gathered into a few megabytes of scratch memory.

use std::ops::Range;
use std::thread;

use half::{bf16, f16};

use crate::error::{Error, Result};

/// A floating-point number that a model may put out: `f32`, `f64`, `f16` or `bf16`.
pub trait Float: Copy + Into<f64> + Send + Sync + sealed::Sealed + 'static {
    /// Whether `f32` holds every value of this type.
    #[doc(hidden)]
    const IS_SINGLE: bool;
    /// The type in which rows are read: `f32`, or `f64` for `f64`.
    #[doc(hidden)]
    type Wide: Float<Wide = Self::Wide>;
    #[doc(hidden)]
    const ZERO: Self;
    #[doc(hidden)]
    fn widen(self) -> Self::Wide;
    /// Returns values that need no widening.
    #[doc(hidden)]
    fn as_wide(values: &[Self]) -> Option<&[Self::Wide]> {
        let _ = values;
        None
    }
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! floats {
    ($($float:ty: $wide:ty, $is_single:literal, $zero:expr, |$value:ident| $widen:expr, |$values:ident| $as_wide:expr;)*) => {$(
        impl sealed::Sealed for $float {}
        impl Float for $float {
            const IS_SINGLE: bool = $is_single;
            const ZERO: Self = $zero;
            type Wide = $wide;
            fn widen(self) -> $wide {
                let $value = self;
                $widen
            }
            fn as_wide($values: &[Self]) -> Option<&[$wide]> {
                $as_wide
            }
        }
    )*};
}
floats!(
    f32: f32, true, 0.0, |value| value, |values| Some(values);
    f64: f64, false, 0.0, |value| value, |values| Some(values);
    f16: f32, true, Self::from_bits(0), |value| value.to_f32(), |_values| None;
    bf16: f32, true, Self::from_bits(0), |value| value.to_f32(), |_values| None;
);

/// Rows of `width` outputs each, anywhere in a slice.
///
/// Rows lie in groups of equal size, such as the tokens of a sequence: row `g * inner + i` begins at
/// `start + g * group_stride + i * row_stride`, and its values are `stride` apart.
#[derive(Clone, Copy, Debug)]
pub struct OutputRows<'a, T> {
    values: &'a [T],
    layout: RowLayout,
}

/// Where the rows of [`OutputRows`] lie, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowLayout {
    /// The first value of the first row.
    pub start: usize,
    /// The number of groups of rows.
    pub groups: usize,
    /// From the first row of a group to that of the next.
    pub group_stride: usize,
    /// The number of rows of a group.
    pub inner: usize,
    /// From a row of a group to the next.
    pub row_stride: usize,
    /// The number of values of a row.
    pub width: usize,
    /// From a value of a row to the next.
    pub stride: usize,
}

impl<'a, T: Float> OutputRows<'a, T> {
    /// Rows of `width` values that follow each other without gaps.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the values are not a whole number of
    /// rows.
    pub fn contiguous(values: &'a [T], width: usize) -> Result<Self> {
        if width == 0 || !values.len().is_multiple_of(width) {
            return Err(Error::invalid(format!(
                "logits: expected rows of {width} values, got {} values",
                values.len()
            )));
        }
        let rows = values.len() / width;
        let layout = RowLayout {
            start: 0,
            groups: 1,
            group_stride: 0,
            inner: rows,
            row_stride: width,
            width,
            stride: 1,
        };
        Ok(Self { values, layout })
    }

    /// Rows in any layout.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if a row reaches beyond the values.
    pub fn strided(values: &'a [T], layout: RowLayout) -> Result<Self> {
        let RowLayout { start, groups, group_stride, inner, row_stride, width, stride } = layout;
        let reach = |count: usize, stride: usize| count.saturating_sub(1).checked_mul(stride);
        let last = || {
            let rows = reach(groups, group_stride)?.checked_add(reach(inner, row_stride)?)?;
            start.checked_add(rows)?.checked_add(reach(width, stride)?)
        };
        let is_empty = groups == 0 || inner == 0 || width == 0;
        if !is_empty && last().is_none_or(|last| last >= values.len()) {
            return Err(Error::invalid(format!(
                "logits: expected rows within {} values, got {layout:?}",
                values.len()
            )));
        }
        Ok(Self { values, layout })
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layout.groups * self.layout.inner
    }

    /// Returns whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of values of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.layout.width
    }

    fn start_of(&self, row: usize) -> usize {
        let RowLayout { start, group_stride, inner, row_stride, .. } = self.layout;
        start + row / inner * group_stride + row % inner * row_stride
    }

    /// Visits some rows in order.
    pub(crate) fn visit(&self, rows: Range<usize>, mut visit: impl FnMut(usize, &[T::Wide])) {
        let RowLayout { width, stride, row_stride, .. } = self.layout;
        if stride == 1 && T::as_wide(&[]).is_some() {
            for row in rows {
                let values = self.values.get(self.start_of(row)..).unwrap_or_default();
                if let Some(values) = T::as_wide(values.get(..width).unwrap_or_default()) {
                    visit(row, values);
                }
            }
            return;
        }
        // Where the values of neighboring rows lie closer than those of a row, as in a transposed
        // tensor, a row alone would touch a cache line for each of its values.
        let most = (SCRATCH_BYTES / (width.max(1) * size_of::<T::Wide>())).clamp(1, 64);
        let block = if row_stride < stride { most } else { 1 };
        let mut scratch: Vec<T::Wide> = Vec::new();
        for first in rows.clone().step_by(block) {
            let count = block.min(rows.end - first);
            scratch.clear();
            if count == 1 {
                let start = self.start_of(first);
                scratch.extend((0..width).map(|k| self.values[start + k * stride].widen()));
            } else {
                let starts: Vec<usize> =
                    (first..first + count).map(|row| self.start_of(row)).collect();
                scratch.resize(count * width, T::Wide::ZERO);
                for k in 0..width {
                    for (row, start) in starts.iter().enumerate() {
                        scratch[row * width + k] = self.values[start + k * stride].widen();
                    }
                }
            }
            for (at, values) in scratch.chunks_exact(width.max(1)).enumerate() {
                visit(first + at, values);
            }
        }
    }

    /// Computes something of each of these rows, which are in ascending order, on several threads if
    /// they are many. Returns the results in the order of the rows.
    pub(crate) fn map<R: Send>(
        &self,
        rows: &[usize],
        compute: impl Fn(usize, &[T::Wide]) -> R + Sync,
    ) -> Vec<R> {
        let run = |rows: &[usize]| {
            let mut results = Vec::with_capacity(rows.len());
            for stretch in rows.chunk_by(|a, b| a + 1 == *b) {
                if let (Some(&first), Some(&last)) = (stretch.first(), stretch.last()) {
                    self.visit(first..last + 1, |row, values| results.push(compute(row, values)));
                }
            }
            results
        };
        let work = rows.len() * self.width();
        let threads = (work / VALUES_PER_THREAD).min(MAX_THREADS);
        let machine = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if threads > 1 { threads.min(machine()) } else { 1 };
        if threads == 1 {
            return run(rows);
        }
        let share = rows.len().div_ceil(threads);
        thread::scope(|scope| {
            let run = &run;
            let parts = rows.chunks(share).map(|rows| scope.spawn(move || run(rows)));
            let parts: Vec<_> = parts.collect();
            let joined = parts.into_iter().map(thread::ScopedJoinHandle::join);
            // A panic of a part goes on here.
            joined
                .flat_map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }
}

/// The bytes of gathered rows, for each thread.
const SCRATCH_BYTES: usize = 2 << 20;
/// Fewer values take less time than starting a thread.
const VALUES_PER_THREAD: usize = 1 << 18;
/// More would wait for memory.
const MAX_THREADS: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The value at an index of the tensor behind a layout.
    fn expected(values: &[f32], layout: RowLayout, row: usize) -> Vec<f32> {
        let RowLayout { start, group_stride, inner, row_stride, width, stride, .. } = layout;
        let (group, within) = (row / inner, row % inner);
        let at = |k| values[start + group * group_stride + within * row_stride + k * stride];
        (0..width).map(at).collect()
    }

    proptest! {
        #[test]
        fn every_layout_reads_the_rows_that_it_describes(
            (groups, inner, width) in (1_usize..4, 1_usize..70, 1_usize..12),
            order in Just([0_usize, 1, 2]).prop_shuffle(),
            gap in 1_usize..3,
            start in 0_usize..3,
            skip in 1_usize..4,
        ) {
            // The dimensions in some order of nesting.
            let sizes = [groups, inner, width];
            let mut strides = [0; 3];
            let mut next = gap;
            for &dimension in &order {
                strides[dimension] = next;
                next *= sizes[dimension];
            }
            let layout = RowLayout {
                start, groups, group_stride: strides[0], inner, row_stride: strides[1], width, stride: strides[2],
            };
            let values: Vec<f32> = (0..start + next).map(|at| at as f32).collect();
            let rows = OutputRows::strided(&values, layout).unwrap();
            let chosen: Vec<usize> = (0..rows.len()).filter(|row| row % skip == 0 || row % 7 < 2).collect();
            let got = rows.map(&chosen, |row, values| (row, values.to_vec()));
            for (&row, got) in chosen.iter().zip(&got) {
                prop_assert_eq!(got, &(row, expected(&values, layout, row)));
            }
            prop_assert_eq!(got.len(), chosen.len());
            let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
            let rows = OutputRows::strided(&halves, layout).unwrap();
            let got = rows.map(&chosen, |row, values| (row, values.to_vec()));
            for (row, values) in got {
                let expected = expected(&halves.iter().map(|half| half.to_f32()).collect::<Vec<_>>(), layout, row);
                prop_assert_eq!(values, expected);
            }
            let long = RowLayout { start: start + next, ..layout };
            prop_assert!(OutputRows::strided(&values, long).is_err());
        }
    }

    #[test]
    fn many_rows_come_back_in_order_from_several_threads() {
        let width = 1024;
        let values: Vec<f32> = (0..2000 * width).map(|at| (at / width) as f32).collect();
        let rows = OutputRows::contiguous(&values, width).unwrap();
        let chosen: Vec<usize> = (0..2000).filter(|row| row % 3 != 1).collect();
        let got = rows.map(&chosen, |row, values| (row, values[width - 1]));
        let expected: Vec<(usize, f32)> = chosen.iter().map(|&row| (row, row as f32)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn values_that_are_no_whole_rows_are_refused() {
        let error = OutputRows::contiguous(&[0.0_f32; 5], 2).unwrap_err();
        assert_eq!(error.to_string(), "logits: expected rows of 2 values, got 5 values");
        let layout = RowLayout {
            start: 0,
            groups: 2,
            group_stride: usize::MAX,
            inner: 3,
            row_stride: 1,
            width: 1,
            stride: 1,
        };
        assert!(OutputRows::strided(&[0.0_f32; 9], layout).is_err());
    }
}
