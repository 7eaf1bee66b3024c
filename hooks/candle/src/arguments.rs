//! What a training loop may pass as example ids, labels and gradient norms.

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};

use candle_core::Tensor;
use data_diet::observe::Targets;

use crate::error::{Error, Result};
use crate::transfer::{HostTensor, is_float, unsupported_logits};

/// Example ids of a batch, one per row: a slice, array or vector of integers, a range of row numbers,
/// or an integer tensor `[batch]`.
///
/// Ids lie in `0..2^63` and need not be dense: a row number, a database key or a hash.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be example ids",
    note = "ids are `&` of integers in a slice, array or `Vec`, of an integer range, or of a `Tensor`"
)]
pub trait ExampleIds: sealed::Sealed {
    #[doc(hidden)]
    fn to_ids(&self) -> Result<Cow<'_, [i64]>>;

    /// Returns the tensor, if they are one; it may be on a device.
    #[doc(hidden)]
    fn as_tensor(&self) -> Option<&Tensor> {
        None
    }
}

/// Labels of a batch, one per row: class indices as a slice, array, vector or integer tensor
/// `[batch]`, or soft targets as a float tensor `[batch, classes]` whose rows sum to 1.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be labels",
    note = "labels are `&` of integers in a slice, array or `Vec`, or of a `Tensor`: class indices \
            `[batch]` or soft targets `[batch, classes]`"
)]
pub trait Labels: sealed::Sealed {
    #[doc(hidden)]
    fn to_labels(&self) -> Result<HostLabels<'_>>;

    /// Returns the tensor, if they are one; it may be on a device.
    #[doc(hidden)]
    fn as_tensor(&self) -> Option<&Tensor> {
        None
    }
}

/// Gradient norms of a batch, one per example: the result of
/// [`GradientNorms`](crate::gradients::GradientNorms), a slice, array or vector of `f32`, or a
/// float tensor `[batch]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be gradient norms",
    note = "gradient norms are `&` of an `ExampleNorms`, of `f32` in a slice, array or `Vec`, or of a \
            float `Tensor` `[batch]`"
)]
pub trait Norms: sealed::Sealed {
    #[doc(hidden)]
    fn to_norms(&self) -> Result<Cow<'_, [f32]>>;
}

/// Labels on the host.
#[doc(hidden)]
#[derive(Debug)]
pub enum HostLabels<'a> {
    Classes(Cow<'a, [i64]>),
    Soft { weights: Vec<f32>, shape: (usize, usize) },
}

impl HostLabels<'_> {
    /// Returns the number of rows.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Classes(labels) => labels.len(),
            Self::Soft { shape: (rows, _), .. } => *rows,
        }
    }

    /// Returns some of the rows.
    pub(crate) fn slice(&self, rows: Range<usize>) -> HostLabels<'_> {
        match self {
            Self::Classes(labels) => HostLabels::Classes(Cow::Borrowed(&labels[rows])),
            Self::Soft { weights, shape: (_, classes) } => HostLabels::Soft {
                weights: weights[rows.start * classes..rows.end * classes].to_vec(),
                shape: (rows.len(), *classes),
            },
        }
    }

    /// Returns the same labels without borrowing.
    pub(crate) fn into_owned(self) -> HostLabels<'static> {
        match self {
            Self::Classes(labels) => HostLabels::Classes(Cow::Owned(labels.into_owned())),
            Self::Soft { weights, shape } => HostLabels::Soft { weights, shape },
        }
    }

    /// Returns the labels as targets for a batch of this shape.
    pub(crate) fn targets(&self, rows: usize, classes: usize) -> Result<Targets<'_>> {
        match self {
            Self::Classes(labels) => Ok(Targets::Classes(labels)),
            Self::Soft { weights, shape } if *shape == (rows, classes) => {
                Ok(Targets::Soft(weights))
            }
            Self::Soft { shape: (got_rows, got_classes), .. } => Err(Error::Argument(format!(
                "labels: expected soft targets [{rows}, {classes}], got [{got_rows}, {got_classes}]"
            ))),
        }
    }
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// Refused here and not in the batch: an id above `i64::MAX` becomes negative, so that the batch's
/// message would show the wrong number.
fn example(id: impl TryInto<i64> + Copy + std::fmt::Display) -> Result<i64> {
    id.try_into().map_err(|_too_large| {
        Error::Argument(format!("ids: expected example ids in 0..2^63, got {id}"))
    })
}

/// Refused here for the same reason.
fn label(class: impl TryInto<i64> + Copy + std::fmt::Display) -> Result<i64> {
    class.try_into().map_err(|_too_large| {
        Error::Argument(format!("labels: expected class indices, got {class}"))
    })
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl sealed::Sealed for [$integer] {}
        impl ExampleIds for [$integer] {
            fn to_ids(&self) -> Result<Cow<'_, [i64]>> {
                self.iter().map(|&id| example(id)).collect::<Result<Vec<_>>>().map(Cow::Owned)
            }
        }
        impl Labels for [$integer] {
            fn to_labels(&self) -> Result<HostLabels<'_>> {
                let labels = self.iter().map(|&class| label(class)).collect::<Result<_>>()?;
                Ok(HostLabels::Classes(Cow::Owned(labels)))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, usize, i8, i16, i32, isize);

impl sealed::Sealed for [i64] {}

impl ExampleIds for [i64] {
    fn to_ids(&self) -> Result<Cow<'_, [i64]>> {
        Ok(Cow::Borrowed(self))
    }
}

impl Labels for [i64] {
    fn to_labels(&self) -> Result<HostLabels<'_>> {
        Ok(HostLabels::Classes(Cow::Borrowed(self)))
    }
}

impl sealed::Sealed for [f32] {}

