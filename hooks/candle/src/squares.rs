//! Sums of squares, one per example, added up in f64.

use candle_core::{DType, Result, Storage, Tensor, WithDType};

/// What sums over parameters are added up in: f64, which Metal lacks.
pub(crate) fn sum_dtype(tensor: &Tensor) -> DType {
    if tensor.device().is_metal() { DType::F32 } else { DType::F64 }
}

/// What products are computed in: f32 at least.
pub(crate) fn product_dtype(tensor: &Tensor) -> DType {
    if tensor.dtype() == DType::F64 { DType::F64 } else { DType::F32 }
}

/// The sum of the squares of every row: `[rows, ...]` to `[rows]`, in [`sum_dtype`].
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
    tensor.reshape((rows, ()))?.sqr()?.to_dtype(sum_dtype(&tensor))?.sum(1)
}

/// Without a temporary the size of the tensor, which would cost more than the sums.
fn on_host<T: WithDType + Into<f64>>(tensor: &Tensor, rows: usize) -> Result<Vec<f64>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { candle_core::bail!("expected a host tensor") };
    let values = &T::cpu_storage_as_slice(storage)?[layout.start_offset()..][..tensor.elem_count()];
    Ok(values.chunks_exact(values.len() / rows).map(sum_of_squares).collect())
}

fn sum_of_squares<T: WithDType + Into<f64>>(values: &[T]) -> f64 {
    // Independent sums, which the processor can add at the same time.
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
