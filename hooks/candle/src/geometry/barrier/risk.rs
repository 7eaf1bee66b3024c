//! Error rate and mean loss of a model on a set of examples.

use candle_core::Tensor;
use data_diet::observe::{ExampleSignals, ModelKind, Target, Targets};

use crate::arguments::{HostLabels, Labels};
use crate::error::{Error, Result};
use crate::transfer::HostTensor;

/// Counts errors and sums losses, batch by batch.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use data_diet_candle::geometry::barrier::Risk;
///
/// let logits = Tensor::new(&[[2.0_f32, 0.0], [0.0, 0.0]], &Device::Cpu)?;
/// let mut risk = Risk::default();
/// risk.add(&logits, &[0_u32, 1])?;
/// assert_eq!(risk.error(), 0.5);
/// # Ok::<(), data_diet_candle::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Risk {
    examples: u64,
    wrong: u64,
    non_finite: u64,
    loss: f64,
}

impl Risk {
    /// Adds a batch: logits `[batch, classes]`, and class indices or soft targets.
    ///
    /// An example counts as wrong unless its largest logit is that of its label; the lowest class
    /// wins a tie. With a logit that is not finite, it is wrong and its loss is NaN. The label of a
    /// soft target `y` is its largest weight (the lowest class wins a tie), and its loss is
    /// `-sum y log p`.
    ///
    /// # Errors
    ///
    /// If the logits are not floats of this shape with at least two classes, or the labels do not
    /// match them.
    pub fn add<L: Labels + ?Sized>(&mut self, logits: &Tensor, labels: &L) -> Result<()> {
        self.add_labels(logits, &labels.to_labels()?)
    }

    pub(super) fn add_labels(&mut self, logits: &Tensor, labels: &HostLabels<'_>) -> Result<()> {
        let (rows, classes) = match *logits.dims() {
            [rows, classes] if classes >= 2 => (rows, classes),
            _ => {
                return Err(Error::Argument(format!(
                    "logits: expected [batch, classes] with at least 2 classes, got {:?}",
                    logits.dims()
                )));
            }
        };
        let values = HostTensor::new(logits)?.doubles("logits")?;
        let kind = ModelKind::Classes { classes: classes as u32 };
        let targets = labels.targets(kind)?;
        targets.check_soft(classes)?;
        let logits = values.chunks_exact(classes);
        let mut sum = *self;
        match targets {
            Targets::Classes(labels) if labels.len() != rows => {
                let got = labels.len();
                return Err(Error::Argument(format!("labels: expected {rows}, got {got}")));
            }
            Targets::Classes(labels) => {
                for (logits, &label) in logits.zip(labels) {
                    let class = usize::try_from(label).ok().filter(|&class| class < classes);
                    let class = class.ok_or_else(|| {
                        Error::Argument(format!(
                            "labels: expected classes below {classes}, got {label}"
                        ))
                    })?;
                    sum.add_example(ExampleSignals::compute(logits, Target::Class(class)));
                }
            }
            Targets::None => {
                return Err(Error::Argument("labels: expected some, got none".to_owned()));
            }
            Targets::Soft(weights) if weights.len() != rows * classes => {
                let got = labels.rows();
                return Err(Error::Argument(format!("labels: expected {rows}, got {got}")));
            }
            Targets::Soft(weights) => {
                for (logits, weights) in logits.zip(weights.chunks_exact(classes)) {
                    sum.add_example(ExampleSignals::compute(logits, Target::Soft(weights)));
                }
            }
        }
        *self = sum;
        Ok(())
    }

    fn add_example(&mut self, signals: ExampleSignals) {
        self.examples += 1;
        self.wrong += u64::from(!signals.correct);
        self.non_finite += u64::from(signals.loss.is_nan());
        self.loss += f64::from(signals.loss);
    }

    /// Returns the number of examples.
    #[must_use]
    pub fn examples(&self) -> u64 {
        self.examples
    }

    /// Returns the number of examples with a logit that is not finite.
    #[must_use]
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }

    /// Returns the error rate, 1 - accuracy, in `0..=1`; NaN without examples.
    #[must_use]
    pub fn error(&self) -> f64 {
        self.wrong as f64 / self.examples as f64
    }

    /// Returns the mean cross-entropy in nats; NaN without examples or with a logit that is not
    /// finite.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.loss / self.examples as f64
    }
}
