//! The options of a kernel, and which method to use for each parameter.

use std::collections::BTreeSet;

use candle_core::{DType, Tensor};

use super::Gram;
use super::accumulator::Kernel;
use super::plan::fits;
use super::product_forms::{Form, Weight};
use super::single_logits::Rows;
use crate::error::{Error, Result};
use crate::gradients::contribution::Contribution;
use crate::gradients::is_running_statistic;
use crate::gradients::tape::Tape;
use crate::transfer::{HostTensor, is_float};
use crate::weights::Params;

/// How a [`Gram`] matrix is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "options do nothing by themselves"]
pub struct GramOptions {
    max_bytes: usize,
    per_example: bool,
    allow_unused: bool,
    /// The form of products to use where there is a choice.
    form: Option<Form>,
}

impl GramOptions {
    /// The default of [`max_bytes`](Self::max_bytes): 2 GiB.
    pub const DEFAULT_MAX_BYTES: usize = 2 << 30;

    /// Sets how many bytes of gradients, or of their factors, are held at a time on the model's
    /// device. The kernel itself is not included, nor is what the computation needs, such as a
    /// backward pass of some of the examples: about half as much again, unless a single example
    /// needs more. Default: [`DEFAULT_MAX_BYTES`](Self::DEFAULT_MAX_BYTES).
    ///
    /// For layers of [`nn`](crate::nn), the output gradients of as many weights as fit are held,
    /// for all examples and classes, and each weight's part of the kernel is computed from them at
    /// once. If those of all weights do not fit, that takes several rounds, each of a backward pass
    /// of all examples for each class: about as many as the bytes of all of them divided by
    /// `max_bytes`. No product is computed twice.
    ///
    /// For parameters that are handled one example at a time, a gradient takes 4 bytes per
    /// parameter (8 for a model in `f64`). If the gradients of all `examples * classes` logits fit,
    /// each is computed once. Otherwise the matrix is computed in `n` bands of rows, where `n` is
    /// about the bytes of all gradients divided by `max_bytes`, and a gradient is computed once for
    /// its own band and once for each band before it: `(n + 1) / 2` times on average.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Takes a backward pass for each logit of each example for every parameter, whatever the
    /// layers.
    pub fn per_example(mut self) -> Self {
        self.per_example = true;
        self
    }

    /// Lets parameters that no gradient reaches add nothing to the kernel. By default they are an
    /// error, since candle's fused kernels silently stop gradients.
    pub fn allow_unused(mut self) -> Self {
        self.allow_unused = true;
        self
    }

    /// Forces one form of products where there is a choice.
    #[cfg(test)]
    pub(super) fn form(mut self, form: Form) -> Self {
        self.form = Some(form);
        self
    }

