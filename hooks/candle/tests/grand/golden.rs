//! The norms that JAX gives, from the files that `golden/make.py` has made.

use std::collections::HashMap;

use candle_core::{DType, Device, Module, ModuleT, Tensor};
use data_diet_candle::gradients::GradientNorms;
use data_diet_candle::nn::{self, Conv2dConfig, VarBuilder, VarMap};

use crate::reference::{named, relative_error};

struct Golden {
    tensors: HashMap<String, Tensor>,
    map: VarMap,
}

impl Golden {
    fn read(bytes: &[u8]) -> Self {
        let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu).unwrap();
        Self { tensors, map: VarMap::new() }
    }

    fn builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_varmap(&self.map, DType::F32, &Device::Cpu)
    }

    fn check(&self, forward: impl Fn(&Tensor) -> candle_core::Result<Tensor>) {
        let mut set = 0;
        for (name, var) in named(&self.map) {
            match self.tensors.get(&name) {
                Some(tensor) => {
                    var.set(tensor).unwrap();
                    set += 1;
                }
                None => assert!(name.starts_with("batch_norm.running"), "{name}"),
            }
        }
        assert_eq!(set, self.tensors.len() - 3, "weights that no layer takes");
        let expected: Vec<f64> = self.tensors["norms"].to_vec1().unwrap();
        let mut norms = GradientNorms::new(&self.map).unwrap();
        let (inputs, labels) = (&self.tensors["inputs"], &self.tensors["labels"]);
        let got = norms.cross_entropy(inputs, labels, forward).unwrap();
        assert!(got.report.is_batched(), "{}", got.report);
        let error = relative_error(&got.values, &expected);
        assert!(error < 1e-5, "{error:e}: {:?} for {expected:?}", got.values);
    }
}

#[test]
fn images_as_jax_has_it() {
    let golden = Golden::read(include_bytes!("golden/images.safetensors"));
    let builder = golden.builder();
    let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
    let first = nn::conv2d(2, 4, 3, config, builder.pp("first")).unwrap();
    let batch_norm = nn::batch_norm(4, 1e-3, builder.pp("batch_norm")).unwrap();
    let config =
        Conv2dConfig { stride: 2, padding: 2, dilation: 2, groups: 2, ..Conv2dConfig::default() };
    let second = nn::conv2d(4, 6, 3, config, builder.pp("second")).unwrap();
    let group_norm = nn::group_norm(2, 6, 1e-3, builder.pp("group_norm")).unwrap();
    let slopes = nn::prelu(Some(6), builder.pp("slopes")).unwrap();
    let output = nn::linear(24, 3, builder.pp("output")).unwrap();
    golden.check(|x| {
        let x = batch_norm.forward_t(&first.forward(x)?, false)?.relu()?.avg_pool2d(2)?;
        let x = slopes.forward(&group_norm.forward(&second.forward(&x)?)?)?;
        output.forward(&x.flatten_from(1)?)
    });
}

#[test]
fn pooled_images_as_jax_has_it() {
    let golden = Golden::read(include_bytes!("golden/pooled.safetensors"));
    let builder = golden.builder();
    let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
    let first = nn::conv2d(2, 4, 3, config, builder.pp("first")).unwrap();
    let second = nn::conv2d(4, 6, 3, config, builder.pp("second")).unwrap();
    let output = nn::linear(24, 3, builder.pp("output")).unwrap();
    golden.check(|x| {
        let x = nn::max_pool2d_with_stride(&nn::relu(&first.forward(x)?)?, 3, 2)?;
        let x = nn::max_pool2d(&nn::relu(&second.forward(&x)?)?, 2)?;
        output.forward(&x.flatten_from(1)?)
    });
}

#[test]
fn tokens_as_jax_has_it() {
    let golden = Golden::read(include_bytes!("golden/tokens.safetensors"));
    let builder = golden.builder();
    let tokens = nn::embedding(11, 8, builder.pp("tokens")).unwrap();
    let layer_norm = nn::layer_norm(8, 1e-3, builder.pp("layer_norm")).unwrap();
    let [query, key, value, hidden] =
        ["query", "key", "value", "hidden"].map(|name| nn::linear(8, 8, builder.pp(name)).unwrap());
    let rms_norm = nn::rms_norm(8, 1e-3, builder.pp("rms_norm")).unwrap();
    let output = nn::linear(8, 4, builder.pp("output")).unwrap();
    golden.check(|x| {
        let x = layer_norm.forward(&tokens.forward(x)?)?;
        let scores = query.forward(&x)?.matmul(&key.forward(&x)?.t()?)?;
        let mixed = nn::ops::softmax_last_dim(&scores)?.matmul(&value.forward(&x)?)?;
        let x = hidden.forward(&rms_norm.forward(&(x + mixed)?)?)?.tanh()?;
        output.forward(&x.mean(1)?)
    });
}
