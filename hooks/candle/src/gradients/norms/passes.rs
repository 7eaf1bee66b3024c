//! The passes over a model that gradient norms need: one of the batch on a tape, one per example
//! for parameters that it does not cover, and a check of some examples alone.

use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, TensorId};

use super::objective::Objective;
use super::{ExampleNorms, GradientNorms, Inputs, NormsReport, PerExampleParameter};
use crate::error::{Error, Result};
use crate::gradients::contribution::{Contribution, MemoryLimitExceeded, per_example_squares};
use crate::gradients::squares::{sum_dtype, sums_of_squares};
use crate::gradients::tape::Tape;
use crate::transfer::HostTensor;

/// How much the norms of an example in the batch and alone may differ, relative to the norm.
/// Rounding stays far below in f32; an example that depends on its batch differs far more.
const CHECK_TOLERANCE: f64 = 1e-3;
const HALF_CHECK_TOLERANCE: f64 = 1e-1;

/// What norms are asked for.
pub(super) struct NormRequest<'a, I> {
    pub(super) inputs: &'a I,
    pub(super) batch: usize,
    pub(super) objective: &'a Objective<'a>,
    pub(super) forward: &'a dyn Fn(&I) -> candle_core::Result<Tensor>,
}

/// The result of a pass over a batch.
pub(super) enum PassOutcome {
    Done(ExampleNorms),
    /// An example has another norm when it is alone.
    Differs {
        error: Error,
        multi_row_inputs: bool,
        /// Whether the batch was split into pieces.
        cut: bool,
    },
}

/// What the passes over all pieces of a batch have shown.
struct Pass {
    pieces: Vec<Piece>,
    reasons: Vec<Option<String>>,
    one_row_per_example: Vec<bool>,
    /// How each parameter was reached in any piece; the last of [`Reached`] if in several ways.
    reached: Vec<Reached>,
    /// Indices of parameters: seen on the tape, left to candle, reached by no gradient.
    covered: Vec<usize>,
    uncovered: Vec<usize>,
    unused: Vec<usize>,
}

/// What the pass over a piece has shown.
struct Piece {
    examples: usize,
    /// For each parameter seen on the tape, the examples' sums of squares.
    squares: Vec<Option<Tensor>>,
}

/// How a pass over a piece has reached a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    /// A tensor of a layer that no gradient trains.
    Buffer,
    Nowhere,
    OnTape,
    ByCandle,
}

impl Pass {
    /// Returns the sum of squares of every example over all covered parameters; `None` if there are
    /// none.
    fn covered_squares(&self, dtype: DType, device: &Device) -> Result<Option<Tensor>> {
        if self.covered.is_empty() {
            return Ok(None);
        }
        let mut sums = Vec::new();
        for piece in &self.pieces {
            let mut sum = Tensor::zeros(piece.examples, dtype, device)?;
            for squares in self.covered.iter().filter_map(|&at| piece.squares[at].as_ref()) {
                sum = (sum + squares)?;
            }
            sums.push(sum);
        }
        Ok(Some(Tensor::cat(&sums, 0)?))
    }
}

impl GradientNorms {
    pub(super) fn attempt<I: Inputs>(
        &mut self,
        question: &NormRequest<'_, I>,
    ) -> Result<PassOutcome> {
        let pass = self.pass(question)?;
        if !(pass.unused.is_empty() || self.allow_unused) {
            return Err(self.unused_error(&pass.unused));
        }
        let parameter = &self.parameters[0].1;
        let mut squares = pass.covered_squares(sum_dtype(parameter), parameter.device())?;
        if !pass.uncovered.is_empty() {
            let each = (0..question.batch)
                .map(|row| self.alone(question, row, &pass.uncovered))
                .collect::<Result<Vec<_>>>()?;
            let others = Tensor::cat(&each, 0)?;
            squares = match squares {
                None => Some(others),
                Some(squares) => Some((squares + others)?),
            };
        }
        let mut values = match squares {
            Some(squares) => HostTensor::new(&squares.sqrt()?)?.floats("norms")?,
            // Allowed: no gradient reaches any parameter.
            None => vec![0.0; question.batch],
        };
        let checked = match self.check_single_examples(question, &pass, &values)? {
            Ok(checked) => checked,
            Err(error) => {
                let multi_row_inputs = pass.one_row_per_example.contains(&false);
                return Ok(PassOutcome::Differs {
                    error,
                    multi_row_inputs,
                    cut: pass.pieces.len() > 1,
                });
            }
        };
        for value in &mut values {
            if !value.is_finite() {
                *value = f32::NAN;
            }
        }
        let report = self.report(&pass, &values, checked);
        Ok(PassOutcome::Done(ExampleNorms { values, report }))
    }

