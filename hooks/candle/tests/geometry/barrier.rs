//! Curves along the line between two models whose barrier is known.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Optimizer, SGD, loss::cross_entropy};
use data_diet::geometry::barrier::RiskCurve;
use data_diet_candle::Result;
use data_diet_candle::geometry::barrier::{AlphaGrid, Line, Risk, curve};
use data_diet_candle::weights::{NamedTensors, Params};

use crate::models::{Convolutional, Perceptron, scatter, tensor};

fn risk(logits: &Tensor, labels: &[u32]) -> Result<Risk> {
    let mut risk = Risk::default();
    risk.add(logits, labels)?;
    Ok(risk)
}

fn bits(curve: &RiskCurve) -> Vec<(u64, u64)> {
    curve.points().iter().map(|point| (point.error.to_bits(), point.loss.to_bits())).collect()
}

#[test]
fn risk_counts_by_the_definitions() {
    let logits = [
        [2.0_f32, 1.0, 0.0],
        // The lowest index wins the tie.
        [1.0, 1.0, 0.0],
        [0.0, 0.0, 3.0],
    ];
    let logits = Tensor::new(&logits, &Device::Cpu).unwrap();
    let mut whole = Risk::default();
    whole.add(&logits, &[0_u32, 1, 2]).unwrap();
    assert_eq!((whole.examples(), whole.error(), whole.non_finite()), (3, 1.0 / 3.0, 0));
    let sums = [2_f64.exp() + 1_f64.exp() + 1.0, 2.0 * 1_f64.exp() + 1.0, 2.0 + 3_f64.exp()];
    let expected = (sums[0].ln() - 2.0 + sums[1].ln() - 1.0 + sums[2].ln() - 3.0) / 3.0;
    assert!((whole.loss() - expected).abs() < 1e-7);
    let mut parts = Risk::default();
    for row in 0..3 {
        parts.add(&logits.narrow(0, row, 1).unwrap(), &[row as u32]).unwrap();
    }
    assert_eq!(parts, whole);
    let soft = Tensor::new(&[[1.0_f32, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], &Device::Cpu);
    let mut of_soft = Risk::default();
    of_soft.add(&logits, &soft.unwrap()).unwrap();
    assert_eq!((of_soft.error(), of_soft.examples()), (whole.error(), 3));
    assert!((of_soft.loss() - whole.loss()).abs() < 1e-6);
    let broken = Tensor::new(&[[f32::NAN, 1.0], [0.0, 1.0]], &Device::Cpu).unwrap();
    let broken = risk(&broken, &[0, 1]).unwrap();
    assert_eq!((broken.error(), broken.non_finite(), broken.loss().is_nan()), (0.5, 1, true));
}

#[test]
fn between_a_model_and_itself_there_is_none_to_the_bit() {
    let model = Convolutional::new(1);
    let params = model.params();
    let images = tensor(2, &[8, 2, 6, 6], DType::F32);
    let labels = [0, 1, 0, 1, 1, 0, 1, 0];
    let weights = params.copy().unwrap();
    let measure = || risk(&model.forward(&images)?, &labels);
    let plain = curve(&params, &weights, &weights, measure).unwrap();
    let passes = || model.forward_t(&images, true).map(drop);
    let mut line =
        Line::new(&params).grid(AlphaGrid::uniform(7).unwrap()).reestimate_batch_norm(passes);
    let anew = line.curve(&weights, &weights, measure).unwrap();
    for curve in [&plain, &anew] {
        for of in [curve.errors(), curve.losses()] {
            assert_eq!(of.by_chord().height.to_bits(), 0);
            assert_eq!(of.by_mean().height.to_bits(), 0);
        }
    }
    assert_eq!((plain.points().len(), anew.points().len()), (11, 8));
    assert_ne!(plain.points()[0].loss, anew.points()[0].loss, "other running statistics");
}

#[test]
fn in_a_convex_problem_there_is_none() {
    // Logistic regression, trained towards two sets of labels.
    let model = Perceptron::new(&[4, 3], DType::F64, 1);
    let params = model.params();
    let inputs = tensor(2, &[30, 4], DType::F64);
    let labels: Vec<u32> = (0..30).map(|row| row * 7 % 3).collect();
    let ends = [0, 1].map(|seed| {
        scatter(&model.variables, 10 + seed);
        let mut optimizer = SGD::new(model.variables.all_vars(), 0.5).unwrap();
        let order: Vec<u32> = labels.iter().map(|label| (label + seed as u32) % 3).collect();
        let order = Tensor::new(order.as_slice(), &Device::Cpu).unwrap();
        for _ in 0..20 {
            let loss = cross_entropy(&model.forward(&inputs).unwrap(), &order).unwrap();
            optimizer.backward_step(&loss).unwrap();
        }
        params.copy().unwrap()
    });
    let curve = curve(&params, &ends[0], &ends[1], || risk(&model.forward(&inputs)?, &labels));
    let curve = curve.unwrap();
    let points = curve.points();
    assert!((points[0].loss - points[10].loss).abs() > 0.1, "the ends differ");
    assert!(curve.losses().by_chord().height < 1e-6);
    for three in points.windows(3) {
        assert!(three[1].loss <= f64::midpoint(three[0].loss, three[2].loss) + 1e-6);
    }
}

/// Logits 0 and `a b x - t` for inputs `(x, t)`: the weights `(a, b)` and `(-a, -b)` are the same function.
struct Product {
    a: Var,
    b: Var,
}

impl Product {
    fn new() -> Self {
        let one = || Var::new(&[1.0_f64], &Device::Cpu).unwrap();
        Self { a: one(), b: one() }
    }

    fn params(&self) -> Params {
        // The order in which variables come makes no difference.
        Params::new([("b".to_owned(), self.b.clone()), ("a".to_owned(), self.a.clone())]).unwrap()
    }

    fn weights(a: f64, b: f64) -> NamedTensors {
        let tensor = |value| Tensor::new(&[value], &Device::Cpu).unwrap();
        NamedTensors::from([("a".to_owned(), tensor(a)), ("b".to_owned(), tensor(b))])
    }

    fn forward(&self, inputs: &Tensor) -> candle_core::Result<Tensor> {
        let x = inputs.narrow(1, 0, 1)?;
        let product = x.broadcast_mul(&self.a)?.broadcast_mul(&self.b)?;
        let logit = (product - inputs.narrow(1, 1, 1)?)?;
        Tensor::cat(&[&logit.zeros_like()?, &logit], 1)
    }
}

#[test]
fn of_a_sign_flip_it_is_one_in_the_middle() {
    let model = Product::new();
    let params = model.params();
    let inputs = Tensor::new(&[[1.0, 0.0], [2.0, 0.0]], &Device::Cpu).unwrap();
    let (one, other) = (Product::weights(1.0, 1.0), Product::weights(-1.0, -1.0));
    let curve = curve(&params, &one, &other, || risk(&model.forward(&inputs)?, &[1, 1])).unwrap();
    let barrier = curve.errors().by_chord();
    assert_eq!((barrier.height, barrier.alpha), (1.0, 0.5));
    assert_eq!(curve.errors().by_mean(), barrier);
    for point in curve.points() {
        let ab = (2.0 * point.alpha - 1.0).powi(2);
        let loss = f64::midpoint((-ab).exp().ln_1p(), (-2.0 * ab).exp().ln_1p());
        assert!((point.loss - loss).abs() < 1e-7, "{point:?}");
    }
    let ends = f64::midpoint((-1.0_f64).exp().ln_1p(), (-2.0_f64).exp().ln_1p());
    assert!((curve.losses().by_chord().height - (2_f64.ln() - ends)).abs() < 1e-7);
}

#[test]
fn the_first_end_lies_at_one() {
    let model = Product::new();
    let params = model.params();
    let inputs = Tensor::new(&[[1.0, 0.0]], &Device::Cpu).unwrap();
    let (good, bad) = (Product::weights(1.0, 1.0), Product::weights(1.0, -1.0));
    let curve = curve(&params, &good, &bad, || risk(&model.forward(&inputs)?, &[1])).unwrap();
    let ends = (curve.points()[0], curve.points()[10]);
    assert_eq!((ends.0.alpha, ends.0.error), (0.0, 1.0));
    assert_eq!((ends.1.alpha, ends.1.error), (1.0, 0.0));
}

#[test]
fn looking_closer_finds_what_the_grid_misses() {
    // Between (1, 1) and (-2, -2) the product is (3 alpha - 2)^2, zero at 2/3: the smaller an example's
    // threshold, the narrower the stretch where it is wrong.
    let model = Product::new();
    let params = model.params();
    let thresholds = [[1.0, 0.5], [1.0, 0.1], [1.0, 0.01], [1.0, 0.001]];
    let inputs = Tensor::new(&thresholds, &Device::Cpu).unwrap();
    let (one, other) = (Product::weights(1.0, 1.0), Product::weights(-2.0, -2.0));
    let measure = || risk(&model.forward(&inputs)?, &[1; 4]);
    let mut heights = Vec::new();
    for times in 0..6 {
        let mut line = Line::new(&params).grid(AlphaGrid::default().refined(times));
        let curve = line.curve(&one, &other, measure).unwrap();
        assert!(curve.points().len() <= 11 + 2 * times as usize);
        for point in curve.points() {
            let product = (3.0 * point.alpha - 2.0).powi(2);
            let wrong = thresholds.iter().filter(|pair| product <= pair[1]).count();
            assert_eq!(point.error, wrong as f64 / 4.0, "{point:?}");
        }
        heights.push(curve.errors().by_chord().height);
    }
    assert!(heights.is_sorted() && heights[0] < 1.0 && heights[5] == 1.0, "{heights:?}");
}

#[test]
fn the_order_of_parameters_makes_no_difference() {
    let model = Perceptron::new(&[3, 5, 4, 2], DType::F32, 1);
    let inputs = tensor(2, &[20, 3], DType::F32);
    let labels: Vec<u32> = (0..20).map(|row| row % 2).collect();
    let params = model.params();
    let one = params.copy().unwrap();
    scatter(&model.variables, 2);
    let other = params.copy().unwrap();
    let mut curves = Vec::new();
    for turn in 0..6 {
        let mut named: Vec<(String, Var)> =
            params.names().map(str::to_owned).zip(params.variables().cloned()).collect();
        named.rotate_left(turn);
        let turned = Params::new(named).unwrap();
        let curve = curve(&turned, &one, &other, || risk(&model.forward(&inputs)?, &labels));
        curves.push(bits(&curve.unwrap()));
    }
    assert!(curves.windows(2).all(|pair| pair[0] == pair[1]));
    let back = curve(&params, &other, &one, || risk(&model.forward(&inputs)?, &labels)).unwrap();
    let there = &curves[0];
    assert_eq!(bits(&back)[0], there[10], "turned round, the ends change places");
    assert_eq!(bits(&back)[10], there[0]);
}

#[test]
fn running_statistics_are_interpolated_or_estimated_anew() {
    let model = Convolutional::new(1);
    let params = model.params();
    let one = params.copy().unwrap();
    scatter(&model.variables, 2);
    let other = params.copy().unwrap();
    let images = tensor(2, &[8, 2, 6, 6], DType::F32);
    let labels = [0, 1, 0, 1, 1, 0, 1, 0];
    let read = |weights: &NamedTensors, name: &str| weights[name].to_vec1::<f32>().unwrap();
    let seen = |line: &mut Line<'_>| {
        let mut seen = Vec::new();
        let curve = line.curve(&one, &other, || {
            seen.push(params.copy().unwrap());
            risk(&model.forward(&images)?, &labels)
        });
        curve.unwrap();
        seen
    };
    let halves = AlphaGrid::uniform(2).unwrap();
    let plain = seen(&mut Line::new(&params).grid(halves.clone()));
    for name in ["norm.running_mean", "norm.running_var", "norm.weight"] {
        let ends = read(&one, name).into_iter().zip(read(&other, name));
        let middle: Vec<f32> = ends.map(|(a, b)| a * 0.5 + b * 0.5).collect();
        assert_eq!(read(&plain[1], name), middle);
        assert_eq!(read(&plain[0], name), read(&other, name));
    }
    let mut calls = 0;
    let mut line = Line::new(&params).grid(halves).reestimate_batch_norm(|| {
        calls += 1;
        model.forward_t(&images, true).map(drop)
    });
    let anew = seen(&mut line);
    drop(line);
    assert_eq!(calls, 3);
    for (plain, anew) in plain.iter().zip(&anew) {
        assert_ne!(read(plain, "norm.running_mean"), read(anew, "norm.running_mean"));
        assert_eq!(read(plain, "norm.weight"), read(anew, "norm.weight"));
    }
    assert_eq!(
        read(&params.copy().unwrap(), "norm.running_mean"),
        read(&other, "norm.running_mean")
    );
}
