//! What no backward pass has a hand in: differences of losses, and the bound that makes a gradient
//! norm a score.

use candle_core::{DType, Device, Module, ModuleT, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use data_diet_candle::gradients::GradientNorms;
use data_diet_candle::nn::{self, Conv2dConfig};
use proptest::prelude::*;

use crate::reference::{Random, cross_entropies, named, randomize, relative_error};

fn losses(logits: &Tensor, labels: &[u32]) -> Vec<f64> {
    cross_entropies(logits, labels).unwrap().to_vec1().unwrap()
}

/// `var`'s value at `at` moved by `by` while `then` runs.
fn moved<T>(var: &Var, at: usize, by: f64, then: impl FnOnce() -> T) -> T {
    let before = var.as_tensor().copy().unwrap();
    let mut values = before.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    values[at] += by;
    var.set(&Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap()).unwrap();
    let result = then();
    var.set(&before).unwrap();
    result
}

/// A rectangular image under unequal strides, which candle's own backward pass cannot do, and every
/// kind of layer.
#[test]
fn norms_are_those_of_differences_of_losses() {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F64, &Device::Cpu);
    let config = Conv2dConfig { stride: 2, padding: 1, groups: 2, ..Conv2dConfig::default() };
    let conv = nn::conv2d(2, 4, 3, config, builder.pp("conv")).unwrap();
    let batch_norm = nn::batch_norm(4, 1e-3, builder.pp("batch_norm")).unwrap();
    let group_norm = nn::group_norm(2, 4, 1e-3, builder.pp("group_norm")).unwrap();
    let slopes = nn::prelu(Some(4), builder.pp("slopes")).unwrap();
    let output = nn::linear(4, 3, builder.pp("output")).unwrap();
    randomize(&map, 1);
    let images = Random(2).tensor(&[3, 2, 6, 5], DType::F64);
    let labels = [0, 2, 1];
    let forward = |x: &Tensor| {
        let x = group_norm.forward(&batch_norm.forward_t(&conv.forward(x)?, false)?)?;
        output.forward(&slopes.forward(&x)?.flatten_from(2)?.mean(2)?)
    };
    let mut squares = [0.0; 3];
    let step = 1e-5;
    for (name, var) in named(&map) {
        if name.contains("running") {
            continue;
        }
        for at in 0..var.elem_count() {
            let loss = || losses(&forward(&images).unwrap(), &labels);
            let (up, down) = (moved(&var, at, step, loss), moved(&var, at, -step, loss));
            for (square, (up, down)) in squares.iter_mut().zip(up.iter().zip(&down)) {
                *square += ((up - down) / (2.0 * step)).powi(2);
            }
        }
    }
    let expected: Vec<f64> = squares.iter().map(|square: &f64| square.sqrt()).collect();
    // Looking at an example alone would take candle's own backward pass.
    let mut norms = GradientNorms::new(&map).unwrap().check(0);
    let got = norms.cross_entropy(&images, &labels, forward).unwrap();
    assert!(got.report.is_batched(), "{}", got.report);
    let error = relative_error(&got.values, &expected);
    assert!(error < 1e-6, "{error}");
}

struct Perceptron {
    map: VarMap,
    hidden: nn::Linear,
    output: nn::Linear,
}

impl Perceptron {
    fn new(seed: u64) -> Self {
        let map = VarMap::new();
        let builder = VarBuilder::from_varmap(&map, DType::F64, &Device::Cpu);
        let hidden = nn::linear(4, 5, builder.pp("hidden")).unwrap();
        let output = nn::linear(5, 3, builder.pp("output")).unwrap();
        randomize(&map, seed);
        Self { map, hidden, output }
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.output.forward(&self.hidden.forward(x)?.tanh()?)
    }

    /// d loss / dt of every example at the instant of a gradient step from the examples of `set`:
    /// the weights move at the velocity `-rate * (sum of the set's gradients)`.
    fn loss_velocities(
        &self,
        inputs: &Tensor,
        labels: &[u32],
        set: &[usize],
        rate: f64,
    ) -> Vec<f64> {
        let rows: Vec<u32> = set.iter().map(|&row| row as u32).collect();
        let of_set = inputs.index_select(&Tensor::new(rows, &Device::Cpu).unwrap(), 0).unwrap();
        let set_labels: Vec<u32> = set.iter().map(|&row| labels[row]).collect();
        let loss = cross_entropies(&self.forward(&of_set).unwrap(), &set_labels).unwrap();
        let gradients = loss.sum_all().unwrap().backward().unwrap();
        let vars: Vec<Var> = named(&self.map).into_iter().map(|(_, var)| var).collect();
        let before: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().copy().unwrap()).collect();
        let instant = 1e-4;
        let losses_at = |time: f64| {
            for (var, before) in vars.iter().zip(&before) {
                let velocity = (gradients.get(var).unwrap() * -rate).unwrap();
                var.set(&(before + (velocity * time).unwrap()).unwrap()).unwrap();
            }
            let losses = losses(&self.forward(inputs).unwrap(), labels);
            vars.iter().zip(&before).for_each(|(var, before)| var.set(before).unwrap());
            losses
        };
        let (later, earlier) = (losses_at(instant), losses_at(-instant));
        later
            .iter()
            .zip(&earlier)
            .map(|(later, earlier)| (later - earlier) / (2.0 * instant))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Lemma 2.2 of *Deep Learning on a Data Diet*, with the constant that its proof gives: without
    /// example j in a step of learning rate `r`, the time derivative of the loss of any example i
    /// differs by at most `r * |g_i| * |g_j|`; for i = j by exactly that.
    #[test]
    fn what_an_example_can_do_to_others_is_bounded_by_its_norm(
        seed in any::<u64>(), left_out in 0_usize..6, rate in 0.01_f64..1.0,
    ) {
        let network = Perceptron::new(seed);
        let inputs = Random(seed ^ 1).tensor(&[6, 4], DType::F64);
        let labels = Random(seed ^ 2).indices(6, 3);
        let mut norms = GradientNorms::new(&network.map).unwrap();
        let norms = norms.cross_entropy(&inputs, &labels, |x| network.forward(x)).unwrap().values;

        let everyone: Vec<usize> = (0..6).collect();
        let others: Vec<usize> = (0..6).filter(|&row| row != left_out).collect();
        let with = network.loss_velocities(&inputs, &labels, &everyone, rate);
        let without = network.loss_velocities(&inputs, &labels, &others, rate);
        for row in 0..6 {
            let bound = rate * f64::from(norms[row]) * f64::from(norms[left_out]);
            let difference = (with[row] - without[row]).abs();
            let rounding = 1e-6 * bound + 1e-9;
            prop_assert!(difference <= bound + rounding, "{row}: {difference} above {bound}");
            if row == left_out {
                prop_assert!((difference - bound).abs() <= rounding, "{difference} for {bound}");
            }
        }
    }
}
