//! Gradients of single logits, and blocks of them as matrices whose products give a kernel.

use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};

use crate::error::{Error, Result};
use crate::gradients::matmul::product;
use crate::gradients::tape::Tape;
use crate::transfer::HostTensor;
use crate::weights::Params;

/// The number of parameters whose products are summed in the model's own precision.
const COLUMN_SEGMENT: usize = 1 << 16;

/// Returns the size of one gradient in bytes.
pub(super) fn row_bytes(params: &Params) -> usize {
    params.variables().map(|variable| variable.elem_count() * dtype(variable).size_in_bytes()).sum()
}

/// Returns the dtype in which gradients of a variable are kept.
fn dtype(variable: &Var) -> DType {
    if variable.dtype() == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Computes the gradients of a model's logits, one logit of one example at a time.
///
/// Only that example goes through the model: a backward pass from one row of a batch would cost as
/// much as one of the whole batch.
pub(super) struct Rows<'a, F> {
    params: &'a Params,
    inputs: &'a Tensor,
    classes: usize,
    forward: F,
    /// The logits of the current example.
    current: Option<(usize, Tensor)>,
    backward_passes: usize,
}

impl<'a, F> Rows<'a, F>
where
    F: FnMut(&Tensor) -> candle_core::Result<Tensor>,
{
    pub(super) fn new(params: &'a Params, inputs: &'a Tensor, classes: usize, forward: F) -> Self {
        Self { params, inputs, classes, forward, current: None, backward_passes: 0 }
    }

    pub(super) fn params(&self) -> &'a Params {
        self.params
    }

    pub(super) fn backward_passes(&self) -> usize {
        self.backward_passes
    }

    fn gradients(&mut self, row: usize) -> Result<GradStore> {
        let (example, class) = (row / self.classes, row % self.classes);
        let logits = match self.current.take() {
            Some((current, logits)) if current == example => logits,
            _ => self.logits(example)?,
        };
        let gradients = logits.get(0)?.get(class)?.backward()?;
        self.current = Some((example, logits));
        self.backward_passes += 1;
        Ok(gradients)
    }

    fn logits(&mut self, example: usize) -> Result<Tensor> {
        let input = self.inputs.narrow(0, example, 1)?;
        // On a tape, layers with fused kernels return the gradient of their formula.
        let ids: Vec<_> = self.params.variables().map(|variable| variable.id()).collect();
        let tape = Tape::new(1, true, self.inputs.device(), &[], &ids)?;
        let logits = tape.run(|| (self.forward)(&input));
        if let Some(refusal) = tape.refusal() {
            return Err(Error::Argument(format!("forward: {refusal}")));
        }
        let logits = logits?;
        if logits.dims() != [1, self.classes] {
            return Err(Error::Argument(format!(
                "forward: expected logits [1, {}] for example {example}, got {:?}",
                self.classes,
                logits.dims()
            )));
        }
        let values = HostTensor::new(&logits)?.doubles("forward")?;
        if let Some(class) = values.iter().position(|logit| !logit.is_finite()) {
            return Err(Error::Argument(format!(
                "forward: expected finite logits, got {} as logit {class} of example {example}",
                values[class]
            )));
        }
        Ok(logits)
    }
}

/// Gradients of several logits: one matrix for each segment of the parameters, with a row for each
/// logit.
pub(super) struct Block {
    segments: Vec<Segment>,
}

struct Segment {
    /// The index of the variable among the parameters, and of the segment in it.
    variable: usize,
    offset: usize,
    rows: Tensor,
    /// Whether anything but zeros was written.
    used: bool,
}

impl Block {
    /// Allocates memory for this many gradients.
    pub(super) fn new(params: &Params, rows: usize) -> Result<Self> {
        let mut segments = Vec::new();
        for (place, variable) in params.variables().enumerate() {
            let elements = variable.elem_count();
            for offset in (0..elements).step_by(COLUMN_SEGMENT) {
                let width = COLUMN_SEGMENT.min(elements - offset);
                let rows = Tensor::zeros((rows, width), dtype(variable), variable.device())?;
                segments.push(Segment { variable: place, offset, rows, used: false });
            }
        }
        Ok(Self { segments })
    }

    /// Overwrites the block with the gradients of these logits.
    pub(super) fn fill<F>(
        &mut self,
        rows: &mut Rows<'_, F>,
        which: impl IntoIterator<Item = usize>,
    ) -> Result<()>
    where
        F: FnMut(&Tensor) -> candle_core::Result<Tensor>,
    {
        for (slot, row) in which.into_iter().enumerate() {
            let gradients = rows.gradients(row)?;
            let flat = rows.params.variables().map(|variable| {
                let gradient = gradients.get(variable).map(|gradient| {
                    gradient.detach().flatten_all()?.to_dtype(dtype(variable))?.contiguous()
                });
                gradient.transpose()
            });
            let flat = flat.collect::<candle_core::Result<Vec<_>>>()?;
            for segment in &mut self.segments {
                let width = segment.rows.dim(1)?;
                let values = match &flat[segment.variable] {
                    Some(gradient) => {
                        segment.used = true;
                        gradient.narrow(0, segment.offset, width)?.reshape((1, width))?
                    }
                    None if segment.used => segment.rows.narrow(0, 0, 1)?.zeros_like()?,
                    None => continue,
                };
                segment.rows.slice_set(&values, 0, slot)?;
            }
        }
        Ok(())
    }

    /// Returns the inner products of some of these gradients with some of another block,
    /// `[rows, columns]`.
    pub(super) fn products(
        &self,
        rows: Range<usize>,
        others: &Self,
        columns: Range<usize>,
    ) -> Result<Vec<f64>> {
        let mut sums = vec![0.0; rows.len() * columns.len()];
        for (own, other) in self.segments.iter().zip(&others.segments) {
            if !own.used || !other.used {
                continue;
            }
            let other = other.rows.narrow(0, columns.start, columns.len())?;
            let products = product(&own.rows.narrow(0, rows.start, rows.len())?, &other.t()?)?;
            let products = HostTensor::new(&products)?.doubles("gradients")?;
            for (sum, product) in sums.iter_mut().zip(products) {
                *sum += product;
            }
        }
        Ok(sums)
    }
}
