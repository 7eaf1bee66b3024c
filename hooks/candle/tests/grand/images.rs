//! Networks of random shape over images, in f32 and f64, against candle-nn's own in f64.

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use data_diet_candle::gradients::GradientNorms;
use data_diet_candle::nn;
use proptest::prelude::*;

use crate::reference::{Random, close, cross_entropies, per_example, randomize};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    groups: usize,
    bias: bool,
    norm: usize,
    activation: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Spec {
    channels: usize,
    height: usize,
    width: usize,
    blocks: Vec<Block>,
    hidden: usize,
    classes: usize,
}

impl Spec {
    /// Sizes of the images after each block; `None` if a kernel does not fit, or if candle's own
    /// backward pass cannot do it: strides that leave over different remainders in both directions, and
    /// more padding than there are pixels under a kernel.
    fn sizes(&self) -> Option<Vec<(usize, usize, usize)>> {
        let mut size = (self.channels, self.height, self.width);
        let mut sizes = vec![size];
        for block in &self.blocks {
            let span = block.dilation * (block.kernel - 1) + 1;
            let steps = |size: usize| (size + 2 * block.padding).checked_sub(span);
            let (down, right) = (steps(size.1)?, steps(size.2)?);
            let least = down.min(right) / block.stride * block.stride + span;
            if down % block.stride != right % block.stride || least < 2 * block.padding {
                return None;
            }
            size = (block.outputs, down / block.stride + 1, right / block.stride + 1);
            sizes.push(size);
        }
        Some(sizes)
    }
}

/// The same model from two crates: it also shows that one import is all that changes.
macro_rules! model {
    ($name:ident, $($nn:ident)::+) => {
        mod $name {
            use candle_core::{Result, Tensor};
            use $($nn)::+::{
                self as nn, BatchNormConfig, Conv2dConfig, Module, ModuleT, VarBuilder,
            };

            use super::Spec;

            type Layer = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

            pub(crate) struct Model(Vec<Layer>);

            impl Model {
                pub(crate) fn new(spec: &Spec, builder: &VarBuilder) -> Result<Self> {
                    let mut layers: Vec<Layer> = Vec::new();
                    let sizes = spec.sizes().unwrap();
                    for (at, block) in spec.blocks.iter().enumerate() {
                        let (inputs, outputs) = (sizes[at].0, block.outputs);
                        let config = Conv2dConfig {
                            stride: block.stride,
                            padding: block.padding,
                            dilation: block.dilation,
                            groups: block.groups,
                            ..Conv2dConfig::default()
                        };
                        let (kernel, vb) = (block.kernel, builder.pp(format!("conv{at}")));
                        let conv = if block.bias {
                            nn::conv2d(inputs, outputs, kernel, config, vb)?
                        } else {
                            nn::conv2d_no_bias(inputs, outputs, kernel, config, vb)?
                        };
                        layers.push(Box::new(move |x| conv.forward(x)));
                        let vb = builder.pp(format!("norm{at}"));
                        match block.norm {
                            0 => {}
                            1 => {
                                let affine = block.bias;
                                let config =
                                    BatchNormConfig { affine, ..BatchNormConfig::default() };
                                let norm = nn::batch_norm(outputs, config, vb)?;
                                layers.push(Box::new(move |x| norm.forward_t(x, false)));
                            }
                            groups => {
                                let groups = if outputs % groups == 0 { groups } else { 1 };
                                let norm = nn::group_norm(groups, outputs, 1e-3, vb)?;
                                layers.push(Box::new(move |x| norm.forward(x)));
                            }
                        }
                        let vb = builder.pp(format!("slope{at}"));
                        match block.activation {
                            0 => layers.push(Box::new(|x| x.relu())),
                            1 => layers.push(Box::new(|x| nn::Activation::Silu.forward(x))),
                            slopes => {
                                let channels = (slopes == 2).then_some(outputs);
                                let slopes = nn::prelu(channels, vb)?;
                                layers.push(Box::new(move |x| slopes.forward(x)));
                            }
                        }
                    }
                    let (channels, height, width) = *sizes.last().unwrap();
                    let values = channels * height * width;
                    let hidden = nn::linear(values, spec.hidden, builder.pp("hidden"))?;
                    let output =
                        nn::linear_b(spec.hidden, spec.classes, true, builder.pp("output"))?;
                    layers.push(Box::new(move |x| hidden.forward(&x.flatten_from(1)?)));
                    layers.push(Box::new(move |x| output.forward(&x.tanh()?)));
                    Ok(Self(layers))
                }

                pub(crate) fn forward(&self, images: &Tensor) -> Result<Tensor> {
                    self.0.iter().try_fold(images.clone(), |x, layer| layer(&x))
                }
            }
        }
    };
}

