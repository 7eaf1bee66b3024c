//! One hidden layer from `data_diet_candle::nn`, so that a kernel takes one backward pass per class.

use candle_core::{DType, Device, Result, Tensor};
use data_diet_candle::Params;
use data_diet_candle::nn::{Linear, Module, VarBuilder, VarMap, linear};
use rand::rngs::StdRng;
use rand_distr::{Distribution, Normal};

use crate::digits::{CLASSES, PIXELS};

const HIDDEN: usize = 64;

pub(crate) struct Network {
    hidden: Linear,
    output: Linear,
    weights: VarMap,
}

impl Network {
    /// Weights from He's normal distribution, biases of zero: candle's own generator cannot be seeded on
    /// the CPU.
    pub(crate) fn new(random: &mut StdRng) -> crate::Result<Self> {
        let weights = VarMap::new();
        let builder = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
        let hidden = linear(PIXELS, HIDDEN, builder.pp("hidden"))?;
        let output = linear(HIDDEN, CLASSES, builder.pp("output"))?;
        let params = Params::from_varmap(&weights)?;
        let mut start = params.copy()?;
        for tensor in start.values_mut() {
            *tensor = match *tensor.dims() {
                [outputs, inputs] => {
                    let normal = Normal::new(0.0_f32, (2.0 / inputs as f32).sqrt())?;
                    let values = normal.sample_iter(&mut *random).take(outputs * inputs);
                    Tensor::from_vec(values.collect(), (outputs, inputs), &Device::Cpu)?
                }
                _ => tensor.zeros_like()?,
            };
        }
        params.load(&start)?;
        Ok(Self { hidden, output, weights })
    }

    pub(crate) fn weights(&self) -> &VarMap {
        &self.weights
    }

    /// Images `[batch, pixels]` to logits `[batch, classes]`.
    pub(crate) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.output.forward(&self.hidden.forward(images)?.relu()?)
    }
}
