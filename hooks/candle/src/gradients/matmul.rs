//! Matrix products: those that every device supports, and many small ones on the host.

use candle_core::{Result, Tensor};

/// From this many multiplications on, candle computes a product of two matrices on several threads.
const SPREAD: usize = 48 * 48 * 256;
/// Below this many, several threads take longer than one.
const PARALLEL_WORTHWHILE: usize = 4 * SPREAD;

/// `[batch, rows, inner]` times `[batch, inner, columns]`. A product that is small, but not small
/// enough for candle to keep it on one thread, is computed a few rows at a time.
pub(crate) fn batched_product(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    let (_, rows, inner) = left.dims3()?;
    let row = inner * right.dim(2)?;
    let small = (SPREAD..PARALLEL_WORTHWHILE).contains(&(rows * row)) && row <= SPREAD;
    if !small || !left.device().is_cpu() {
        return product(left, right);
    }
    let parts = rows.div_ceil(SPREAD / row);
    let each = rows.div_ceil(parts);
    let products = (0..rows).step_by(each).map(|start| {
        let count = each.min(rows - start);
        left.narrow(1, start, count)?.matmul(right)
    });
    Tensor::cat(&products.collect::<Result<Vec<_>>>()?, 1)
}

/// `left` times `right`, matrix by matrix. candle multiplies matrices with gaps between rows or
/// columns on the host only; for other devices they are copied first.
pub(crate) fn product(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    if left.device().is_cpu() {
        return left.matmul(right);
    }
    with_matmul_layout(left)?.matmul(&with_matmul_layout(right)?)
}

fn with_matmul_layout(matrices: &Tensor) -> Result<Tensor> {
    if needs_copy(matrices.dims(), matrices.stride()) {
        matrices.force_contiguous()
    } else {
        Ok(matrices.clone())
    }
}

/// Returns whether matrices are neither row-major nor column-major, or not evenly spaced.
fn needs_copy(dims: &[usize], strides: &[usize]) -> bool {
    let ([batches @ .., rows, columns], [steps @ .., row_step, column_step]) = (dims, strides)
    else {
        return false;
    };
    // The stride of a dimension of size 1 does not matter.
    let lies = |inner: usize, inner_step: usize, outer: usize, outer_step: usize| {
        (inner_step == 1 || inner == 1) && (outer_step == inner || outer == 1)
    };
    let by_rows = lies(*columns, *column_step, *rows, *row_step);
    let by_columns = lies(*rows, *row_step, *columns, *column_step);
    let evenly = match (batches, steps) {
        ([_, inner], [outer_step, inner_step]) => {
            *outer_step == inner_step * inner || batches.contains(&1)
        }
        _ => batches.len() < 2,
    };
    !evenly || !(by_rows || by_columns)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the test reads what it has computed on the host")]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn products_are_candles_however_they_are_computed() {
        for (rows, inner, columns) in [
            (3, 4, 5),
            (32, 144, 196),
            (144, 32, 196),
            (7, 400, 300),
            (1, 1200, 1000),
            (400, 90, 90),
        ] {
            let random = |shape: (usize, usize, usize)| {
                Tensor::randn(0.0_f32, 1.0, shape, &Device::Cpu).unwrap()
            };
            let right = random((2, columns, inner)).transpose(1, 2).unwrap();
            let left = random((2, rows, inner));
            let same = random((1, rows, inner)).squeeze(0).unwrap().broadcast_left(2).unwrap();
            for left in [left, same] {
                let expected = left.matmul(&right).unwrap();
                let got = batched_product(&left, &right).unwrap();
                assert_eq!(got.dims(), [2, rows, columns]);
                let difference = (got - expected).unwrap().abs().unwrap().max_all().unwrap();
                assert!(difference.to_scalar::<f32>().unwrap() < 1e-4, "{rows} {inner} {columns}");
            }
        }
    }

    fn some(shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|at| ((at * 7) % 11) as f32 - 5.0).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn only_what_has_gaps_is_copied() {
        let matrix = some(&[4, 6]);
        let batch = some(&[3, 4, 6]);
        let turned = batch.transpose(1, 2).unwrap();
        let same = [
            matrix.clone(),
            matrix.t().unwrap(),
            // Rows of a larger matrix, one of its columns as a row, and one matrix for all batches.
            matrix.narrow(0, 1, 2).unwrap(),
            matrix.narrow(0, 1, 1).unwrap().t().unwrap(),
            batch.narrow(0, 1, 2).unwrap(),
            turned.clone(),
            matrix.broadcast_left(5).unwrap(),
        ];
        for matrices in same {
            assert!(!needs_copy(matrices.dims(), matrices.stride()), "{:?}", matrices.layout());
        }
        let copied = [
            matrix.narrow(1, 1, 3).unwrap(),
            matrix.narrow(1, 1, 3).unwrap().t().unwrap(),
            batch.narrow(2, 0, 5).unwrap(),
            batch.transpose(0, 1).unwrap(),
            some(&[2, 3, 4, 6]).transpose(0, 1).unwrap(),
        ];
        for matrices in copied {
            assert!(needs_copy(matrices.dims(), matrices.stride()), "{:?}", matrices.layout());
            let copy = with_matmul_layout(&matrices).unwrap();
            assert!(!needs_copy(copy.dims(), copy.stride()));
            let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(flat(&copy), flat(&matrices));
        }
    }
}
