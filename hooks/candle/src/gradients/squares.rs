//! Sums of squares, one per example, accumulated in f64.

use candle_core::{DType, Result, Storage, Tensor, WithDType};

/// Returns the dtype of sums over parameters: f64, except on Metal, which lacks it.
pub(crate) fn sum_dtype(tensor: &Tensor) -> DType {
    if tensor.device().is_metal() { DType::F32 } else { DType::F64 }
}

/// Returns the dtype of products: f32 at least.
pub(crate) fn product_dtype(tensor: &Tensor) -> DType {
    if tensor.dtype() == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Returns the sum of squares of every row: `[rows, ...]` to `[rows]`, in [`sum_dtype`].
pub(crate) fn sums_of_squares(tensor: &Tensor) -> Result<Tensor> {
    let rows = tensor.dim(0)?;
    let tensor = tensor.detach().to_dtype(product_dtype(tensor))?.contiguous()?;
    if tensor.elem_count() == 0 {
        return Tensor::zeros(rows, sum_dtype(&tensor), tensor.device());
    }
    if tensor.device().is_cpu() {
        let sums = match tensor.dtype() {
            DType::F64 => on_host::<f64>(&tensor, rows)?,
            _ => on_host::<f32>(&tensor, rows)?,
        };
        return Tensor::from_vec(sums, rows, tensor.device());
    }
    on_device(&tensor, rows)
}

fn on_device(tensor: &Tensor, rows: usize) -> Result<Tensor> {
    tensor.reshape((rows, ()))?.to_dtype(sum_dtype(tensor))?.sqr()?.sum(1)
}

/// Without a temporary of the tensor's size, which would cost more than the sums.
fn on_host<T: WithDType + Into<f64>>(tensor: &Tensor, rows: usize) -> Result<Vec<f64>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { candle_core::bail!("expected a host tensor") };
    let values = &T::cpu_storage_as_slice(storage)?[layout.start_offset()..][..tensor.elem_count()];
    Ok(values.chunks_exact(values.len() / rows).map(sum_of_squares).collect())
}

fn sum_of_squares<T: WithDType + Into<f64>>(values: &[T]) -> f64 {
    // Independent sums, which the processor can add in parallel.
    let mut sums = [0.0_f64; 16];
    let chunks = values.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            let value: f64 = value.into();
            *sum += value * value;
        }
    }
    let square = |&value: &T| -> f64 {
        let value: f64 = value.into();
        value * value
    };
    sums.iter().sum::<f64>() + rest.iter().map(square).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn both_ways_add_up_squares_of_rows() {
        for (rows, values) in [(1, 1), (3, 5), (2, 16), (4, 37), (3, 0)] {
            let numbers: Vec<f32> = (0..rows * values).map(|at| (at as f32 * 0.7).sin()).collect();
            let expected: Vec<f64> = (0..rows)
                .map(|row| &numbers[row * values..][..values])
                .map(|row| row.iter().map(|&value| f64::from(value) * f64::from(value)).sum())
                .collect();
            let tensor = Tensor::from_slice(&numbers, (rows, values), &Device::Cpu).unwrap();
            // A view with an offset, and one in another order.
            let padded = tensor.pad_with_zeros(0, 2, 1).unwrap().narrow(0, 2, rows).unwrap();
            let turned = tensor.t().unwrap().contiguous().unwrap().t().unwrap();
            for tensor in [&tensor, &padded, &turned, &tensor.to_dtype(DType::F64).unwrap()] {
                for sums in [sums_of_squares(tensor).unwrap(), on_device(tensor, rows).unwrap()] {
                    let (storage, _) = sums.storage_and_layout();
                    let Storage::Cpu(storage) = &*storage else { panic!("not on the host") };
                    let sums = f64::cpu_storage_as_slice(storage).unwrap();
                    let close = sums.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12);
                    assert!(close && sums.len() == rows, "{sums:?} for {expected:?}");
                }
            }
        }
    }
}
