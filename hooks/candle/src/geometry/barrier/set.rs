//! A group of labeled examples, measured batch by batch.

use candle_core::Tensor;
use data_diet::observe::Targets;

use super::risk::Risk;
use crate::arguments::{HostLabels, Labels};
use crate::error::{Error, Result};

/// A group of labeled examples, and how many of them go through a model at a time.
///
/// # Examples
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, VarBuilder, VarMap, linear};
/// use data_diet_candle::geometry::barrier;
/// use data_diet_candle::geometry::barrier::LabeledSet;
/// use data_diet_candle::weights::Params;
///
/// let variables = VarMap::new();
/// let model = linear(4, 2, VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
/// let params = Params::from_varmap(&variables)?;
/// let (one, other) = (params.copy()?, params.copy()?);
///
/// let images = Tensor::randn(0.0_f32, 1.0, (10_000, 4), &Device::Cpu)?;
/// let labels = vec![1_u32; 10_000];
/// let set = LabeledSet::new(images, &labels, 256)?;
/// let measure = || set.risk(|images| model.forward(images));
/// let curve = barrier::curve(&params, &one, &other, measure)?;
/// assert_eq!(curve.errors().by_chord().height, 0.0);
/// # Ok::<(), data_diet_candle::Error>(())
/// ```
#[derive(Debug)]
pub struct LabeledSet {
    inputs: Tensor,
    labels: HostLabels<'static>,
    batch: usize,
}

impl LabeledSet {
    /// Makes a group from inputs `[examples, ...]` and their labels, class indices or soft targets,
    /// of which `batch` go through a model at a time.
    ///
    /// # Errors
    ///
    /// If there are no examples or not one label for each, soft targets are negative or do not sum
    /// to 1, or `batch` is 0.
    pub fn new<L: Labels + ?Sized>(inputs: Tensor, labels: &L, batch: usize) -> Result<Self> {
        let examples = inputs.dims().first().copied().unwrap_or_default();
        if examples == 0 {
            return Err(Error::Argument(format!(
                "inputs: expected a tensor [examples, ...] of at least one example, got {:?}",
                inputs.dims()
            )));
        }
        let labels = labels.to_labels()?.into_owned();
        if labels.rows() != examples {
            let got = labels.rows();
            return Err(Error::Argument(format!("labels: expected {examples}, got {got}")));
        }
        if let HostLabels::Soft { weights, width } = &labels {
            Targets::Soft(weights).check_soft(*width)?;
        }
        if batch == 0 {
            return Err(Error::Argument("batch: expected at least 1 example, got 0".to_owned()));
        }
        Ok(Self { inputs, labels, batch })
    }

    /// Returns the number of examples.
    #[must_use]
    pub fn examples(&self) -> usize {
        self.labels.rows()
    }

    /// Runs a model over all examples. `forward` computes logits `[batch, classes]` in evaluation
    /// mode.
    ///
    /// # Errors
    ///
    /// If the labels do not match the logits, as for [`Risk::add`]; any error of `forward`.
    pub fn risk(
        &self,
        mut forward: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Risk> {
        let mut risk = Risk::default();
        for start in (0..self.examples()).step_by(self.batch) {
            let rows = self.batch.min(self.examples() - start);
            let logits = forward(&self.inputs.narrow(0, start, rows)?)?;
            risk.add_labels(&logits, &self.labels.slice(start..start + rows))?;
        }
        Ok(risk)
    }
}
