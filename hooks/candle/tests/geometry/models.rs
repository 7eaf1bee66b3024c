//! Small models with weights that are the same on every call.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{
    BatchNorm, Conv2d, Conv2dConfig, Linear, Module, ModuleT, VarBuilder, VarMap, batch_norm,
    conv2d, linear,
};
use data_diet_candle::weights::Params;

/// Uniform numbers in `-1..1`, by a multiplicative generator.
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub(crate) fn tensor(seed: u64, shape: &[usize], dtype: DType) -> Tensor {
    let values = numbers(seed, shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Gives the variables new values, by name.
pub(crate) fn scatter(variables: &VarMap, seed: u64) {
    let data = variables.data().lock().unwrap();
    let mut names: Vec<&String> = data.keys().collect();
    names.sort();
    for (place, name) in names.into_iter().enumerate() {
        let variable: &Var = &data[name];
        let new = tensor(seed * 1000 + place as u64, variable.dims(), DType::F64);
        let new = if name.ends_with("running_var") { new.affine(0.5, 1.0).unwrap() } else { new };
        variable.set(&new.to_dtype(variable.dtype()).unwrap()).unwrap();
    }
}

/// Fully connected layers with an activation between them.
pub(crate) struct Perceptron {
    pub(crate) variables: VarMap,
    layers: Vec<Linear>,
}

impl Perceptron {
    pub(crate) fn new(widths: &[usize], dtype: DType, seed: u64) -> Self {
        let variables = VarMap::new();
        let builder = VarBuilder::from_varmap(&variables, dtype, &Device::Cpu);
        let layer = |(place, pair): (usize, &[usize])| {
            linear(pair[0], pair[1], builder.pp(format!("layer{place}"))).unwrap()
        };
        let layers = widths.windows(2).enumerate().map(layer).collect();
        scatter(&variables, seed);
        Self { variables, layers }
    }

    pub(crate) fn params(&self) -> Params {
        Params::from_varmap(&self.variables).unwrap()
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (last, below) = self.layers.split_last().unwrap();
        let hidden = below.iter().try_fold(x.clone(), |x, layer| layer.forward(&x)?.tanh())?;
        last.forward(&hidden)
    }
}

/// A convolution, batch normalization and a fully connected layer, for images `[2, 6, 6]`.
pub(crate) struct Convolutional {
    pub(crate) variables: VarMap,
    conv: Conv2d,
    norm: BatchNorm,
    head: Linear,
}

impl Convolutional {
    pub(crate) const CLASSES: usize = 2;

    pub(crate) fn new(seed: u64) -> Self {
        let variables = VarMap::new();
        let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        let config = Conv2dConfig { stride: 2, padding: 1, ..Conv2dConfig::default() };
        let conv = conv2d(2, 3, 3, config, builder.pp("conv")).unwrap();
        let norm = batch_norm(3, 1e-5, builder.pp("norm")).unwrap();
        let head = linear(27, Self::CLASSES, builder.pp("head")).unwrap();
        scatter(&variables, seed);
        Self { variables, conv, norm, head }
    }

    pub(crate) fn params(&self) -> Params {
        Params::from_varmap(&self.variables).unwrap()
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_t(x, false)
    }

    pub(crate) fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let x = self.norm.forward_t(&self.conv.forward(x)?, train)?.relu()?;
        self.head.forward(&x.flatten_from(1)?)
    }
}
