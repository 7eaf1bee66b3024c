//! Kernels from what the tape sees: as many backward passes of a whole batch as there are classes, and
//! no gradient of a weight but where forming it is the cheapest way to the products.
//!
//! For a layer that multiplies, the gradient of a logit in the weights is a sum over positions of outer
//! products `l r^T` of an output gradient and an input. The inner product of two such gradients is
//! `sum_pq (l_p . l'_q) (r_p . r'_q)`: two Gram matrices of the positions, which with a single position
//! (a fully connected layer) are far smaller than the gradients. With many positions (a convolution) the
//! gradients are formed, a few examples at a time.

use std::ops::Range;

use candle_core::{DType, Tensor, Var};

use crate::contribution::{Contribution, Factor, example_gradients};
use crate::error::{Error, Result};
use crate::params::Params;
use crate::tape::Tape;
use crate::transfer::HostTensor;

/// Columns whose products are added up in the model's own precision.
const SEGMENT: usize = 1 << 16;

/// How much cheaper Gram matrices of positions have to be, in multiplications, before they are: they are
/// added up in double precision.
const GRAM_ADVANTAGE: usize = 4;

/// What the gradients of some examples' logits are made of.
pub(super) struct Factors {
    examples: usize,
    classes: usize,
    /// Of each parameter, the uses that each logit's backward pass has shown.
    uses: Vec<Vec<Vec<Contribution>>>,
}

impl Factors {
    /// Runs some of the examples forward once, and backward once for each class. `several_rows`: whether
    /// layers whose inputs have more rows than there are examples have several for each.
    pub(super) fn new(
        params: &Params,
        inputs: &Tensor,
        which: Range<usize>,
        classes: usize,
        several_rows: bool,
        forward: &mut impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Self> {
        let examples = which.len();
        let inputs = inputs.narrow(0, which.start, examples)?;
        let ids: Vec<_> = params.variables().map(|variable| variable.id()).collect();
        let tape = Tape::new(examples, several_rows, inputs.device(), &ids, &[])?;
        let logits = tape.run(|| forward(&inputs));
        if let Some(refusal) = tape.refusal() {
            return Err(Error::Argument(format!("forward: {refusal}")));
        }
        let logits = logits?;
        if logits.dims() != [examples, classes] {
            return Err(Error::Argument(format!(
                "forward: expected logits [{examples}, {classes}], got {:?}",
                logits.dims()
            )));
        }
        let finite = HostTensor::new(&logits)?.doubles("forward")?;
        if let Some(place) = finite.iter().position(|logit| !logit.is_finite()) {
            return Err(Error::Argument(format!(
                "forward: expected finite logits, got {} as logit {} of example {}",
                finite[place],
                place % classes,
                which.start + place / classes
            )));
        }
        let mut uses: Vec<Vec<Vec<Contribution>>> = ids.iter().map(|_| Vec::new()).collect();
        for class in 0..classes {
            // Examples do not depend on one another, so the sum's gradient is made of theirs.
            logits.narrow(1, class, 1)?.sum_all()?.backward()?;
            for (uses, of_class) in uses.iter_mut().zip(tape.take_contributions()) {
                uses.push(of_class);
            }
        }
        Ok(Self { examples, classes, uses })
    }

    /// The inner products of these gradients with those of another group of examples, in one parameter:
    /// `[own examples * classes, others * classes]`. In the group itself, what lies below the diagonal may be
    /// left out. Not much more than `max_bytes` are taken, unless one example alone takes more.
    pub(super) fn products(
        &self,
        others: &Self,
        place: usize,
        parameter: &Var,
        max_bytes: usize,
    ) -> Result<Vec<f64>> {
        let (own, other) = (self.of(place, parameter), others.of(place, parameter));
        let is_same = std::ptr::eq(self, others);
        let plan = own.plan()?;
        // A tile of either side, so that both together fit.
        let tile = match plan {
            Plan::Form => max_bytes / (2 * example_bytes(parameter, self.classes)).max(1),
            Plan::Gram { positions } => {
                // The products of positions, their factors and both of them multiplied.
                (max_bytes / 24).isqrt() / (self.classes * positions).max(1)
            }
        };
        let tile = tile.max(1);
        let width = others.examples * self.classes;
        let mut products = vec![0.0; self.examples * self.classes * width];
        for start in (0..self.examples).step_by(tile) {
            let rows = own.tile(plan, start, tile.min(self.examples - start))?;
            let first = if is_same { start } else { 0 };
            for other_start in (first..others.examples).step_by(tile) {
                let count = tile.min(others.examples - other_start);
                let columns = if is_same && other_start == start {
                    rows.clone()
                } else {
                    other.tile(plan, other_start, count)?
                };
                let piece = rows.products(&columns)?;
                let piece_width = count * self.classes;
                for (row, piece) in piece.chunks_exact(piece_width).enumerate() {
                    let at = (start * self.classes + row) * width + other_start * self.classes;
                    products[at..at + piece_width].copy_from_slice(piece);
                }
            }
        }
        Ok(products)
    }

    fn of<'a>(&'a self, place: usize, parameter: &'a Var) -> OfParameter<'a> {
        OfParameter { uses: &self.uses[place], parameter, examples: self.examples }
    }
}

/// Whether gradients have to be formed for products in this parameter, which has these uses.
pub(super) fn forms_gradients(
    uses: &Vec<Contribution>,
    parameter: &Var,
    examples: usize,
) -> Result<bool> {
    let part = OfParameter { uses: std::slice::from_ref(uses), parameter, examples };
    Ok(part.plan()? == Plan::Form)
}

/// The bytes of the formed gradients of one example.
pub(super) fn example_bytes(parameter: &Var, classes: usize) -> usize {
    let size = if parameter.dtype() == DType::F64 { 8 } else { 4 };
    classes * parameter.elem_count() * size
}

/// One parameter's part of some examples' gradients.
struct OfParameter<'a> {
    /// Of each class.
    uses: &'a [Vec<Contribution>],
    parameter: &'a Var,
    examples: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Products of Gram matrices of the positions.
    Gram { positions: usize },
    /// Products of the gradients themselves.
    Form,
}

