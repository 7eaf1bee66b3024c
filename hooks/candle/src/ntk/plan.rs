//! Plans which parts of which parameters are held at a time, and how many examples go through the
//! model at once.

use std::ops::Range;

use super::product_forms::Weight;

/// The memory of a pass besides the outputs of the layers, in units of these outputs: copies,
/// tensors between the layers, and the gradients of both.
const ACTIVATIONS: usize = 8;

/// Less than this share of a parameter is not worth starting in the memory that another one leaves.
const MIN_SLICE_DIVISOR: usize = 4;

/// A part of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The index of the parameter.
    pub(super) place: usize,
    /// See [`Weight::units`].
    pub(super) units: Range<usize>,
}

/// How to compute a kernel in the allowed memory.
#[derive(Debug)]
pub(super) struct Plan {
    /// Each round takes a backward pass of all examples for each class.
    pub(super) rounds: Vec<Vec<Part>>,
    /// The number of examples that go through the model at once.
    pub(super) chunk: usize,
}

/// Returns whether the smallest part of a parameter fits.
pub(super) fn fits(weight: &Weight, [examples, classes]: [usize; 2], max_bytes: usize) -> bool {
    let part = examples * (weight.shared_bytes() + classes * weight.unit_bytes());
    part.max(2 * weight.transient_bytes(classes)) <= max_bytes
}

impl Plan {
    /// `output_bytes` is the size of all layers' outputs for one example.
    pub(super) fn new(
        weights: &[Weight],
        output_bytes: usize,
        [examples, classes]: [usize; 2],
        max_bytes: usize,
    ) -> Self {
        let mut rounds: Vec<Vec<Part>> = Vec::new();
        let mut free = 0;
        for (place, weight) in weights.iter().enumerate() {
            let units = weight.units();
            let unit_bytes = (examples * classes * weight.unit_bytes()).max(1);
            let shared_bytes = examples * weight.shared_bytes();
            let fit = |free: usize| free.saturating_sub(shared_bytes) / unit_bytes;
            let mut start = 0;
            while start < units {
                let mut count = fit(free).min(units - start);
                let is_worth_it = count == units - start || MIN_SLICE_DIVISOR * count >= units;
                if rounds.is_empty() || !is_worth_it {
                    rounds.push(Vec::new());
                    free = max_bytes;
                    // What does not fit at all has been sorted out; see `fits`.
                    count = fit(free).clamp(1, units - start);
                }
                if let Some(round) = rounds.last_mut() {
                    round.push(Part { place, units: start..start + count });
                }
                free = free.saturating_sub(shared_bytes + count * unit_bytes);
                start += count;
            }
        }
        let passing: usize = weights.iter().map(|weight| weight.transient_bytes(classes)).sum();
        let chunk = max_bytes / 4 / (ACTIVATIONS * output_bytes + passing).max(1);
        Self { rounds, chunk: chunk.clamp(1, examples) }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor, Var};
    use proptest::prelude::*;

    use super::*;
    use crate::gradients::contribution::{Contribution, Factor};
    use crate::ntk::product_forms::Form;

    /// A fully connected layer that two examples pass through.
    fn weight([outputs, inputs, positions]: [usize; 3], form: Option<Form>) -> Weight {
        let rows = |features: usize| {
            Tensor::zeros((2, positions, features), DType::F32, &Device::Cpu).map(Factor::Rows)
        };
        let (left, right) = (rows(outputs).unwrap(), rows(inputs).unwrap());
        let parameter = Var::zeros((outputs, inputs), DType::F32, &Device::Cpu).unwrap();
        let used = Contribution::Outer { left, right, groups: 1 };
        Weight::new(&[used], &parameter, 2, [10, 3], form).unwrap()
    }

    proptest! {
        /// Every part of every parameter is in one round, and every round fits.
        #[test]
        fn every_part_has_its_round(
            shapes in prop::collection::vec([1..9_usize, 1..9_usize, 1..9_usize], 1..6),
            share in 1..9_usize,
            form in prop::sample::select(vec![None, Some(Form::Formed), Some(Form::Contracted)]),
        ) {
            let weights: Vec<Weight> = shapes.iter().map(|&shape| weight(shape, form)).collect();
            let bytes = |weight: &Weight, units: usize| {
                10 * (weight.shared_bytes() + 3 * units * weight.unit_bytes())
            };
            let least = weights.iter().map(|weight| bytes(weight, 1)).max().unwrap_or_default();
            let all: usize = weights.iter().map(|weight| bytes(weight, weight.units())).sum();
            let max_bytes = least.max(all * share / 8);
            let plan = Plan::new(&weights, 4, [10, 3], max_bytes);
            let mut next: Vec<usize> = vec![0; weights.len()];
            for round in &plan.rounds {
                let held = round.iter().map(|part| bytes(&weights[part.place], part.units.len()));
                prop_assert!(held.sum::<usize>() <= max_bytes);
                for part in round {
                    prop_assert!(!part.units.is_empty());
                    prop_assert_eq!(part.units.start, next[part.place]);
                    next[part.place] = part.units.end;
                }
            }
            let units: Vec<usize> = weights.iter().map(Weight::units).collect();
            prop_assert_eq!(next, units);
            prop_assert!(share < 8 || plan.rounds.len() == 1);
            prop_assert!((1..=10).contains(&plan.chunk));
        }
    }
}
