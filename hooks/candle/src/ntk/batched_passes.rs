//! Gathers the factors of gradients from backward passes of many examples at once.

use std::ops::Range;

use candle_core::{Tensor, Var};

use super::factors::{Factors, Inputs, Kept, concat_positions};
use super::materialized::form;
use super::plan::{Part, Plan};
use super::product_forms::{GradientStructure, Weight};
use crate::error::{Error, Result};
use crate::gradients::contribution::{Contribution, Factor, per_example_gradients};
use crate::gradients::squares::product_dtype;
use crate::gradients::tape::Tape;
use crate::transfer::HostTensor;
use crate::weights::Params;

/// Runs the passes of a round, and counts them.
pub(super) struct Passes<'a, F> {
    pub(super) params: &'a Params,
    pub(super) weights: &'a [Weight],
    pub(super) inputs: &'a Tensor,
    pub(super) classes: usize,
    /// Whether layers whose inputs have more rows than examples have several rows per example.
    pub(super) multi_row_inputs: bool,
    pub(super) forward: F,
    pub(super) taken: usize,
}

impl<F: FnMut(&Tensor) -> candle_core::Result<Tensor>> Passes<'_, F> {
    /// Returns what is kept of all examples, chunk by chunk, for every part of the round. Returns
    /// `None` if the positions of a layer depend on the number of examples.
    pub(super) fn round(&mut self, plan: &Plan, round: &[Part]) -> Result<Option<Vec<Vec<Kept>>>> {
        let examples = self.inputs.dim(0)?;
        let mut kept: Vec<Vec<Kept>> = round.iter().map(|_| Vec::new()).collect();
        for start in (0..examples).step_by(plan.chunk) {
            let which = start..examples.min(start + plan.chunk);
            let Some(of_chunk) = self.chunk(round, which)? else { return Ok(None) };
            for (kept, of_chunk) in kept.iter_mut().zip(of_chunk) {
                kept.push(of_chunk);
            }
        }
        Ok(Some(kept))
    }

    fn chunk(&mut self, round: &[Part], which: Range<usize>) -> Result<Option<Vec<Kept>>> {
        let (start, examples) = (which.start, which.len());
        let inputs = self.inputs.narrow(0, start, examples)?;
        let variables: Vec<&Var> = self.params.variables().collect();
        let parameters: Vec<&Var> = round.iter().map(|part| variables[part.place]).collect();
        let ids: Vec<_> = parameters.iter().map(|variable| variable.id()).collect();
        let tape = Tape::new(examples, self.multi_row_inputs, inputs.device(), &ids, &[])?;
        let logits = tape.run(|| (self.forward)(&inputs));
        if let Some(refusal) = tape.refusal() {
            return Err(Error::Argument(format!("forward: {refusal}")));
        }
        let logits = logits?;
        self.check(&logits, &which)?;
        let mut pending = Vec::new();
        for (part, &parameter) in round.iter().zip(&parameters) {
            let weight = self.weights[part.place];
            pending.push(Pending::new(weight, part, parameter, [examples, self.classes])?);
        }
        for class in 0..self.classes {
            // Examples are independent, so the gradient of the sum consists of theirs.
            logits.narrow(1, class, 1)?.sum_all()?.backward()?;
            self.taken += 1;
            for (pending, uses) in pending.iter_mut().zip(tape.take_contributions()) {
                // A class that does not use the parameter keeps its zeros.
                if !uses.is_empty() {
                    if !pending.takes(&uses)? {
                        return Ok(None);
                    }
                    pending.add(class, &uses)?;
                }
            }
        }
        drop((logits, tape));
        pending.into_iter().map(Pending::finish).collect()
    }

    fn check(&self, logits: &Tensor, which: &Range<usize>) -> Result<()> {
        let (examples, classes) = (which.len(), self.classes);
        if logits.dims() != [examples, classes] {
            return Err(Error::Argument(format!(
                "forward: expected logits [{examples}, {classes}], got {:?}",
                logits.dims()
            )));
        }
        let finite = HostTensor::new(logits)?.doubles("forward")?;
        match finite.iter().position(|logit| !logit.is_finite()) {
            None => Ok(()),
            Some(place) => Err(Error::Argument(format!(
                "forward: expected finite logits, got {} as logit {} of example {}",
                finite[place],
                place % classes,
                which.start + place / classes
            ))),
        }
    }
}