model!(ours, data_diet_candle::nn);
model!(candles, candle_nn);

fn blocks() -> impl Strategy<Value = Block> {
    let shape = (1_usize..=3, 1_usize..=3, 1_usize..=3, 0_usize..=2, 1_usize..=2);
    (shape, prop::sample::select(vec![1, 2, 3]), any::<bool>(), 0_usize..=3, 0_usize..=3).prop_map(
        |((outputs, kernel, stride, padding, dilation), groups, bias, norm, activation)| Block {
            // Groups divide every number of channels there is.
            outputs: 6 * outputs,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            bias,
            norm,
            activation,
        },
    )
}

fn specs() -> impl Strategy<Value = Spec> {
    let blocks = prop::collection::vec(blocks(), 1..=3);
    (any::<bool>(), 3_usize..=9, 3_usize..=9, blocks, 1_usize..=8, 2_usize..=5)
        .prop_map(|(gray, height, width, mut blocks, hidden, classes)| {
            if gray {
                blocks[0].groups = 1;
            }
            Spec { channels: if gray { 1 } else { 6 }, height, width, blocks, hidden, classes }
        })
        .prop_filter("a kernel does not fit", |spec| spec.sizes().is_some())
}

fn model_pair(spec: &Spec, dtype: DType, seed: u64) -> Result<(VarMap, ours::Model)> {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, dtype, &Device::Cpu);
    let model = ours::Model::new(spec, &builder)?;
    randomize(&map, seed);
    Ok((map, model))
}

/// At zero itself candle's slope is the mean of both sides', and what lies before it counts by that.
#[test]
fn a_slope_at_zero_is_candles() {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let first = nn::linear(4, 3, builder.pp("first")).unwrap();
    let slopes = nn::prelu(Some(3), builder.pp("slopes")).unwrap();
    let output = nn::linear(3, 2, builder.pp("output")).unwrap();
    randomize(&map, 1);
    let mut map = map;
    map.set_one("first.bias", Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap()).unwrap();
    let images = Tensor::new(&[[0.0_f32, 0.0, 0.0, 0.0], [1.0, 0.0, -1.0, 0.5]], &Device::Cpu);
    let images = images.unwrap();
    let labels = [0, 1];
    let forward = |x: &Tensor| output.forward(&slopes.forward(&first.forward(x)?)?);
    let expected = per_example(&map, &images, |image, row| {
        cross_entropies(&forward(image)?, &labels[row..=row])
    });
    let mut norms = GradientNorms::new(&map).unwrap().check(0);
    let got = norms.cross_entropy(&images, &labels, forward).unwrap();
    close(&got.values, &expected, "at zero").unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn norms_are_those_of_candles_own_gradients(
        spec in specs(), batch in 1_usize..=5, seed in any::<u64>(),
    ) {
        let images = Random(seed ^ 1)
            .tensor(&[batch, spec.channels, spec.height, spec.width], DType::F32);
        let labels = Random(seed ^ 2).indices(batch, spec.classes as u32);
        let wide = images.to_dtype(DType::F64).unwrap();

        let (map, model) = model_pair(&spec, DType::F64, seed).unwrap();
        // From the very same variables, by the same names.
        let builder = VarBuilder::from_varmap(&map, DType::F64, &Device::Cpu);
        let reference = candles::Model::new(&spec, &builder).unwrap();
        let expected = per_example(&map, &wide, |image, row| {
            cross_entropies(&reference.forward(image)?, &labels[row..=row])
        });

        let norms = GradientNorms::new(&map).unwrap();
        let got = norms.clone().cross_entropy(&wide, &labels, |x| model.forward(x)).unwrap();
        prop_assert!(got.report.is_batched(), "{}", got.report);
        close(&got.values, &expected, "f64")?;

        let (map, model) = model_pair(&spec, DType::F32, seed).unwrap();
        let norms = GradientNorms::new(&map).unwrap();
        let got = norms.clone().cross_entropy(&images, &labels, |x| model.forward(x)).unwrap();
        prop_assert!(got.report.is_batched(), "{}", got.report);
        close(&got.values, &expected, "f32")?;

        let mut slow = norms.per_example();
        let slow = slow.cross_entropy(&images, &labels, |x: &Tensor| model.forward(x)).unwrap();
        prop_assert_eq!(slow.report.batched, 0);
        close(&slow.values, &expected, "one by one")?;
    }
}
