//! Losses and labels of all kinds, and what an example that is all but learned keeps of its digits.

use candle_core::{D, DType, Device, Module, Tensor};
use candle_nn::{VarBuilder, VarMap};
use data_diet_candle::gradients::{GradientNorms, last_layer_norms};
use data_diet_candle::nn;

use crate::reference::{Random, cross_entropies, per_example, randomize, relative_error};

fn perceptron(seed: u64) -> (VarMap, nn::Linear, nn::Linear) {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let hidden = nn::linear(6, 5, builder.pp("hidden")).unwrap();
    let output = nn::linear(5, 3, builder.pp("output")).unwrap();
    randomize(&map, seed);
    (map, hidden, output)
}

#[test]
fn soft_targets_and_losses_of_ones_own() {
    let (map, hidden, output) = perceptron(1);
    let forward = |x: &Tensor| output.forward(&hidden.forward(x)?.tanh()?);
    let inputs = Random(2).tensor(&[4, 6], DType::F32);
    let powers = Random(3).tensor(&[4, 3], DType::F32).exp().unwrap();
    let soft = powers.broadcast_div(&powers.sum_keepdim(1).unwrap()).unwrap();
    let of_soft = |logits: &Tensor, targets: &Tensor| {
        (candle_nn::ops::log_softmax(logits, D::Minus1)? * targets)?.sum(1)?.neg()
    };
    let expected =
        per_example(&map, &inputs, |x, row| of_soft(&forward(x)?, &soft.narrow(0, row, 1)?));
    let mut norms = GradientNorms::new(&map).unwrap();
    let got = norms.cross_entropy(&inputs, &soft, forward).unwrap();
    assert!(relative_error(&got.values, &expected) < 1e-5);
    let own = norms.custom_loss(&inputs, &soft, forward, of_soft).unwrap();
    assert!(own.report.is_batched());
    assert!(relative_error(&own.values, &expected) < 1e-5);

    // Regression.
    let squared = |outputs: &Tensor, targets: &Tensor| (outputs - targets)?.sqr()?.sum(1);
    let expected =
        per_example(&map, &inputs, |x, row| squared(&forward(x)?, &soft.narrow(0, row, 1)?));
    let got = norms.custom_loss(&inputs, &soft, forward, squared).unwrap();
    assert!(relative_error(&got.values, &expected) < 1e-5);
}

