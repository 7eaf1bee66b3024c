//! The gradient norm in the last layer only, from its inputs and the model's outputs.

use candle_core::{DType, Tensor};
use data_diet::observe::ModelKind;

use super::residuals::{residuals, unknown_loss};
use crate::arguments::Labels;
use crate::error::{Error, Result};
use crate::gradients::contribution::{
    Contribution, Factor, MemoryLimitExceeded, per_example_squares,
};
use crate::kind_targets::KindTargets;
use crate::transfer::{HostTensor, is_float};

/// The outputs whose residuals are in memory at once; at least those of one example.
const VALUES_AT_ONCE: usize = 1 << 22;
/// The memory for products of residuals and features, unless one example takes more.
const PRODUCT_BYTES: usize = 64 << 20;

/// Returns the L2 norm of the gradient of each example's cross-entropy in the last linear layer's
/// parameters: `||p - y|| sqrt(||h||^2 + 1)`, without the 1 if the layer has no bias. NaN where it
/// is not finite.
///
/// `logits` are `[batch, classes]`, `features` are the input of the last layer, `[batch, size]`.
/// [`LastLayerNorms`] does the same for other kinds of models.
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
    LastLayerNorms { kind: None, ignore_index: None, bias }.norms(logits, features, labels)
}

/// Last-layer GraNd of any kind of model whose loss is known: the L2 norm of the gradient of each
/// example's loss in the parameters of the last linear layer, which puts out the logits.
///
/// With `r` the gradient of the loss in the outputs (`p - y` of classes, `sigmoid(z) - y` of `binary` and
/// `multi_label`, `z - y` of `regression`) and `h` the layer's input, it is `||r|| sqrt(||h||^2 + 1)`,
/// without the 1 if the layer has no bias. Of a sequence's `n` tokens that count, the gradient of the mean
/// loss is the sum of `r_t h_t^T / n`, whose squared norm is the sum over all pairs of tokens of
/// `(r_t . r_u) (h_t . h_u + 1) / n^2`.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use data_diet_candle::ModelKind;
/// use data_diet_candle::gradients::LastLayerNorms;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let logits = Tensor::new(&[0.0_f32], &Device::Cpu)?;
/// let features = Tensor::new(&[[2.0_f32, 2.0]], &Device::Cpu)?;
/// let norms = LastLayerNorms::of_kind(ModelKind::Binary).norms(&logits, &features, &[1])?;
/// assert_eq!(norms, [0.5 * 3.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LastLayerNorms {
    /// `None` for as many classes as the logits have.
    kind: Option<ModelKind>,
    ignore_index: Option<i64>,
    bias: bool,
}

impl LastLayerNorms {
    /// For a last layer with a bias, of this kind of model.
    #[must_use]
    pub fn of_kind(kind: ModelKind) -> Self {
        Self { kind: Some(kind), ignore_index: None, bias: true }
    }

    /// Leaves out examples, and tokens of sequences, with this class index as their label.
    #[must_use]
    pub fn ignore_index(mut self, label: i64) -> Self {
        self.ignore_index = Some(label);
        self
    }

    /// Sets whether the last layer has a bias. Default: it has.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Returns the norm of each example. NaN where it is not finite, and where the label, or those of
    /// all tokens of a sequence, are ignored.
    ///
    /// `outputs` and `labels` have the shapes of the [kind](ModelKind), with tokens also flattened, as
    /// `[batch * tokens, vocabulary]`; one of them has to say how long a sequence is. `features` are
    /// `[batch, size]`; of tokens `[batch, tokens, size]` or `[batch * tokens, size]`. A few sequences at
    /// a time are worked on, with memory for several times their outputs.
    ///
    /// # Errors
    ///
    /// If the shapes or the labels do not fit, or for `loss_only`.
    pub fn norms<L: Labels + ?Sized>(
        &self,
        outputs: &Tensor,
        features: &Tensor,
        labels: &L,
    ) -> Result<Vec<f32>> {
        if let Some(kind @ ModelKind::LossOnly) = self.kind {
            return Err(unknown_loss(kind));
        }
        let targets = KindTargets::of_outputs(self.kind, self.ignore_index, labels, outputs)?;
        let batch = targets.examples();
        if batch == 0 {
            return Ok(Vec::new());
        }
        let (kind, shape) = targets.shape(outputs, batch)?;
        let rows = targets.rows_per_example();
        let features = self.features(features, kind, batch, rows)?;
        let is_double = [outputs, &features].iter().any(|tensor| tensor.dtype() == DType::F64);
        let dtype = if is_double { DType::F64 } else { DType::F32 };
        let inputs = features.dim(2)?;
        // Only its size matters.
        let weight = Tensor::zeros((1, 1), dtype, outputs.device())?;
        let weight = weight.broadcast_as((shape.width, inputs))?;
        // More than 1 where the tokens of all sequences are flattened.
        let per_example = outputs.dim(0)? / batch;
        let outputs = outputs.detach();
        let at_once = (VALUES_AT_ONCE / (rows * shape.width).max(1)).max(1);
        let mut norms = Vec::with_capacity(batch);
        for start in (0..batch).step_by(at_once) {
            let count = at_once.min(batch - start);
            let slice = outputs.narrow(0, start * per_example, count * per_example)?;
            let residuals = residuals(&slice, &targets, start..start + count)?;
            let residuals = residuals.to_dtype(dtype)?.reshape((count, rows, shape.width))?;
            let features = features.narrow(0, start, count)?.to_dtype(dtype)?;
            let outer = [Contribution::Outer {
                left: Factor::Rows(residuals),
                right: Factor::Rows(features),
                groups: 1,
            }];
            let squares = match per_example_squares(&outer, &weight, count, PRODUCT_BYTES)? {
                Ok(squares) => squares,
                Err(MemoryLimitExceeded { bytes }) => {
                    let squares = per_example_squares(&outer, &weight, count, bytes)?;
                    squares.map_err(|MemoryLimitExceeded { bytes }| {
                        Error::Argument(format!("logits: an example takes {bytes} bytes"))
                    })?
                }
            };
            norms.extend(HostTensor::new(&squares.sqrt()?)?.floats("norms")?);
        }
        for (example, norm) in norms.iter_mut().enumerate() {
            if !norm.is_finite() || !targets.counts(example) {
                *norm = f32::NAN;
            }
        }
        Ok(norms)
    }

    /// Returns the features, `[batch, rows, size]`, with a 1 at the end for the bias.
    fn features(
        &self,
        features: &Tensor,
        kind: ModelKind,
        batch: usize,
        rows: usize,
    ) -> Result<Tensor> {
        let size = match *features.dims() {
            [first, second, size] if kind.has_tokens() && [first, second] == [batch, rows] => size,
            [first, size] if first == batch * rows => size,
            _ => 0,
        };
        if size == 0 || !is_float(features.dtype()) {
            let expected = if kind.has_tokens() {
                format!("[{batch}, {rows}, size]")
            } else {
                format!("[{batch}, size]")
            };
            return Err(Error::Argument(format!(
                "features: expected floats {expected}, got {} {:?}",
                features.dtype().as_str(),
                features.dims()
            )));
        }
        let features = features.detach().reshape((batch, rows, size))?;
        if !self.bias {
            return Ok(features);
        }
        let ones = Tensor::ones((batch, rows, 1), features.dtype(), features.device())?;
        Ok(Tensor::cat(&[&features, &ones], 2)?)
    }
}
