//! The data-dependent neural tangent kernel of a model on a group of examples.
//!
//! `K[(i, c), (j, d)] = <grad_w f^c(x_i), grad_w f^d(x_j)>`: inner products of the gradients of logits
//! in all parameters (Fort et al. 2020; the Data Diet paper, section 5), at row `i * classes + c`. How
//! far two kernels are apart is [`data_diet::kernel`]'s business.

mod jacobian;

use std::ops::Range;

use candle_core::{DType, Tensor};
use data_diet::kernel;

use crate::error::{Error, Result};
use crate::params::Params;
use crate::transfer::{HostTensor, is_float};
use jacobian::{Block, Rows, row_bytes};

/// Rows that are compared with the held ones at a time: enough for a matrix product to pay.
const MOST_PASSING_ROWS: usize = 64;

/// How a [`Gram`] matrix is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "options do nothing by themselves"]
pub struct GramOptions {
    max_bytes: usize,
}

impl GramOptions {
    /// The default of [`max_bytes`](Self::max_bytes): 2 GiB.
    pub const DEFAULT_MAX_BYTES: usize = 2 << 30;

    /// How many bytes of gradients are held at a time, on the device of the model. What one backward
    /// pass of one example takes comes on top.
    ///
    /// A gradient takes 4 bytes per parameter (8 for a model in `f64`). If the gradients of all `examples *
    /// classes` logits fit, each is computed once. Else the matrix is computed in `n` bands of rows,
    /// where `n` is about the bytes of all gradients over `max_bytes`, and a gradient is computed once
    /// for its own band and once for each band before it: `(n + 1) / 2` times on average.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Computes the kernel of a model with its weights as they are now. See [`gram`].
    ///
    /// # Errors
    ///
    /// Those of [`gram`]; and if `max_bytes` does not hold two gradients.
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
        if let Some((name, variable)) =
            params.names().zip(params.variables()).find(|(_, variable)| !is_float(variable.dtype()))
        {
            let got = variable.dtype().as_str();
            return Err(Error::Argument(format!("params: `{name}` is {got}, expected floats")));
        }
        let classes = check_forward(params, inputs, &mut forward)?;
        let mut rows = Rows::new(params, inputs, classes, &mut forward);
        let total = examples * classes;
        let fit = self.max_bytes / row_bytes(params).max(1);
        let (held, passing) = match fit {
            0 | 1 => {
                return Err(Error::Argument(format!(
                    "max_bytes: expected at least {}, two gradients of this model, got {}",
                    2 * row_bytes(params),
                    self.max_bytes
                )));
            }
            fit if fit >= total => (total, 0),
            fit => {
                let passing = (fit / 8).clamp(1, MOST_PASSING_ROWS);
                (fit - passing, passing)
            }
        };
        let mut values = Square { side: total, values: vec![0.0; total * total] };
        let mut band = Block::new(params, held)?;
        let mut guests = Block::new(params, passing)?;
        for start in (0..total).step_by(held) {
            let own = start..total.min(start + held);
            band.fill(&mut rows, own.clone())?;
            values.set(own.clone(), own.clone(), &band.products(&band)?);
            for start in (own.end..total).step_by(passing.max(1)) {
                let others = start..total.min(start + passing);
                guests.fill(&mut rows, others.clone())?;
                values.set(own.clone(), others, &band.products(&guests)?);
            }
        }
        let backward_passes = rows.backward_passes();
        if !rows.any_gradient() {
            return Err(Error::Argument(
                "forward: expected logits that depend on the parameters, none of them has a \
                 gradient"
                    .to_owned(),
            ));
        }
        values.into_gram(examples, classes, backward_passes)
    }
}

impl Default for GramOptions {
    fn default() -> Self {
        Self { max_bytes: Self::DEFAULT_MAX_BYTES }
    }
}

