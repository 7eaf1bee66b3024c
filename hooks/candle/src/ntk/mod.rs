//! The data-dependent neural tangent kernel of a model on a group of examples.
//!
//! `K[(i, c), (j, d)] = <grad_w f^c(x_i), grad_w f^d(x_j)>`: inner products of the gradients of logits
//! in all parameters (Fort et al. 2020; the Data Diet paper, section 5), at row `i * classes + c`. How
//! far two kernels are apart is [`data_diet::geometry::kernel`]'s business.
//!
//! Two ways lead to it. For layers of [`nn`](crate::nn), `gather` takes a backward pass per class for many
//! examples together; `jacobian` takes one per example and class, for any model. Each parameter goes the
//! first way if it can, and what they give is added up.
//!
//! ```text
//! forms (the cheapest way for each parameter) -> plan (what is held at a time) -> gather (backward passes)
//!     gather -> factored (gradients never formed) -+
//!     gather -> formed (gradients as columns) -----+-> bands -> square (the kernel)
//!     jacobian (gradients one by one) -------------+
//! ```
//!
//! What stands between the layers has candle's gradients: see [`nn`](crate::nn) about those that are
//! missing or wrong.

mod bands;
mod factored;
mod factors;
mod formed;
mod forms;
mod gather;
mod jacobian;
mod options;
mod plan;
mod square;
#[cfg(test)]
mod tests;

use candle_core::Tensor;
use data_diet::geometry::kernel;

use crate::error::{Error, Result};
use crate::weights::Params;
pub use options::GramOptions;

/// Computes the kernel of a model with its weights as they are now, in at most 2 GiB; see
/// [`GramOptions`] for another bound.
///
/// `inputs` holds the examples, `[examples, ...]`, at least two; `forward` makes of any number of
/// them logits `[examples, classes]`, in evaluation mode: an example's logits must not depend on its
/// batch. `params` are the variables that `forward` uses; running statistics among them have no
/// gradient and add nothing.
///
/// Parameters of layers of [`nn`](crate::nn) cost `classes` backward passes of all examples together,
/// in which no gradient of a weight is formed. The products of fully connected layers are then those of
/// their inputs and outputs alone; a convolution's gradients are formed for all logits at once or, where
/// it has few positions and many weights, contracted pair by pair of examples, whichever takes less. Any
/// other parameter costs `examples * classes` backward passes of single examples. Both cost more if memory
/// does not suffice: see [`GramOptions::max_bytes`]. Products of at most 65,536 numbers at a time are in the
/// model's precision, `f32` at least, and added up in `f64`; contracted ones are in `f64` throughout.
///
/// # Errors
///
/// If there are fewer than two examples, the logits are not of this shape, depend on the batch (batch
/// normalization in training mode, dropout) or not on every parameter, or a logit or a gradient is not
/// finite. If the kernel of two logits is another one when their examples go through the model alone.
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

    /// How many backward passes it took, of one example or of several, besides those that look at the
    /// model first and check the result.
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
        // Of positive semidefinite matrices it is at most 1, but for rounding.
        Ok(kernel::distance(&self.values, &other.values)?.min(1.0))
    }
}
