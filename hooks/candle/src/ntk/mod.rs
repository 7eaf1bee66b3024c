//! The data-dependent neural tangent kernel of a model on a group of examples.
//!
//! `K[(i, c), (j, d)] = <grad_w f^c(x_i), grad_w f^d(x_j)>`: inner products of the gradients of
//! logits in all parameters (Fort et al. 2020; the Data Diet paper, section 5), at row
//! `i * classes + c`. [`data_diet::geometry::kernel`] defines the distance between two kernels.
//!
//! There are two methods. For layers of [`nn`](crate::nn), `batched_passes` takes a backward pass
//! per class for many examples together; for any other parameter, `single_logits` takes one per
//! example and class. The results are added.
//!
//! ```text
//! product_forms (the cheapest form for each parameter) -> plan (what is held at a time)
//!     -> batched_passes -> contracted (gradients never formed) --+
//!     -> batched_passes -> materialized (gradients as columns) --+-> accumulator -> symmetric_matrix
//!     -> single_logits (one gradient at a time) -----------------+
//! ```
//!
//! Operations between layers have candle's gradients: see [`nn`](crate::nn) for those that are
//! missing or wrong.

mod accumulator;
mod batched_passes;
mod contracted;
mod factors;
mod materialized;
mod options;
mod plan;
mod product_forms;
mod single_logits;
mod symmetric_matrix;
#[cfg(test)]
mod tests;

use candle_core::Tensor;
use data_diet::geometry::kernel;

use crate::error::{Error, Result};
use crate::weights::Params;
pub use options::GramOptions;

/// Computes the kernel of a model at its current weights, in at most 2 GiB; see [`GramOptions`] for
/// another bound.
///
/// `inputs` holds the examples, `[examples, ...]`, at least two. `forward` computes logits
/// `[examples, classes]` for any number of them, in evaluation mode: an example's logits must not
/// depend on its batch. `params` are the variables that `forward` uses; running statistics among
/// them have no gradient and add nothing.
///
/// Parameters of layers of [`nn`](crate::nn) take `classes` backward passes of all examples
/// together, in which no gradient of a weight is formed. Fully connected layers then need only the
/// products of their inputs and of their outputs. The gradients of a convolution are formed for all
/// logits at once or, with few positions and many weights, contracted pair by pair of examples,
/// whichever is cheaper. Any other parameter takes `examples * classes` backward passes of single
/// examples. Both take longer if memory does not suffice: see [`GramOptions::max_bytes`]. Products
/// of at most 65,536 numbers at a time are computed in the model's precision, `f32` at least, and
/// summed in `f64`; contracted ones are in `f64` throughout.
///
/// # Errors
///
/// If there are fewer than two examples; if the logits are not of this shape, depend on the batch
/// (batch normalization in training mode, dropout) or do not depend on every parameter; if a logit
/// or a gradient is not finite; or if the kernel of two logits differs when their examples go
/// through the model alone.
///
/// # Examples
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, VarBuilder, VarMap, linear_no_bias};
/// use data_diet_candle::ntk;
/// use data_diet_candle::weights::Params;
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
    /// Returns the entries, row-major. Row `i * classes + c` belongs to logit `c` of example `i`.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns the number of rows, and of columns: `examples * classes`.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.examples * self.classes
    }

    /// Returns the number of examples.
    #[must_use]
    pub fn examples(&self) -> usize {
        self.examples
    }

    /// Returns the number of logits of each example.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns how many backward passes it took, of one example or of several, not counting those
    /// that examine the model first and check the result.
    #[must_use]
    pub fn backward_passes(&self) -> usize {
        self.backward_passes
    }

    /// Returns the [kernel distance](kernel::distance) to the kernel of the same examples at
    /// another moment, in `0..=1`.
    ///
    /// # Errors
    ///
    /// If the two kernels are of different groups of examples, or one of them is zero.
    pub fn distance(&self, other: &Self) -> Result<f64> {
        let ([ours, theirs], [own, other_own]) =
            ([self.examples, other.examples], [self.classes, other.classes]);
        if (ours, own) != (theirs, other_own) {
            return Err(Error::Argument(format!(
                "other: expected a kernel of {ours} examples and {own} classes, got {theirs} and \
                 {other_own}"
            )));
        }
        // At most 1 for positive semidefinite matrices, up to rounding.
        Ok(kernel::distance(&self.values, &other.values)?.min(1.0))
    }
}
