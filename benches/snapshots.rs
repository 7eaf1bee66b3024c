//! Measures what a snapshot costs the training thread, and the process in memory, beside candle's
//! own `VarMap::save`, which writes a file while training waits.
//!
//! ```text
//! cargo bench --features cli --bench snapshots
//! ```

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::time::{Duration, Instant};

use candle_core::{Device, Tensor, Var};
use candle_nn::VarMap;
use data_diet_candle::{DataDietHook, Schedule};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::measure::{in_turn, median};

mod measure;

const ROUNDS: usize = 5;
const SNAPSHOTS: u64 = 10;
/// About the parameters of a `ResNet`-18: 11 million in 22 tensors.
const TENSORS: usize = 22;
const ELEMENTS: usize = 512 * 1000;
const MEBIBYTES: f64 = (TENSORS * ELEMENTS * 4) as f64 / (1 << 20) as f64;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Measured {
    /// Milliseconds of the training thread for one copy.
    training_ms: f64,
    /// Milliseconds until the copy would survive a crash.
    safe_ms: f64,
    peak_mib: f64,
}

fn main() {
    if let Some(case) = measure::case() {
        let mut measured = run_case(&case);
        measured.peak_mib = measure::peak_mib();
        return measure::tell(&measured);
    }
    let cases = ["weights alone", "snapshot", "VarMap::save"];
    let runs = in_turn::<Measured>(ROUNDS, &cases);
    println!("{MEBIBYTES:.0} MiB of weights in {TENSORS} tensors; medians of {ROUNDS}\n");
    println!(
        "{:<16} {:>12} {:>12} {:>10} {:>10}",
        "", "training ms", "ms per MiB", "safe ms", "peak MiB"
    );
    for (case, runs) in cases.iter().zip(&runs) {
        let of = |value: fn(&Measured) -> f64| median(runs.iter().map(value));
        let training = of(|m| m.training_ms);
        println!(
            "{case:<16} {training:>12.2} {:>12.3} {:>10.1} {:>10.0}",
            training / MEBIBYTES,
            of(|m| m.safe_ms),
            of(|m| m.peak_mib)
        );
    }
}

fn weights() -> VarMap {
    let mut random = StdRng::seed_from_u64(0);
    let weights = VarMap::new();
    for tensor in 0..TENSORS {
        let values: Vec<f32> = (0..ELEMENTS).map(|_| random.random_range(-1.0..1.0)).collect();
        let values = Tensor::from_vec(values, ELEMENTS, &Device::Cpu).unwrap();
        let variable = Var::from_tensor(&values).unwrap();
        weights.data().lock().unwrap().insert(format!("layer-{tensor:02}.weight"), variable);
    }
    weights
}

fn run_case(case: &str) -> Measured {
    let weights = weights();
    let directory = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let (mut training, mut safe) = (Vec::new(), Vec::new());
    let ms = |since: Duration| since.as_secs_f64() * 1e3;
    match case {
        "snapshot" => {
            let mut hook = DataDietHook::builder(directory.path(), "seed-0")
                .classes(2)
                .snapshots(&weights, Schedule::every_steps(1))
                .build()
                .unwrap();
            hook.flush().unwrap();
            for step in 1..=SNAPSHOTS {
                let since = Instant::now();
                hook.set_step(step).unwrap();
                training.push(ms(since.elapsed()));
                hook.flush().unwrap();
                safe.push(ms(since.elapsed()));
            }
            let report = hook.finish().unwrap();
            report.check().unwrap();
            assert_eq!(report.snapshots.written, SNAPSHOTS + 1);
        }
        "VarMap::save" => {
            for step in 1..=SNAPSHOTS {
                let since = Instant::now();
                weights.save(directory.path().join(format!("{step}.safetensors"))).unwrap();
                training.push(ms(since.elapsed()));
                safe.push(ms(since.elapsed()));
            }
        }
        _ => (training, safe) = (vec![0.0], vec![0.0]),
    }
    Measured {
        training_ms: median(training.into_iter()),
        safe_ms: median(safe.into_iter()),
        ..Measured::default()
    }
}
