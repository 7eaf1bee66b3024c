//! `GradientNorms`: which parameters one backward pass of the batch covers, and what to do about the
//! others. The layers' part is in [`tape`](crate::tape) and [`nn`](crate::nn), the arithmetic in
//! [`contribution`](crate::contribution).

mod inputs;
mod last_layer;
mod loss;
mod report;

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, TensorId, Var};
use candle_nn::VarMap;

pub use inputs::Inputs;
pub use last_layer::last_layer_norms;
pub use report::{ExampleNorms, NormsReport, OneByOne};

use crate::arguments::Labels;
use crate::contribution::{TooLarge, example_squares};
use crate::error::{Error, Result};
use crate::squares::{sum_dtype, sums_of_squares};
use crate::tape::{Record, Tape};
use crate::transfer::HostTensor;
use loss::Objective;

/// GraNd: the L2 norm of the gradient of each example's own loss in all trainable parameters (Paul,
/// Ganguli and Dziugaite, *Deep Learning on a Data Diet*, 2021, definition 2.1). High is hard.
///
/// For layers of [`nn`](crate::nn) the norms of a whole batch take one forward and one backward pass,
/// exactly. Parameters that are used otherwise take a backward pass per example, and the
/// [report](NormsReport) names them; none is left out in silence.
///
/// Run the model in evaluation mode, so that an example's gradient does not depend on its batch. To be
/// sure, the first batch's examples of the largest norm and in the last row are also looked at alone.
///
/// GraNd is a mean over runs. **At initialization it tracks the norm of the input and prunes poorly**
/// (Kirsch, *Does "Deep Learning on a Data Diet" reproduce?*, 2023): take it after some epochs.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use data_diet_candle::GradientNorms;
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
    one_by_one: bool,
    allow_unused: bool,
    /// Whether a layer's input may have several rows per example; until a look at one alone says no.
    several_rows: bool,
    /// What was covered, and how, in batches that were checked.
    checked: BTreeSet<Coverage>,
}

/// Which parameters a batch's pass covers, and which layers had one row per example.
type Coverage = (Vec<usize>, Vec<bool>);

/// Norms of the same example in the batch and alone may differ by this much of themselves. Rounding
/// stays far below in f32; an example that depends on its batch differs far more.
const CHECK_TOLERANCE: f64 = 1e-3;
const HALF_CHECK_TOLERANCE: f64 = 1e-1;

/// How a batch has gone.
enum Attempt {
    Done(ExampleNorms),
    /// An example alone has another norm.
    Differs {
        error: Error,
        several_rows: bool,
    },
}

/// What a pass over the whole batch has shown.
struct Pass {
    record: Record,
    /// Sorted into: seen on the tape, left to candle, reached by nothing.
    covered: Vec<usize>,
    uncovered: Vec<usize>,
    unused: Vec<usize>,
}

impl GradientNorms {
    /// The memory that a layer may take beyond a training step's, in bytes, unless
    /// [set](Self::max_bytes).
    pub const DEFAULT_MAX_BYTES: usize = 256 << 20;

    /// Norms in all variables of a map.
    ///
    /// # Errors
    ///
    /// If the map is empty.
    pub fn new(weights: &VarMap) -> Result<Self> {
        let map = weights.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Self::of_parameters(map.iter().map(|(name, var)| (name.clone(), var.clone())))
    }

    /// Norms in these variables, by name: those that an optimizer trains, if not all of a map.
    ///
    /// # Errors
    ///
    /// If there is none, or a name or a variable comes twice.
    pub fn of_parameters<N: Into<String>>(
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
        Ok(Self {
            parameters,
            max_bytes: Self::DEFAULT_MAX_BYTES,
            check: 2,
            one_by_one: false,
            allow_unused: false,
            several_rows: true,
            checked: BTreeSet::new(),
        })
    }