    /// Runs a forward and a backward pass of each piece of the batch.
    fn pass<I: Inputs>(&mut self, question: &NormRequest<'_, I>) -> Result<Pass> {
        let mut pass = Pass {
            pieces: vec![],
            reasons: vec![None; self.parameters.len()],
            one_row_per_example: vec![],
            reached: vec![Reached::Buffer; self.parameters.len()],
            covered: vec![],
            uncovered: vec![],
            unused: vec![],
        };
        let mut start = 0;
        while start < question.batch {
            let mut count = self.pieces.next(question.batch - start);
            let whole = count == question.batch;
            let part = if whole { None } else { question.inputs.part(start, count)? };
            if part.is_none() && start == 0 {
                count = question.batch;
            }
            let inputs = part.as_ref().unwrap_or(question.inputs);
            self.pass_piece(question, inputs, start, count, &mut pass)?;
            start += count;
        }
        for (at, reached) in pass.reached.iter().enumerate() {
            match reached {
                Reached::OnTape => pass.covered.push(at),
                Reached::ByCandle => pass.uncovered.push(at),
                Reached::Nowhere => pass.unused.push(at),
                Reached::Buffer => {}
            }
        }
        Ok(pass)
    }

    /// Runs a forward and a backward pass of some examples.
    fn pass_piece<I: Inputs>(
        &mut self,
        question: &NormRequest<'_, I>,
        inputs: &I,
        start: usize,
        count: usize,
        pass: &mut Pass,
    ) -> Result<()> {
        let ids: Vec<TensorId> = self.parameters.iter().map(|(_, var)| var.id()).collect();
        let attached = if self.per_example { ids.as_slice() } else { &[] };
        let device = self.parameters[0].1.device();
        let tape = Tape::new(count, self.multi_row_inputs, device, &ids, attached)?;
        let gradients = backward(&tape, question, inputs, start, count)?;
        let mut record = tape.take();
        self.pieces.learn(count, record.outputs);
        let mut squares = vec![None; self.parameters.len()];
        for (at, (name, var)) in self.parameters.iter().enumerate() {
            // Freed as soon as they have been added.
            let uses = std::mem::take(&mut record.contributions[at]);
            let this = if gradients.as_ref().is_some_and(|all| all.get(var).is_some()) {
                Reached::ByCandle
            } else if !uses.is_empty() {
                squares[at] = Some(self.squares(&uses, name, var, count)?);
                Reached::OnTape
            } else if record.buffers.contains(&var.id()) || is_running_statistic(name) {
                Reached::Buffer
            } else {
                Reached::Nowhere
            };
            // Another piece may have taken another path.
            pass.reached[at] = pass.reached[at].max(this);
            pass.reasons[at] = pass.reasons[at].take().or(record.reasons[at].take());
        }
        pass.pieces.push(Piece { examples: count, squares });
        if !pass.one_row_per_example.ends_with(&record.one_row_per_example) {
            pass.one_row_per_example.extend(record.one_row_per_example);
        }
        Ok(())
    }

    /// Returns the sums of squares, `[examples]`, of the gradients in the parameter whose uses
    /// these are.
    fn squares(
        &self,
        uses: &[Contribution],
        name: &str,
        parameter: &Tensor,
        examples: usize,
    ) -> Result<Tensor> {
        let squares = per_example_squares(uses, parameter, examples, self.max_bytes)?;
        squares.map_err(|MemoryLimitExceeded { bytes }| {
            let limit = self.max_bytes;
            Error::Argument(format!(
                "max_bytes: expected at least {bytes}, which one example takes for {name}, got {limit}"
            ))
        })
    }

    /// Returns the sum of squares, `[1]`, of an example's gradient in some parameters.
    fn alone<I: Inputs>(
        &self,
        question: &NormRequest<'_, I>,
        row: usize,
        parameters: &[usize],
    ) -> Result<Tensor> {
        let device = self.parameters[0].1.device();
        let ids: Vec<TensorId> = parameters.iter().map(|&at| self.parameters[at].1.id()).collect();
        let tape = Tape::new(1, true, device, &[], &ids)?;
        let gradients = backward(&tape, question, &question.inputs.example(row)?, row, 1)?;
        let mut sum = Tensor::zeros(1, sum_dtype(&self.parameters[0].1), device)?;
        for &at in parameters {
            let gradient = gradients.as_ref().and_then(|all| all.get(&self.parameters[at].1));
            if let Some(gradient) = gradient {
                sum = (sum + sums_of_squares(&gradient.unsqueeze(0)?)?)?;
            }
        }
        Ok(sum)
    }

