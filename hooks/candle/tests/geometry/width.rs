//! What theory says about how the kernel moves: not at all in a linear model, and the less the wider a
//! network is (Jacot et al. 2018).

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Optimizer, SGD};
use data_diet_candle::ntk::gram;
use data_diet_candle::weights::Params;

use crate::models::{Perceptron, numbers, tensor};

#[test]
fn the_kernel_of_a_linear_model_never_moves() {
    let model = Perceptron::new(&[5, 3], DType::F32, 1);
    let params = model.params();
    let inputs = tensor(2, &[6, 5], DType::F32);
    let targets = tensor(3, &[6, 3], DType::F32);
    let before = gram(&params, &inputs, |x| model.forward(x)).unwrap();
    let mut optimizer = SGD::new(model.variables.all_vars(), 0.1).unwrap();
    for _ in 0..20 {
        let loss = (model.forward(&inputs).unwrap() - &targets).unwrap().sqr().unwrap();
        optimizer.backward_step(&loss.mean_all().unwrap()).unwrap();
        let now = gram(&params, &inputs, |x| model.forward(x)).unwrap();
        assert_eq!(before.distance(&now).unwrap().to_bits(), 0);
    }
}

/// The kernel distance after training a network of two layers on the same data for the same time, with
/// weights of unit size and outputs scaled by the width, as the theory has it.
fn distance_after_training(width: usize, seed: u64) -> f64 {
    let device = &Device::Cpu;
    // Sums of uniform numbers are nearly normal; four of a variance of 1/3 each.
    let normal = |seed, count: usize| -> Vec<f64> {
        let quarter = numbers(seed, 4 * count);
        quarter.chunks_exact(4).map(|four| four.iter().sum::<f64>() * 0.75_f64.sqrt()).collect()
    };
    let below = Var::from_vec(normal(seed, 3 * width), (3, width), device).unwrap();
    let above = Var::from_vec(normal(seed + 50, width), (width, 1), device).unwrap();
    let params = Params::new([("below".into(), below.clone()), ("above".into(), above.clone())]);
    let params = params.unwrap();
    let forward = |x: &Tensor| {
        let hidden = (x.matmul(&below)? / 3_f64.sqrt())?.tanh()?;
        hidden.matmul(&above)? / (width as f64).sqrt()
    };
    let inputs = tensor(99, &[5, 3], DType::F64);
    let targets = tensor(98, &[5, 1], DType::F64);
    let before = gram(&params, &inputs, forward).unwrap();
    let mut optimizer = SGD::new(vec![below.clone(), above.clone()], 0.2).unwrap();
    for _ in 0..30 {
        let loss = (forward(&inputs).unwrap() - &targets).unwrap().sqr().unwrap();
        optimizer.backward_step(&loss.sum_all().unwrap()).unwrap();
    }
    before.distance(&gram(&params, &inputs, forward).unwrap()).unwrap()
}

#[test]
fn the_kernel_of_a_wider_network_moves_less() {
    let mean = |width| (0..4).map(|seed| distance_after_training(width, seed)).sum::<f64>() / 4.0;
    let [narrow, middle, wide] = [8, 64, 512].map(mean);
    // The weights move by 1 / sqrt(width) each, and the distance grows with the square of that.
    assert!(narrow > 3.0 * middle && middle > 3.0 * wide, "{narrow}, {middle}, {wide}");
    assert!(wide > 0.0);
}
