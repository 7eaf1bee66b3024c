//! The network: one hidden layer, with weights drawn from a seed. It is built from
//! `data_diet_candle::nn`, so gradients of single examples need no extra passes.

use candle_core::{D, DType, Device, Tensor, Var};
use data_diet_candle::nn::{Linear, Module, VarBuilder, VarMap, linear};
use rand::rngs::StdRng;
use rand_distr::{Distribution, Normal};

use super::Result;
use super::dataset::Dataset;
use super::weights::named_variables;

/// Two linear layers with a rectifier between them.
pub(crate) struct Network {
    hidden: Linear,
    output: Linear,
    weights: VarMap,
}

/// The sizes of a network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) pixels: usize,
    pub(crate) hidden: usize,
    pub(crate) classes: usize,
}

impl Network {
    pub(crate) fn new(sizes: Sizes, random: &mut StdRng, device: &Device) -> Result<Self> {
        let weights = VarMap::new();
        let builder = VarBuilder::from_varmap(&weights, DType::F32, device);
        let hidden = linear(sizes.pixels, sizes.hidden, builder.pp("hidden"))?;
        let output = linear(sizes.hidden, sizes.classes, builder.pp("output"))?;
        let network = Self { hidden, output, weights };
        draw_weights(&network.named_variables(), random)?;
        Ok(network)
    }

    #[allow(dead_code, reason = "not every example records weights")]
    pub(crate) fn weights(&self) -> &VarMap {
        &self.weights
    }

    pub(crate) fn variables(&self) -> Vec<Var> {
        self.named_variables().into_iter().map(|(_, variable)| variable).collect()
    }

    pub(crate) fn named_variables(&self) -> Vec<(String, Var)> {
        named_variables(&self.weights)
    }

    /// The share of examples that are classified correctly.
    pub(crate) fn accuracy(&self, data: &Dataset) -> Result<f64> {
        let classes = self.forward(data.inputs())?.argmax(D::Minus1)?;
        let correct = classes.eq(data.labels())?.to_dtype(DType::F32)?.sum_all()?;
        Ok(f64::from(correct.to_scalar::<f32>()?) / data.len() as f64)
    }
}

impl Module for Network {
    /// Images `[batch, pixels]` to logits `[batch, classes]`.
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        self.output.forward(&self.hidden.forward(images)?.relu()?)
    }
}

/// Draws weight matrices from He's normal distribution and sets biases to zero. candle draws from a
/// generator that cannot be seeded on the CPU, and two runs of an experiment should be the same.
pub(crate) fn draw_weights(variables: &[(String, Var)], random: &mut StdRng) -> Result<()> {
    for (_, variable) in variables {
        let values = match *variable.dims() {
            [_, inputs] => {
                let normal = Normal::new(0.0_f32, (2.0 / inputs as f32).sqrt())?;
                normal.sample_iter(&mut *random).take(variable.elem_count()).collect()
            }
            _ => vec![0.0; variable.elem_count()],
        };
        variable.set(&Tensor::from_vec(values, variable.shape(), variable.device())?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn values(seed: u64) -> Vec<(String, Vec<f32>)> {
        let sizes = Sizes { pixels: 400, hidden: 50, classes: 3 };
        let network = Network::new(sizes, &mut StdRng::seed_from_u64(seed), &Device::Cpu).unwrap();
        let values = |variable: Var| variable.flatten_all().unwrap().to_vec1().unwrap();
        network.named_variables().into_iter().map(|(name, var)| (name, values(var))).collect()
    }

    #[test]
    fn the_seed_decides_the_weights() {
        assert_eq!(values(1), values(1));
        assert_ne!(values(1), values(2));
    }

    #[test]
    fn weights_have_the_variance_that_a_rectifier_needs() {
        let values = values(0);
        let names: Vec<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["hidden.bias", "hidden.weight", "output.bias", "output.weight"]);
        assert!(values[0].1.iter().chain(&values[2].1).all(|&bias| bias == 0.0));
        let weights = &values[1].1;
        let variance = weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32;
        // 2 / 400, within 5 standard errors of 20,000 draws.
        assert!((variance / 0.005 - 1.0).abs() < 0.05, "{variance}");
    }
}
