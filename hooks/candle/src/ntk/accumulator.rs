//! Sums a kernel over parameters, in bands that fit in memory.

use std::collections::BTreeSet;
use std::ops::Range;

use candle_core::Tensor;

use super::batched_passes::Passes;
use super::contracted::{add_contracted, add_grams};
use super::factors::Kept;
use super::materialized::{Columns, ROW_BLOCK, form};
use super::plan::{Part, Plan};
use super::product_forms::{Form, GradientStructure, Weight};
use super::single_logits::{Block, Rows, row_bytes};
use super::symmetric_matrix::SymmetricMatrix;
use crate::error::{Error, Result};
use crate::weights::Params;

/// The number of rows that are multiplied with the held ones at a time: enough for an efficient
/// matrix product.
const MAX_OTHER_ROWS: usize = 64;
/// How much the products of the same two gradients may differ, in units of the product of their
/// norms.
const CHECK_TOLERANCE: f64 = 1e-3;
const HALF_CHECK_TOLERANCE: f64 = 1e-1;

/// A kernel that is being summed.
pub(super) struct Kernel {
    square: SymmetricMatrix,
    examples: usize,
    classes: usize,
    backward_passes: usize,
    max_bytes: usize,
}

impl Kernel {
    pub(super) fn new(examples: usize, classes: usize, max_bytes: usize) -> Self {
        let square = SymmetricMatrix::zeros(examples * classes);
        Self { square, examples, classes, backward_passes: 0, max_bytes }
    }

    pub(super) fn backward_passes(&self) -> usize {
        self.backward_passes
    }

    /// Adds the products of gradients in these parameters, with a backward pass for each gradient.
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
        let (held, passing) = bands(fit, total, MAX_OTHER_ROWS);
        let mut band = Block::new(params, held)?;
        let mut guests = Block::new(params, passing)?;
        for start in (0..total).step_by(held) {
            let own = start..total.min(start + held);
            band.fill(&mut rows, own.clone())?;
            for first in (0..own.len()).step_by(ROW_BLOCK) {
                let (block, rest) = (first..own.len().min(first + ROW_BLOCK), first..own.len());
                let products = band.products(block.clone(), &band, rest)?;
                let rows = start + block.start..start + block.end;
                self.add_products(&rows, &(start + first..own.end), &products);
            }
            for start in (own.end..total).step_by(passing.max(1)) {
                let others = start..total.min(start + passing);
                guests.fill(&mut rows, others.clone())?;
                let products = band.products(0..own.len(), &guests, 0..others.len())?;
                self.add_products(&own, &others, &products);
            }
        }
        self.backward_passes += rows.backward_passes();
        Ok(())
    }

    fn add_products(&mut self, rows: &Range<usize>, columns: &Range<usize>, products: &[f64]) {
        for (row, products) in rows.clone().zip(products.chunks_exact(columns.len())) {
            self.square.add(row, columns.start, products);
        }
    }

    /// Adds the products of gradients in parameters that the tape sees: `weights`, whose layers'
    /// outputs take `output_bytes` per example. Returns `false` if the positions of a layer depend
    /// on the number of examples.
    pub(super) fn add_factors(
        &mut self,
        params: &Params,
        weights: &[Weight],
        output_bytes: usize,
        inputs: &Tensor,
        multi_row_inputs: bool,
        forward: &mut impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<bool> {
        let (classes, max_bytes) = (self.classes, self.max_bytes);
        let plan = Plan::new(weights, output_bytes, [self.examples, classes], max_bytes);
        let mut passes =
            Passes { params, weights, inputs, classes, multi_row_inputs, forward, taken: 0 };
        for round in &plan.rounds {
            let Some(kept) = passes.round(&plan, round)? else { return Ok(false) };
            let mut columns = Columns::new(&mut self.square, max_bytes / 16);
            for (part, kept) in round.iter().zip(kept) {
                add_part(&mut columns, &weights[part.place], part, &kept, max_bytes / 8)?;
            }
            columns.flush()?;
        }
        self.backward_passes += passes.taken;
        Ok(true)
    }

    /// Returns the kernel if all of it is finite. An entry is not finite if one of its gradients is
    /// not.
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

    /// Compares the products of some gradients with those of single examples. Returns a description
    /// of the first difference, if any.
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
        let all = 0..which.len();
        let mut expected = block.products(all.clone(), &block, all)?.into_iter();
        for &row in which {
            for &column in which {
                let (alone, got) =
                    (expected.next().unwrap_or(f64::NAN), self.square.get(row, column));
                let most = (self.square.get(row, row) * self.square.get(column, column)).sqrt();
                if (alone - got).abs() > tolerance * most || alone.is_nan() {
                    return Ok(Some(format!(
                        "{alone:.3e} alone and {got:.3e} in the batch at row {row}, column {column} of \
                         the kernel"
                    )));
                }
            }
        }
        Ok(None)
    }
}

/// Adds the products of all gradients in a part of a parameter.
fn add_part(
    columns: &mut Columns<'_>,
    weight: &Weight,
    part: &Part,
    kept: &[Kept],
    max_bytes: usize,
) -> Result<()> {
    let (mut gradients, mut factors) = (Vec::new(), Vec::new());
    for kept in kept {
        match kept {
            Kept::Gradients(rows) => gradients.push(rows),
            Kept::Factors(of_chunk) => factors.push(of_chunk),
        }
    }
    if factors.is_empty() {
        let rows = match gradients.as_slice() {
            [rows] => (*rows).clone(),
            several => Tensor::cat(several, 0)?,
        };
        return columns.push(rows);
    }
    let units = part.units.clone();
    let (groups, inputs) = match weight.structure {
        GradientStructure::Layer { groups, inputs, .. } => (groups, inputs),
        _ => (1, 1),
    };
    match weight.form {
        Form::Grams => add_grams(columns.square(), &factors),
        Form::Contracted => {
            let of_groups = if groups == 1 { 0..1 } else { units };
            add_contracted(columns.square(), &factors, groups, &of_groups, max_bytes)
        }
        Form::Formed => {
            let most = (columns.most() / (weight.unit_features() * inputs).max(1)).max(1);
            for start in (0..units.len()).step_by(most) {
                let some = start..units.len().min(start + most);
                columns.push(form(weight, &factors, units.start, some)?)?;
            }
            Ok(())
        }
    }
}

/// Returns how many of `total` to hold, and how many to multiply with them at a time, if `fit` fit
/// in memory.
fn bands(fit: usize, total: usize, most_passing: usize) -> (usize, usize) {
    if fit >= total {
        return (total, 0);
    }
    let passing = (fit / 8).clamp(1, most_passing);
    (fit - passing, passing)
}