    /// Computes some examples alone, unless a batch that was covered like this one has been
    /// checked. The inner error says that one of them differs.
    fn check_single_examples<I: Inputs>(
        &mut self,
        question: &NormRequest<'_, I>,
        pass: &Pass,
        values: &[f32],
    ) -> Result<Result<usize>> {
        let coverage = (pass.covered.clone(), pass.one_row_per_example.clone());
        if self.check == 0 || pass.covered.is_empty() || self.checked.contains(&coverage) {
            return Ok(Ok(0));
        }
        let all: Vec<usize> = (pass.covered.iter().chain(&pass.uncovered)).copied().collect();
        // Rounding matters least where norms are largest.
        let mut rows: Vec<usize> = (0..values.len()).filter(|&row| values[row] > 0.0).collect();
        rows.retain(|&row| values[row].is_finite());
        rows.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        let last = rows.iter().copied().max();
        let others = rows.iter().copied().filter(|&row| Some(row) != last);
        let chosen: Vec<usize> = last.into_iter().chain(others).take(self.check).collect();
        let half = self.parameters.iter().any(|(_, var)| var.dtype().size_in_bytes() < 4);
        let tolerance = if half { HALF_CHECK_TOLERANCE } else { CHECK_TOLERANCE };
        for &row in &chosen {
            let alone = self.alone(question, row, &all)?.sqrt()?;
            let alone = HostTensor::new(&alone)?.floats("norms")?.first().copied();
            let (alone, batched) = (f64::from(alone.unwrap_or(f32::NAN)), f64::from(values[row]));
            let difference = (alone - batched).abs();
            if difference > tolerance * alone.max(batched) || difference.is_nan() {
                return Ok(Err(Error::Argument(format!(
                    "forward: expected an example's gradient not to depend on its batch, got a norm \
                     of {alone:.3e} for row {row} alone and of {batched:.3e} in the batch: is something in \
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
        let reason = |at: usize| match &pass.reasons[at] {
            _ if self.per_example => "asked for".to_owned(),
            Some(reason) => reason.clone(),
            None => "used outside the layers of data_diet_candle::nn".to_owned(),
        };
        let per_example = pass.uncovered.iter();
        NormsReport {
            batched: pass.covered.len(),
            per_example: per_example
                .map(|&at| PerExampleParameter { parameter: name(at), reason: reason(at) })
                .collect(),
            unused: pass.unused.iter().map(|&at| name(at)).collect(),
            non_finite: values.iter().filter(|value| value.is_nan()).count(),
            ignored: 0,
            checked,
        }
    }

    fn unused_error(&self, unused: &[usize]) -> Error {
        let names: Vec<&str> = unused.iter().map(|&at| self.parameters[at].0.as_str()).collect();
        Error::Argument(format!(
            "forward: expected the loss to depend on every parameter, got no gradient for {}: pass \
             only parameters that are trained, call allow_unused, or look for an operation without \
             a backward pass between them and the loss",
            names.join(", ")
        ))
    }
}

/// Returns whether a variable has the name of a running statistic: candle-nn's batch normalization
/// keeps these among the variables, although no gradient trains them. Ours reports them to the
/// tape.
pub(crate) fn is_running_statistic(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last == "running_mean" || last == "running_var"
}

/// Runs a forward and a backward pass of some examples on a tape; no backward pass if the loss
/// depends on no variable.
fn backward<I>(
    tape: &Arc<Tape>,
    question: &NormRequest<'_, I>,
    inputs: &I,
    start: usize,
    count: usize,
) -> Result<Option<GradStore>> {
    let scalar = tape.run(|| question.objective.scalar(&(question.forward)(inputs)?, start, count));
    let scalar = match (scalar, tape.refusal()) {
        (_, Some(refusal)) => return Err(Error::Argument(refusal)),
        (scalar, None) => scalar?,
    };
    if !scalar.track_op() {
        return Ok(None);
    }
    Ok(Some(scalar.backward()?))
}
