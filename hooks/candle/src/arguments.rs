//! What a training loop may pass as example ids, labels and gradient norms.

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};

use candle_core::Tensor;
use data_diet::observe::{BatchIds, ModelKind, Targets};

use crate::error::{Error, Result};
use crate::output_shape::OutputShape;
use crate::transfer::{HostTensor, is_float};

/// Example ids of a batch, one per example: a slice, array or vector of integers, a range of row
/// numbers, or an integer tensor `[batch]`.
///
/// Several sequences packed into one row have an id per token, `[batch, tokens]` or flattened: consecutive
/// tokens of a row with the same id are one example. Tokens that are ignored may have any id.
///
/// Ids lie in `0..2^63` and need not be dense: a row number, a database key or a hash.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be example ids",
    note = "ids are `&` of integers in a slice, array or `Vec`, of an integer range, or of a `Tensor`"
)]
pub trait ExampleIds: sealed::Sealed {
    #[doc(hidden)]
    fn to_ids(&self) -> Result<Cow<'_, [i64]>>;

    /// Returns how many ids make a row, where they have two dimensions: an id per token.
    #[doc(hidden)]
    fn row_length(&self) -> Option<usize> {
        None
    }

    /// Returns the tensor, if they are one; it may be on a device.
    #[doc(hidden)]
    fn as_tensor(&self) -> Option<&Tensor> {
        None
    }
}

/// Labels or other targets of a batch, as the kind of model has them:
///
/// - class indices, `[batch]` or `[batch, 1]`; for tokens `[batch, tokens]` or flattened: a slice, array,
///   vector or integer tensor;
/// - numbers: soft targets `[batch, classes]` whose rows sum to 1, 0 to 1 for each of several labels
///   `[batch, labels]` (or integers), 0 or 1 or a probability `[batch]` of a binary model, or what a
///   regression predicts `[batch, outputs]`: a float tensor, or for one number per example a slice, array
///   or vector of `f32`;
/// - none, of a model of which only the loss is recorded: `&()`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be labels",
    note = "labels are `&` of integers or `f32` in a slice, array or `Vec`, or of a `Tensor`: class \
            indices `[batch]` or numbers `[batch, outputs]`"
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

/// Labels on the host: rows of `width` values each.
#[doc(hidden)]
#[derive(Debug)]
pub enum HostLabels<'a> {
    Classes { labels: Cow<'a, [i64]>, width: usize },
    Soft { weights: Cow<'a, [f32]>, width: usize },
    None,
}

impl<'a> HostLabels<'a> {
    /// One class index per row.
    pub(crate) fn classes(labels: impl Into<Cow<'a, [i64]>>) -> Self {
        Self::Classes { labels: labels.into(), width: 1 }
    }

    /// Returns the number of rows.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Classes { labels, width } => labels.len() / (*width).max(1),
            Self::Soft { weights, width } => weights.len() / (*width).max(1),
            Self::None => 0,
        }
    }

    /// Returns the same labels without borrowing.
    pub(crate) fn into_owned(self) -> HostLabels<'static> {
        match self {
            Self::Classes { labels, width } => {
                HostLabels::Classes { labels: Cow::Owned(labels.into_owned()), width }
            }
            Self::Soft { weights, width } => {
                HostLabels::Soft { weights: Cow::Owned(weights.into_owned()), width }
            }
            Self::None => HostLabels::None,
        }
    }

    /// Returns the labels in the form in which this kind of model takes them.
    pub(crate) fn of_kind(self, kind: ModelKind) -> Self {
        match (kind, self) {
            (ModelKind::MultiLabel { .. }, Self::Classes { labels, width }) => {
                let weights = labels.iter().map(|&label| label as f32).collect();
                Self::Soft { weights: Cow::Owned(weights), width }
            }
            (_, labels) => labels,
        }
    }

    /// Returns the labels as targets of this kind of model.
    pub(crate) fn targets(&self, kind: ModelKind) -> Result<Targets<'_>> {
        match self {
            Self::Classes { labels, width } => {
                check_label_width(kind, false, self.rows(), *width)?;
                Ok(Targets::Classes(labels))
            }
            Self::Soft { weights, width } => {
                check_label_width(kind, true, self.rows(), *width)?;
                Ok(Targets::Soft(weights))
            }
            Self::None => Ok(Targets::None),
        }
    }
}

