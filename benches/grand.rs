//! Measures gradient norms beside a forward pass, a training step, and a backward pass per example
//! of the same batch.
//!
//! ```text
//! cargo bench --features cli --bench grand
//! ```
//!
//! `benches/engines/grand_jax.py` measures JAX on the same networks. Every case runs in a process of
//! its own, several times in turn; medians are printed. Times are noisy on shared machines: trust the
//! ratios.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::loss::cross_entropy;
use candle_nn::ops::log_softmax;
use cpu_time::ProcessTime;
use data_diet_candle::gradients::GradientNorms;
use data_diet_candle::nn::{
    Conv2dConfig, Module, Sequential, VarBuilder, VarMap, conv2d, embedding, linear, max_pool2d,
    relu, seq,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::measure::{in_turn, median};

mod measure;

const ROUNDS: usize = 5;
const CLASSES: usize = 10;
/// `conv-nn` is `conv` with the pools and rectifiers of `data_diet_candle::nn`.
const NETWORKS: [&str; 4] = ["mlp", "conv", "conv-nn", "tokens"];
/// `losses` are norms by a closure for the losses, in place of the built-in cross-entropy.
const WAYS: [&str; 5] = ["forward", "training", "norms", "losses", "one-by-one"];
/// How long a case repeats itself.
const ENOUGH: Duration = Duration::from_millis(1500);

/// Milliseconds per example.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Measured {
    wall: f64,
    cpu: f64,
    peak_mib: f64,
}

fn main() {
    if let Some(case) = measure::case() {
        let (network, way) = case.split_once(':').unwrap();
        let mut measured = run_case(network, way);
        measured.peak_mib = measure::peak_mib();
        return measure::tell(&measured);
    }
    let cases: Vec<String> = NETWORKS
        .iter()
        .flat_map(|network| WAYS.iter().map(move |way| format!("{network}:{way}")))
        .collect();
    let measured = in_turn::<Measured>(ROUNDS, &cases);
    println!("milliseconds per example, medians of {ROUNDS}; ratios to training\n");
    println!(
        "{:<20} {:>9} {:>7} {:>9} {:>7} {:>9}",
        "", "wall", "ratio", "CPU", "ratio", "peak MiB"
    );
    let of = |case: usize, value: fn(&Measured) -> f64| median(measured[case].iter().map(value));
    for (case, name) in cases.iter().enumerate() {
        let training = case / WAYS.len() * WAYS.len() + 1;
        let (wall, cpu) = (of(case, |m| m.wall), of(case, |m| m.cpu));
        println!(
            "{name:<20} {wall:>9.4} {:>7.2} {cpu:>9.4} {:>7.2} {:>9.0}",
            wall / of(training, |m| m.wall),
            cpu / of(training, |m| m.cpu),
            of(case, |m| m.peak_mib),
        );
    }
}

/// A network, its weights, and a batch.
struct Case {
    weights: VarMap,
    model: Sequential,
    inputs: Tensor,
    labels: Vec<u32>,
}

impl Case {
    fn new(network: &str) -> Result<Self> {
        let weights = VarMap::new();
        let builder = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
        let mut random = StdRng::seed_from_u64(1);
        let mut uniform = |shape: &[usize]| {
            let values = (0..shape.iter().product()).map(|_| random.random_range(0.0_f32..1.0));
            Tensor::from_vec(values.collect(), shape, &Device::Cpu)
        };
        let (model, inputs) = match network {
            "mlp" => {
                let model = seq()
                    .add(linear(784, 300, builder.pp("a"))?)
                    .add_fn(Tensor::relu)
                    .add(linear(300, 100, builder.pp("b"))?)
                    .add_fn(Tensor::relu)
                    .add(linear(100, CLASSES, builder.pp("c"))?);
                (model, uniform(&[256, 784])?)
            }
            "conv" => {
                let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
                let model = seq()
                    .add(conv2d(1, 16, 3, config, builder.pp("a"))?)
                    .add_fn(|x| x.relu()?.max_pool2d(2))
                    .add(conv2d(16, 32, 3, config, builder.pp("b"))?)
                    .add_fn(|x| x.relu()?.max_pool2d(2)?.flatten_from(1))
                    .add(linear(32 * 7 * 7, CLASSES, builder.pp("c"))?);
                (model, uniform(&[128, 1, 28, 28])?)
            }
            "conv-nn" => {
                let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
                let model = seq()
                    .add(conv2d(1, 16, 3, config, builder.pp("a"))?)
                    .add_fn(|x| max_pool2d(&relu(x)?, 2))
                    .add(conv2d(16, 32, 3, config, builder.pp("b"))?)
                    .add_fn(|x| max_pool2d(&relu(x)?, 2)?.flatten_from(1))
                    .add(linear(32 * 7 * 7, CLASSES, builder.pp("c"))?);
                (model, uniform(&[128, 1, 28, 28])?)
            }
            _ => {
                let model = seq()
                    .add(embedding(1000, 128, builder.pp("tokens"))?)
                    .add(linear(128, 256, builder.pp("a"))?)
                    .add_fn(Tensor::relu)
                    .add(linear(256, 128, builder.pp("b"))?)
                    .add_fn(|x| x.relu()?.mean(1))
                    .add(linear(128, CLASSES, builder.pp("c"))?);
                (model, (uniform(&[64, 32])? * 1000.0)?.to_dtype(DType::U32)?)
            }
        };
        let labels = (0..inputs.dim(0)? as u32).map(|row| row % CLASSES as u32).collect();
        Ok(Self { weights, model, inputs, labels })
    }

    fn training(&self) -> Result<()> {
        let labels = Tensor::new(self.labels.as_slice(), &Device::Cpu)?;
        let loss = cross_entropy(&self.model.forward(&self.inputs)?, &labels)?;
        black_box(loss.backward()?);
        Ok(())
    }
}

fn run_case(network: &str, way: &str) -> Measured {
    let case = Case::new(network).unwrap();
    let norms = GradientNorms::new(&case.weights).unwrap();
    let mut norms = if way == "one-by-one" { norms.per_example() } else { norms };
    let mut run = || match way {
        "forward" => drop(black_box(case.model.forward(&case.inputs).unwrap())),
        "training" => case.training().unwrap(),
        "losses" => {
            let targets = Tensor::new(case.labels.as_slice(), &Device::Cpu).unwrap();
            let forward = |inputs: &Tensor| case.model.forward(inputs);
            let losses = |logits: &Tensor, labels: &Tensor| {
                let logs = log_softmax(logits, D::Minus1)?;
                logs.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?.neg()
            };
            black_box(norms.custom_loss(&case.inputs, &targets, forward, losses).unwrap());
        }
        _ => {
            let forward = |inputs: &Tensor| case.model.forward(inputs);
            black_box(norms.cross_entropy(&case.inputs, &case.labels, forward).unwrap());
        }
    };
    // Starts threads and faults memory in, once.
    run();
    let (wall, cpu) = (Instant::now(), ProcessTime::now());
    let mut examples = 0;
    while examples == 0 || wall.elapsed() < ENOUGH {
        run();
        examples += case.labels.len();
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3 / examples as f64;
    Measured {
        wall: milliseconds(wall.elapsed()),
        cpu: milliseconds(cpu.elapsed()),
        ..Measured::default()
    }
}
