//! How a kernel is computed: which parameters go which way, in how many pieces.

use std::collections::BTreeSet;
use std::ops::Range;

use candle_core::{DType, Tensor};

use super::Gram;
use super::factors::{Factors, example_bytes, forms_gradients};
use super::jacobian::{Block, Rows, row_bytes};
use super::square::Square;
use crate::contribution::Contribution;
use crate::error::{Error, Result};
use crate::grand::names_statistics;
use crate::params::Params;
use crate::tape::Tape;
use crate::transfer::{HostTensor, is_float};

/// Rows that are compared with the held ones at a time: enough for a matrix product to pay.
const MOST_PASSING_ROWS: usize = 64;
/// Products of the same two gradients may differ by this much, in units of the product of their norms.
const CHECK_TOLERANCE: f64 = 1e-3;
const HALF_CHECK_TOLERANCE: f64 = 1e-1;

/// How a [`Gram`] matrix is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "options do nothing by themselves"]
pub struct GramOptions {
    max_bytes: usize,
    one_by_one: bool,
    allow_unused: bool,
}

impl GramOptions {
    /// The default of [`max_bytes`](Self::max_bytes): 2 GiB.
    pub const DEFAULT_MAX_BYTES: usize = 2 << 30;

    /// How many bytes of gradients, or of what they are made of, are held at a time, on the device of the
    /// model. What a backward pass takes comes on top.
    ///
    /// For parameters that are taken one example at a time, a gradient takes 4 bytes per parameter (8 for a
    /// model in `f64`). If the gradients of all `examples * classes` logits fit, each is computed once.
    /// Else the matrix is computed in `n` bands of rows, where `n` is about the bytes of all gradients
    /// over `max_bytes`, and a gradient is computed once for its own band and once for each band
    /// before it: `(n + 1) / 2` times on average. For layers of [`nn`](crate::nn) the same holds of the
    /// gradients of their outputs, which take far less, in half the bytes; the other half is for forming
    /// gradients of weights where that is the cheapest way.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Takes a backward pass for each logit of each example for every parameter, whatever the layers.
    pub fn one_by_one(mut self) -> Self {
        self.one_by_one = true;
        self
    }

    /// Lets parameters that no gradient reaches add nothing to the kernel. Otherwise they are an error,
    /// since candle's fused kernels stop gradients in silence.
    pub fn allow_unused(mut self) -> Self {
        self.allow_unused = true;
        self
    }