    /// How much memory a layer may take, in bytes, for unfolded inputs and for gradients that have to
    /// be formed. Beyond it a batch is taken in pieces. The forward and the backward pass take what a
    /// training step with this batch takes, and this does not count them.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How many examples are also looked at alone in the first batch, and whenever a batch is covered
    /// in another way than those before: 2, and 0 for none. It takes an ordinary backward pass each.
    #[must_use]
    pub fn check(mut self, examples: usize) -> Self {
        self.check = examples;
        self
    }

    /// Takes a backward pass per example for every parameter, whatever the layers.
    #[must_use]
    pub fn one_by_one(mut self) -> Self {
        self.one_by_one = true;
        self
    }

    /// Counts parameters that no gradient reaches as having a gradient of zero, and names them in the
    /// report. Otherwise they are an error, since candle's fused kernels stop gradients in silence.
    #[must_use]
    pub fn allow_unused(mut self) -> Self {
        self.allow_unused = true;
        self
    }

    /// The norms for the cross-entropy of logits `[batch, classes]` that `forward` makes of `inputs`,
    /// with class indices or soft targets as labels.
    ///
    /// # Errors
    ///
    /// If labels do not fit the inputs or the logits; if no gradient reaches a parameter, which is
    /// named; if an example's norm depends on its batch; if an example takes more than
    /// [`max_bytes`](Self::max_bytes); or with what `forward` fails with.
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
        self.norms(inputs, &Objective::CrossEntropy(labels.to_labels()?), &forward)
    }

    /// The norms for a loss of one's own. `forward` makes of `inputs` what `loss` takes together with
    /// `targets`, whose first dimension counts the examples; `loss` answers with the loss of each
    /// example, `[batch]`.
    ///
    /// # Errors
    ///
    /// As [`cross_entropy`](Self::cross_entropy).
    pub fn of_losses<I: Inputs>(
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
        let batch = inputs.examples()?;
        if batch == 0 {
            return Err(Error::Argument("inputs: expected at least one example".to_owned()));
        }
        objective.check_length(batch)?;
        match self.attempt(inputs, batch, objective, forward)? {
            Attempt::Done(norms) => Ok(norms),
            Attempt::Differs { several_rows: true, .. } if self.several_rows => {
                // Rows beyond the batch need not be the examples' own: positions that all share, or
                // positions before examples. Left to candle, such layers take longer and are right.
                self.several_rows = false;
                match self.attempt(inputs, batch, objective, forward)? {
                    Attempt::Done(norms) => Ok(norms),
                    Attempt::Differs { error, .. } => Err(error),
                }
            }
            Attempt::Differs { error, .. } => Err(error),
        }
    }

    fn attempt<I: Inputs>(
        &mut self,
        inputs: &I,
        batch: usize,
        objective: &Objective<'_>,
        forward: &dyn Fn(&I) -> candle_core::Result<Tensor>,
    ) -> Result<Attempt> {
        let pass = self.pass(inputs, batch, objective, forward)?;
        if !(pass.unused.is_empty() || self.allow_unused) {
            return Err(self.unreached(&pass.unused));
        }
        let mut squares = self.covered_squares(&pass, batch)?;
        if !pass.uncovered.is_empty() {
            let each = (0..batch)
                .map(|row| self.alone(inputs, row, objective, forward, &pass.uncovered))
                .collect::<Result<Vec<_>>>()?;
            let others = Tensor::cat(&each, 0)?;
            squares = match squares {
                None => Some(others),
                Some(squares) => Some((squares + others)?),
            };
        }
        let mut values = match squares {
            Some(squares) => HostTensor::new(&squares.sqrt()?)?.floats("norms")?,
            // Allowed: nothing reaches any parameter.
            None => vec![0.0; batch],
        };
        let checked = match self.check_alone(inputs, objective, forward, &pass, &values)? {
            Ok(checked) => checked,
            Err(error) => {
                let several_rows = pass.record.single_rows.contains(&false);
                return Ok(Attempt::Differs { error, several_rows });
            }
        };
        for value in &mut values {
            if !value.is_finite() {
                *value = f32::NAN;
            }
        }
        let report = self.report(&pass, &values, checked);
        Ok(Attempt::Done(ExampleNorms { values, report }))
    }

    /// One forward and one backward pass of the whole batch.
    fn pass<I>(
        &self,
        inputs: &I,
        batch: usize,
        objective: &Objective<'_>,
        forward: &dyn Fn(&I) -> candle_core::Result<Tensor>,
    ) -> Result<Pass> {
        let ids: Vec<TensorId> = self.parameters.iter().map(|(_, var)| var.id()).collect();
        let attached = if self.one_by_one { ids.as_slice() } else { &[] };
        let device = self.parameters[0].1.device();
        let tape = Tape::new(batch, self.several_rows, device, &ids, attached)?;
        let gradients = backward(&tape, inputs, objective, forward, 0, batch)?;
        let record = tape.take();
        let mut pass = Pass { record, covered: vec![], uncovered: vec![], unused: vec![] };
        for (at, (name, var)) in self.parameters.iter().enumerate() {
            if gradients.as_ref().is_some_and(|gradients| gradients.get(var).is_some()) {
                pass.uncovered.push(at);
            } else if !pass.record.contributions[at].is_empty() {
                pass.covered.push(at);
            } else if !(pass.record.buffers.contains(&var.id()) || names_statistics(name)) {
                pass.unused.push(at);
            }
        }
        Ok(pass)
    }

    fn covered_squares(&self, pass: &Pass, batch: usize) -> Result<Option<Tensor>> {
        let mut sum: Option<Tensor> = None;
        for &at in &pass.covered {
            let (name, var) = &self.parameters[at];
            let uses = &pass.record.contributions[at];
            let squares = example_squares(uses, var, batch, self.max_bytes)?.map_err(|TooLarge { bytes }| {
                let limit = self.max_bytes;
                Error::Argument(format!(
                    "max_bytes: expected at least {bytes}, which one example takes for {name}, got \
                     {limit}"
                ))
            })?;
            sum = Some(match sum {
                None => squares,
                Some(sum) => (sum + squares)?,
            });
        }
        Ok(sum)
    }

    /// The sum of squares, `[1]`, of an example's gradient in some parameters.
    fn alone<I: Inputs>(
        &self,
        inputs: &I,
        row: usize,
        objective: &Objective<'_>,
        forward: &dyn Fn(&I) -> candle_core::Result<Tensor>,
        parameters: &[usize],
    ) -> Result<Tensor> {
        let device = self.parameters[0].1.device();
        let ids: Vec<TensorId> = parameters.iter().map(|&at| self.parameters[at].1.id()).collect();
        let tape = Tape::new(1, true, device, &[], &ids)?;
        let gradients = backward(&tape, &inputs.example(row)?, objective, forward, row, 1)?;
        let mut sum = Tensor::zeros(1, sum_dtype(&self.parameters[0].1), device)?;
        for &at in parameters {
            let gradient = gradients.as_ref().and_then(|all| all.get(&self.parameters[at].1));
            if let Some(gradient) = gradient {
                sum = (sum + sums_of_squares(&gradient.unsqueeze(0)?)?)?;
            }
        }
        Ok(sum)
    }

    /// Looks at some examples alone, unless a batch that was covered like this one has been looked at;
    /// the inner error is that one of them differs.
    fn check_alone<I: Inputs>(
        &mut self,
        inputs: &I,
        objective: &Objective<'_>,
        forward: &dyn Fn(&I) -> candle_core::Result<Tensor>,
        pass: &Pass,
        values: &[f32],
    ) -> Result<Result<usize>> {
        let coverage = (pass.covered.clone(), pass.record.single_rows.clone());
        if self.check == 0 || pass.covered.is_empty() || self.checked.contains(&coverage) {
            return Ok(Ok(0));
        }
        let all: Vec<usize> = (pass.covered.iter().chain(&pass.uncovered)).copied().collect();
        // Where norms are largest, rounding matters least.
        let mut rows: Vec<usize> = (0..values.len()).filter(|&row| values[row] > 0.0).collect();
        rows.retain(|&row| values[row].is_finite());
        rows.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        let last = rows.iter().copied().max();
        let others = rows.iter().copied().filter(|&row| Some(row) != last);
        let chosen: Vec<usize> = last.into_iter().chain(others).take(self.check).collect();
        let half = self.parameters.iter().any(|(_, var)| var.dtype().size_in_bytes() < 4);
        let tolerance = if half { HALF_CHECK_TOLERANCE } else { CHECK_TOLERANCE };
        for &row in &chosen {
            let alone = self.alone(inputs, row, objective, forward, &all)?.sqrt()?;
            let alone = HostTensor::new(&alone)?.floats("norms")?.first().copied();
            let (alone, batched) = (f64::from(alone.unwrap_or(f32::NAN)), f64::from(values[row]));
            let difference = (alone - batched).abs();
            if difference > tolerance * alone.max(batched) || difference.is_nan() {
                return Ok(Err(Error::Argument(format!(
                    "forward: expected an example's gradient not to depend on its batch, got a norm \
                     of {alone} for row {row} alone and of {batched} in the batch: is something in \
                     training mode or random, or the first dimension of a layer's input not the \
                     batch?"
                ))));
            }
        }
        if !chosen.is_empty() {
            self.checked.insert(coverage);
        }
        Ok(Ok(chosen.len()))
    }

    fn report(&self, pass: &Pass, values: &[f32], checked: usize) -> NormsReport {
        let name = |at: usize| self.parameters[at].0.clone();
        let reason = |at: usize| match &pass.record.reasons[at] {
            _ if self.one_by_one => "asked for".to_owned(),
            Some(reason) => reason.clone(),
            None => "used outside the layers of data_diet_candle::nn".to_owned(),
        };
        let one_by_one = pass.uncovered.iter();
        NormsReport {
            batched: pass.covered.len(),
            one_by_one: one_by_one
                .map(|&at| OneByOne { parameter: name(at), reason: reason(at) })
                .collect(),
            unused: pass.unused.iter().map(|&at| name(at)).collect(),
            non_finite: values.iter().filter(|value| value.is_nan()).count(),
            checked,
        }
    }

    fn unreached(&self, unused: &[usize]) -> Error {
        let names: Vec<&str> = unused.iter().map(|&at| self.parameters[at].0.as_str()).collect();
        Error::Argument(format!(
            "forward: expected the loss to depend on every parameter, got no gradient for {}: pass \
             only parameters that are trained, call allow_unused, or look for an operation without \
             a backward pass between them and the loss",
            names.join(", ")
        ))
    }
}

/// candle-nn's batch normalization keeps its running statistics, which no gradient trains, among the
/// variables; on a tape, ours says so itself.
fn names_statistics(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last == "running_mean" || last == "running_var"
}

/// A forward and a backward pass of some examples on a tape; none of the latter if the loss depends on
/// no variable.
fn backward<I>(
    tape: &Arc<Tape>,
    inputs: &I,
    objective: &Objective<'_>,
    forward: &dyn Fn(&I) -> candle_core::Result<Tensor>,
    start: usize,
    count: usize,
) -> Result<Option<GradStore>> {
    let scalar = tape.run(|| objective.scalar(&forward(inputs)?, start, count));
    let scalar = match (scalar, tape.refusal()) {
        (_, Some(refusal)) => return Err(Error::Argument(refusal)),
        (scalar, None) => scalar?,
    };
    if !scalar.track_op() {
        return Ok(None);
    }
    Ok(Some(scalar.backward()?))
}
