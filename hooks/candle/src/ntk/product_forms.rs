//! The forms in which the products of gradients in one parameter can be computed, and which of them
//! is cheapest.
//!
//! In a layer that multiplies, logit `c` of example `i` has the gradient
//! `G_ic = sum_p l_icp r_ip^T`: outer products of the gradient of the layer's output (`outputs`
//! numbers) and of its input (`inputs` numbers), summed over positions. The input is the same for
//! every class. The cost for `m` examples and `C` classes in multiplications:
//!
//! | form | `G_ic . G_jd` | multiplications |
//! |---|---|---|
//! | [`Form::Grams`], of a single position | `(l_ic . l_jd) (r_i . r_j)` | `m^2 (C^2 outputs / 2 + inputs)` |
//! | [`Form::Contracted`] | `sum_q (sum_p l_icp A_pq) . l_jdq` with `A_pq = r_ip . r_jq`, once for all classes of a pair | `m^2 / 2 (p^2 inputs + C p^2 outputs + C^2 p outputs)` |
//! | [`Form::Formed`] | as it stands | `m C p outputs inputs + m^2 C^2 / 2 outputs inputs` |
//!
//! Fully connected layers have a single position. In a convolutional network, `p` shrinks from
//! layer to layer while `outputs * inputs` grows, so first layers are formed and last ones
//! contracted. (Multiplying all Gram matrices of positions, `C^2 p^2 outputs` for a pair, is never
//! cheaper than contracting.) An embedding is contracted in the same way: its input is one-hot, and
//! `A_pq` says whether two tokens are the same.
//!
//! All three are sums over the layer's outputs, so what does not fit in memory is computed for some
//! of the outputs at a time, for all examples and classes at once: no product is computed twice.

use candle_core::{DType, Var};

use crate::error::Result;
use crate::gradients::contribution::{Contribution, Factor};

/// A form of the products of gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Grams,
    Contracted,
    Formed,
}

/// How much longer a multiplication takes than one of `f32` in a large product, for the three
/// products of contracting in `f64`: of inputs with inputs, with a narrow matrix of one pair, and
/// with that of ten classes. Contracting needs `f64` because products of products of positions
/// cancel where a gradient is small compared with its terms.
const CONTRACTED_COSTS: [f64; 3] = [2.0, 3.0, 4.0];

/// The share of a symmetric matrix that is computed when it is computed in blocks of rows, above
/// the diagonal.
const UPPER_TRIANGLE_SHARE: f64 = 0.6;

/// What the gradients in a parameter are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GradientStructure {
    /// A layer's outer products, separately for each of `groups`, with `inputs` each.
    Layer { groups: usize, outputs: usize, inputs: usize, positions: usize },
    /// Rows of an embedding, looked up at these positions.
    Tokens { features: usize, positions: usize },
    /// Anything else, added to the gradient as it comes.
    Other,
}

/// What is known about a parameter before the passes over all examples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    pub(super) structure: GradientStructure,
    pub(super) form: Form,
    pub(super) values: usize,
    /// The size of a number in bytes.
    size: usize,
    /// The size of the inputs of an example in bytes.
    inputs_bytes: usize,
}

impl Weight {
    /// Describes a parameter that `batch` examples use like this. `forced` is the form to use where
    /// there is a choice.
    pub(super) fn new(
        uses: &[Contribution],
        parameter: &Var,
        batch: usize,
        [examples, classes]: [usize; 2],
        forced: Option<Form>,
    ) -> Result<Self> {
        let values = parameter.elem_count();
        let size = if parameter.dtype() == DType::F64 { 8 } else { 4 };
        let mut structure = GradientStructure::new(uses, batch)?;
        let form = forced
            .filter(|&form| structure.has(form))
            .unwrap_or_else(|| structure.cheapest(values, [examples, classes], parameter));
        if matches!((structure, form), (GradientStructure::Tokens { .. }, Form::Formed)) {
            structure = GradientStructure::Other;
        }
        let inputs_bytes = uses.iter().map(|used| match (used, structure) {
            (Contribution::Outer { right, .. }, GradientStructure::Layer { .. }) => right.bytes(),
            (Contribution::Outer { left, .. }, GradientStructure::Tokens { .. }) => left.bytes(),
            _ => 0,
        });
        let inputs_bytes = inputs_bytes.sum::<usize>() / batch;
        Ok(Self { structure, form, values, size, inputs_bytes })
    }

