//! Measures the tangent kernel at the paper's size, 100 examples of 10 classes: from backward
//! passes of many examples at once, and from a backward pass for each logit.
//!
//! ```text
//! cargo bench --features cli --bench kernel
//! ```
//!
//! `benches/engines/kernel_jax.py` measures JAX on the same networks and weights, in turn with this
//! program, and compares the kernels. Every case runs in a process of its own, several times in turn;
//! medians are printed. Times are noisy on shared machines: trust the ratios.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::fs;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result, Tensor};
use cpu_time::ProcessTime;
use data_diet_candle::nn::{
    Conv2dConfig, Module, Sequential, VarBuilder, VarMap, conv2d, linear, seq,
};
use data_diet_candle::ntk::{Gram, GramOptions};
use data_diet_candle::weights::Params;
use serde::{Deserialize, Serialize};

use crate::measure::{in_turn, median};

mod measure;

const ROUNDS: usize = 5;
const EXAMPLES: usize = 100;
const CLASSES: usize = 10;
const CASES: [&str; 4] = ["mlp:batches", "mlp:one-by-one", "conv:batches", "conv:one-by-one"];
/// How long a case repeats itself.
const ENOUGH: Duration = Duration::from_secs(1);

/// Milliseconds per kernel.
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
    let measured = in_turn::<Measured>(ROUNDS, &CASES);
    println!(
        "milliseconds per kernel of {EXAMPLES} examples and {CLASSES} classes, medians of {ROUNDS}\n"
    );
    println!("{:<20} {:>9} {:>9} {:>9}", "", "wall", "CPU", "peak MiB");
    for (name, measured) in CASES.iter().zip(&measured) {
        let of = |value: fn(&Measured) -> f64| median(measured.iter().map(value));
        let (wall, cpu, peak) = (of(|m| m.wall), of(|m| m.cpu), of(|m| m.peak_mib));
        println!("{name:<20} {wall:>9.2} {cpu:>9.2} {peak:>9.0}");
    }
}

/// Numbers in -1 to 1 that other programs can reproduce: a hash (the finalizer of `SplitMix64`) of
/// their index.
fn numbers(seed: u64, count: usize) -> Vec<f64> {
    let number = |place: u64| {
        let mut bits = (seed << 32 | place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    (0..count as u64).map(number).collect()
}

/// A network with weights of He's size, and examples.
struct Case {
    params: Params,
    model: Sequential,
    inputs: Tensor,
}

impl Case {
    fn new(network: &str) -> Result<Self> {
        let weights = VarMap::new();
        let builder = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
        let (model, shape): (Sequential, &[usize]) = if network == "mlp" {
            let model = seq()
                .add(linear(784, 300, builder.pp("a"))?)
                .add_fn(Tensor::relu)
                .add(linear(300, 100, builder.pp("b"))?)
                .add_fn(Tensor::relu)
                .add(linear(100, CLASSES, builder.pp("c"))?);
            (model, &[EXAMPLES, 784])
        } else {
            let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
            let model = seq()
                .add(conv2d(1, 16, 3, config, builder.pp("a"))?)
                .add_fn(|x| x.relu()?.avg_pool2d(2))
                .add(conv2d(16, 32, 3, config, builder.pp("b"))?)
                .add_fn(|x| x.relu()?.avg_pool2d(2)?.flatten_from(1))
                .add(linear(32 * 7 * 7, CLASSES, builder.pp("c"))?);
            (model, &[EXAMPLES, 1, 28, 28])
        };
        let params = Params::from_varmap(&weights).unwrap();
        let tensor = |seed: usize, shape: &[usize], scale: f64| {
            let values = numbers(seed as u64, shape.iter().product());
            let values: Vec<f32> = values.iter().map(|value| (value * scale) as f32).collect();
            Tensor::from_vec(values, shape, &Device::Cpu)
        };
        for (place, variable) in params.variables().enumerate() {
            let inputs: usize = variable.dims()[1..].iter().product();
            let scale = if variable.rank() == 1 { 0.1 } else { (6.0 / inputs as f64).sqrt() };
            variable.set(&tensor(place + 1, variable.dims(), scale)?)?;
        }
        Ok(Self { params, model, inputs: tensor(0, shape, 1.0)? })
    }

    fn gram(&self, options: GramOptions) -> Gram {
        options.gram(&self.params, &self.inputs, |inputs| self.model.forward(inputs)).unwrap()
    }
}

fn run_case(network: &str, way: &str) -> Measured {
    let case = Case::new(network).unwrap();
    let options = match way {
        "one-by-one" => GramOptions::default().per_example(),
        _ => GramOptions::default(),
    };
    // Starts threads and faults memory in, once.
    let gram = case.gram(options);
    let mut arguments = std::env::args().skip_while(|argument| argument != "--save");
    if let Some(path) = arguments.nth(1) {
        let bytes: Vec<u8> = gram.values().iter().flat_map(|value| value.to_le_bytes()).collect();
        fs::write(path, bytes).unwrap();
    }
    let (wall, cpu) = (Instant::now(), ProcessTime::now());
    let mut kernels = 0;
    while kernels == 0 || wall.elapsed() < ENOUGH {
        case.gram(options);
        kernels += 1;
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3 / f64::from(kernels);
    Measured {
        wall: milliseconds(wall.elapsed()),
        cpu: milliseconds(cpu.elapsed()),
        ..Measured::default()
    }
}
