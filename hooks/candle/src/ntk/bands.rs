//! Adds up a kernel: what the parameters give, in bands that fit into memory.

use std::collections::BTreeSet;
use std::ops::Range;

use candle_core::Tensor;

use super::factors::Factors;
use super::jacobian::{Block, Rows, row_bytes};
use super::square::Square;
use crate::error::{Error, Result};
use crate::params::Params;

/// Rows that are compared with the held ones at a time: enough for a matrix product to pay.
const MOST_PASSING_ROWS: usize = 64;
/// Products of the same two gradients may differ by this much, in units of the product of their norms.
const CHECK_TOLERANCE: f64 = 1e-3;
const HALF_CHECK_TOLERANCE: f64 = 1e-1;

/// A kernel in the making.
pub(super) struct Kernel {
    square: Square,
    examples: usize,
    classes: usize,
    backward_passes: usize,
    max_bytes: usize,
}

impl Kernel {
    pub(super) fn new(examples: usize, classes: usize, max_bytes: usize) -> Self {
        let square = Square::zeros(examples * classes);
        Self { square, examples, classes, backward_passes: 0, max_bytes }
    }

    pub(super) fn backward_passes(&self) -> usize {
        self.backward_passes
    }

    /// Adds the products of gradients in these parameters, a backward pass for each.
    pub(super) fn add_rows(
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
    pub(super) fn add_factors(
        &mut self,
        params: &Params,
        inputs: &Tensor,
        bytes: usize,
        several_rows: bool,
        forward: &mut impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<()> {
        let half = self.max_bytes / 2;
        let (held, passing) = bands((half / bytes.max(1)).max(2), self.examples, usize::MAX);
        let mut passes = 0;
        let mut factors = |examples: Range<usize>| -> Result<Factors> {
            passes += self.classes;
            Factors::new(params, inputs, examples, self.classes, several_rows, forward)
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
    pub(super) fn finite(&self) -> Result<Vec<f32>> {
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

    /// Compares the products of some gradients with what they are one example at a time; the first
    /// difference in words, if there is one.
    pub(super) fn difference<F>(
        &self,
        rows: &mut Rows<'_, F>,
        which: &BTreeSet<usize>,
    ) -> Result<Option<String>>
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
                    return Ok(Some(format!(
                        "{alone} alone and {got} in the batch at row {row}, column {column}"
                    )));
                }
            }
        }
        Ok(None)
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