    /// Returns into how many equal parts the parameter can be split.
    pub(super) fn units(&self) -> usize {
        match self.structure {
            GradientStructure::Layer { groups: 1, outputs, .. } => outputs,
            GradientStructure::Layer { groups, .. } => groups,
            GradientStructure::Tokens { features, .. } => features,
            GradientStructure::Other => self.values,
        }
    }

    /// Returns the number of features of an output in such a part.
    pub(super) fn unit_features(&self) -> usize {
        match self.structure {
            GradientStructure::Layer { outputs, .. } => outputs / self.units(),
            _ => 1,
        }
    }

    /// Returns whether gradients take no more memory than their factors, so that they are formed at
    /// once.
    pub(super) fn is_formed_at_once(&self) -> bool {
        match self.structure {
            GradientStructure::Layer { inputs, positions, .. } => {
                self.form == Form::Formed && inputs <= positions
            }
            GradientStructure::Tokens { .. } => false,
            GradientStructure::Other => true,
        }
    }

    /// Returns the bytes held for each part, per logit.
    pub(super) fn unit_bytes(&self) -> usize {
        let numbers = match self.structure {
            GradientStructure::Layer { inputs, .. } if self.is_formed_at_once() => inputs,
            GradientStructure::Layer { positions, .. }
            | GradientStructure::Tokens { positions, .. } => positions,
            GradientStructure::Other => 1,
        };
        numbers * self.unit_features() * self.size
    }

    /// Returns the bytes held for all parts together, per example.
    pub(super) fn shared_bytes(&self) -> usize {
        if self.is_formed_at_once() { 0 } else { self.inputs_bytes }
    }

    /// Returns the bytes that an example needs while its gradients are formed.
    pub(super) fn transient_bytes(&self, classes: usize) -> usize {
        match self.structure {
            GradientStructure::Layer { outputs, positions, .. } if self.is_formed_at_once() => {
                classes * outputs * positions * self.size
            }
            GradientStructure::Other => 2 * self.values * self.size,
            _ => 0,
        }
    }
}

impl GradientStructure {
    /// Of `batch` examples.
    pub(super) fn new(uses: &[Contribution], batch: usize) -> Result<Self> {
        let mut positions = 0;
        let mut kinds = Vec::new();
        for used in uses {
            let Contribution::Outer { left, right, groups } = used else { return Ok(Self::Other) };
            positions += left.positions(batch)?;
            kinds.push(match left {
                Factor::OneHot(_) => Self::Tokens { features: right.features()?, positions: 0 },
                _ => Self::Layer {
                    groups: *groups,
                    outputs: left.features()?,
                    inputs: right.features()? / groups,
                    positions: 0,
                },
            });
        }
        kinds.dedup();
        Ok(match *kinds.as_slice() {
            [Self::Layer { groups, outputs, inputs, .. }] => {
                Self::Layer { groups, outputs, inputs, positions }
            }
            [Self::Tokens { features, .. }] => Self::Tokens { features, positions },
            // Such as a table that both embeds tokens and classifies them.
            _ => Self::Other,
        })
    }

    fn has(self, form: Form) -> bool {
        match self {
            Self::Layer { groups: 1, positions: 1, .. } => true,
            Self::Layer { .. } | Self::Tokens { .. } => form != Form::Grams,
            Self::Other => form == Form::Formed,
        }
    }

