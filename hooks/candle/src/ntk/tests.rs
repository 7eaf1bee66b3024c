//! Every form of the products gives the same kernel, which is that of single examples: in all geometries,
//! for weights that are used several times, and whatever fits into memory.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarMap;
use proptest::prelude::*;

use super::GramOptions;
use super::product_forms::Form;
use crate::nn::{
    self, Conv1dConfig, Conv2dConfig, Module, VarBuilder, conv1d, conv2d, conv2d_no_bias,
    embedding, linear,
};
use crate::weights::Params;

type Forward = Box<dyn Fn(&Tensor) -> candle_core::Result<Tensor>>;

fn values(seed: u64, shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let value = |at: usize| (((at as u64 + 1) * (2 * seed + 7919)) as f64).sin();
    let values: Vec<f64> = (0..count).map(value).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap()
}

/// Compares all forms, in as many bytes and in plenty, with one example at a time.
fn check(seed: u64, inputs: &Tensor, max_bytes: usize, build: impl Fn(VarBuilder<'_>) -> Forward) {
    let variables = VarMap::new();
    let forward = build(VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu));
    let params = Params::from_varmap(&variables).unwrap();
    for (place, variable) in params.variables().enumerate() {
        variable.set(&values(seed + place as u64, variable.dims())).unwrap();
    }
    let options = GramOptions::default();
    let expected = options.per_example().gram(&params, inputs, &forward).unwrap();
    let rows = expected.rows();
    let diagonal = |row: usize| f64::from(expected.values()[row * (rows + 1)]);
    for form in [Form::Grams, Form::Contracted, Form::Formed] {
        for bytes in [max_bytes, GramOptions::DEFAULT_MAX_BYTES] {
            let got = options.form(form).max_bytes(bytes).gram(&params, inputs, &forward).unwrap();
            if bytes == GramOptions::DEFAULT_MAX_BYTES {
                assert_eq!(got.backward_passes(), got.classes());
            }
            for (place, (&got, &expected)) in got.values().iter().zip(expected.values()).enumerate()
            {
                let most = (diagonal(place / rows) * diagonal(place % rows)).sqrt();
                let difference = f64::from(got - expected).abs();
                assert!(difference <= 1e-5 * most, "{form:?}, {place}: {got} for {expected}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn convolutions_of_all_geometries(
        [channels, outputs, groups] in [1..4_usize, 1..4_usize, 1..4_usize],
        [kernel, stride, padding, dilation] in [1..4_usize, 1..3_usize, 0..3_usize, 1..3_usize],
        size in 5..8_usize,
        examples in 2..6_usize,
        bytes in 3_000..20_000_usize,
        seed in 0..1000_u64,
    ) {
        let (channels, outputs) = (channels * groups, outputs * groups);
        let inputs = values(seed, &[examples, channels, size, size]);
        check(seed, &inputs, bytes, |builder| {
            let config =
                Conv2dConfig { stride, padding, dilation, groups, ..Conv2dConfig::default() };
            let conv = conv2d(channels, outputs, kernel, config, builder.pp("conv")).unwrap();
            let head = linear(outputs, 2, builder.pp("head")).unwrap();
            Box::new(move |x| head.forward(&conv.forward(x)?.tanh()?.mean((2, 3))?))
        });
    }

    #[test]
    fn convolutions_over_sequences(
        [channels, outputs, groups] in [1..4_usize, 1..4_usize, 1..4_usize],
        [kernel, stride, padding, dilation] in [1..4_usize, 1..3_usize, 0..3_usize, 1..3_usize],
        examples in 2..6_usize,
        bytes in 3_000..20_000_usize,
        seed in 0..1000_u64,
    ) {
        let (channels, outputs) = (channels * groups, outputs * groups);
        let inputs = values(seed, &[examples, channels, 9]);
        check(seed, &inputs, bytes, |builder| {
            let config =
                Conv1dConfig { stride, padding, dilation, groups, ..Conv1dConfig::default() };
            let conv = conv1d(channels, outputs, kernel, config, builder.pp("conv")).unwrap();
            let head = linear(outputs, 3, builder.pp("head")).unwrap();
            Box::new(move |x| head.forward(&conv.forward(x)?.tanh()?.mean(2)?))
        });
    }

    #[test]
    fn layers_over_positions_and_tokens(
        [tokens, size, hidden] in [2..7_usize, 1..6_usize, 1..6_usize],
        [examples, positions] in [2..6_usize, 1..6_usize],
        bytes in 2_000..10_000_usize,
        seed in 0..1000_u64,
    ) {
        let count = examples * positions;
        let token = |at: usize| ((at as u64 * 31 + seed) * 17 % 101) as u32 % tokens as u32;
        let inputs: Vec<u32> = (0..count).map(token).collect();
        let inputs = Tensor::from_vec(inputs, (examples, positions), &Device::Cpu).unwrap();
        check(seed, &inputs, bytes, |builder| {
            let table = embedding(tokens, size, builder.pp("table")).unwrap();
            let hidden_layer = linear(size, hidden, builder.pp("hidden")).unwrap();
            let head = linear(hidden, 2, builder.pp("head")).unwrap();
            Box::new(move |x| {
                let hidden = hidden_layer.forward(&table.forward(x)?.tanh()?)?;
                head.forward(&hidden.tanh()?.mean(1)?)
            })
        });
    }
}

#[test]
fn more_rows_than_are_multiplied_at_a_time() {
    check(9, &values(10, &[130, 2, 3]), 40_000, |builder| {
        let below = linear(3, 4, builder.pp("below")).unwrap();
        let middle = linear(4, 4, builder.pp("middle")).unwrap();
        let head = linear(4, 5, builder.pp("head")).unwrap();
        Box::new(move |x| {
            let x = below.forward(x)?.tanh()?.mean(1)?;
            head.forward(&middle.forward(&x)?.tanh()?)
        })
    });
}

#[test]
fn groups_in_rounds_of_their_own() {
    // Of 20 examples, 2 classes and 4 positions; the inputs and the gradients of one group's outputs fit.
    let bytes = 20 * 6 * 16 * 4 + 20 * 2 * 2 * 4 * 4;
    check(11, &values(12, &[20, 6, 4, 4]), bytes, |builder| {
        let config = Conv2dConfig { groups: 3, ..Conv2dConfig::default() };
        let conv = conv2d_no_bias(6, 6, 3, config, builder.pp("conv")).unwrap();
        let head = linear(6, 2, builder.pp("head")).unwrap();
        Box::new(move |x| head.forward(&conv.forward(x)?.tanh()?.mean((2, 3))?))
    });
}

#[test]
fn a_convolution_that_is_used_twice() {
    for groups in [1, 2] {
        check(groups as u64, &values(3, &[4, 4, 5, 5]), 6 << 10, |builder| {
            let config = Conv2dConfig { padding: 1, groups, ..Conv2dConfig::default() };
            let conv = conv2d(4, 4, 3, config, builder.pp("conv")).unwrap();
            let head = linear(4, 2, builder.pp("head")).unwrap();
            Box::new(move |x| {
                let x = conv.forward(&conv.forward(x)?.tanh()?)?;
                head.forward(&x.tanh()?.mean((2, 3))?)
            })
        });
    }
}

#[test]
fn a_table_that_looks_tokens_up_twice_and_one_that_tells_them_apart() {
    let tokens = Tensor::new(&[[0_u32, 3, 3], [1, 0, 4], [2, 2, 2], [4, 1, 3]], &Device::Cpu);
    let tokens = tokens.unwrap();
    check(5, &tokens, 3 << 10, |builder| {
        let table = embedding(5, 3, builder.pp("table")).unwrap();
        let head = linear(3, 2, builder.pp("head")).unwrap();
        Box::new(move |x| {
            let turned = x.narrow(1, 0, 2)?.contiguous()?;
            let x =
                (table.forward(x)?.tanh()?.mean(1)? + table.forward(&turned)?.sqr()?.sum(1)?)?;
            head.forward(&x)
        })
    });
    check(6, &tokens, 3 << 10, |builder| {
        let table = embedding(5, 3, builder.pp("table")).unwrap();
        let decoder = nn::Linear::new(table.embeddings().clone(), None);
        Box::new(move |x| decoder.forward(&table.forward(x)?.tanh()?.mean(1)?))
    });
}

#[test]
fn several_images_of_an_example() {
    check(7, &values(8, &[3, 2, 2, 5, 5]), 3 << 10, |builder| {
        let conv = conv2d(2, 3, 3, Conv2dConfig::default(), builder.pp("conv")).unwrap();
        let head = linear(3, 2, builder.pp("head")).unwrap();
        Box::new(move |x| {
            let images = conv.forward(&x.flatten(0, 1)?)?.tanh()?.mean((2, 3))?;
            head.forward(&images.reshape((x.dim(0)?, 2, 3))?.mean(1)?)
        })
    });
}
