//! What is kept of one parameter's gradients: the gradients, or the factors whose products they are.

use std::ops::Range;

use candle_core::Tensor;

use crate::error::Result;
use crate::gradients::contribution::Factor;

/// What is kept of some examples for a part of a parameter.
#[derive(Debug)]
pub(super) enum Kept {
    /// The gradients, `[examples * classes, values]`.
    Gradients(Tensor),
    /// The factors whose products they are.
    Factors(Factors),
}

/// Two factors of outer products.
#[derive(Debug)]
pub(super) struct Factors {
    /// From the gradient of the output: `[examples, classes, features, positions]`.
    pub(super) left: Tensor,
    /// From the input.
    pub(super) right: Inputs,
}

/// The inputs of each use, with all their features.
#[derive(Debug)]
pub(super) enum Inputs {
    Factors(Vec<Factor>),
    /// `[examples, positions]`.
    Tokens(Tensor),
}

impl Factors {
    pub(super) fn examples(&self) -> Result<usize> {
        Ok(self.left.dim(0)?)
    }
}

impl Inputs {
    /// Returns `[count, groups, inputs, positions]` of some of `batch` examples.
    pub(super) fn columns(
        factors: &[Factor],
        which: Range<usize>,
        batch: usize,
        groups: usize,
    ) -> Result<Tensor> {
        let columns =
            factors.iter().map(|factor| factor.columns(which.start, which.len(), batch, groups));
        let columns = concat_positions(columns.collect::<candle_core::Result<_>>()?)?;
        let (_, inputs, positions) = columns.dims3()?;
        Ok(columns.reshape((which.len(), groups, inputs, positions))?)
    }
}

/// Concatenates the positions of all uses.
pub(super) fn concat_positions(mut columns: Vec<Tensor>) -> candle_core::Result<Tensor> {
    match columns.len() {
        1 => Ok(columns.remove(0)),
        _ => Tensor::cat(&columns, 2),
    }
}
