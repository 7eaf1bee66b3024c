//! Products of gradients that are never formed, computed from their factors.

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::factors::{Factors, Inputs};
use super::materialized::ROW_BLOCK;
use super::symmetric_matrix::SymmetricMatrix;
use crate::error::{Error, Result};
use crate::gradients::contribution::CACHED_BYTES;
use crate::gradients::matmul::product;
use crate::transfer::HostTensor;

/// The most bytes of contracted factors that are made at a time.
const CONTRACTED_BYTES: usize = 4 * CACHED_BYTES;

/// Adds the products of gradients with a single position: the products of the output gradients
/// times those of the inputs.
pub(super) fn add_grams(square: &mut SymmetricMatrix, factors: &[&Factors]) -> Result<()> {
    let classes = factors[0].left.dim(1)?;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for factors in factors {
        left.push(factors.left.flatten(0, 1)?.flatten_from(1)?);
        let batch = factors.examples()?;
        right.push(inputs(factors, 0..batch, 1)?.flatten_from(1)?);
    }
    let (left, right) = (Tensor::cat(&left, 0)?, Tensor::cat(&right, 0)?.contiguous()?);
    let of_inputs = HostTensor::new(&product(&right, &right.t()?)?)?.doubles("gradients")?;
    let (rows, examples) = (left.dim(0)?, right.dim(0)?);
    // Whole examples, so that a block's first column is that of an example.
    let block = ROW_BLOCK.next_multiple_of(classes);
    for first in (0..rows).step_by(block) {
        let own = left.narrow(0, first, block.min(rows - first))?;
        let products = product(&own, &left.narrow(0, first, rows - first)?.t()?)?;
        let mut row_of_kernel = vec![0.0; rows - first];
        HostTensor::new(&products)?.for_each_row("gradients", |row, products| {
            let example = (first + row) / classes;
            let of_inputs = &of_inputs[example * examples + first / classes..];
            let of_examples =
                row_of_kernel.chunks_exact_mut(classes).zip(products.chunks_exact(classes));
            for ((of_kernel, products), factor) in of_examples.zip(of_inputs) {
                for (entry, product) in of_kernel.iter_mut().zip(products) {
                    *entry = product * factor;
                }
            }
            square.add(first + row, first, &row_of_kernel);
        })?;
    }
    Ok(())
}

/// Adds the products of gradients with several positions, pair by pair of examples: the products of
/// the inputs contract one example's output gradients, which are then multiplied with the other's.
/// In double precision, in about `max_bytes`. The factors are those of the groups from
/// `first_group` of `groups` on.
pub(super) fn add_contracted(
    square: &mut SymmetricMatrix,
    factors: &[&Factors],
    groups: usize,
    of_groups: &Range<usize>,
    max_bytes: usize,
) -> Result<()> {
    let (_, classes, features, positions) = factors[0].left.dims4()?;
    let input_numbers = match &factors[0].right {
        Inputs::Tokens(_) => 1,
        Inputs::Factors(_) => {
            let inputs = inputs(factors[0], 0..1, groups)?;
            groups * inputs.dim(2)?
        }
    };
    // Two tiles, each in its own dtype and widened, and the products of the inputs of both.
    let example_bytes = 8 * 3 * positions * (classes * features + input_numbers);
    let pair_bytes = 8 * 2 * positions * positions;
    let tile = (max_bytes / (2 * example_bytes).max(1)).min((max_bytes / 2 / pair_bytes).isqrt());
    let mut tiles = Vec::new();
    let mut first = 0;
    for factors in factors {
        let batch = factors.examples()?;
        // Tiles of about the same size.
        let count = batch.div_ceil(tile.max(1));
        let size = batch.div_ceil(count);
        for start in (0..batch).step_by(size) {
            let which = start..batch.min(start + size);
            tiles.push((factors, which, first + start));
        }
        first += batch;
    }
    let most_bytes = CONTRACTED_BYTES.min(max_bytes / 8);
    for (place, (factors, which, first)) in tiles.iter().enumerate() {
        let own = Tile::new(factors, which.clone(), *first, groups, of_groups)?;
        for (other_factors, other_which, other_first) in &tiles[place..] {
            if first == other_first {
                own.add_products(&own, most_bytes, square)?;
            } else {
                let other =
                    Tile::new(other_factors, other_which.clone(), *other_first, groups, of_groups)?;
                own.add_products(&other, most_bytes, square)?;
            }
        }
    }
    Ok(())
}

