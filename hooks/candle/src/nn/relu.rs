//! The rectifier.

use candle_core::backend::BackendStorage;
use candle_core::op::Relu;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Device, Layout, MetalStorage, Result, Shape,
    Storage, Tensor, WithDType, bail,
};

use crate::nn::parallel_fill::fill_blocks;

/// Returns `max(x, 0)` like [`Tensor::relu`]: the same values and gradients to the bit, but on the
/// host the gradient takes one pass over memory where candle's takes five.
///
/// The derivative at zero is 1, as in candle; in other frameworks it is usually 0.
///
/// # Errors
///
/// If candle cannot compute it.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use data_diet_candle::nn;
///
/// # fn main() -> candle_core::Result<()> {
/// let x = Tensor::new(&[-1.0_f32, 2.0], &Device::Cpu)?;
/// assert_eq!(nn::relu(&x)?.to_vec1::<f32>()?, [0.0, 2.0]);
/// # Ok(())
/// # }
/// ```
pub fn relu(xs: &Tensor) -> Result<Tensor> {
    xs.apply_op1(Rectifier)
}

struct Rectifier;

impl CustomOp1 for Rectifier {
    fn name(&self) -> &'static str {
        "rectifier"
    }

    fn cpu_fwd(&self, values: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((values.unary_impl::<Relu>(layout)?, layout.shape().clone()))
    }

    fn cuda_fwd(&self, values: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((values.unary_impl::<Relu>(layout)?, layout.shape().clone()))
    }

    fn metal_fwd(&self, values: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        Ok((values.unary_impl::<Relu>(layout)?, layout.shape().clone()))
    }

    fn bwd(&self, values: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (values, gradient) = (values.detach(), gradient.detach());
        let gradient = match (values.device(), values.dtype()) {
            (Device::Cpu, DType::F32) => on_host::<f32>(&values, &gradient)?,
            (Device::Cpu, DType::F64) => on_host::<f64>(&values, &gradient)?,
            _ => (gradient * values.ge(&values.zeros_like()?)?.to_dtype(values.dtype())?)?,
        };
        Ok(Some(gradient))
    }
}

fn on_host<T: WithDType>(values: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let (values, gradient) = (values.contiguous()?, gradient.contiguous()?);
    let count = values.elem_count();
    let (of_values, values_layout) = values.storage_and_layout();
    let (of_gradient, gradient_layout) = gradient.storage_and_layout();
    let (Storage::Cpu(of_values), Storage::Cpu(of_gradient)) = (&*of_values, &*of_gradient) else {
        bail!("expected host tensors")
    };
    let of_values = &T::cpu_storage_as_slice(of_values)?[values_layout.start_offset()..][..count];
    let of_gradient =
        &T::cpu_storage_as_slice(of_gradient)?[gradient_layout.start_offset()..][..count];
    let mut result = vec![T::zero(); count];
    fill_blocks(&mut result, 1, |first, result| {
        relu_backward(result, &of_values[first..], &of_gradient[first..]);
    });
    Tensor::from_vec(result, values.shape(), values.device())
}

/// A function of its own, so that the compiler vectorizes it: with a branch for each value, half of
/// the signs are mispredicted.
fn relu_backward<T: WithDType>(result: &mut [T], values: &[T], gradients: &[T]) {
    for (result, (&value, &gradient)) in result.iter_mut().zip(values.iter().zip(gradients)) {
        // A product instead of a selection, so that values that are not finite give the same result
        // as with candle.
        *result = gradient * if value >= T::zero() { T::one() } else { T::zero() };
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the test reads what it has computed on the host")]
mod tests {
    use candle_core::Var;
    use proptest::prelude::*;

    use super::*;

    /// The bits of the output and of the gradient under `weights`.
    fn bits(values: &Tensor, weights: &Tensor, ours: bool) -> [Vec<u64>; 2] {
        let variable = Var::from_tensor(values).unwrap();
        let output = if ours { relu(&variable).unwrap() } else { variable.relu().unwrap() };
        let weighted = (&output * weights).unwrap().sum_all().unwrap();
        let gradient = weighted.backward().unwrap().get(&variable).unwrap().clone();
        [output, gradient].map(|tensor| {
            let wide = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
            wide.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect()
        })
    }

    fn check(values: &[f64], weights: &[f64], shape: (usize, usize)) {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let tensor = |values: &[f64]| {
                let tensor = Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
                tensor.to_dtype(dtype).unwrap()
            };
            let (values, weights) = (tensor(values), tensor(weights));
            assert_eq!(bits(&values, &weights, true), bits(&values, &weights, false), "{dtype:?}");
            // A transposed view, and one with an offset.
            let turned = values.t().unwrap();
            let expected = turned.relu().unwrap().to_dtype(DType::F64).unwrap();
            let got = relu(&turned).unwrap().to_dtype(DType::F64).unwrap();
            let bits = |tensor: Tensor| -> Vec<u64> {
                let values = tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                values.into_iter().map(f64::to_bits).collect()
            };
            assert_eq!(bits(got), bits(expected), "{dtype:?}");
        }
    }

    #[test]
    fn special_values_are_treated_as_candle_does() {
        let special = [0.0, -0.0, 1.0, -1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-7];
        for weight in special {
            check(&special, &[weight; 8], (2, 4));
        }
    }

    proptest! {
        #[test]
        fn values_and_gradients_are_candles_to_the_bit(
            pairs in prop::collection::vec((-2.0..2.0, -2.0..2.0), 1..40),
        ) {
            let (values, weights): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            check(&values, &weights, (1, values.len()));
        }
    }

    /// Enough values for several threads.
    #[test]
    fn large_tensors_are_candles_too() {
        let values = Tensor::randn(0.0_f32, 1.0, (3, 400_000), &Device::Cpu).unwrap();
        let weights = Tensor::randn(0.0_f32, 1.0, (3, 400_000), &Device::Cpu).unwrap();
        assert!(bits(&values, &weights, true) == bits(&values, &weights, false));
    }
}
