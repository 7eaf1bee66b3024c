//! Gradient norms: parameters, options, and the norms of a batch. `passes` runs the model,
//! [`tape`](crate::gradients::tape) and [`nn`](crate::nn) observe the layers, and
//! [`contribution`](crate::gradients::contribution) does the arithmetic.

mod batch_pieces;
mod inputs;
mod last_layer;
mod objective;
mod passes;
mod report;
mod residuals;

use std::collections::BTreeSet;

use candle_core::{Tensor, Var};
use candle_nn::VarMap;
use data_diet::observe::ModelKind;

pub use inputs::Inputs;
pub use last_layer::{LastLayerNorms, last_layer_norms};
pub(crate) use passes::is_running_statistic;
pub use report::{ExampleNorms, NormsReport, PerExampleParameter};

use crate::arguments::Labels;
use crate::error::{Error, Result};
use crate::kind_targets::KindTargets;
use batch_pieces::Pieces;
use objective::Objective;
use passes::{NormRequest, PassOutcome};

/// GraNd: the L2 norm of the gradient of each example's own loss in all trainable parameters (Paul,
/// Ganguli and Dziugaite, *Deep Learning on a Data Diet*, 2021, definition 2.1). High is hard.
///
/// For layers of [`nn`](crate::nn), one forward and one backward pass give the exact norms of a
/// whole batch. Every other parameter takes a backward pass per example, and the
/// [report](NormsReport) names it; no parameter is left out silently. On the host a batch goes
/// through the model in pieces that fit in the processor's caches, so the forward pass receives
/// some of the examples at a time; [`Inputs::part`] splits the batch.
///
/// Run the model in evaluation mode, so that an example's gradient does not depend on its batch. To
/// verify this, the first batch's examples with the largest norm and in the last row are also
/// computed alone.
///
/// GraNd is a mean over runs. **At initialization it tracks the norm of the input and prunes poorly**
/// (Kirsch, *Does "Deep Learning on a Data Diet" reproduce?*, 2023): take it after some epochs.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use data_diet_candle::gradients::GradientNorms;
/// use data_diet_candle::nn::{Module, VarBuilder, VarMap, linear, seq};
///
/// # fn main() -> candle_core::Result<()> {
/// let weights = VarMap::new();
/// let builder = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
/// let model = seq()
///     .add(linear(8, 16, builder.pp("hidden"))?)
///     .add_fn(Tensor::relu)
///     .add(linear(16, 3, builder.pp("output"))?);
///
/// let images = Tensor::randn(0.0_f32, 1.0, (64, 8), &Device::Cpu)?;
/// let labels: Vec<u32> = (0..64).map(|row| row % 3).collect();
/// let mut norms = GradientNorms::new(&weights)?;
/// let grand = norms.cross_entropy(&images, &labels, |images| model.forward(images))?;
/// assert_eq!(grand.values.len(), 64);
/// assert_eq!(grand.report.to_string(), "one backward pass for all 4 parameters");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct GradientNorms {
    /// In ascending order of name.
    parameters: Vec<(String, Var)>,
    max_bytes: usize,
    check: usize,
    per_example: bool,
    allow_unused: bool,
    ignore_index: Option<i64>,
    /// Whether a layer's input may have several rows per example, until the check of a single
    /// example shows otherwise.
    multi_row_inputs: bool,
    pieces: Pieces,
    /// How batches were covered that have been checked.
    checked: BTreeSet<Coverage>,
}

/// Which parameters a batch's pass covers, and which layers had one row per example.
type Coverage = (Vec<usize>, Vec<bool>);

impl GradientNorms {
    /// The default of [`max_bytes`](Self::max_bytes).
    pub const DEFAULT_MAX_BYTES: usize = 256 << 20;

    /// Computes norms over all variables of a map.
    ///
    /// # Errors
    ///
    /// If the map is empty.
    pub fn new(weights: &VarMap) -> Result<Self> {
        let map = weights.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Self::with_parameters(map.iter().map(|(name, var)| (name.clone(), var.clone())))
    }