/// `[count, groups, inputs, positions]`.
fn inputs(factors: &Factors, which: Range<usize>, groups: usize) -> Result<Tensor> {
    match &factors.right {
        Inputs::Factors(uses) => Inputs::columns(uses, which, factors.examples()?, groups),
        Inputs::Tokens(_) => Err(Error::Argument("tokens are compared, not multiplied".to_owned())),
    }
}

/// Some examples' factors in double precision.
struct Tile {
    first: usize,
    classes: usize,
    /// `[examples, groups, classes * outputs, positions]`.
    left: Tensor,
    right: Right,
}

enum Right {
    /// `[groups, examples * positions, inputs]`.
    Inputs(Tensor),
    /// `[examples * positions]`.
    Tokens(Tensor),
}

impl Tile {
    fn new(
        factors: &Factors,
        which: Range<usize>,
        first: usize,
        groups: usize,
        of_groups: &Range<usize>,
    ) -> Result<Self> {
        let count = which.len();
        let left = factors.left.narrow(0, which.start, count)?.to_dtype(DType::F64)?;
        let (_, classes, features, positions) = left.dims4()?;
        let some = of_groups.len();
        let left = left.reshape((count, classes, some, features / some, positions))?;
        let left = left.transpose(1, 2)?.contiguous()?.flatten(2, 3)?;
        let right = match &factors.right {
            Inputs::Tokens(tokens) => {
                Right::Tokens(tokens.narrow(0, which.start, count)?.contiguous()?.flatten_all()?)
            }
            Inputs::Factors(_) => {
                let columns = inputs(factors, which, groups)?;
                let columns = columns.narrow(1, of_groups.start, some)?.to_dtype(DType::F64)?;
                let rows = columns.permute((1, 0, 3, 2))?.contiguous()?;
                Right::Inputs(rows.flatten(1, 2)?)
            }
        };
        Ok(Self { first, classes, left, right })
    }

    /// Adds the products of these gradients with others, leaving out those before the tile's own.
    /// As many examples are contracted at a time as fit in `most_bytes`.
    fn add_products(
        &self,
        others: &Self,
        most_bytes: usize,
        square: &mut SymmetricMatrix,
    ) -> Result<()> {
        let (count, groups, features, positions) = self.left.dims4()?;
        let other_count = others.left.dim(0)?;
        let example_bytes = 8 * features * positions;
        let tile = (most_bytes / example_bytes.max(1)).clamp(1, count);
        for group in 0..groups {
            // [own examples, positions, other examples, positions]
            let of_inputs = self.right.products(&others.right, group)?.reshape((
                count,
                positions,
                other_count,
                positions,
            ))?;
            let own = self.left.narrow(1, group, 1)?.squeeze(1)?.contiguous()?;
            let other = others.left.narrow(1, group, 1)?.squeeze(1)?;
            for example in 0..other_count {
                let column = (others.first + example) * self.classes;
                let of_inputs = of_inputs.narrow(2, example, 1)?.squeeze(2)?;
                let other = other.get(example)?.contiguous()?.reshape((self.classes, ()))?.t()?;
                // A pair of examples counts once, above the diagonal.
                let end = (others.first + example + 1).saturating_sub(self.first).min(count);
                for start in (0..end).step_by(tile) {
                    let tile = tile.min(end - start);
                    let of_inputs = of_inputs.narrow(0, start, tile)?.contiguous()?;
                    let contracted = own.narrow(0, start, tile)?.matmul(&of_inputs)?;
                    let products = contracted.reshape((tile * self.classes, ()))?.matmul(&other)?;
                    HostTensor::new(&products)?.for_each_row("gradients", |row, products| {
                        let row = (self.first + start) * self.classes + row;
                        square.add(row, column, products);
                    })?;
                }
            }
        }
        Ok(())
    }
}

impl Right {
    fn products(&self, others: &Self, group: usize) -> Result<Tensor> {
        match (self, others) {
            (Self::Inputs(own), Self::Inputs(others)) => {
                Ok(own.get(group)?.matmul(&others.get(group)?.t()?)?)
            }
            (Self::Tokens(own), Self::Tokens(others)) => {
                let same = own.unsqueeze(1)?.broadcast_eq(&others.unsqueeze(0)?)?;
                Ok(same.to_dtype(DType::F64)?)
            }
            _ => Err(Error::Argument("tiles of different parameters".to_owned())),
        }
    }
}