/// Some examples' part of the plan.
#[derive(Clone)]
enum Tile {
    /// `[examples * classes, values]`.
    Formed(Tensor),
    /// `[examples * classes * positions, outputs]` and `[examples * positions, inputs]`.
    Factored { left: Tensor, right: Tensor, classes: usize, positions: usize },
}

impl OfParameter<'_> {
    fn plan(&self) -> Result<Plan> {
        let mut positions = None;
        for uses in self.uses {
            let [Contribution::Outer { left, right, groups: 1 }] = uses.as_slice() else {
                return Ok(Plan::Form);
            };
            // The input has to be the second factor, the same for every class.
            if matches!(left, Factor::OneHot(_)) {
                return Ok(Plan::Form);
            }
            positions =
                Some((left.positions(self.examples)?, left.features()? + right.features()?));
        }
        Ok(match positions {
            Some((1, _)) => Plan::Gram { positions: 1 },
            Some((positions, features)) => {
                let gram = GRAM_ADVANTAGE * positions * positions * features;
                let is_cheaper = gram < self.parameter.elem_count();
                // Without double precision, sums over positions could cancel.
                if is_cheaper && self.parameter.device().is_cpu() {
                    Plan::Gram { positions }
                } else {
                    Plan::Form
                }
            }
            None => Plan::Form,
        })
    }

    fn tile(&self, plan: Plan, start: usize, count: usize) -> Result<Tile> {
        let classes = self.uses.len();
        let Plan::Gram { positions } = plan else {
            let of_class = |uses: &Vec<Contribution>| {
                let parameter = self.parameter.as_tensor();
                example_gradients(uses, parameter, self.examples, start, count)
            };
            let of_classes: Vec<Tensor> =
                self.uses.iter().map(of_class).collect::<candle_core::Result<_>>()?;
            let rows = Tensor::stack(&of_classes, 1)?.detach();
            return Ok(Tile::Formed(rows.reshape((count * classes, ()))?));
        };
        // [count, positions, features]
        let rows = |factor: &Factor| {
            let columns = factor.columns(start, count, self.examples, 1)?.detach();
            let rows = columns.transpose(1, 2)?;
            if positions > 1 { rows.to_dtype(DType::F64) } else { Ok(rows) }
        };
        let (mut left, mut right) = (Vec::new(), None);
        for uses in self.uses {
            let [Contribution::Outer { left: of_class, right: inputs, .. }] = uses.as_slice()
            else {
                return Err(Error::Argument("a plan for other uses of a parameter".to_owned()));
            };
            left.push(rows(of_class)?);
            if right.is_none() {
                right = Some(rows(inputs)?.contiguous()?.flatten_to(1)?);
            }
        }
        let left = Tensor::stack(&left, 1)?.contiguous()?.flatten_to(2)?;
        let right = match right {
            Some(right) => right,
            None => left.clone(),
        };
        Ok(Tile::Factored { left, right, classes, positions })
    }
}

impl Tile {
    fn products(&self, others: &Self) -> Result<Vec<f64>> {
        match (self, others) {
            (Self::Formed(own), Self::Formed(others)) => {
                let (rows, values) = own.dims2()?;
                let mut sums = vec![0.0; rows * others.dim(0)?];
                for start in (0..values).step_by(SEGMENT) {
                    let width = SEGMENT.min(values - start);
                    let segment = |rows: &Tensor| rows.narrow(1, start, width)?.contiguous();
                    let products = segment(own)?.matmul(&segment(others)?.t()?)?;
                    let products = HostTensor::new(&products)?.doubles("gradients")?;
                    for (sum, product) in sums.iter_mut().zip(products) {
                        *sum += product;
                    }
                }
                Ok(sums)
            }
            (
                Self::Factored { left, right, classes, positions },
                Self::Factored { left: other_left, right: other_right, .. },
            ) => {
                let (classes, positions) = (*classes, *positions);
                let own = right.dim(0)? / positions;
                let others = other_right.dim(0)? / positions;
                let of_left = left
                    .matmul(&other_left.t()?)?
                    .reshape(&[own, classes, positions, others, classes, positions][..])?;
                let of_right = right
                    .matmul(&other_right.t()?)?
                    .reshape(&[own, 1, positions, others, 1, positions][..])?;
                let products = of_left.broadcast_mul(&of_right)?.sum(&[2, 5][..])?;
                HostTensor::new(&products)?.doubles("gradients")
            }
            _ => Err(Error::Argument("tiles of different plans".to_owned())),
        }
    }
}