#[test]
fn labels_come_as_slices_and_as_tensors() {
    let (map, hidden, output) = perceptron(4);
    let forward = |x: &Tensor| output.forward(&hidden.forward(x)?.tanh()?);
    let inputs = Random(5).tensor(&[4, 6], DType::F32);
    let mut norms = GradientNorms::new(&map).unwrap();
    let classes = [2_u32, 0, 1, 2];
    let of_slice = norms.cross_entropy(&inputs, &classes, forward).unwrap();
    let tensor = Tensor::new(&classes, &Device::Cpu).unwrap();
    assert_eq!(norms.cross_entropy(&inputs, &tensor, forward).unwrap().values, of_slice.values);
    let hot = [[0.0_f32, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let hot = norms.cross_entropy(&inputs, &Tensor::new(&hot, &Device::Cpu).unwrap(), forward);
    let hot: Vec<f64> = hot.unwrap().values.iter().map(|&norm| norm.into()).collect();
    assert!(relative_error(&of_slice.values, &hot) < 1e-5);
    assert_eq!(
        of_slice.to_tensor(&Device::Cpu).unwrap().to_vec1::<f32>().unwrap(),
        of_slice.values
    );
}

/// Where `p_y` is 1 - 1e-7, `p_y - 1` computed as a difference of f32 has one digit at most.
#[test]
fn an_example_all_but_learned_keeps_its_digits() {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let layer = nn::linear(1, 3, builder).unwrap();
    for var in map.all_vars() {
        var.set(&var.zeros_like().unwrap()).unwrap();
    }
    let mut map = map;
    map.set_one("bias", Tensor::new(&[16.0_f32, 0.0, 1.0], &Device::Cpu).unwrap()).unwrap();
    let inputs = Tensor::new(&[[2.0_f32]], &Device::Cpu).unwrap();
    let mut norms = GradientNorms::new(&map).unwrap();
    let got = norms.cross_entropy(&inputs, &[0], |x| layer.forward(x)).unwrap();
    let sum = 1.0 + (-16.0_f64).exp() + (-15.0_f64).exp();
    let others = [(-16.0_f64).exp() / sum, (-15.0_f64).exp() / sum];
    let own = others[0] + others[1];
    let el2n = (own * own + others[0] * others[0] + others[1] * others[1]).sqrt();
    assert!(relative_error(&got.values, &[el2n * 5.0_f64.sqrt()]) < 1e-6, "{:?}", got.values);
}

/// The last layer's own share, and all of it for a network of one layer.
#[test]
fn the_closed_form_of_the_last_layer() {
    let (map, hidden, output) = perceptron(6);
    let inputs = Random(7).tensor(&[4, 6], DType::F32);
    let labels = [2_u32, 0, 1, 2];
    let features = |x: &Tensor| hidden.forward(x)?.tanh();
    let last: Vec<_> = crate::reference::named(&map).split_off(2);
    assert_eq!(last[0].0, "output.bias");
    let mut norms = GradientNorms::with_parameters(last).unwrap();
    let forward = |x: &Tensor| output.forward(&features(x)?);
    let expected = norms.cross_entropy(&inputs, &labels, forward).unwrap();
    let expected: Vec<f64> = expected.values.iter().map(|&norm| norm.into()).collect();
    let logits = forward(&inputs).unwrap();
    let features = features(&inputs).unwrap();
    let got = last_layer_norms(&logits, &features, &labels, true).unwrap();
    assert!(relative_error(&got, &expected) < 1e-5);

    let weight: Vec<_> = crate::reference::named(&map).split_off(3);
    let mut norms = GradientNorms::with_parameters(weight).unwrap();
    let expected = norms.cross_entropy(&inputs, &labels, forward).unwrap();
    let expected: Vec<f64> = expected.values.iter().map(|&norm| norm.into()).collect();
    let got = last_layer_norms(&logits, &features, &labels, false).unwrap();
    assert!(relative_error(&got, &expected) < 1e-5);

    for (bad, message) in [
        (last_layer_norms(&features, &inputs.narrow(0, 0, 3).unwrap(), &labels, true), "features"),
        (last_layer_norms(&logits, &features, &labels[..3], true), "labels"),
        (last_layer_norms(&logits, &features, &[0, 1, 2, 3], true), "labels"),
        (last_layer_norms(&logits.flatten_all().unwrap(), &features, &labels, true), "logits"),
    ] {
        let error = bad.unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

/// Half precision: what candle's own backward pass gives in it, which is not much.
#[test]
fn half_precision_models_have_norms() {
    for dtype in [DType::F16, DType::BF16] {
        let map = VarMap::new();
        let builder = VarBuilder::from_varmap(&map, dtype, &Device::Cpu);
        let hidden = nn::linear(6, 5, builder.pp("hidden")).unwrap();
        let norm = nn::layer_norm(5, 1e-3, builder.pp("norm")).unwrap();
        let output = nn::linear(5, 3, builder.pp("output")).unwrap();
        randomize(&map, 8);
        let inputs = Random(9).tensor(&[4, 6], dtype);
        let forward = |x: &Tensor| output.forward(&norm.forward(&hidden.forward(x)?)?.tanh()?);
        let labels = [2_u32, 0, 1, 2];
        let mut norms = GradientNorms::new(&map).unwrap();
        let got = norms.cross_entropy(&inputs, &labels, forward).unwrap();
        assert!(got.report.is_batched(), "{}", got.report);

        let wide = VarMap::new();
        let builder = VarBuilder::from_varmap(&wide, DType::F64, &Device::Cpu);
        let hidden = candle_nn::linear(6, 5, builder.pp("hidden")).unwrap();
        let norm = candle_nn::layer_norm(5, 1e-3, builder.pp("norm")).unwrap();
        let output = candle_nn::linear(5, 3, builder.pp("output")).unwrap();
        for ((_, from), (_, to)) in
            crate::reference::named(&map).iter().zip(crate::reference::named(&wide))
        {
            to.set(&from.to_dtype(DType::F64).unwrap()).unwrap();
        }
        let expected = per_example(&wide, &inputs.to_dtype(DType::F64).unwrap(), |x, row| {
            let x = hidden.forward(x)?;
            let (weight, bias) = (norm.weight(), norm.bias().unwrap());
            let x = candle_nn::ops::layer_norm_slow(&x, weight, bias, 1e-3)?;
            cross_entropies(&output.forward(&x.tanh()?)?, &labels[row..=row])
        });
        let error = relative_error(&got.values, &expected);
        assert!(error < if dtype == DType::F16 { 5e-3 } else { 4e-2 }, "{dtype:?}: {error}");
    }
}
