//! Networks of random shape over tokens, with repeated ones, against candle-nn's own in f64.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use data_diet_candle::gradients::GradientNorms;
use proptest::prelude::*;

use crate::reference::{Random, close, cross_entropies, per_example, randomize};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Layer {
    Linear {
        bias: bool,
    },
    Norm {
        bias: bool,
    },
    RmsNorm,
    Conv1d {
        kernel: usize,
        stride: usize,
        padding: usize,
        dilation: usize,
        groups: usize,
    },
    Attention,
    Lstm,
    Gru,
    Slopes,
    /// Positions and batch as one dimension.
    Flat,
}

#[derive(Clone, Debug)]
pub(crate) struct Spec {
    tokens: usize,
    length: usize,
    size: usize,
    layers: Vec<Layer>,
    classes: usize,
}

const EPS: f64 = 1e-3;

macro_rules! model {
    ($name:ident, $($nn:ident)::+, $layer_norm:expr, $rms_norm:expr, $softmax:expr) => {
        mod $name {
            use candle_core::{D, Result, Tensor};
            use $($nn)::+::{self as nn, Conv1dConfig, Module, RNN, VarBuilder};

            use super::{EPS, Layer, Spec};

            type Step = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

            pub(crate) struct Model(Vec<Step>);

            impl Model {
                pub(crate) fn new(spec: &Spec, builder: &VarBuilder) -> Result<Self> {
                    let size = spec.size;
                    let embedding = nn::embedding(spec.tokens, size, builder.pp("tokens"))?;
                    let mut steps: Vec<Step> = vec![Box::new(move |x| embedding.forward(x))];
                    for (at, layer) in spec.layers.iter().enumerate() {
                        let vb = builder.pp(format!("layer{at}"));
                        steps.push(match *layer {
                            Layer::Linear { bias } => {
                                let layer = nn::linear_b(size, size, bias, vb)?;
                                Box::new(move |x| layer.forward(x)?.gelu())
                            }
                            Layer::Norm { bias: true } => {
                                let layer = nn::layer_norm(size, EPS, vb)?;
                                Box::new(move |x| $layer_norm(&layer, x))
                            }
                            Layer::Norm { bias: false } => {
                                // candle-nn runs this one unfused.
                                let layer = nn::layer_norm_no_bias(size, EPS, vb)?;
                                Box::new(move |x| layer.forward(x))
                            }
                            Layer::RmsNorm => {
                                let layer = nn::rms_norm(size, EPS, vb)?;
                                Box::new(move |x| $rms_norm(&layer, x))
                            }
                            Layer::Conv1d { kernel, stride, padding, dilation, groups } => {
                                let config = Conv1dConfig {
                                    stride, padding, dilation, groups, ..Conv1dConfig::default()
                                };
                                let layer = nn::conv1d(size, size, kernel, config, vb)?;
                                Box::new(move |x| {
                                    let x = x.transpose(1, 2)?.contiguous()?;
                                    layer.forward(&x)?.relu()?.transpose(1, 2)?.contiguous()
                                })
                            }
                            Layer::Attention => {
                                let query = nn::linear(size, size, vb.pp("query"))?;
                                let key = nn::linear_no_bias(size, size, vb.pp("key"))?;
                                let value = nn::linear(size, size, vb.pp("value"))?;
                                Box::new(move |x| {
                                    let scores = query.forward(x)?.matmul(&key.forward(x)?.t()?)?;
                                    // Twice on purpose: a layer may be used again.
                                    let mixed = $softmax(&scores)?.matmul(&value.forward(x)?)?;
                                    mixed + value.forward(x)?
                                })
                            }
                            Layer::Lstm => {
                                let layer = nn::lstm(size, size, Default::default(), vb)?;
                                Box::new(move |x| layer.states_to_tensor(&layer.seq(x)?))
                            }
                            Layer::Gru => {
                                let layer = nn::gru(size, size, Default::default(), vb)?;
                                Box::new(move |x| {
                                    let states = layer.seq(x)?;
                                    let states: Vec<_> = states.iter().map(|s| &s.h).collect();
                                    Tensor::stack(&states, 1)
                                })
                            }
                            Layer::Slopes => {
                                let layer = nn::prelu(None, vb)?;
                                Box::new(move |x| layer.forward(x))
                            }
                            Layer::Flat => {
                                let layer = nn::linear(size, size, vb)?;
                                Box::new(move |x| {
                                    let shape = x.dims().to_vec();
                                    layer.forward(&x.flatten_to(1)?)?.reshape(shape)
                                })
                            }
                        });
                    }
                    let output = nn::linear(size, spec.classes, builder.pp("output"))?;
                    steps.push(Box::new(move |x| output.forward(&x.mean(D::Minus2)?)));
                    Ok(Self(steps))
                }

                pub(crate) fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
                    self.0.iter().try_fold(tokens.clone(), |x, step| step(&x))
                }
            }
        }
    };
}