    /// Computes norms over these named variables, for instance those that an optimizer trains.
    ///
    /// # Errors
    ///
    /// If there are none, or a name or a variable occurs twice.
    pub fn with_parameters<N: Into<String>>(
        parameters: impl IntoIterator<Item = (N, Var)>,
    ) -> Result<Self> {
        let mut parameters: Vec<(String, Var)> =
            parameters.into_iter().map(|(name, var)| (name.into(), var)).collect();
        parameters.sort_by(|(a, _), (b, _)| a.cmp(b));
        if parameters.is_empty() {
            return Err(Error::Argument(
                "parameters: expected at least one trainable parameter, got none".to_owned(),
            ));
        }
        for (at, (name, var)) in parameters.iter().enumerate() {
            let before = &parameters[..at];
            let twice = before.iter().find(|(other, same)| other == name || same.id() == var.id());
            if let Some((other, _)) = twice {
                return Err(Error::Argument(format!(
                    "parameters: expected each one once, got {other} and {name}"
                )));
            }
        }
        let bytes = |var: &Var| var.elem_count() * var.dtype().size_in_bytes();
        let weights = parameters.iter().map(|(_, var)| bytes(var)).sum();
        let pieces = Pieces::new(parameters[0].1.device(), weights);
        Ok(Self {
            parameters,
            pieces,
            max_bytes: Self::DEFAULT_MAX_BYTES,
            check: 2,
            per_example: false,
            allow_unused: false,
            ignore_index: None,
            multi_row_inputs: true,
            checked: BTreeSet::new(),
        })
    }

    /// Sets how much memory a layer may use, in bytes, for unfolded inputs and for gradients that
    /// must be formed. Beyond it the work is split. The forward and the backward pass need what a
    /// training step with as many examples needs, which does not count. Default:
    /// [`DEFAULT_MAX_BYTES`](Self::DEFAULT_MAX_BYTES).
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets how many examples are also computed alone in the first batch, and whenever a batch is
    /// covered in a new way. Default: 2; 0 for none. Each takes an ordinary backward pass.
    #[must_use]
    pub fn check(mut self, examples: usize) -> Self {
        self.check = examples;
        self
    }

    /// Takes a backward pass per example for every parameter, whatever the layers.
    #[must_use]
    pub fn per_example(mut self) -> Self {
        self.per_example = true;
        self
    }

    /// Passes every batch through the model whole, for a forward pass that holds data for each
    /// example of the batch besides its inputs. Making that data an input is better: examples that
    /// are [computed alone](Self::check) need theirs.
    #[must_use]
    pub fn whole_batches(mut self) -> Self {
        self.pieces.keep_whole();
        self
    }

    /// Treats parameters that no gradient reaches as having a zero gradient, and names them in the
    /// report. By default they are an error, since candle's fused kernels silently stop gradients.
    #[must_use]
    pub fn allow_unused(mut self) -> Self {
        self.allow_unused = true;
        self
    }

    /// Leaves out examples, and tokens of sequences, with this class index as their label, such as
    /// -100 for padding and prompts. Default: none.
    ///
    /// An example that is left out, or a sequence without a token that is not, has no loss: its norm is
    /// NaN, and the report counts it as [`ignored`](NormsReport::ignored).
    #[must_use]
    pub fn ignore_index(mut self, label: i64) -> Self {
        self.ignore_index = Some(label);
        self
    }

    /// Returns the norms for the cross-entropy of logits `[batch, classes]`, which `forward`
    /// computes from `inputs` or from some of them, with class indices or soft targets as labels.
    ///
    /// # Errors
    ///
    /// If labels do not fit the inputs or the logits; if no gradient reaches a parameter (the
    /// message names it); if an example's norm depends on its batch; if an example needs more than
    /// [`max_bytes`](Self::max_bytes). Any error of `forward`.
    pub fn cross_entropy<I, L>(
        &mut self,
        inputs: &I,
        labels: &L,
        forward: impl Fn(&I) -> candle_core::Result<Tensor>,
    ) -> Result<ExampleNorms>
    where
        I: Inputs,
        L: Labels + ?Sized,
    {
        self.of_targets(None, inputs, labels, &forward)
    }