/// Computes the kernel of a model with its weights as they are now, in at most 2 GiB; see
/// [`GramOptions`] for another bound.
///
/// `inputs` holds the examples, `[examples, ...]`, at least two; `forward` makes of any number of
/// them logits `[examples, classes]`, in evaluation mode: an example's logits must not depend on its
/// batch. `params` are the variables that `forward` uses; those that it does not, and running
/// statistics, have no gradient and add nothing.
///
/// A row of the kernel costs one backward pass of a single example, `examples * classes` of them, and
/// more if their gradients do not fit: see [`GramOptions::max_bytes`]. Products of at most 65,536
/// parameters at a time are in the model's precision, `f32` at least, and added up in `f64`.
///
/// # Errors
///
/// If there are fewer than two examples, the logits are not of this shape, depend on the batch (batch
/// normalization in training mode, dropout) or on no parameter, or a logit or a gradient is not finite.
///
/// # Examples
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, VarBuilder, VarMap, linear_no_bias};
/// use data_diet_candle::{Params, ntk};
///
/// let variables = VarMap::new();
/// let model = linear_no_bias(2, 1, VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
/// let inputs = Tensor::new(&[[1.0_f32, 2.0], [3.0, -1.0]], &Device::Cpu)?;
/// // The kernel of a linear model is that of its inputs, whatever the weights.
/// let gram = ntk::gram(&Params::from_varmap(&variables)?, &inputs, |x| model.forward(x))?;
/// assert_eq!(gram.values(), [5.0, 1.0, 1.0, 10.0]);
/// # Ok::<(), data_diet_candle::Error>(())
/// ```
pub fn gram(
    params: &Params,
    inputs: &Tensor,
    forward: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<Gram> {
    GramOptions::default().gram(params, inputs, forward)
}

/// The kernel of a group of examples at one moment: a symmetric positive semidefinite matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Gram {
    values: Vec<f32>,
    examples: usize,
    classes: usize,
    backward_passes: usize,
}

impl Gram {
    /// The entries, row after row; row `i * classes + c` belongs to logit `c` of example `i`.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The number of rows, and of columns: `examples * classes`.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.examples * self.classes
    }

    /// The number of examples.
    #[must_use]
    pub fn examples(&self) -> usize {
        self.examples
    }

    /// The number of logits of each example.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How many backward passes it took.
    #[must_use]
    pub fn backward_passes(&self) -> usize {
        self.backward_passes
    }

    /// The [kernel distance](kernel::distance) to the kernel of the same examples at another moment, in
    /// `0..=1`.
    ///
    /// # Errors
    ///
    /// If the two are of different groups of examples, or one of them is zero.
    pub fn distance(&self, other: &Self) -> Result<f64> {
        let ([ours, theirs], [own, other_own]) =
            ([self.examples, other.examples], [self.classes, other.classes]);
        if (ours, own) != (theirs, other_own) {
            return Err(Error::Argument(format!(
                "other: expected a kernel of {ours} examples and {own} classes, got {theirs} and \
                 {other_own}"
            )));
        }
        // The least and the most of it differ from the ends by rounding only.
        Ok(kernel::distance(&self.values, &other.values)?.min(1.0))
    }
}

/// A symmetric matrix that is filled in pieces.
struct Square {
    side: usize,
    values: Vec<f64>,
}

impl Square {
    /// Fills the piece of these rows and columns, and its mirror image.
    fn set(&mut self, rows: Range<usize>, columns: Range<usize>, products: &[f64]) {
        let width = columns.len();
        for (place, row) in rows.enumerate() {
            for (offset, column) in columns.clone().enumerate() {
                // A product and its mirror image may be rounded differently.
                if column >= row {
                    let product = products[place * width + offset];
                    self.values[row * self.side + column] = product;
                    self.values[column * self.side + row] = product;
                }
            }
        }
    }

    fn into_gram(self, examples: usize, classes: usize, backward_passes: usize) -> Result<Gram> {
        let values: Vec<f32> = self.values.iter().map(|&value| value as f32).collect();
        let rows = 0..self.side;
        if let Some(row) = rows.into_iter().find(|row| !values[row * self.side + row].is_finite()) {
            return Err(Error::Argument(format!(
                "forward: expected finite gradients, got {} as the square of that of logit {} of \
                 example {}",
                self.values[row * self.side + row],
                row % classes,
                row / classes
            )));
        }
        Ok(Gram { values, examples, classes, backward_passes })
    }
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
