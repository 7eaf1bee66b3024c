//! The shapes in which trainers hold a model's outputs at the loss, and where their rows lie.

use candle_core::Tensor;
use data_diet::observe::{ModelKind, RowLayout};

use crate::error::{Error, Result};
use crate::transfer::{is_float, unsupported_logits};

/// The rows of a batch's outputs: `groups` times `inner` rows of `width` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutputShape {
    groups: usize,
    inner: usize,
    pub(crate) width: usize,
    /// The tokens of a sequence; `None` if the tokens of all sequences are flattened, and for models
    /// without tokens.
    pub(crate) tokens: Option<usize>,
}

impl OutputShape {
    /// Checks the shape and the dtype of a batch's outputs.
    pub(crate) fn of(kind: ModelKind, outputs: &Tensor) -> Result<Self> {
        let width = kind.outputs();
        let rows = |inner| Self { groups: 1, inner, width, tokens: None };
        let shape = match (kind, outputs.dims()) {
            (ModelKind::Tokens { .. }, &[groups, inner, last]) if last == width => {
                Self { groups, inner, width, tokens: Some(inner) }
            }
            (ModelKind::Regression { .. }, [batch, rest @ ..])
                if rest.iter().product::<usize>() == width =>
            {
                rows(*batch)
            }
            (_, &[batch, last]) if last == width => rows(batch),
            (kind, &[batch]) if width == 1 && !kind.has_tokens() => rows(batch),
            _ => return Err(unexpected(kind, outputs)),
        };
        if !is_float(outputs.dtype()) {
            return Err(unsupported_logits(outputs.dtype()));
        }
        Ok(shape)
    }

    /// Returns the number of rows: examples, or tokens.
    pub(crate) fn rows(&self) -> usize {
        self.groups * self.inner
    }

    /// Returns where the rows lie in the memory of a contiguous tensor of this shape.
    pub(crate) fn contiguous_layout(&self, outputs: &Tensor) -> RowLayout {
        RowLayout {
            start: outputs.layout().start_offset(),
            groups: 1,
            group_stride: 0,
            inner: self.rows(),
            row_stride: self.width,
            width: self.width,
            stride: 1,
        }
    }

    /// Returns matrices `[rows, width]` of at most this many rows that make up the outputs, in order.
    pub(crate) fn slices(&self, outputs: &Tensor, most: usize) -> Result<Vec<Tensor>> {
        let mut slices = Vec::new();
        for group in 0..self.groups {
            let rows = match self.tokens {
                Some(_) => outputs.narrow(0, group, 1)?.squeeze(0)?,
                None => outputs.clone(),
            };
            for start in (0..self.inner).step_by(most.max(1)) {
                slices.push(rows.narrow(0, start, most.max(1).min(self.inner - start))?);
            }
        }
        Ok(slices)
    }

    /// Returns where the rows lie in the memory of a tensor of this shape; `None` if the values of a row
    /// are not equally far apart.
    pub(crate) fn layout(&self, outputs: &Tensor) -> Option<RowLayout> {
        let layout = outputs.layout();
        let (dims, strides) = (layout.dims(), layout.stride());
        let (group_stride, row_stride, stride) = match (self.tokens, strides) {
            (Some(_), &[group, row, value]) => (group, row, value),
            (_, &[row]) => (0, row, 1),
            (_, &[row, value]) => (0, row, value),
            (_, [row, rest @ ..]) => {
                let mut next = 1;
                for (&dim, &stride) in dims[1..].iter().zip(rest).rev() {
                    if dim != 1 && stride != next {
                        return None;
                    }
                    next *= dim;
                }
                (0, *row, 1)
            }
            _ => return None,
        };
        Some(RowLayout {
            start: layout.start_offset(),
            groups: self.groups,
            group_stride,
            inner: self.inner,
            row_stride,
            width: self.width,
            stride,
        })
    }
}

fn unexpected(kind: ModelKind, outputs: &Tensor) -> Error {
    let width = kind.outputs();
    let expected = match kind {
        ModelKind::Classes { .. } => format!("[batch, {width}], a column per class"),
        ModelKind::Tokens { .. } => {
            format!("[batch, tokens, {width}] or [batch * tokens, {width}]")
        }
        ModelKind::MultiLabel { .. } => format!("[batch, {width}], a column per label"),
        ModelKind::Regression { .. } => format!("[batch, {width}], a column per output"),
        _ => "[batch] or [batch, 1]".to_owned(),
    };
    let hint = match (kind, outputs.dims()) {
        (ModelKind::Classes { .. }, &[_, _, last]) if last == width => {
            format!("; for a label per token, build the hook with `.tokens({width})`")
        }
        _ => String::new(),
    };
    Error::Argument(format!("logits: expected {expected}, got {:?}{hint}", outputs.dims()))
}