    /// Returns the norms for the loss of a kind of model, the `loss` of what is recorded. `forward`
    /// computes the outputs from `inputs` or from some of them; outputs and labels have the shapes of
    /// the [kind](ModelKind).
    ///
    /// | kind | outputs | labels | loss of an example |
    /// |---|---|---|---|
    /// | `classes` | `[batch, classes]` | as for [`cross_entropy`](Self::cross_entropy) | cross-entropy |
    /// | `tokens` | `[batch, tokens, vocabulary]` or `[batch * tokens, vocabulary]` | `[batch, tokens]` or flattened | the mean cross-entropy of the sequence's tokens that are not [ignored](Self::ignore_index) |
    /// | `binary` | `[batch]` or `[batch, 1]` | 0 and 1, or probabilities, of that shape | binary cross-entropy |
    /// | `multi_label` | `[batch, labels]` | 0 to 1, of that shape | the sum of the binary cross-entropies |
    /// | `regression` | `[batch, outputs]` | numbers of that shape | half the squared error |
    ///
    /// Sequences that are packed into one row count as one example; pass them unpacked. Targets are
    /// rounded to f32. A model of which only the loss is known has
    /// [`custom_loss`](Self::custom_loss).
    ///
    /// # Errors
    ///
    /// As for [`cross_entropy`](Self::cross_entropy), and for `loss_only`.
    ///
    /// # Examples
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use data_diet_candle::ModelKind;
    /// use data_diet_candle::gradients::GradientNorms;
    /// use data_diet_candle::nn::{Module, VarBuilder, VarMap, embedding, linear};
    ///
    /// # fn main() -> candle_core::Result<()> {
    /// let weights = VarMap::new();
    /// let builder = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    /// let embedding = embedding(20, 8, builder.pp("embedding"))?;
    /// let head = linear(8, 20, builder.pp("head"))?;
    ///
    /// let text = Tensor::new(&[[3_u32, 1, 4, 1], [5, 9, 2, 0]], &Device::Cpu)?;
    /// // The next token of each; the second text ends after three.
    /// let next = Tensor::new(&[[1_i64, 4, 1, 5], [9, 2, -100, -100]], &Device::Cpu)?;
    /// let mut norms = GradientNorms::new(&weights)?.ignore_index(-100);
    /// let kind = ModelKind::Tokens { vocabulary: 20 };
    /// let grand = norms.of_kind(kind, &text, &next, |text| head.forward(&embedding.forward(text)?))?;
    /// assert_eq!(grand.values.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn of_kind<I, L>(
        &mut self,
        kind: ModelKind,
        inputs: &I,
        labels: &L,
        forward: impl Fn(&I) -> candle_core::Result<Tensor>,
    ) -> Result<ExampleNorms>
    where
        I: Inputs,
        L: Labels + ?Sized,
    {
        if kind == ModelKind::LossOnly {
            return Err(residuals::unknown_loss(kind));
        }
        self.of_targets(Some(kind), inputs, labels, &forward)
    }

    fn of_targets<I: Inputs, L: Labels + ?Sized>(
        &mut self,
        kind: Option<ModelKind>,
        inputs: &I,
        labels: &L,
        forward: &dyn Fn(&I) -> candle_core::Result<Tensor>,
    ) -> Result<ExampleNorms> {
        let batch = batch_size(inputs)?;
        let targets = KindTargets::new(kind, self.ignore_index, labels.to_labels()?, batch)?;
        self.norms(inputs, &Objective::OfKind(targets), forward)
    }

    /// Returns the norms for another loss. `loss` takes what `forward` computes from `inputs` or
    /// from some of them, and their `targets`, whose first dimension counts the examples. It
    /// returns the loss of each example, `[batch]`.
    ///
    /// # Errors
    ///
    /// As for [`cross_entropy`](Self::cross_entropy).
    pub fn custom_loss<I: Inputs>(
        &mut self,
        inputs: &I,
        targets: &Tensor,
        forward: impl Fn(&I) -> candle_core::Result<Tensor>,
        loss: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<ExampleNorms> {
        self.norms(inputs, &Objective::Custom { targets, loss: &loss }, &forward)
    }

    fn norms<I: Inputs>(
        &mut self,
        inputs: &I,
        objective: &Objective<'_>,
        forward: &dyn Fn(&I) -> candle_core::Result<Tensor>,
    ) -> Result<ExampleNorms> {
        let batch = batch_size(inputs)?;
        objective.check(batch)?;
        let question = NormRequest { inputs, batch, objective, forward };
        loop {
            match self.attempt(&question)? {
                PassOutcome::Done(mut norms) => {
                    norms.leave_out(|row| !objective.counts(row));
                    return Ok(norms);
                }
                // Rows beyond the batch need not belong to single examples: positions may be
                // shared, or come before examples in the layout. Such layers are left to candle,
                // which is slower and correct.
                PassOutcome::Differs { multi_row_inputs: true, .. } if self.multi_row_inputs => {
                    self.multi_row_inputs = false;
                }
                // If a piece has as many examples as a sequence has positions, positions look like
                // examples.
                PassOutcome::Differs { cut: true, .. } if self.pieces.keep_whole() => {}
                PassOutcome::Differs { error, .. } => return Err(error),
            }
        }
    }
}

fn batch_size(inputs: &impl Inputs) -> Result<usize> {
    match inputs.examples()? {
        0 => Err(Error::Argument("inputs: expected at least one example".to_owned())),
        batch => Ok(batch),
    }
}
