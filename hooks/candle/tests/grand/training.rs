//! In training, our layers are candle-nn's: the same results and gradients, to the bit, and the same
//! checkpoints.

use candle_core::{DType, Device, Module, ModuleT, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use data_diet_candle::nn::{self, Conv1dConfig, Conv2dConfig};

use crate::reference::{Random, named, randomize};

type Layer = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

/// Every kind of layer from one crate, with the shape of its input.
macro_rules! layers {
    ($name:ident, $($nn:ident)::+) => {
        fn $name(builder: &VarBuilder) -> Result<Vec<(&'static str, Vec<usize>, Layer)>> {
            use $($nn)::+::{self as nn, RNN};
            let vb = |name: &str| builder.pp(name);
            let conv1 = Conv1dConfig { stride: 2, padding: 1, groups: 2, ..Default::default() };
            let conv2 = Conv2dConfig { stride: 2, padding: 1, groups: 2, ..Default::default() };
            let mut layers: Vec<(&'static str, Vec<usize>, Layer)> = Vec::new();
            let linear = nn::linear(6, 4, vb("linear"))?;
            layers.push(("linear", vec![3, 6], Box::new(move |x| linear.forward(x))));
            let linear = nn::linear_no_bias(6, 4, vb("linear_no_bias"))?;
            layers.push(("linear_no_bias", vec![3, 2, 6], Box::new(move |x| linear.forward(x))));
            let conv = nn::conv1d(4, 4, 3, conv1, vb("conv1d"))?;
            layers.push(("conv1d", vec![1, 4, 7], Box::new(move |x| conv.forward(x))));
            let conv = nn::conv1d_no_bias(4, 4, 3, conv1, vb("conv1d_no_bias"))?;
            layers.push(("conv1d_no_bias", vec![1, 4, 7], Box::new(move |x| conv.forward(x))));
            let conv = nn::conv2d(4, 4, 3, conv2, vb("conv2d"))?;
            layers.push(("conv2d", vec![3, 4, 7, 7], Box::new(move |x| conv.forward(x))));
            let conv = nn::conv2d_no_bias(4, 4, 3, conv2, vb("conv2d_no_bias"))?;
            layers.push(("conv2d_no_bias", vec![3, 4, 7, 7], Box::new(move |x| conv.forward(x))));
            let norm = nn::batch_norm(4, 1e-3, vb("batch_norm"))?;
            layers.push(("batch_norm", vec![3, 4, 5], Box::new(move |x| norm.forward_t(x, true))));
            let norm = nn::batch_norm(4, 1e-3, vb("batch_norm_evaluation"))?;
            layers.push((
                "batch_norm_evaluation", vec![3, 4, 5], Box::new(move |x| norm.forward_t(x, false)),
            ));
            let norm = nn::layer_norm(6, 1e-3, vb("layer_norm"))?;
            layers.push(("layer_norm", vec![3, 6], Box::new(move |x| norm.forward(x))));
            let norm = nn::layer_norm_no_bias(6, 1e-3, vb("layer_norm_no_bias"))?;
            layers.push(("layer_norm_no_bias", vec![3, 6], Box::new(move |x| norm.forward(x))));
            let norm = nn::rms_norm(6, 1e-3, vb("rms_norm"))?;
            layers.push(("rms_norm", vec![3, 6], Box::new(move |x| norm.forward(x))));
            let norm = nn::rms_norm(6, 1e-3, vb("rms_norm_diff"))?;
            layers.push(("rms_norm_diff", vec![3, 6], Box::new(move |x| norm.forward_diff(x))));
            let norm = nn::group_norm(2, 4, 1e-3, vb("group_norm"))?;
            layers.push(("group_norm", vec![3, 4, 5], Box::new(move |x| norm.forward(x))));
            let slopes = nn::prelu(None, vb("slope"))?;
            layers.push(("slope", vec![3, 4], Box::new(move |x| slopes.forward(x))));
            let slopes = nn::prelu(Some(4), vb("slopes"))?;
            layers.push(("slopes", vec![3, 4], Box::new(move |x| slopes.forward(x))));
            let tokens = nn::embedding(5, 4, vb("embedding"))?;
            layers.push(("embedding", vec![3, 2], Box::new(move |x| {
                tokens.forward(&((x.abs()? * 4.0)?).to_dtype(DType::U32)?)
            })));
            let lstm = nn::lstm(4, 3, Default::default(), vb("lstm"))?;
            layers.push(("lstm", vec![3, 2, 4], Box::new(move |x| {
                lstm.states_to_tensor(&lstm.seq(x)?)
            })));
            let gru = nn::gru(4, 3, Default::default(), vb("gru"))?;
            layers.push(("gru", vec![3, 2, 4], Box::new(move |x| {
                gru.states_to_tensor(&gru.seq(x)?)
            })));
            Ok(layers)
        }
    };
}

layers!(ours, nn);
layers!(candles, candle_nn);

fn values(tensor: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn outputs_gradients_and_statistics_are_candles_to_the_bit() {
    let maps = [VarMap::new(), VarMap::new()];
    let builder = |map: &VarMap| VarBuilder::from_varmap(map, DType::F32, &Device::Cpu);
    let ours = ours(&builder(&maps[0])).unwrap();
    let candles = candles(&builder(&maps[1])).unwrap();
    let names = |map: &VarMap| -> Vec<_> {
        named(map).into_iter().map(|(name, var)| (name, var.dims().to_vec())).collect()
    };
    assert_eq!(names(&maps[0]), names(&maps[1]));
    for map in &maps {
        randomize(map, 1);
    }
    for ((name, shape, ours), (_, _, candles)) in ours.iter().zip(&candles) {
        let input = Random(2).tensor(shape, DType::F32);
        let outputs = [ours(&input).unwrap(), candles(&input).unwrap()];
        assert_eq!(outputs[0].dims(), outputs[1].dims(), "{name}");
        assert_eq!(values(&outputs[0]), values(&outputs[1]), "{name}");
        let gradients = outputs.map(|output| {
            let weights = Random(3).tensor(output.dims(), DType::F32);
            (output * weights).unwrap().sum_all().unwrap().backward().unwrap()
        });
        for ((name, ours), (_, candles)) in named(&maps[0]).iter().zip(named(&maps[1])) {
            let ours = gradients[0].get(ours).map(values);
            assert_eq!(ours, gradients[1].get(&candles).map(values), "{name}");
        }
    }
    // Training mode has moved the running statistics of both alike.
    for ((name, ours), (_, candles)) in named(&maps[0]).iter().zip(named(&maps[1])) {
        assert_eq!(values(ours), values(&candles), "{name}");
    }
}

#[test]
fn checkpoints_go_both_ways() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weights.safetensors");
    let mut maps = [VarMap::new(), VarMap::new()];
    let builder = |map: &VarMap| VarBuilder::from_varmap(map, DType::F32, &Device::Cpu);
    ours(&builder(&maps[0])).unwrap();
    candles(&builder(&maps[1])).unwrap();
    randomize(&maps[0], 1);
    maps[0].save(&path).unwrap();
    maps[1].load(&path).unwrap();
    for ((name, ours), (_, candles)) in named(&maps[0]).iter().zip(named(&maps[1])) {
        assert_eq!(values(ours), values(&candles), "{name}");
    }
    let data = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    assert_eq!(data.len(), named(&maps[0]).len());
    // And from a file that is only read.
    let builder = VarBuilder::from_tensors(data, DType::F32, &Device::Cpu);
    assert_eq!(ours(&builder).unwrap().len(), 18);
}

/// What a batch gives on a tape is what it gives without one.
#[test]
fn a_tape_changes_no_output() {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let layers = ours(&builder).unwrap();
    randomize(&map, 1);
    for (name, shape, layer) in &layers {
        if *name == "batch_norm" {
            continue;
        }
        let input = Random(2).tensor(shape, DType::F32);
        let outside = values(&layer(&input).unwrap());
        let parameters =
            named(&map).into_iter().filter(|(var, _)| var.starts_with(&format!("{name}.")));
        let mut norms =
            data_diet_candle::gradients::GradientNorms::with_parameters(parameters).unwrap();
        let targets = Tensor::zeros(shape[0], DType::F32, &Device::Cpu).unwrap();
        let on_tape = std::cell::RefCell::new(Vec::new());
        let forward = |x: &Tensor| {
            let output = layer(x)?;
            on_tape.borrow_mut().push(values(&output));
            Ok(output)
        };
        let loss = |output: &Tensor, _: &Tensor| output.sqr()?.flatten_from(1)?.sum(1);
        let got = norms.custom_loss(&input, &targets, forward, loss).unwrap();
        assert!(got.report.is_batched(), "{name}: {}", got.report);
        let on_tape = &on_tape.borrow()[0];
        if name.starts_with("conv") {
            // Added up in another order.
            let near = |(&a, &b)| (f32::from_bits(a) - f32::from_bits(b)).abs() < 1e-6;
            assert!(on_tape.iter().zip(&outside).all(near), "{name}");
            assert_eq!(on_tape.len(), outside.len(), "{name}");
        } else {
            assert_eq!(*on_tape, outside, "{name}");
        }
    }
}
