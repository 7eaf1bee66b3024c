//! Parameters that are used more than once, or beyond what the layers see.

use candle_core::{DType, Device, Module, Tensor};
use candle_nn::{VarBuilder, VarMap};
use data_diet_candle::gradients::{ExampleNorms, GradientNorms};
use data_diet_candle::nn::{self, Conv2dConfig};

use crate::reference::{Random, cross_entropies, per_example, randomize, relative_error};

const BATCH: usize = 5;

/// Norms from our layers, and candle's own from the same closure, which outside of a tape runs
/// candle-nn's layers.
fn both(
    map: &VarMap,
    inputs: &Tensor,
    norms: GradientNorms,
    forward: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> (ExampleNorms, Vec<f64>) {
    let labels = [0, 2, 1, 0, 2];
    let mut norms = norms;
    let got = norms.cross_entropy(inputs, &labels, &forward).unwrap();
    let expected = per_example(map, inputs, |input, row| {
        cross_entropies(&forward(input)?, &labels[row..=row])
    });
    (got, expected)
}

fn map_and_builder() -> (VarMap, VarBuilder<'static>) {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    (map, builder)
}

fn tokens(length: usize, limit: u32) -> Tensor {
    let indices = Random(4).indices(BATCH * length, limit);
    Tensor::from_vec(indices, (BATCH, length), &Device::Cpu).unwrap()
}

#[test]
fn a_layer_used_twice_has_the_gradient_of_both_uses() {
    let (map, builder) = map_and_builder();
    let layer = nn::linear(6, 6, builder.pp("layer")).unwrap();
    let output = nn::linear(6, 3, builder.pp("output")).unwrap();
    randomize(&map, 1);
    let inputs = Random(2).tensor(&[BATCH, 6], DType::F32);
    let norms = GradientNorms::new(&map).unwrap();
    let (got, expected) = both(&map, &inputs, norms, |x| {
        let once = layer.forward(x)?.tanh()?;
        output.forward(&layer.forward(&once)?.tanh()?)
    });
    assert!(got.report.is_batched(), "{}", got.report);
    assert!(relative_error(&got.values, &expected) < 1e-5);
}

/// Where the cross term is most of it: the uses all but cancel.
#[test]
fn uses_that_cancel_are_still_exact() {
    let (map, builder) = map_and_builder();
    let layer = nn::linear_no_bias(6, 3, builder.pp("layer")).unwrap();
    randomize(&map, 1);
    let inputs = Random(2).tensor(&[BATCH, 6], DType::F32);
    let norms = GradientNorms::new(&map).unwrap();
    let (got, expected) =
        both(&map, &inputs, norms.clone(), |x| layer.forward(x)? - layer.forward(&(x * 0.99)?)?);
    assert!(got.report.is_batched(), "{}", got.report);
    // The inputs themselves are rounded to 1 in 2^24, and what is left is a hundredth of them.
    assert!(relative_error(&got.values, &expected) < 1e-4);

    let (got, _) = both(&map, &inputs, norms, |x| layer.forward(x)? - layer.forward(x)?);
    assert!(got.values.iter().all(|&norm| norm < 1e-6), "{:?}", got.values);
}

#[test]
fn an_embedding_tied_to_the_output_layer() {
    let (map, builder) = map_and_builder();
    let embedding = nn::embedding(3, 8, builder.pp("tokens")).unwrap();
    let hidden = nn::linear(8, 8, builder.pp("hidden")).unwrap();
    randomize(&map, 3);
    let output = nn::Linear::new(embedding.embeddings().clone(), None);
    for bytes in [GradientNorms::DEFAULT_MAX_BYTES, 400] {
        let norms = GradientNorms::new(&map).unwrap().max_bytes(bytes);
        let (got, expected) = both(&map, &tokens(6, 3), norms, |x| {
            output.forward(&hidden.forward(&embedding.forward(x)?)?.tanh()?.mean(1)?)
        });
        assert!(got.report.is_batched(), "{}", got.report);
        assert!(relative_error(&got.values, &expected) < 1e-5);
    }
}

#[test]
fn a_bias_in_two_layers_and_a_kernel_on_two_sizes() {
    let (map, builder) = map_and_builder();
    let config = Conv2dConfig { padding: 1, groups: 2, ..Conv2dConfig::default() };
    let conv = nn::conv2d(4, 4, 3, config, builder.pp("conv")).unwrap();
    // The same kernel and bias with a stride.
    let config = Conv2dConfig { stride: 2, ..config };
    let strided = nn::Conv2d::new(conv.weight().clone(), conv.bias().cloned(), config);
    let output = nn::linear(4, 3, builder.pp("output")).unwrap();
    randomize(&map, 5);
    let inputs = Random(6).tensor(&[BATCH, 4, 5, 5], DType::F32);
    for bytes in [GradientNorms::DEFAULT_MAX_BYTES, 10_000] {
        let norms = GradientNorms::new(&map).unwrap().max_bytes(bytes);
        let (got, expected) = both(&map, &inputs, norms, |x| {
            let x = strided.forward(&conv.forward(x)?.relu()?)?.relu()?;
            output.forward(&x.flatten_from(2)?.mean(2)?)
        });
        assert!(got.report.is_batched(), "{}", got.report);
        assert!(relative_error(&got.values, &expected) < 1e-5);
    }
}

/// Images of several frames, one after the other in the first dimension.
#[test]
fn an_example_may_have_several_rows() {
    let (map, builder) = map_and_builder();
    let config = Conv2dConfig { groups: 2, ..Conv2dConfig::default() };
    let conv = nn::conv2d(2, 4, 2, config, builder.pp("conv")).unwrap();
    let norm = nn::group_norm(2, 4, 1e-3, builder.pp("norm")).unwrap();
    let slopes = nn::prelu(Some(4), builder.pp("slopes")).unwrap();
    let output = nn::linear(4, 3, builder.pp("output")).unwrap();
    randomize(&map, 7);
    let frames = Random(8).tensor(&[BATCH, 3, 2, 4, 5], DType::F32);
    let norms = GradientNorms::new(&map).unwrap();
    let (got, expected) = both(&map, &frames, norms, |x| {
        let examples = x.dim(0)?;
        let x = slopes.forward(&norm.forward(&conv.forward(&x.flatten_to(1)?)?)?)?;
        let x = output.forward(&x.flatten_from(2)?.mean(2)?)?;
        x.reshape((examples, 3, 3))?.sum(1)
    });
    assert!(got.report.is_batched(), "{}", got.report);
    assert!(relative_error(&got.values, &expected) < 1e-5);
}

#[test]
fn a_weight_that_is_used_by_hand_is_taken_one_by_one_and_only_that() {
    let (map, builder) = map_and_builder();
    let first = nn::linear(6, 6, builder.pp("first")).unwrap();
    let second = nn::linear(6, 3, builder.pp("second")).unwrap();
    randomize(&map, 9);
    let inputs = Random(10).tensor(&[BATCH, 6], DType::F32);
    let norms = GradientNorms::new(&map).unwrap();
    let (got, expected) = both(&map, &inputs, norms.clone(), |x| {
        let x = first.forward(x)?.tanh()?;
        second.forward(&x.matmul(first.weight())?)
    });
    assert!(relative_error(&got.values, &expected) < 1e-5);
    assert_eq!(
        got.report.to_string(),
        "a backward pass per example for 1 of 4 parameters: first.weight (used outside the layers of \
         data_diet_candle::nn)"
    );
    // A penalty on the weight in every example's loss, which no layer sees.
    let labels = Tensor::new(&[0_u32, 2, 1, 0, 2], &Device::Cpu).unwrap();
    let loss = |logits: &Tensor, labels: &Tensor| {
        let penalty = second.weight().sqr()?.sum_all()?;
        cross_entropies(logits, &labels.to_vec1::<u32>()?)?.broadcast_add(&penalty)
    };
    let forward = |x: &Tensor| second.forward(&first.forward(x)?.tanh()?);
    let mut norms = norms;
    let got = norms.custom_loss(&inputs, &labels, forward, loss).unwrap();
    let expected =
        per_example(&map, &inputs, |x, row| loss(&forward(x)?, &labels.narrow(0, row, 1)?));
    assert!(relative_error(&got.values, &expected) < 1e-5);
    assert_eq!(got.report.batched, 3);
}

#[test]
fn weights_computed_from_others_train_those() {
    let (map, builder) = map_and_builder();
    let direction = builder.get((4, 6), "direction").unwrap();
    let length = builder.get((4, 1), "length").unwrap();
    let output = nn::linear(4, 3, builder.pp("output")).unwrap();
    randomize(&map, 11);
    let inputs = Random(12).tensor(&[BATCH, 6], DType::F32);
    let norms = GradientNorms::new(&map).unwrap();
    let (got, expected) = both(&map, &inputs, norms, |x| {
        let norms = direction.sqr()?.sum_keepdim(1)?.sqrt()?;
        let weight = direction.broadcast_div(&norms)?.broadcast_mul(&length)?;
        output.forward(&nn::Linear::new(weight, None).forward(x)?.tanh()?)
    });
    assert!(relative_error(&got.values, &expected) < 1e-5);
    let names: Vec<_> = got.report.per_example.iter().map(|one| one.parameter.as_str()).collect();
    assert_eq!(names, ["direction", "length"]);
    assert_eq!(got.report.batched, 2);
}

#[test]
fn positions_looked_up_once_for_the_batch_are_taken_one_by_one() {
    let (map, builder) = map_and_builder();
    let embedding = nn::embedding(7, 8, builder.pp("tokens")).unwrap();
    let positions = nn::embedding(6, 8, builder.pp("positions")).unwrap();
    let output = nn::linear(8, 3, builder.pp("output")).unwrap();
    randomize(&map, 13);
    let norms = GradientNorms::new(&map).unwrap();
    let (got, expected) = both(&map, &tokens(6, 7), norms, |x| {
        let places = positions.forward(&Tensor::arange(0_u32, 6, &Device::Cpu)?)?;
        output.forward(&embedding.forward(x)?.broadcast_add(&places)?.tanh()?.mean(1)?)
    });
    assert!(relative_error(&got.values, &expected) < 1e-5);
    assert_eq!(
        got.report.to_string(),
        "a backward pass per example for 1 of 4 parameters: positions.weight (its layer's input is \
         [6], whose first dimension is not the batch of 5)"
    );
}

/// Ten positions, which look like two rows for each of five examples until one is looked at alone.
#[test]
fn positions_that_could_be_rows_of_examples_are_noticed() {
    let (map, builder) = map_and_builder();
    let embedding = nn::embedding(7, 8, builder.pp("tokens")).unwrap();
    let positions = nn::embedding(10, 8, builder.pp("positions")).unwrap();
    let output = nn::linear(8, 3, builder.pp("output")).unwrap();
    randomize(&map, 13);
    let forward = |x: &Tensor| {
        let places = positions.forward(&Tensor::arange(0_u32, 10, &Device::Cpu)?)?;
        output.forward(&embedding.forward(x)?.broadcast_add(&places)?.tanh()?.mean(1)?)
    };
    let norms = GradientNorms::new(&map).unwrap();
    let (got, expected) = both(&map, &tokens(10, 7), norms, forward);
    assert!(relative_error(&got.values, &expected) < 1e-5);
    let names: Vec<_> = got.report.per_example.iter().map(|one| one.parameter.as_str()).collect();
    assert_eq!(names, ["positions.weight"]);
    assert_eq!(got.report.checked, 2);
    // As rows of a batch they are seen with everything else.
    let norms = GradientNorms::new(&map).unwrap();
    let (got, expected) = both(&map, &tokens(10, 7), norms, |x| {
        let places = Tensor::arange(0_u32, 10, &Device::Cpu)?.broadcast_as(x.dims())?;
        let places = positions.forward(&places.contiguous()?)?;
        output.forward(&(embedding.forward(x)? + places)?.tanh()?.mean(1)?)
    });
    assert!(got.report.is_batched(), "{}", got.report);
    assert!(relative_error(&got.values, &expected) < 1e-5);
}

#[test]
fn layers_of_candles_own_are_taken_one_by_one() {
    let (map, builder) = map_and_builder();
    let first = candle_nn::linear(6, 6, builder.pp("first")).unwrap();
    let norm = candle_nn::batch_norm(6, 1e-3, builder.pp("norm")).unwrap();
    let second = nn::linear(6, 3, builder.pp("second")).unwrap();
    randomize(&map, 14);
    let inputs = Random(15).tensor(&[BATCH, 6], DType::F32);
    let norms = GradientNorms::new(&map).unwrap();
    let (got, expected) = both(&map, &inputs, norms, |x| {
        second.forward(&candle_nn::ModuleT::forward_t(&norm, &first.forward(x)?, false)?.tanh()?)
    });
    assert!(relative_error(&got.values, &expected) < 1e-5);
    // The running statistics are no parameters.
    let names: Vec<_> = got.report.per_example.iter().map(|one| one.parameter.as_str()).collect();
    assert_eq!(names, ["first.bias", "first.weight", "norm.bias", "norm.weight"]);
    assert_eq!(got.report.batched, 2);
}

#[test]
fn only_the_parameters_that_are_named_count() {
    let (map, builder) = map_and_builder();
    let frozen = nn::linear(6, 6, builder.pp("frozen")).unwrap();
    let trained = nn::linear(6, 3, builder.pp("trained")).unwrap();
    randomize(&map, 16);
    let inputs = Random(17).tensor(&[BATCH, 6], DType::F32);
    let mut own = VarMap::new();
    let parameters: Vec<_> = crate::reference::named(&map)
        .into_iter()
        .filter(|(name, _)| name.starts_with("trained"))
        .collect();
    for (name, var) in &parameters {
        own.data().lock().unwrap().insert(name.clone(), var.clone());
    }
    let norms = GradientNorms::with_parameters(parameters).unwrap();
    let forward = |x: &Tensor| trained.forward(&frozen.forward(x)?.tanh()?);
    let (got, expected) = both(&own, &inputs, norms, forward);
    assert_eq!(got.report.batched, 2);
    assert!(relative_error(&got.values, &expected) < 1e-5);
    let (all, _) = both(&map, &inputs, GradientNorms::new(&map).unwrap(), forward);
    assert!(all.values.iter().zip(&got.values).all(|(all, own)| all > own));
    // Weights that are set later are the ones that count.
    own.set_one("trained.bias", Tensor::new(&[3.0_f32, 0.0, 0.0], &Device::Cpu).unwrap()).unwrap();
    let norms = GradientNorms::new(&own).unwrap();
    let (later, expected) = both(&own, &inputs, norms, forward);
    assert_ne!(later.values, got.values);
    assert!(relative_error(&later.values, &expected) < 1e-5);
}
