//! Products of many small matrices.

use candle_core::{Result, Tensor};

/// From so many multiplications on, candle computes a product of two matrices on several threads.
const SPREAD: usize = 48 * 48 * 256;
/// Below so many, that takes longer than on one.
const WORTH_SPREADING: usize = 4 * SPREAD;

/// `[batch, rows, inner]` times `[batch, inner, columns]`. A product that is small, but not small enough
/// for candle to keep it on one thread, is computed by a few of its rows at a time.
pub(crate) fn batched_product(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    let (_, rows, inner) = left.dims3()?;
    let row = inner * right.dim(2)?;
    let small = (SPREAD..WORTH_SPREADING).contains(&(rows * row)) && row <= SPREAD;
    if !small || !left.device().is_cpu() {
        return left.matmul(right);
    }
    let parts = rows.div_ceil(SPREAD / row);
    let each = rows.div_ceil(parts);
    let products = (0..rows).step_by(each).map(|start| {
        let count = each.min(rows - start);
        left.narrow(1, start, count)?.matmul(right)
    });
    Tensor::cat(&products.collect::<Result<Vec<_>>>()?, 1)
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
}
