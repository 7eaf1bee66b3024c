//! Kernels against those that JAX computes for the same networks: `golden/ntk.py` made the file.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarMap;
use data_diet_candle::nn::{
    BatchNorm, Conv2dConfig, Module, ModuleT, VarBuilder, batch_norm, conv2d, linear,
};
use data_diet_candle::ntk::gram;
use data_diet_candle::weights::{NamedTensors, Params};
use serde_json::Value;

use crate::models::{Convolutional, Perceptron};
use crate::ntk::assert_close;

const GOLDEN: &str = include_str!("golden/ntk.json");

fn numbers(tensor: &Value) -> Vec<f64> {
    tensor["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn tensor(tensor: &Value) -> Tensor {
    let shape = tensor["shape"].as_array().unwrap().iter();
    let shape: Vec<usize> = shape.map(|length| length.as_u64().unwrap() as usize).collect();
    let values: Vec<f32> = numbers(tensor).into_iter().map(|value| value as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn check(
    name: &str,
    variables: &VarMap,
    rename: impl Fn(&str) -> String,
    forward: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let case = &golden[name];
    let weights: NamedTensors = case["weights"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, weight)| (rename(name), tensor(weight)))
        .collect();
    let params = Params::from_varmap(variables).unwrap();
    params.load(&weights).unwrap();
    let gram = gram(&params, &tensor(&case["inputs"]), forward).unwrap();
    assert_close(&gram, &numbers(&case["kernel"]), 1e-6);
}

fn layers(name: &str) -> String {
    name.replace("below", "layer0").replace("above", "layer1")
}

#[test]
fn of_a_perceptron() {
    let model = Perceptron::new(&[5, 6, 3], DType::F32, 0);
    check("perceptron", &model.variables, layers, |x| model.forward(x));
}

#[test]
fn of_a_convolutional_network() {
    let model = Convolutional::new(0);
    check("convolutional", &model.variables, str::to_owned, |x| model.forward(x));
}

#[test]
fn of_a_perceptron_by_whole_batches() {
    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let below = linear(5, 6, builder.pp("below")).unwrap();
    let above = linear(6, 3, builder.pp("above")).unwrap();
    let forward = |x: &Tensor| above.forward(&below.forward(x)?.tanh()?);
    check("perceptron", &variables, str::to_owned, forward);
}

#[test]
fn of_a_convolutional_network_by_whole_batches() {
    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let config = Conv2dConfig { stride: 2, padding: 1, ..Conv2dConfig::default() };
    let conv = conv2d(2, 3, 3, config, builder.pp("conv")).unwrap();
    let norm: BatchNorm = batch_norm(3, 1e-5, builder.pp("norm")).unwrap();
    let head = linear(27, 2, builder.pp("head")).unwrap();
    let forward = |x: &Tensor| {
        let x = norm.forward_t(&conv.forward(x)?, false)?.relu()?;
        head.forward(&x.flatten_from(1)?)
    };
    check("convolutional", &variables, str::to_owned, forward);
}