model!(
    ours,
    data_diet_candle::nn,
    |layer: &nn::LayerNorm, x: &Tensor| layer.forward(x),
    |layer: &nn::RmsNorm, x: &Tensor| layer.forward(x),
    nn::ops::softmax_last_dim
);
// The fused kernels have no backward pass.
model!(
    candles,
    candle_nn,
    |layer: &nn::LayerNorm, x: &Tensor| nn::ops::layer_norm_slow(
        x,
        layer.weight(),
        layer.bias().unwrap(),
        EPS as f32
    ),
    |layer: &nn::RmsNorm, x: &Tensor| nn::ops::rms_norm_slow(x, layer.weight(), EPS as f32),
    |x: &Tensor| nn::ops::softmax(x, D::Minus1)
);

fn layers() -> impl Strategy<Value = Layer> {
    prop_oneof![
        any::<bool>().prop_map(|bias| Layer::Linear { bias }),
        any::<bool>().prop_map(|bias| Layer::Norm { bias }),
        Just(Layer::RmsNorm),
        (1_usize..=3, 1_usize..=2, 1_usize..=2, prop::sample::select(vec![1, 2, 4])).prop_map(
            |(kernel, stride, dilation, groups)| Layer::Conv1d {
                kernel,
                stride,
                padding: dilation * (kernel - 1) / 2,
                dilation,
                groups,
            }
        ),
        Just(Layer::Attention),
        Just(Layer::Lstm),
        Just(Layer::Gru),
        Just(Layer::Slopes),
        Just(Layer::Flat),
    ]
}

fn specs() -> impl Strategy<Value = Spec> {
    let layers = prop::collection::vec(layers(), 1..=4);
    (2_usize..=9, 1_usize..=7, 1_usize..=3, layers, 2_usize..=4)
        .prop_map(|(tokens, length, size, layers, classes)| Spec {
            tokens,
            length,
            size: 4 * size,
            layers,
            classes,
        })
        .prop_filter("a kernel does not fit", Spec::fits)
}

impl Spec {
    /// Whether every sequence is as long as candle's own backward pass needs.
    fn fits(&self) -> bool {
        let mut length = Some(self.length);
        for layer in &self.layers {
            if let Layer::Conv1d { kernel, stride, padding, dilation, .. } = *layer {
                length = length
                    .and_then(|length| (length + 2 * padding).checked_sub(dilation * (kernel - 1)))
                    .filter(|&room| room > 0)
                    .map(|room| (room - 1) / stride + 1)
                    .filter(|&length| (length - 1) * stride >= 2 * padding);
            }
        }
        length.is_some()
    }
}

fn model_pair(spec: &Spec, dtype: DType, seed: u64) -> Result<(VarMap, ours::Model)> {
    let map = VarMap::new();
    let model = ours::Model::new(spec, &VarBuilder::from_varmap(&map, dtype, &Device::Cpu))?;
    randomize(&map, seed);
    Ok((map, model))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn norms_are_those_of_candles_own_gradients(
        spec in specs(), batch in 1_usize..=5, seed in any::<u64>(), scarce in any::<bool>(),
    ) {
        let indices = Random(seed ^ 1).indices(batch * spec.length, spec.tokens as u32);
        let tokens = Tensor::from_vec(indices, (batch, spec.length), &Device::Cpu).unwrap();
        let labels = Random(seed ^ 2).indices(batch, spec.classes as u32);

        let (map, model) = model_pair(&spec, DType::F64, seed).unwrap();
        let builder = VarBuilder::from_varmap(&map, DType::F64, &Device::Cpu);
        let reference = candles::Model::new(&spec, &builder).unwrap();
        let expected = per_example(&map, &tokens, |tokens, row| {
            cross_entropies(&reference.forward(tokens)?, &labels[row..=row])
        });
        // Enough for one example, at most for two.
        let bytes = if scarce { 8192 } else { GradientNorms::DEFAULT_MAX_BYTES };
        let norms = GradientNorms::new(&map).unwrap().max_bytes(bytes);
        // candle-nn's fused kernels know no f64.
        if !spec.layers.iter().any(|layer| matches!(layer, Layer::Norm { .. } | Layer::RmsNorm)) {
            let got = norms.clone().cross_entropy(&tokens, &labels, |x| model.forward(x)).unwrap();
            prop_assert!(got.report.is_batched(), "{}", got.report);
            close(&got.values, &expected, "f64")?;
        }

        let (map, model) = model_pair(&spec, DType::F32, seed).unwrap();
        let norms = GradientNorms::new(&map).unwrap().max_bytes(bytes);
        let got = norms.clone().cross_entropy(&tokens, &labels, |x| model.forward(x)).unwrap();
        prop_assert!(got.report.is_batched(), "{}", got.report);
        close(&got.values, &expected, "f32")?;
        let mut slow = norms.per_example();
        let slow = slow.cross_entropy(&tokens, &labels, |x: &Tensor| model.forward(x)).unwrap();
        close(&slow.values, &expected, "one by one")?;
    }
}
