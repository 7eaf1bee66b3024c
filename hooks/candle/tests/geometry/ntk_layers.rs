//! Kernels by whole batches, for layers that show what flows through them: against brute force, and
//! against the same kernel one example at a time.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarMap;
use data_diet_candle::nn::{
    self, BatchNorm, Conv2dConfig, Module, ModuleT, VarBuilder, batch_norm, conv2d, embedding,
    group_norm, layer_norm, linear, linear_no_bias, prelu,
};
use data_diet_candle::ntk::{Gram, GramOptions};
use data_diet_candle::weights::Params;
use proptest::prelude::*;

use crate::models::{scatter, tensor};
use crate::ntk::{assert_close, brute_force};

type Forward = Box<dyn Fn(&Tensor) -> candle_core::Result<Tensor>>;

struct Model {
    variables: VarMap,
    forward: Forward,
}

impl Model {
    fn new(seed: u64, dtype: DType, build: impl FnOnce(VarBuilder<'_>) -> Forward) -> Self {
        let variables = VarMap::new();
        let forward = build(VarBuilder::from_varmap(&variables, dtype, &Device::Cpu));
        scatter(&variables, seed);
        Self { variables, forward }
    }

    fn params(&self) -> Params {
        Params::from_varmap(&self.variables).unwrap()
    }

    fn gram(&self, options: GramOptions, inputs: &Tensor) -> Gram {
        options.gram(&self.params(), inputs, &self.forward).unwrap()
    }

    /// The kernel by whole batches, in whatever pieces, is that of one example at a time.
    fn check(&self, inputs: &Tensor, tolerance: f64) -> Gram {
        let whole = self.gram(GramOptions::default(), inputs);
        let single = self.gram(GramOptions::default().per_example(), inputs);
        let wide: Vec<f64> = single.values().iter().map(|&value| value.into()).collect();
        assert_close(&whole, &wide, tolerance);
        assert_eq!(whole.backward_passes(), whole.classes());
        assert_eq!(single.backward_passes(), single.rows());
        whole
    }

    fn check_by_brute_force(&self, inputs: &Tensor, tolerance: f64) {
        let expected = brute_force(&self.params(), inputs, &self.forward);
        assert_close(&self.check(inputs, tolerance), &expected, tolerance);
    }
}

fn perceptron(widths: &[usize], seed: u64, dtype: DType) -> Model {
    Model::new(seed, dtype, |builder| {
        let layer = |(place, pair): (usize, &[usize])| {
            linear(pair[0], pair[1], builder.pp(format!("layer{place}"))).unwrap()
        };
        let layers: Vec<_> = widths.windows(2).enumerate().map(layer).collect();
        Box::new(move |x| {
            let (last, below) = layers.split_last().unwrap();
            last.forward(&below.iter().try_fold(x.clone(), |x, layer| layer.forward(&x)?.tanh())?)
        })
    })
}

#[derive(Clone, Debug)]
struct Convolution {
    channels: usize,
    outputs: usize,
    kernel: usize,
    config: [usize; 4],
    size: usize,
    examples: usize,
    seed: u64,
}

fn convolutions() -> impl Strategy<Value = Convolution> {
    let shape = (1..4_usize, 1..4_usize, 1..4_usize);
    let config = (1..3_usize, 0..3_usize, 1..3_usize, 1..3_usize);
    (shape, config, 5..8_usize, 2..5_usize, 0..1000_u64).prop_map(
        |(
            (channels, outputs, kernel),
            (stride, padding, dilation, groups),
            size,
            examples,
            seed,
        )| {
            Convolution {
                channels: channels * groups,
                outputs: outputs * groups,
                kernel,
                config: [stride, padding, dilation, groups],
                size,
                examples,
                seed,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn fully_connected(
        widths in prop::collection::vec(1..8_usize, 2..5), examples in 2..6_usize, seed in 0..1000_u64,
    ) {
        let inputs = tensor(seed, &[examples, widths[0]], DType::F32);
        perceptron(&widths, seed, DType::F32).check_by_brute_force(&inputs, 2e-6);
    }

    #[test]
    fn convolutional(case in convolutions()) {
        let [stride, padding, dilation, groups] = case.config;
        let model = Model::new(case.seed, DType::F32, |builder| {
            let config =
                Conv2dConfig { stride, padding, dilation, groups, ..Conv2dConfig::default() };
            let (channels, outputs) = (case.channels, case.outputs);
            let conv = conv2d(channels, outputs, case.kernel, config, builder.pp("conv")).unwrap();
            let head = linear(outputs, 2, builder.pp("head")).unwrap();
            Box::new(move |x| head.forward(&conv.forward(x)?.tanh()?.mean((2, 3))?))
        });
        let shape = [case.examples, case.channels, case.size, case.size];
        model.check_by_brute_force(&tensor(case.seed, &shape, DType::F32), 1e-5);
    }

    #[test]
    fn in_pieces_that_fit(seed in 0..1000_u64, examples in 2..9_usize, kilobytes in 2..40_usize) {
        let model = perceptron(&[4, 6, 5, 3], seed, DType::F32);
        let inputs = tensor(seed, &[examples, 4], DType::F32);
        let whole = model.gram(GramOptions::default(), &inputs);
        let pieces = model.gram(GramOptions::default().max_bytes(kilobytes << 10), &inputs);
        let wide: Vec<f64> = whole.values().iter().map(|&value| value.into()).collect();
        assert_close(&pieces, &wide, 1e-6);
    }
}

#[test]
fn less_memory_costs_the_documented_number_of_passes() {
    let model = perceptron(&[4, 30, 3], 1, DType::F32);
    let inputs = tensor(2, &[8, 4], DType::F32);
    let whole = model.gram(GramOptions::default(), &inputs);
    let passes = |bytes: usize| {
        let gram = model.gram(GramOptions::default().max_bytes(bytes), &inputs);
        let wide: Vec<f64> = whole.values().iter().map(|&value| value.into()).collect();
        assert_close(&gram, &wide, 1e-6);
        gram.backward_passes()
    };
    // Gradients of outputs, for weights and again for biases, take 24 * 2 * 33 * 4 bytes and the inputs of
    // weights 8 * 34 * 4; that is all in one round. The activations of an example are taken for 8 times its
    // outputs, and the biases' gradients for twice themselves; a quarter of the memory has to hold that of
    // all eight examples.
    let (held, activations) = (24 * 2 * 33 * 4 + 8 * 34 * 4, (8 * 2 + 2) * 33 * 4);
    assert_eq!(passes(4 * 8 * activations), 3);
    assert_eq!(passes(4 * 8 * activations - 1), 2 * 3);
    // Of less than is held, two rounds, each example by itself.
    assert_eq!(passes(held), 8 * 3);
    assert_eq!(passes(held - 1), 2 * 8 * 3);
}

#[test]
fn one_position_few_and_many() {
    // 16 * 9 * 32 weights: of 2 positions, it is cheaper not to form their gradients, of 36 it is not.
    for size in [1, 2, 36] {
        let model = Model::new(size as u64, DType::F32, |builder| {
            let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
            let conv = conv2d(16, 32, 3, config, builder.pp("conv")).unwrap();
            let head = linear(32, 2, builder.pp("head")).unwrap();
            Box::new(move |x| head.forward(&conv.forward(x)?.tanh()?.mean((2, 3))?))
        });
        let inputs = tensor(size as u64, &[3, 16, 1, size], DType::F32);
        model.check_by_brute_force(&inputs, 1e-5);
    }
}

#[test]
fn forming_in_tiles_gives_the_same() {
    let model = Model::new(4, DType::F32, |builder| {
        let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        let conv = conv2d(2, 8, 3, config, builder.pp("conv")).unwrap();
        let head = linear(8, 2, builder.pp("head")).unwrap();
        Box::new(move |x| head.forward(&conv.forward(x)?.tanh()?.mean((2, 3))?))
    });
    let inputs = tensor(5, &[7, 2, 5, 5], DType::F32);
    let whole = model.gram(GramOptions::default(), &inputs);
    let wide: Vec<f64> = whole.values().iter().map(|&value| value.into()).collect();
    // 8 * 2 * 9 weights of 2 classes: 1,152 bytes an example, at most a few at a time.
    for bytes in [8_000, 14_000, 30_000] {
        assert_close(&model.gram(GramOptions::default().max_bytes(bytes), &inputs), &wide, 1e-6);
    }
}

#[test]
fn normalizations_and_their_statistics() {
    let model = Model::new(6, DType::F32, |builder| {
        let conv = conv2d(2, 4, 3, Conv2dConfig::default(), builder.pp("conv")).unwrap();
        let norm: BatchNorm = batch_norm(4, 1e-5, builder.pp("batch")).unwrap();
        let groups = group_norm(2, 4, 1e-5, builder.pp("group")).unwrap();
        let below = linear(4, 6, builder.pp("below")).unwrap();
        let rows = layer_norm(6, 1e-5, builder.pp("layer")).unwrap();
        let slope = prelu(Some(6), builder.pp("slope")).unwrap();
        let head = linear_no_bias(6, 3, builder.pp("head")).unwrap();
        Box::new(move |x| {
            let x = groups.forward(&norm.forward_t(&conv.forward(x)?, false)?.tanh()?)?;
            let x = below.forward(&x.sqr()?.mean((2, 3))?)?;
            head.forward(&slope.forward(&rows.forward(&x)?)?)
        })
    });
    let inputs = tensor(7, &[4, 2, 6, 6], DType::F32);
    model.check(&inputs, 1e-5);
}

#[test]
fn tokens_shared_weights_and_a_layer_used_twice() {
    let model = Model::new(8, DType::F32, |builder| {
        let tokens = embedding(5, 4, builder.pp("tokens")).unwrap();
        let mixing = linear(4, 4, builder.pp("mixing")).unwrap();
        let decoder = nn::Linear::new(tokens.embeddings().clone(), None);
        Box::new(move |x| {
            let x = mixing.forward(&tokens.forward(x)?)?.tanh()?;
            let x = mixing.forward(&x)?.tanh()?.mean(1)?;
            // The embeddings once more, as the weights of the last layer.
            decoder.forward(&x)
        })
    });
    let tokens = [[0_u32, 1, 1, 4], [2, 2, 2, 2], [4, 3, 0, 1]];
    let inputs = Tensor::new(&tokens, &Device::Cpu).unwrap();
    model.check_by_brute_force(&inputs, 1e-5);
}

#[test]
fn parameters_outside_the_layers_are_taken_one_example_at_a_time() {
    let model = Model::new(9, DType::F32, |builder| {
        let scale = builder.get(3, "scale").unwrap();
        let below = linear(3, 5, builder.pp("below")).unwrap();
        let plain = candle_nn::linear(5, 4, builder.pp("plain")).unwrap();
        let above = linear(4, 2, builder.pp("above")).unwrap();
        Box::new(move |x| {
            let x = below.forward(&x.broadcast_mul(&scale)?)?.tanh()?;
            above.forward(&plain.forward(&x)?.tanh()?)
        })
    });
    let inputs = tensor(10, &[5, 3], DType::F32);
    let expected = brute_force(&model.params(), &inputs, &model.forward);
    let gram = model.gram(GramOptions::default(), &inputs);
    assert_close(&gram, &expected, 2e-6);
    assert_eq!(gram.backward_passes(), 2 + 10);
}

#[test]
fn fused_layers_have_the_gradient_of_their_formula_either_way() {
    let build = |builder: VarBuilder<'_>| -> Forward {
        let below = linear(3, 5, builder.pp("below")).unwrap();
        let norm = layer_norm(5, 1e-5, builder.pp("norm")).unwrap();
        let scale = builder.get(5, "scale").unwrap();
        let head = linear(5, 2, builder.pp("head")).unwrap();
        Box::new(move |x| {
            let x = norm.forward(&below.forward(&x.contiguous()?)?)?;
            head.forward(&x.broadcast_mul(&scale)?.tanh()?)
        })
    };
    let model = Model::new(11, DType::F32, build);
    let inputs = tensor(12, &[4, 3], DType::F32);
    // Central differences, of what no backward pass of candle's goes through.
    let params = model.params();
    let step = 1e-2_f32;
    let mut columns: Vec<Vec<f64>> = Vec::new();
    let logits = || -> Vec<f32> {
        (model.forward)(&inputs).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    for variable in params.variables() {
        let values: Vec<f32> = variable.flatten_all().unwrap().to_vec1().unwrap();
        let set = |values: &[f32]| {
            let tensor = Tensor::from_slice(values, variable.dims(), &Device::Cpu).unwrap();
            variable.set(&tensor).unwrap();
        };
        for place in 0..values.len() {
            let moved = |by: f32| {
                let mut values = values.clone();
                values[place] += by;
                set(&values);
                logits()
            };
            let (up, down) = (moved(step), moved(-step));
            let slope = |(u, d): (&f32, &f32)| f64::from(u - d) / f64::from(2.0 * step);
            columns.push(up.iter().zip(&down).map(slope).collect());
        }
        set(&values);
    }
    let rows = 8;
    let expected: Vec<f64> = (0..rows * rows)
        .map(|at| columns.iter().map(|column| column[at / rows] * column[at % rows]).sum())
        .collect();
    let gram = model.gram(GramOptions::default(), &inputs);
    assert_close(&gram, &expected, 1e-3);
    let wide: Vec<f64> = gram.values().iter().map(|&value| value.into()).collect();
    assert_close(&model.gram(GramOptions::default().per_example(), &inputs), &wide, 2e-6);
}

#[test]
fn a_head_of_its_own_for_every_class() {
    let model = Model::new(13, DType::F32, |builder| {
        let body = linear(3, 4, builder.pp("body")).unwrap();
        let heads: Vec<_> =
            (0..3).map(|class| linear(4, 1, builder.pp(format!("head{class}"))).unwrap()).collect();
        Box::new(move |x| {
            let x = body.forward(x)?.tanh()?;
            let logits = heads.iter().map(|head| head.forward(&x));
            Tensor::cat(&logits.collect::<candle_core::Result<Vec<_>>>()?, 1)
        })
    });
    model.check_by_brute_force(&tensor(14, &[4, 3], DType::F32), 2e-6);
}

#[test]
fn sequences_and_other_precisions() {
    for (dtype, tolerance) in [(DType::F64, 1e-7), (DType::F32, 1e-5), (DType::BF16, 8e-2)] {
        let model = Model::new(15, dtype, |builder| {
            let below = linear(3, 8, builder.pp("below")).unwrap();
            let above = linear(8, 2, builder.pp("above")).unwrap();
            Box::new(move |x| above.forward(&below.forward(x)?.tanh()?)?.mean(1))
        });
        model.check(&tensor(16, &[4, 5, 3], dtype), tolerance);
    }
}

#[test]
fn examples_out_of_order_are_noticed() {
    let model = Model::new(17, DType::F32, |builder| {
        let below = linear(3, 4, builder.pp("below")).unwrap();
        let above = linear(4, 2, builder.pp("above")).unwrap();
        Box::new(move |x| {
            let last = x.dim(0)? as u32 - 1;
            let order: Vec<u32> = (0..=last).rev().collect();
            let order = Tensor::new(order.as_slice(), x.device())?;
            // One layer sees the examples in the opposite order.
            let turned = below.forward(&x.index_select(&order, 0)?)?;
            above.forward(&turned.index_select(&order, 0)?.tanh()?)
        })
    });
    let inputs = tensor(18, &[4, 3], DType::F32);
    let error = GramOptions::default().gram(&model.params(), &inputs, &model.forward).unwrap_err();
    let error = error.to_string();
    assert!(error.starts_with("forward: expected an example's gradients not to depend"), "{error}");
    let expected = brute_force(&model.params(), &inputs, &model.forward);
    let single = model.gram(GramOptions::default().per_example(), &inputs);
    assert_close(&single, &expected, 2e-6);
}

#[test]
fn rows_that_all_examples_share_are_left_to_candle() {
    let model = Model::new(23, DType::F32, |builder| {
        let positions = builder.get((4, 3), "positions").unwrap();
        let of_positions = linear(3, 5, builder.pp("of_positions")).unwrap();
        let of_inputs = linear(3, 5, builder.pp("of_inputs")).unwrap();
        let head = linear(5, 2, builder.pp("head")).unwrap();
        Box::new(move |x| {
            let shared = of_positions.forward(&positions.tanh()?)?;
            let hidden = of_inputs.forward(x)?.broadcast_add(&shared)?.tanh()?;
            head.forward(&hidden.mean(1)?)
        })
    });
    // Four positions look like rows of two or four examples, not of three.
    for examples in [2, 3, 4, 8] {
        let inputs = tensor(24, &[examples, 4, 3], DType::F32);
        let expected = brute_force(&model.params(), &inputs, &model.forward);
        let gram = model.gram(GramOptions::default(), &inputs);
        assert_close(&gram, &expected, 2e-6);
        let pieces = model.gram(GramOptions::default().max_bytes(3 << 10), &inputs);
        assert_close(&pieces, &expected, 2e-6);
    }
}

#[test]
fn a_logit_that_is_not_finite_is_told_with_its_example() {
    let model = perceptron(&[3, 4, 2], 21, DType::F32);
    let mut rows: Vec<f32> =
        tensor(22, &[4, 3], DType::F32).flatten_all().unwrap().to_vec1().unwrap();
    rows[8] = f32::NAN;
    let inputs = Tensor::from_vec(rows, (4, 3), &Device::Cpu).unwrap();
    for options in [GramOptions::default(), GramOptions::default().per_example()] {
        let error = options.gram(&model.params(), &inputs, &model.forward).unwrap_err();
        assert_eq!(
            error.to_string(),
            "forward: expected finite logits, got NaN as logit 0 of example 2"
        );
    }
}

#[test]
fn parameters_that_no_gradient_reaches_are_named() {
    let model = Model::new(19, DType::F32, |builder| {
        let below = linear(3, 4, builder.pp("below")).unwrap();
        let above = linear(4, 2, builder.pp("above")).unwrap();
        Box::new(move |x| above.forward(&below.forward(x)?.detach()))
    });
    let inputs = tensor(20, &[4, 3], DType::F32);
    for options in [GramOptions::default(), GramOptions::default().per_example()] {
        let error = options.gram(&model.params(), &inputs, &model.forward).unwrap_err();
        let expected = "forward: expected logits that depend on every parameter, got no gradient for \
                        below.bias, below.weight: ";
        assert!(error.to_string().starts_with(expected), "{error}");
        let expected = brute_force(&model.params(), &inputs, &model.forward);
        assert_close(&model.gram(options.allow_unused(), &inputs), &expected, 2e-6);
    }
}