    /// Computes the kernel of a model at its current weights. See [`gram`](super::gram).
    ///
    /// # Errors
    ///
    /// As for [`gram`](super::gram); also if `max_bytes` does not hold two gradients of the
    /// parameters that are handled one example at a time.
    pub fn gram(
        self,
        params: &Params,
        inputs: &Tensor,
        mut forward: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Gram> {
        let examples = inputs.dims().first().copied().unwrap_or_default();
        if examples < 2 {
            return Err(Error::Argument(format!(
                "inputs: expected a tensor [examples, ...] of at least 2 examples, got {:?}",
                inputs.dims()
            )));
        }
        let named = || params.names().zip(params.variables());
        if let Some((name, variable)) = named().find(|(_, variable)| !is_float(variable.dtype())) {
            let got = variable.dtype().as_str();
            return Err(Error::Argument(format!("params: `{name}` is {got}, expected floats")));
        }
        let classes = check_forward(params, inputs, &mut forward)?;
        let difference = match self.attempt(params, inputs, classes, true, &mut forward)? {
            PassOutcome::Done(gram) => return Ok(gram),
            // Rows beyond the batch need not belong to single examples: positions may be shared, or
            // come before examples in the layout. Such layers are left to candle, which is slower
            // and correct.
            PassOutcome::Differs { multi_row_inputs: true, .. } => {
                match self.attempt(params, inputs, classes, false, &mut forward)? {
                    PassOutcome::Done(gram) => return Ok(gram),
                    PassOutcome::Differs { difference, .. } => difference,
                }
            }
            PassOutcome::Differs { difference, .. } => difference,
        };
        Err(Error::Argument(format!(
            "forward: expected an example's gradients not to depend on its batch, got {difference}: \
             is something in training mode or random, or a layer's input not in order of \
             examples?"
        )))
    }

    fn attempt(
        self,
        params: &Params,
        inputs: &Tensor,
        classes: usize,
        multi_row_inputs: bool,
        forward: &mut impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<PassOutcome> {
        let examples = inputs.dim(0)?;
        let coverage = self.coverage(params, inputs, classes, multi_row_inputs, forward)?;
        let mut kernel = Kernel::new(examples, classes, self.max_bytes);
        if let Some(others) = &coverage.others {
            kernel.add_rows(others, inputs, &mut *forward)?;
        }
        if let Some(taped) = &coverage.taped {
            let (weights, bytes) = (&coverage.weights, coverage.output_bytes);
            if !kernel.add_factors(taped, weights, bytes, inputs, multi_row_inputs, forward)? {
                let multi_row_inputs = coverage.multi_row_inputs;
                let difference = "other positions in a layer than with two examples".to_owned();
                return Ok(PassOutcome::Differs { difference, multi_row_inputs });
            }
        }
        let values = kernel.finite()?;
        if coverage.taped.is_some() {
            let ends = BTreeSet::from([0, examples * classes - 1]);
            let mut rows = Rows::new(params, inputs, classes, forward);
            if let Some(difference) = kernel.difference(&mut rows, &ends)? {
                let multi_row_inputs = coverage.multi_row_inputs;
                return Ok(PassOutcome::Differs { difference, multi_row_inputs });
            }
        }
        let backward_passes = kernel.backward_passes();
        Ok(PassOutcome::Done(Gram { values, examples, classes, backward_passes }))
    }

    /// Finds which parameters the tape sees, and which have a gradient without it.
    fn coverage(
        self,
        params: &Params,
        inputs: &Tensor,
        classes: usize,
        multi_row_inputs: bool,
        forward: &mut impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Coverage> {
        let (pair, logits_of_all) = (&inputs.narrow(0, 0, 2)?, [inputs.dim(0)?, classes]);
        let ids: Vec<_> = params.variables().map(|variable| variable.id()).collect();
        let attached = if self.per_example { ids.as_slice() } else { &[] };
        let tape = Tape::new(2, multi_row_inputs, pair.device(), &ids, attached)?;
        let logits = tape.run(|| forward(pair));
        if let Some(refusal) = tape.refusal() {
            return Err(Error::Argument(format!("forward: {refusal}")));
        }
        let sum = logits?.sum_all()?;
        let gradients = if sum.track_op() { Some(sum.backward()?) } else { None };
        let record = tape.take();
        let (mut taped, mut others, mut unused) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let (mut weights, mut output_bytes) = (Vec::new(), 0);
        for (place, (name, variable)) in params.names().zip(params.variables()).enumerate() {
            let uses = &record.contributions[place];
            if gradients.as_ref().is_some_and(|gradients| gradients.get(variable).is_some()) {
                others.insert(name);
            } else if !uses.is_empty() {
                let weight = Weight::new(uses, variable, 2, logits_of_all, self.form)?;
                // If a part does not fit for all examples, single gradients may.
                if fits(&weight, logits_of_all, self.max_bytes) {
                    output_bytes += uses.iter().map(Contribution::bytes).sum::<usize>() / 2;
                    weights.push(weight);
                    taped.insert(name);
                } else {
                    others.insert(name);
                }
            } else if !(record.buffers.contains(&variable.id()) || is_running_statistic(name)) {
                unused.push(name);
            }
        }
        if taped.is_empty() && others.is_empty() {
            return Err(Error::Argument(
                "forward: expected logits that depend on the parameters, none of them has a \
                 gradient"
                    .to_owned(),
            ));
        }
        if !(unused.is_empty() || self.allow_unused) {
            return Err(Error::Argument(format!(
                "forward: expected logits that depend on every parameter, got no gradient for {}: \
                 take only parameters that are trained, call allow_unused, or look for an operation \
                 without a backward pass between them and the logits",
                unused.join(", ")
            )));
        }
        let only = |names: &BTreeSet<&str>| {
            let some =
                (!names.is_empty()).then(|| params.clone().only(|name| names.contains(name)));
            some.transpose()
        };
        let multi_row_inputs = record.one_row_per_example.contains(&false);
        let (taped, others) = (only(&taped)?, only(&others)?);
        Ok(Coverage { taped, weights, output_bytes, others, multi_row_inputs })
    }
}

impl Default for GramOptions {
    fn default() -> Self {
        let max_bytes = Self::DEFAULT_MAX_BYTES;
        Self { max_bytes, per_example: false, allow_unused: false, form: None }
    }
}

enum PassOutcome {
    Done(Gram),
    /// The kernel differs from that of single examples.
    Differs {
        difference: String,
        multi_row_inputs: bool,
    },
}

struct Coverage {
    taped: Option<Params>,
    /// For each taped parameter.
    weights: Vec<Weight>,
    /// The bytes of the layers' outputs per example.
    output_bytes: usize,
    others: Option<Params>,
    /// Whether a layer's input had more rows than there were examples.
    multi_row_inputs: bool,
}

/// Runs the model on two examples, and on one of them twice: the logits must have the right shape,
/// and be equal for the same example. Returns the number of classes.
///
/// Two examples at a time, because batch normalization in training mode makes its running
/// statistics NaN from a single one. Its changes are undone.
fn check_forward(
    params: &Params,
    inputs: &Tensor,
    forward: &mut impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<usize> {
    params.restore_after(|| {
        let pair = inputs.narrow(0, 0, 2)?;
        let alone = inputs.narrow(0, 0, 1)?;
        let with_other = forward(&pair)?;
        let classes = match *with_other.dims() {
            [2, classes] if classes > 0 => classes,
            _ => {
                return Err(Error::Argument(format!(
                    "forward: expected logits [2, classes] for 2 examples, got {:?}",
                    with_other.dims()
                )));
            }
        };
        let with_itself = forward(&Tensor::cat(&[&alone, &alone], 0)?)?;
        let tolerance = match with_other.dtype() {
            DType::F32 | DType::F64 => 1e-3,
            _ => 3e-2,
        };
        let first = |logits: &Tensor| HostTensor::new(&logits.narrow(0, 0, 1)?)?.doubles("forward");
        let (with_other, with_itself) = (first(&with_other)?, first(&with_itself)?);
        let scale = with_other.iter().fold(1.0_f64, |most, logit| most.max(logit.abs()));
        for (class, (a, b)) in with_other.iter().zip(&with_itself).enumerate() {
            // Logits that are not finite are reported when their rows come.
            if (a - b).abs() > tolerance * scale {
                return Err(Error::Argument(format!(
                    "forward: expected the model in evaluation mode, but logit {class} of the first \
                     example is {a:.3e} beside the second and {b:.3e} beside itself"
                )));
            }
        }
        Ok(classes)
    })
}
