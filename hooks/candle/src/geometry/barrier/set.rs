//! A group of labeled examples, measured batch by batch.

use candle_core::Tensor;
use data_diet::observe::ModelKind;

use super::risk::Risk;
use crate::arguments::Labels;
use crate::error::{Error, Result};
use crate::kind_targets::KindTargets;

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
    targets: KindTargets<'static>,
    batch: usize,
}

impl LabeledSet {
    /// Makes a group from inputs `[examples, ...]` and their labels, class indices or soft targets,
    /// of which `batch` go through a model at a time.
    ///
    /// # Errors
    ///
    /// If there is no example, not one label per example, a soft target that is negative or does not
    /// sum to 1, or `batch` is 0.
    pub fn new<L: Labels + ?Sized>(inputs: Tensor, labels: &L, batch: usize) -> Result<Self> {
        Self::with_kind(None, None, inputs, labels, batch)
    }

    /// Makes a group for this kind of model, whose labels have the shape of the [kind](ModelKind).
    /// Examples, and tokens of sequences, whose label is `ignore_index` are left out.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new); if a label is not what the kind has, or every label is ignored.
    ///
    /// # Examples
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use data_diet_candle::ModelKind;
    /// use data_diet_candle::geometry::barrier::LabeledSet;
    ///
    /// // Two sequences of three tokens; the last token of the second is padding.
    /// let text = Tensor::new(&[[1_u32, 2, 3], [3, 2, 0]], &Device::Cpu)?;
    /// let next = Tensor::new(&[[2_i64, 3, 1], [2, 1, -100]], &Device::Cpu)?;
    /// let kind = ModelKind::Tokens { vocabulary: 4 };
    /// let set = LabeledSet::of_kind(kind, Some(-100), text, &next, 32)?;
    /// let risk = set.risk(|text| Tensor::zeros((text.dim(0)?, 3, 4), DType::F32, &Device::Cpu))?;
    /// // All logits are 0, so the answer is always 0.
    /// assert_eq!((risk.examples(), risk.error()), (2, 1.0));
    /// # Ok::<(), data_diet_candle::Error>(())
    /// ```
    pub fn of_kind<L: Labels + ?Sized>(
        kind: ModelKind,
        ignore_index: Option<i64>,
        inputs: Tensor,
        labels: &L,
        batch: usize,
    ) -> Result<Self> {
        Self::with_kind(Some(kind), ignore_index, inputs, labels, batch)
    }

    fn with_kind<L: Labels + ?Sized>(
        kind: Option<ModelKind>,
        ignore_index: Option<i64>,
        inputs: Tensor,
        labels: &L,
        batch: usize,
    ) -> Result<Self> {
        let examples = inputs.dims().first().copied().unwrap_or(0);
        if examples == 0 {
            return Err(Error::Argument(format!(
                "inputs: expected a tensor [examples, ...] of at least one example, got {:?}",
                inputs.dims()
            )));
        }
        let labels = labels.to_labels()?.into_owned();
        let targets = KindTargets::new(kind, ignore_index, labels, examples)?;
        if batch == 0 {
            return Err(Error::Argument("batch: expected at least 1 example, got 0".to_owned()));
        }
        let set = Self { inputs, targets, batch };
        if set.examples() == 0 {
            return Err(Error::Argument(
                "labels: expected at least one that is not ignored".to_owned(),
            ));
        }
        Ok(set)
    }

    /// Returns the number of examples that count.
    #[must_use]
    pub fn examples(&self) -> usize {
        (0..self.targets.examples()).filter(|&example| self.targets.counts(example)).count()
    }

    /// Runs a model over all examples. `forward` computes outputs in the shape of the
    /// [kind](ModelKind), by default logits `[batch, classes]`, in evaluation mode.
    ///
    /// # Errors
    ///
    /// If the labels do not match the outputs, as for [`Risk::add`]; any error of `forward`.
    pub fn risk(
        &self,
        mut forward: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Risk> {
        let mut risk = Risk::of_targets(&self.targets);
        let examples = self.targets.examples();
        for start in (0..examples).step_by(self.batch) {
            let count = self.batch.min(examples - start);
            let outputs = forward(&self.inputs.narrow(0, start, count)?)?;
            risk.add_examples(&outputs, &self.targets, start, count)?;
        }
        Ok(risk)
    }
}