    fn cheapest(self, values: usize, [examples, classes]: [usize; 2], parameter: &Var) -> Form {
        let (outputs, groups, inputs, positions) = match self {
            Self::Layer { groups: 1, positions: 1, .. } => return Form::Grams,
            Self::Layer { groups, outputs, inputs, positions } => {
                (outputs, groups, inputs, positions)
            }
            // Tokens are compared, not multiplied.
            Self::Tokens { features, positions } => (features, 1, 1, positions),
            Self::Other => return Form::Formed,
        };
        // Double precision is many times slower on devices other than the host.
        if !parameter.device().is_cpu() {
            return Form::Formed;
        }
        let [examples, classes] = [examples as f64, classes as f64];
        let [outputs, inputs, positions] = [outputs as f64, inputs as f64, positions as f64];
        let logits = examples * classes;
        let making =
            logits * positions * if groups == 1 { values as f64 } else { outputs * inputs };
        let formed = making + UPPER_TRIANGLE_SHARE * logits * logits * values as f64;
        let costs = [
            positions * positions * inputs * groups as f64,
            classes * positions * positions * outputs,
            classes * classes * positions * outputs,
        ];
        let costs = costs.iter().zip(CONTRACTED_COSTS).map(|(count, cost)| count * cost);
        let contracted = UPPER_TRIANGLE_SHARE * examples * examples * costs.sum::<f64>();
        if contracted < formed { Form::Contracted } else { Form::Formed }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::gradients::patches::Geometry;

    fn zeros(shape: &[usize]) -> Tensor {
        Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
    }

    /// A padded 3 x 3 convolution with as many channels as outputs.
    fn convolution(outputs: usize, side: usize, groups: usize, logits: [usize; 2]) -> Weight {
        let geometry = Geometry {
            channels: outputs,
            height: side,
            width: side,
            kernel: (3, 3),
            padding: (1, 1),
            stride: 1,
            dilation: 1,
        };
        let used = Contribution::Outer {
            left: Factor::Maps(zeros(&[2, outputs, side * side])),
            right: Factor::Patches(zeros(&[2, outputs, side, side]), geometry),
            groups,
        };
        let shape = (outputs, outputs / groups, 3, 3);
        let parameter = Var::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        Weight::new(&[used], &parameter, 2, logits, None).unwrap()
    }

    #[test]
    fn of_a_residual_network_first_layers_are_formed_and_last_ones_contracted() {
        let of_stages = [(64, 32), (128, 16), (256, 8), (512, 4)];
        let forms = of_stages.map(|(outputs, side)| {
            let weight = convolution(outputs, side, 1, [100, 10]);
            (weight.form, weight.is_formed_at_once())
        });
        let expected = [
            (Form::Formed, true),
            (Form::Formed, false),
            (Form::Contracted, false),
            (Form::Contracted, false),
        ];
        assert_eq!(forms, expected);
        // A depthwise convolution has few weights however many channels.
        assert_eq!(convolution(512, 4, 512, [100, 10]).form, Form::Formed);
    }

    #[test]
    fn what_is_held_are_the_gradients_of_outputs_or_of_weights() {
        // 1,000 logits, with 1,024 positions for a gradient of 576 weights per output.
        let first = convolution(64, 32, 1, [100, 10]);
        assert_eq!((first.units(), first.unit_bytes(), first.shared_bytes()), (64, 576 * 4, 0));
        assert_eq!(first.transient_bytes(10), 10 * 64 * 1024 * 4);
        let last = convolution(512, 4, 1, [100, 10]);
        assert_eq!((last.units(), last.unit_bytes()), (512, 16 * 4));
        assert_eq!((last.shared_bytes(), last.transient_bytes(10)), (512 * 16 * 4, 0));
        // Whole groups.
        let grouped = convolution(64, 4, 8, [100, 10]);
        assert_eq!((grouped.units(), grouped.unit_features()), (8, 8));
    }
}
