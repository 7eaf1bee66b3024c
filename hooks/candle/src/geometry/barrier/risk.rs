//! Error rate and mean loss of a model on a set of examples.

use candle_core::{DType, Tensor};
use data_diet::observe::{ExampleSignals, Float, ModelKind, Target};

use crate::arguments::Labels;
use crate::error::Result;
use crate::kind_targets::{KindTargets, RowTargets};
use crate::transfer::HostTensor;

/// The outputs that are copied at once.
const VALUES_AT_ONCE: usize = 1 << 22;

/// Counts errors and sums losses, batch by batch.
///
/// Every example counts the same. An example is wrong where `correct` would be recorded as false; of a
/// sequence of tokens, the share of its counted tokens that are wrong counts, 1 - `accuracy`, since hardly
/// any sequence is right in all of them. Losses are those that are recorded, of a sequence the mean over its
/// counted tokens. A regression and a model of which only the loss is known have no error rate.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use data_diet_candle::ModelKind;
/// use data_diet_candle::geometry::barrier::Risk;
///
/// let logits = Tensor::new(&[[2.0_f32, 0.0], [0.0, 0.0]], &Device::Cpu)?;
/// let mut risk = Risk::default();
/// risk.add(&logits, &[0_u32, 1])?;
/// assert_eq!(risk.error(), 0.5);
///
/// let mut risk = Risk::of_kind(ModelKind::Binary);
/// risk.add(&logits.get_on_dim(1, 0)?, &[1.0_f32, 0.0])?;
/// assert_eq!(risk.error(), 0.0);
/// # Ok::<(), data_diet_candle::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Risk {
    /// `None` for as many classes as the logits have.
    kind: Option<ModelKind>,
    ignore_index: Option<i64>,
    examples: u64,
    /// Of a sequence, the share of its tokens.
    wrong: f64,
    non_finite: u64,
    loss: f64,
}

impl Risk {
    /// Begins to count for this kind of model. [`default`](Self::default) takes classes, as many as the
    /// logits have.
    #[must_use]
    pub fn of_kind(kind: ModelKind) -> Self {
        Self { kind: Some(kind), ..Self::default() }
    }

    /// Leaves out examples, and tokens of sequences, with this class index as their label. A sequence
    /// without another token is left out, too.
    #[must_use]
    pub fn ignore_index(mut self, label: i64) -> Self {
        self.ignore_index = Some(label);
        self
    }

    pub(super) fn of_targets(targets: &KindTargets<'_>) -> Self {
        let (kind, ignore_index) = (targets.kind(), targets.ignore_index());
        Self { kind, ignore_index, ..Self::default() }
    }

    /// Adds a batch: the model's outputs and the labels, in the shapes of the [kind](ModelKind); by
    /// default logits `[batch, classes]`, and class indices or soft targets. Logits of tokens may be
    /// flattened, `[batch * tokens, vocabulary]`, if the labels are not.
    ///
    /// An example counts as wrong unless its largest logit is that of its label; the lowest class
    /// wins a tie. With a logit that is not finite, it is wrong and its loss is NaN. The label of a
    /// soft target `y` is its largest weight (the lowest class wins a tie), and its loss is
    /// `-sum y log p`.
    ///
    /// # Errors
    ///
    /// If the outputs are not floats of this shape, or the labels do not match them.
    pub fn add<L: Labels + ?Sized>(&mut self, outputs: &Tensor, labels: &L) -> Result<()> {
        let targets = KindTargets::of_outputs(self.kind, self.ignore_index, labels, outputs)?;
        self.add_examples(outputs, &targets, 0, targets.examples())
    }

