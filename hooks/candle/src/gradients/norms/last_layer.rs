//! The gradient norm in the last layer only, in closed form.

use candle_core::Tensor;

use super::objective::{check_soft, residuals};
use crate::arguments::Labels;
use crate::error::{Error, Result};
use crate::gradients::squares::sums_of_squares;
use crate::transfer::{HostTensor, is_float, unsupported_logits};

/// Returns the L2 norm of the gradient of each example's cross-entropy in the last linear layer's
/// parameters: `||p - y|| sqrt(||h||^2 + 1)`, without the 1 if the layer has no bias. NaN where it
/// is not finite.
///
/// `logits` are `[batch, classes]`, `features` are the input of the last layer, `[batch, size]`.
///
/// This approximates GraNd for models that are not built from [`nn`](crate::nn): it leaves out
/// every other layer. The [warning](crate::gradients::GradientNorms) about initialization applies
/// to it, too.
///
/// # Errors
///
/// If the shapes or the labels do not fit.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let logits = Tensor::new(&[[0.0_f32, 0.0]], &Device::Cpu)?;
/// let features = Tensor::new(&[[2.0_f32, 2.0]], &Device::Cpu)?;
/// let norms = data_diet_candle::gradients::last_layer_norms(&logits, &features, &[0], true)?;
/// assert!((norms[0] - 0.5_f32.sqrt() * 3.0).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
pub fn last_layer_norms<L: Labels + ?Sized>(
    logits: &Tensor,
    features: &Tensor,
    labels: &L,
    bias: bool,
) -> Result<Vec<f32>> {
    let [batch, _] = *logits.dims() else {
        return Err(Error::Argument(format!(
            "logits: expected [batch, classes], got {:?}",
            logits.dims()
        )));
    };
    if !is_float(logits.dtype()) {
        return Err(unsupported_logits(logits.dtype()));
    }
    if features.rank() != 2 || features.dim(0)? != batch || !is_float(features.dtype()) {
        return Err(Error::Argument(format!(
            "features: expected floats [{batch}, size], got {} {:?}",
            features.dtype().as_str(),
            features.dims()
        )));
    }
    let labels = labels.to_labels()?;
    let rows = labels.rows();
    if rows != batch {
        return Err(Error::Argument(format!(
            "labels: expected one for each of {batch} examples, got {rows}"
        )));
    }
    check_soft(&labels)?;
    let residuals = sums_of_squares(&residuals(&logits.detach(), &labels, 0)?)?;
    let features = (sums_of_squares(features)? + f64::from(u8::from(bias)))?;
    let norms = HostTensor::new(&(residuals * features)?.sqrt()?)?.floats("norms")?;
    Ok(norms.into_iter().map(|norm| if norm.is_finite() { norm } else { f32::NAN }).collect())
}