impl Norms for [f32] {
    fn to_norms(&self) -> Result<Cow<'_, [f32]>> {
        Ok(Cow::Borrowed(self))
    }
}

impl Norms for Vec<f32> {
    fn to_norms(&self) -> Result<Cow<'_, [f32]>> {
        Ok(Cow::Borrowed(self))
    }
}

impl<const N: usize> Norms for [f32; N] {
    fn to_norms(&self) -> Result<Cow<'_, [f32]>> {
        Ok(Cow::Borrowed(self))
    }
}

impl<T> sealed::Sealed for Vec<T> where [T]: sealed::Sealed {}

impl<T> ExampleIds for Vec<T>
where
    [T]: ExampleIds,
{
    fn to_ids(&self) -> Result<Cow<'_, [i64]>> {
        self.as_slice().to_ids()
    }
}

impl<T> Labels for Vec<T>
where
    [T]: Labels,
{
    fn to_labels(&self) -> Result<HostLabels<'_>> {
        self.as_slice().to_labels()
    }
}

impl<T, const N: usize> sealed::Sealed for [T; N] where [T]: sealed::Sealed {}

impl<T, const N: usize> ExampleIds for [T; N]
where
    [T]: ExampleIds,
{
    fn to_ids(&self) -> Result<Cow<'_, [i64]>> {
        self.as_slice().to_ids()
    }
}

impl<T, const N: usize> Labels for [T; N]
where
    [T]: Labels,
{
    fn to_labels(&self) -> Result<HostLabels<'_>> {
        self.as_slice().to_labels()
    }
}

impl<T: sealed::Sealed + ?Sized> sealed::Sealed for &T {}

impl<T: ExampleIds + ?Sized> ExampleIds for &T {
    fn to_ids(&self) -> Result<Cow<'_, [i64]>> {
        (**self).to_ids()
    }

    fn as_tensor(&self) -> Option<&Tensor> {
        (**self).as_tensor()
    }
}

impl<T: Labels + ?Sized> Labels for &T {
    fn to_labels(&self) -> Result<HostLabels<'_>> {
        (**self).to_labels()
    }

    fn as_tensor(&self) -> Option<&Tensor> {
        (**self).as_tensor()
    }
}

/// More rows than any batch has.
const MAX_BATCH_ROWS: usize = 1 << 24;

macro_rules! ranges {
    ($($range:ty),*) => {$(
        impl sealed::Sealed for $range {}
        impl ExampleIds for $range {
            fn to_ids(&self) -> Result<Cow<'_, [i64]>> {
                // A huge range is a mistake, and must not take all memory before it is refused.
                let most = MAX_BATCH_ROWS + 1;
                let ids: Vec<_> = self.clone().take(most).map(example).collect::<Result<_>>()?;
                if ids.len() == most {
                    return Err(Error::Argument(format!(
                        "ids: expected the ids of one batch, got a range of more than {MAX_BATCH_ROWS}"
                    )));
                }
                Ok(Cow::Owned(ids))
            }
        }
    )*};
}
ranges!(
    Range<u32>,
    Range<u64>,
    Range<usize>,
    Range<i32>,
    Range<i64>,
    RangeInclusive<u32>,
    RangeInclusive<u64>,
    RangeInclusive<usize>,
    RangeInclusive<i32>,
    RangeInclusive<i64>
);

impl sealed::Sealed for Tensor {}

impl ExampleIds for Tensor {
    fn to_ids(&self) -> Result<Cow<'_, [i64]>> {
        if self.rank() != 1 {
            let got = self.dims();
            return Err(Error::Argument(format!("ids: expected a tensor [batch], got {got:?}")));
        }
        HostTensor::new(self)?.integers("ids").map(Cow::Owned)
    }

    fn as_tensor(&self) -> Option<&Tensor> {
        Some(self)
    }
}

impl Norms for Tensor {
    fn to_norms(&self) -> Result<Cow<'_, [f32]>> {
        if self.rank() != 1 || !is_float(self.dtype()) {
            let (kind, got) = (self.dtype().as_str(), self.dims());
            return Err(Error::Argument(format!(
                "norms: expected a float tensor [batch], got {kind} {got:?}"
            )));
        }
        HostTensor::new(self)?.floats("norms").map(Cow::Owned)
    }
}

impl Labels for Tensor {
    fn to_labels(&self) -> Result<HostLabels<'_>> {
        match *self.dims() {
            [_] => {
                let labels = HostTensor::new(self)?.integers("labels")?;
                Ok(HostLabels::Classes(Cow::Owned(labels)))
            }
            [rows, classes] if is_float(self.dtype()) => Ok(HostLabels::Soft {
                weights: HostTensor::new(self)?.floats("labels")?,
                shape: (rows, classes),
            }),
            _ => Err(unsupported_labels(self)),
        }
    }

    fn as_tensor(&self) -> Option<&Tensor> {
        Some(self)
    }
}

/// Checks that logits have a row per id, a column per class, and a supported dtype.
pub(crate) fn check_logits(logits: &Tensor, rows: usize, classes: usize) -> Result<()> {
    if logits.dims() != [rows, classes] || rows == 0 {
        let got = logits.dims();
        return Err(Error::Argument(format!(
            "logits: expected [{rows}, {classes}], a row per id and a column per class, got {got:?}{}",
            if rows == 0 { "; a batch has at least one row" } else { "" }
        )));
    }
    if !is_float(logits.dtype()) {
        return Err(unsupported_logits(logits.dtype()));
    }
    Ok(())
}

pub(crate) fn unsupported_labels(got: &Tensor) -> Error {
    Error::Argument(format!(
        "labels: expected class indices [batch] or soft targets [batch, classes], got {} {:?}",
        got.dtype().as_str(),
        got.dims()
    ))
}