/// Checks how many labels a row has: one class index, or as many numbers as the model has outputs.
pub(crate) fn check_label_width(
    kind: ModelKind,
    is_float: bool,
    rows: usize,
    width: usize,
) -> Result<()> {
    let outputs = kind.outputs();
    let fits = if is_float { width == outputs } else { width == 1 || kind.has_tokens() };
    // Whoever has no rows has no width either.
    if fits || rows == 0 {
        return Ok(());
    }
    let expected = match kind {
        _ if !is_float => "class indices [batch]".to_owned(),
        ModelKind::Tokens { .. } => "class indices [batch, tokens]".to_owned(),
        ModelKind::Classes { .. } => {
            format!("class indices [batch] or soft targets [batch, {outputs}]")
        }
        _ => format!("targets [batch, {outputs}]"),
    };
    let form = match kind {
        // Integers have become numbers before.
        ModelKind::MultiLabel { .. } => "numbers",
        _ if is_float => "floats",
        _ => "integers",
    };
    let got = if width == 1 { format!("[{rows}]") } else { format!("[{rows}, {width}]") };
    Err(Error::Argument(format!("labels: expected {expected}, got {form} {got}")))
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
                let labels = self.iter().map(|&class| label(class)).collect::<Result<Vec<_>>>()?;
                Ok(HostLabels::classes(labels))
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
        Ok(HostLabels::classes(self))
    }
}

impl sealed::Sealed for [f32] {}

impl Labels for [f32] {
    fn to_labels(&self) -> Result<HostLabels<'_>> {
        Ok(HostLabels::Soft { weights: Cow::Borrowed(self), width: 1 })
    }
}

impl sealed::Sealed for () {}

impl Labels for () {
    fn to_labels(&self) -> Result<HostLabels<'_>> {
        Ok(HostLabels::None)
    }
}

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

    fn row_length(&self) -> Option<usize> {
        (**self).row_length()
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
        if !(1..=2).contains(&self.rank()) {
            let got = self.dims();
            return Err(Error::Argument(format!(
                "ids: expected a tensor [batch], or [batch, tokens] of packed sequences, got {got:?}"
            )));
        }
        HostTensor::new(self)?.integers("ids").map(Cow::Owned)
    }

    fn row_length(&self) -> Option<usize> {
        match *self.dims() {
            [_, length] => Some(length),
            _ => None,
        }
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
        let [_, row @ ..] = self.dims() else { return Err(unsupported_labels(self)) };
        let width = row.iter().product();
        let labels = HostTensor::new(self)?;
        Ok(if is_float(self.dtype()) {
            HostLabels::Soft { weights: Cow::Owned(labels.floats("labels")?), width }
        } else {
            HostLabels::Classes { labels: Cow::Owned(labels.integers("labels")?), width }
        })
    }

    fn as_tensor(&self) -> Option<&Tensor> {
        Some(self)
    }
}

pub(crate) fn unsupported_labels(got: &Tensor) -> Error {
    Error::Argument(format!(
        "labels: expected class indices [batch] or numbers [batch, outputs], got {} {:?}",
        got.dtype().as_str(),
        got.dims()
    ))
}

/// Returns the tokens of a row, if there is an id for each token. `row_length` is that of the ids, if they
/// have two dimensions.
pub(crate) fn ids_per_token(
    kind: ModelKind,
    row_length: Option<usize>,
    ids: usize,
    outputs: &OutputShape,
) -> Option<usize> {
    match row_length {
        // Without tokens, a column of ids, one for each example.
        _ if !kind.has_tokens() => None,
        Some(row_length) => Some(row_length),
        None if ids != outputs.rows() => None,
        // An id per token, unless there is one token in each sequence.
        None => match outputs.tokens {
            Some(1) => None,
            tokens => Some(tokens.unwrap_or(ids)),
        },
    }
}

/// Returns which example each row of a batch belongs to.
pub(crate) fn batch_ids(per_token: Option<usize>, ids: &[i64]) -> BatchIds<'_> {
    match per_token {
        Some(row_length) => BatchIds::Tokens { ids, row_length },
        None => BatchIds::Examples(ids),
    }
}