/// A chunk's part of a parameter, filled class by class.
struct Pending<'a> {
    weight: Weight,
    parameter: &'a Var,
    /// A range of features, or of values where features are not separate.
    range: Range<usize>,
    examples: usize,
    /// `[examples, classes, features, positions]`, or `[examples, classes, values]`.
    rows: Tensor,
    right: Option<Inputs>,
    is_used: bool,
}

impl<'a> Pending<'a> {
    fn new(
        weight: Weight,
        part: &Part,
        parameter: &'a Var,
        [examples, classes]: [usize; 2],
    ) -> Result<Self> {
        let unit = weight.unit_features();
        let range = part.units.start * unit..part.units.end * unit;
        let mut shape = vec![examples, classes, range.len()];
        match weight.structure {
            GradientStructure::Layer { positions, .. }
            | GradientStructure::Tokens { positions, .. } => {
                shape.push(positions);
            }
            GradientStructure::Other => {}
        }
        let rows = Tensor::zeros(shape, product_dtype(parameter), parameter.device())?;
        Ok(Self { weight, parameter, range, examples, rows, right: None, is_used: false })
    }

    /// Returns whether the parameter is used in the expected way.
    fn takes(&self, uses: &[Contribution]) -> Result<bool> {
        let structure = self.weight.structure;
        Ok(structure == GradientStructure::Other
            || GradientStructure::new(uses, self.examples)? == structure)
    }

    fn add(&mut self, class: usize, uses: &[Contribution]) -> Result<()> {
        let batch = self.examples;
        self.is_used = true;
        if self.weight.structure == GradientStructure::Other {
            let parameter = self.parameter.as_tensor();
            let gradients = per_example_gradients(uses, parameter, batch, 0, batch)?;
            return self.set(class, &gradients);
        }
        let outer = uses.iter().map(|used| match used {
            Contribution::Outer { left, right, .. } => Ok((left, right)),
            Contribution::Gradient(_) => Err(structure_mismatch()),
        });
        let outer = outer.collect::<Result<Vec<_>>>()?;
        let is_tokens = matches!(self.weight.structure, GradientStructure::Tokens { .. });
        let left = outer.iter().map(|(left, right)| {
            let of_output = if is_tokens { right } else { left };
            of_output.columns(0, batch, batch, 1)
        });
        let left = concat_positions(left.collect::<candle_core::Result<_>>()?)?;
        self.set(class, &left)?;
        if self.right.is_some() {
            return Ok(());
        }
        self.right = Some(if is_tokens {
            let tokens = outer.iter().map(|(left, _)| match left {
                Factor::OneHot(tokens) => Ok(tokens),
                _ => Err(structure_mismatch()),
            });
            Inputs::Tokens(Tensor::cat(&tokens.collect::<Result<Vec<_>>>()?, 1)?)
        } else {
            Inputs::Factors(outer.iter().map(|&(_, right)| right.clone()).collect())
        });
        Ok(())
    }

    /// Stores the part's range of one class, `[examples, features, ...]`.
    fn set(&self, class: usize, of_class: &Tensor) -> Result<()> {
        let of_part = of_class.narrow(1, self.range.start, self.range.len())?;
        let of_part = of_part.detach().contiguous()?.unsqueeze(1)?;
        Ok(self.rows.slice_set(&of_part, 1, class)?)
    }

    /// Returns `None` if no class uses the parameter.
    fn finish(self) -> Result<Option<Kept>> {
        if !self.is_used {
            return Ok(None);
        }
        let Some(right) = self.right else {
            return Ok(Some(Kept::Gradients(self.rows.flatten(0, 1)?)));
        };
        let factors = Factors { left: self.rows, right };
        if !self.weight.is_formed_at_once() {
            return Ok(Some(Kept::Factors(factors)));
        }
        let unit = self.weight.unit_features();
        let units = self.range.len() / unit;
        form(&self.weight, &[&factors], self.range.start / unit, 0..units)
            .map(|rows| Some(Kept::Gradients(rows)))
    }
}

fn structure_mismatch() -> Error {
    Error::Argument("a parameter that is used in another way".to_owned())
}
