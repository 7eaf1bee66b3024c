//! Forms gradients as columns of a matrix, and adds the products of its rows to a kernel.

use std::ops::Range;

use candle_core::Tensor;

use super::factors::{Factors, Inputs};
use super::product_forms::{GradientStructure, Weight};
use super::symmetric_matrix::SymmetricMatrix;
use crate::error::{Error, Result};
use crate::gradients::contribution::CACHED_BYTES;
use crate::gradients::matmul::product;
use crate::transfer::HostTensor;

/// The number of columns whose products are summed in the model's own precision.
const COLUMN_SEGMENT: usize = 1 << 16;

/// The number of rows whose products with all later rows are computed at a time: fewer rows compute
/// less below the diagonal, more rows are faster.
pub(super) const ROW_BLOCK: usize = 256;

/// The bytes of unfolded inputs that are made at a time.
const UNFOLDED_BYTES: usize = 4 * CACHED_BYTES;

/// Forms the gradients of all logits for some units of a layer, `[examples * classes, values]`. The
/// factors contain these `units`, and begin with the layer's unit `first`.
pub(super) fn form(
    weight: &Weight,
    factors: &[&Factors],
    first: usize,
    units: Range<usize>,
) -> Result<Tensor> {
    let GradientStructure::Layer { groups, inputs, positions, .. } = weight.structure else {
        return Err(Error::Argument("a layer's form for another parameter".to_owned()));
    };
    let unit = weight.unit_features();
    let (features, width) = (units.len() * unit, units.len() * unit * inputs);
    let left = &factors[0].left;
    let classes = left.dim(1)?;
    let examples = factors.iter().map(|factors| factors.examples()).sum::<Result<usize>>()?;
    let rows = Tensor::zeros((examples * classes, width), left.dtype(), left.device())?;
    let example_bytes = groups * inputs * positions * left.dtype().size_in_bytes();
    let tile = (UNFOLDED_BYTES / example_bytes.max(1)).max(1);
    // A group has inputs of its own; in a layer without groups, each unit has all inputs.
    let (each, of_groups) =
        if groups == 1 { (features, 0..1) } else { (unit, first + units.start..first + units.end) };
    let mut row = 0;
    for factors in factors {
        let Inputs::Factors(inputs_of_uses) = &factors.right else {
            return Err(Error::Argument("a layer's form for another parameter".to_owned()));
        };
        let batch = factors.examples()?;
        for start in (0..batch).step_by(tile) {
            let count = tile.min(batch - start);
            let left = factors.left.narrow(0, start, count)?;
            let left = left.narrow(2, units.start * unit, features)?;
            let right = Inputs::columns(inputs_of_uses, start..start + count, batch, groups)?;
            let right = right.narrow(1, of_groups.start, of_groups.len())?;
            let gradients = if of_groups.len() == 1 {
                let left = left.reshape((count, classes * each, positions))?;
                product(&left, &right.squeeze(1)?.t()?)?
            } else {
                let left = left.reshape((count, classes, of_groups.len(), each, positions))?;
                let left = left.transpose(1, 2)?.contiguous()?.flatten(2, 3)?;
                let shape = (count, of_groups.len(), classes, each * inputs);
                let gradients = left.matmul(&right.transpose(2, 3)?.contiguous()?)?;
                gradients.reshape(shape)?.transpose(1, 2)?.contiguous()?
            };
            rows.slice_set(&gradients.reshape((count * classes, width))?, 0, row)?;
            row += count * classes;
        }
    }
    Ok(rows)
}

/// Collects columns and adds the products of their rows to a kernel.
pub(super) struct Columns<'a> {
    square: &'a mut SymmetricMatrix,
    most: usize,
    pending: Vec<Tensor>,
    width: usize,
}

impl<'a> Columns<'a> {
    /// Collects columns in about this many bytes, so that there are not many small products.
    pub(super) fn new(square: &'a mut SymmetricMatrix, max_bytes: usize) -> Self {
        let most = (max_bytes / (4 * square.side()).max(1)).clamp(1, COLUMN_SEGMENT);
        Self { square, most, pending: Vec::new(), width: 0 }
    }

    /// Returns the best number of columns to push at a time.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn square(&mut self) -> &mut SymmetricMatrix {
        self.square
    }

    /// Adds columns, `[rows, values]`.
    pub(super) fn push(&mut self, columns: Tensor) -> Result<()> {
        let width = columns.dim(1)?;
        let is_other = self.pending.first().is_some_and(|first| first.dtype() != columns.dtype());
        if is_other || self.width + width > self.most {
            self.flush()?;
        }
        self.width += width;
        self.pending.push(columns);
        Ok(())
    }

    /// Adds what is pending to the kernel.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.width = 0;
        let pending = std::mem::take(&mut self.pending);
        let columns = match pending.as_slice() {
            [] => return Ok(()),
            [columns] => columns.clone(),
            several => Tensor::cat(several, 1)?,
        };
        drop(pending);
        let (rows, values) = columns.dims2()?;
        for start in (0..values).step_by(self.most) {
            let segment = columns.narrow(1, start, self.most.min(values - start))?.contiguous()?;
            for first in (0..rows).step_by(ROW_BLOCK) {
                let block = segment.narrow(0, first, ROW_BLOCK.min(rows - first))?;
                let products = product(&block, &segment.narrow(0, first, rows - first)?.t()?)?;
                HostTensor::new(&products)?.for_each_row("gradients", |row, products| {
                    self.square.add(first + row, first, products);
                })?;
            }
        }
        Ok(())
    }
}