    /// Computes the kernel of a model with its weights as they are now. See [`gram`](super::gram).
    ///
    /// # Errors
    ///
    /// Those of [`gram`](super::gram); and if `max_bytes` does not hold two gradients of the parameters that
    /// are taken one example at a time.
    pub fn gram(
        self,
        params: &Params,
        inputs: &Tensor,
        mut forward: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Gram> {
        let examples = inputs.dims().first().copied().unwrap_or_default();
        if examples < 2 {
            return Err(Error::Argument(format!(
                "inputs: expected a tensor [examples, ...] of at least 2 examples, got {:?}",
                inputs.dims()
            )));
        }
        let named = || params.names().zip(params.variables());
        if let Some((name, variable)) = named().find(|(_, variable)| !is_float(variable.dtype())) {
            let got = variable.dtype().as_str();
            return Err(Error::Argument(format!("params: `{name}` is {got}, expected floats")));
        }
        let classes = check_forward(params, inputs, &mut forward)?;
        let Coverage { taped, others, bytes } =
            self.coverage(params, &inputs.narrow(0, 0, 2)?, classes, &mut forward)?;
        let mut kernel = Kernel {
            square: Square::zeros(examples * classes),
            examples,
            classes,
            backward_passes: 0,
            max_bytes: self.max_bytes,
        };
        if let Some(others) = &others {
            kernel.add_rows(others, inputs, &mut forward)?;
        }
        if let Some(taped) = &taped {
            kernel.add_factors(taped, inputs, bytes, &mut forward)?;
        }
        let values = kernel.finite()?;
        if taped.is_some() {
            let both = BTreeSet::from([0, examples * classes - 1]);
            let whole = params.clone();
            let mut rows = Rows::new(&whole, inputs, classes, &mut forward);
            kernel.check(&mut rows, &both)?;
        }
        Ok(Gram { values, examples, classes, backward_passes: kernel.backward_passes })
    }

    /// Which parameters the tape sees, and which have a gradient without it.
    fn coverage(
        self,
        params: &Params,
        pair: &Tensor,
        classes: usize,
        forward: &mut impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Coverage> {
        let ids: Vec<_> = params.variables().map(|variable| variable.id()).collect();
        let attached = if self.one_by_one { ids.as_slice() } else { &[] };
        let tape = Tape::new(2, pair.device(), &ids, attached)?;
        let logits = tape.run(|| forward(pair));
        if let Some(refusal) = tape.refusal() {
            return Err(Error::Argument(format!("forward: {refusal}")));
        }
        let sum = logits?.sum_all()?;
        let gradients = if sum.track_op() { Some(sum.backward()?) } else { None };
        let record = tape.take();
        let (mut taped, mut others, mut unused) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let mut bytes = 0;
        for (place, (name, variable)) in params.names().zip(params.variables()).enumerate() {
            let uses = &record.contributions[place];
            if gradients.as_ref().is_some_and(|gradients| gradients.get(variable).is_some()) {
                others.insert(name);
            } else if !uses.is_empty() {
                let forms = forms_gradients(uses, variable, 2)?;
                // Where a single example's gradients do not fit, they cannot be formed.
                if forms && 4 * example_bytes(variable, classes) > self.max_bytes {
                    others.insert(name);
                } else {
                    bytes += uses.iter().map(Contribution::bytes).sum::<usize>() * classes / 2;
                    taped.insert(name);
                }
            } else if !(record.buffers.contains(&variable.id()) || names_statistics(name)) {
                unused.push(name);
            }
        }
        // Two examples have to fit, one held and one passing by.
        if 4 * bytes > self.max_bytes {
            others.append(&mut taped);
        }
        if taped.is_empty() && others.is_empty() {
            return Err(Error::Argument(
                "forward: expected logits that depend on the parameters, none of them has a \
                 gradient"
                    .to_owned(),
            ));
        }
        if !(unused.is_empty() || self.allow_unused) {
            return Err(Error::Argument(format!(
                "forward: expected logits that depend on every parameter, got no gradient for {}: \
                 take only parameters that are trained, call allow_unused, or look for an operation \
                 without a backward pass between them and the logits",
                unused.join(", ")
            )));
        }
        let only = |names: &BTreeSet<&str>| {
            let some =
                (!names.is_empty()).then(|| params.clone().only(|name| names.contains(name)));
            some.transpose()
        };
        Ok(Coverage { taped: only(&taped)?, others: only(&others)?, bytes })
    }
}

impl Default for GramOptions {
    fn default() -> Self {
        let max_bytes = Self::DEFAULT_MAX_BYTES;
        Self { max_bytes, one_by_one: false, allow_unused: false }
    }
}

struct Coverage {
    taped: Option<Params>,
    others: Option<Params>,
    /// What the tape keeps of one example for all classes.
    bytes: usize,
}

/// A kernel in the making.
struct Kernel {
    square: Square,
    examples: usize,
    classes: usize,
    backward_passes: usize,
    max_bytes: usize,
}

impl Kernel {
    /// Adds the products of gradients in these parameters, a backward pass for each.
    fn add_rows(
        &mut self,
        params: &Params,
        inputs: &Tensor,
        forward: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<()> {
        let mut rows = Rows::new(params, inputs, self.classes, forward);
        let total = self.examples * self.classes;
        let fit = self.max_bytes / row_bytes(params).max(1);
        if fit < 2 {
            return Err(Error::Argument(format!(
                "max_bytes: expected at least {}, two gradients of this model, got {}",
                2 * row_bytes(params),
                self.max_bytes
            )));
        }
        let (held, passing) = bands(fit, total, MOST_PASSING_ROWS);
        let mut band = Block::new(params, held)?;
        let mut guests = Block::new(params, passing)?;
        for start in (0..total).step_by(held) {
            let own = start..total.min(start + held);
            band.fill(&mut rows, own.clone())?;
            self.square.add(own.clone(), own.clone(), &band.products(&band)?);
            for start in (own.end..total).step_by(passing.max(1)) {
                let others = start..total.min(start + passing);
                guests.fill(&mut rows, others.clone())?;
                self.square.add(own.clone(), others, &band.products(&guests)?);
            }
        }
        self.backward_passes += rows.backward_passes();
        Ok(())
    }

    /// Adds the products of gradients in parameters that the tape sees, of which an example takes `bytes`.
    fn add_factors(
        &mut self,
        params: &Params,
        inputs: &Tensor,
        bytes: usize,
        forward: &mut impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<()> {
        let half = self.max_bytes / 2;
        let (held, passing) = bands((half / bytes.max(1)).max(2), self.examples, usize::MAX);
        let mut passes = 0;
        let mut factors = |examples: Range<usize>| -> Result<Factors> {
            passes += self.classes;
            Factors::new(params, inputs, examples, self.classes, forward)
        };
        let classes = self.classes;
        let rows = |examples: &Range<usize>| examples.start * classes..examples.end * classes;
        for start in (0..self.examples).step_by(held) {
            let own = start..self.examples.min(start + held);
            let band = factors(own.clone())?;
            for (place, variable) in params.variables().enumerate() {
                let products = band.products(&band, place, variable, half)?;
                self.square.add(rows(&own), rows(&own), &products);
            }
            for start in (own.end..self.examples).step_by(passing.max(1)) {
                let others = start..self.examples.min(start + passing);
                let guests = factors(others.clone())?;
                for (place, variable) in params.variables().enumerate() {
                    let products = band.products(&guests, place, variable, half)?;
                    self.square.add(rows(&own), rows(&others), &products);
                }
            }
        }
        self.backward_passes += passes;
        Ok(())
    }

    /// The kernel, if all of it is finite: an entry is not if one of its gradients is not.
    fn finite(&self) -> Result<Vec<f32>> {
        let values = self.square.rounded();
        let side = self.examples * self.classes;
        if let Some(row) = (0..side).find(|row| !values[row * side + row].is_finite()) {
            return Err(Error::Argument(format!(
                "forward: expected finite gradients, got {} as the square of that of logit {} of \
                 example {}",
                self.square.get(row, row),
                row % self.classes,
                row / self.classes
            )));
        }
        Ok(values)
    }

    /// Compares the products of some gradients with what they are one example at a time.
    fn check<F>(&self, rows: &mut Rows<'_, F>, which: &BTreeSet<usize>) -> Result<()>
    where
        F: FnMut(&Tensor) -> candle_core::Result<Tensor>,
    {
        let mut block = Block::new(rows.params(), which.len())?;
        block.fill(rows, which.iter().copied())?;
        let half = rows.params().variables().any(|variable| variable.dtype().size_in_bytes() < 4);
        let tolerance = if half { HALF_CHECK_TOLERANCE } else { CHECK_TOLERANCE };
        let mut expected = block.products(&block)?.into_iter();
        for &row in which {
            for &column in which {
                let (alone, got) =
                    (expected.next().unwrap_or(f64::NAN), self.square.get(row, column));
                let most = (self.square.get(row, row) * self.square.get(column, column)).sqrt();
                if (alone - got).abs() > tolerance * most || alone.is_nan() {
                    return Err(Error::Argument(format!(
                        "forward: expected an example's gradients not to depend on its batch, got \
                         {alone} alone and {got} in the batch at row {row}, column {column} of the \
                         kernel: is something in training mode or random, or a layer's input not in \
                         order of examples?"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// How many of `total` to hold, and how many to let pass by them at a time, where `fit` fit.
fn bands(fit: usize, total: usize, most_passing: usize) -> (usize, usize) {
    if fit >= total {
        return (total, 0);
    }
    let passing = (fit / 8).clamp(1, most_passing);
    (fit - passing, passing)
}

/// Runs the model on two examples, and on one of them beside itself: the logits have to be of the right
/// shape, and the same for the same example. Returns the number of classes.
///
/// Two examples at a time, because batch normalization in training mode makes NaN of the running
/// statistics from a single one. What it made of them otherwise is undone.
fn check_forward(
    params: &Params,
    inputs: &Tensor,
    forward: &mut impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<usize> {
    params.preserving(|| {
        let pair = inputs.narrow(0, 0, 2)?;
        let alone = inputs.narrow(0, 0, 1)?;
        let with_other = forward(&pair)?;
        let classes = match *with_other.dims() {
            [2, classes] if classes > 0 => classes,
            _ => {
                return Err(Error::Argument(format!(
                    "forward: expected logits [2, classes] for 2 examples, got {:?}",
                    with_other.dims()
                )));
            }
        };
        let with_itself = forward(&Tensor::cat(&[&alone, &alone], 0)?)?;
        let tolerance = match with_other.dtype() {
            DType::F32 | DType::F64 => 1e-3,
            _ => 3e-2,
        };
        let first = |logits: &Tensor| HostTensor::new(&logits.narrow(0, 0, 1)?)?.doubles("forward");
        let (with_other, with_itself) = (first(&with_other)?, first(&with_itself)?);
        let scale = with_other.iter().fold(1.0_f64, |most, logit| most.max(logit.abs()));
        for (class, (a, b)) in with_other.iter().zip(&with_itself).enumerate() {
            // Logits that are not finite are told as such when their rows come.
            if (a - b).abs() > tolerance * scale {
                return Err(Error::Argument(format!(
                    "forward: expected the model in evaluation mode, but logit {class} of the first \
                     example is {a} beside the second and {b} beside itself"
                )));
            }
        }
        Ok(classes)
    })
}