    /// Adds `count` of the examples from `start` on, of which these are the outputs.
    pub(super) fn add_examples(
        &mut self,
        outputs: &Tensor,
        targets: &KindTargets<'_>,
        start: usize,
        count: usize,
    ) -> Result<()> {
        let (kind, shape) = targets.shape(outputs, count)?;
        let rows = targets.rows(kind, start..start + count)?;
        let mut sum = *self;
        let mut adding = Adding {
            risk: &mut sum,
            kind,
            rows,
            rows_per_example: targets.rows_per_example(),
            row: 0,
            example: Example::default(),
        };
        for slice in shape.slices(outputs, VALUES_AT_ONCE / shape.width)? {
            let slice = HostTensor::new(&slice)?;
            if outputs.dtype() == DType::F64 {
                adding.add_rows(&slice.doubles("logits")?);
            } else {
                adding.add_rows(&slice.floats("logits")?);
            }
        }
        *self = sum;
        Ok(())
    }

    /// Returns the number of examples that count.
    #[must_use]
    pub fn examples(&self) -> u64 {
        self.examples
    }

    /// Returns the number of examples with an output that is not finite.
    #[must_use]
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }

    /// Returns the error rate, 1 - accuracy, in `0..=1`; NaN without examples, and for kinds of models
    /// without [`correct`](ModelKind::has_correct).
    #[must_use]
    pub fn error(&self) -> f64 {
        match self.kind {
            Some(kind) if !kind.has_correct() => f64::NAN,
            _ => self.wrong / self.examples as f64,
        }
    }

    /// Returns the mean loss, of classes the cross-entropy in nats; NaN without examples or with an
    /// output that is not finite.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.loss / self.examples as f64
    }
}

/// Adds the rows of outputs of a batch to a risk, in order.
struct Adding<'a> {
    risk: &'a mut Risk,
    kind: ModelKind,
    rows: RowTargets<'a>,
    rows_per_example: usize,
    row: usize,
    example: Example,
}

/// What the rows of an example add up to.
#[derive(Clone, Copy, Debug, Default)]
struct Example {
    counted: u32,
    wrong: u32,
    is_finite: bool,
    loss: f64,
}

impl Adding<'_> {
    fn add_rows<T: Float>(&mut self, outputs: &[T]) {
        for outputs in outputs.chunks_exact(self.kind.outputs()) {
            if self.row.is_multiple_of(self.rows_per_example) {
                self.example = Example { is_finite: true, ..Example::default() };
            }
            if let Some(signals) = signals(self.kind, outputs, &self.rows, self.row) {
                let example = &mut self.example;
                example.counted += 1;
                example.wrong += u32::from(!signals.correct);
                example.is_finite &= !signals.loss.is_nan();
                example.loss += f64::from(signals.loss);
            }
            self.row += 1;
            if self.row.is_multiple_of(self.rows_per_example) && self.example.counted > 0 {
                let Example { counted, wrong, is_finite, loss } = self.example;
                self.risk.examples += 1;
                self.risk.wrong += f64::from(wrong) / f64::from(counted);
                self.risk.non_finite += u64::from(!is_finite);
                self.risk.loss += loss / f64::from(counted);
            }
        }
    }
}

/// Returns the signals of a row; `None` if it is ignored.
fn signals<T: Float>(
    kind: ModelKind,
    outputs: &[T],
    targets: &RowTargets<'_>,
    row: usize,
) -> Option<ExampleSignals> {
    let width = outputs.len();
    let of_row = row * width..(row + 1) * width;
    Some(match (kind, targets) {
        (ModelKind::Binary, RowTargets::Classes(classes)) => {
            ExampleSignals::binary(outputs[0], classes[row]? as f32)
        }
        (_, RowTargets::Classes(classes)) => {
            ExampleSignals::compute(outputs, Target::Class(classes[row]? as usize))
        }
        (ModelKind::Binary, RowTargets::Numbers(targets)) => {
            ExampleSignals::binary(outputs[0], targets[row])
        }
        (ModelKind::MultiLabel { .. }, RowTargets::Numbers(targets)) => {
            ExampleSignals::multi_label(outputs, &targets[of_row])
        }
        (ModelKind::Regression { .. }, RowTargets::Numbers(targets)) => {
            ExampleSignals::regression(outputs, &targets[of_row])
        }
        (_, RowTargets::Numbers(targets)) => {
            ExampleSignals::compute(outputs, Target::Soft(&targets[of_row]))
        }
        (_, RowTargets::None) => ExampleSignals::of_loss(outputs[0].into()),
    })
}
