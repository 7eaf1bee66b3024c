//! Measures what one step of a language model costs on the CPU beside candle's own `cross_entropy` on the
//! same tensor: time, and memory beyond the logits. The logits are contiguous, transposed, narrowed out of
//! wider ones, or in half precision.
//!
//! ```text
//! cargo bench --features cli --bench tokens
//! ```

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candle_nn::loss::cross_entropy;
use data_diet_candle::DataDietHook;
use serde::{Deserialize, Serialize};

use crate::measure::{in_turn, median};

mod measure;

const ROUNDS: usize = 3;
const BATCH: usize = 8;
const TOKENS: usize = 2048;
const VOCABULARY: usize = 32_000;

#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    /// Milliseconds of the call.
    hook_ms: f64,
    /// Milliseconds of `cross_entropy` on the same tensor, contiguous and in its own dtype.
    loss_ms: f64,
    /// What the call added to the peak of the process.
    added_mib: f64,
}

fn main() {
    if let Some(case) = measure::case() {
        return measure::tell(&run_case(&case));
    }
    let cases = ["contiguous", "transposed", "narrowed", "f16"];
    let runs = in_turn::<Measured>(ROUNDS, &cases);
    println!("logits [{BATCH}, {TOKENS}, {VOCABULARY}]; medians of {ROUNDS}\n");
    println!(
        "{:<12} {:>9} {:>17} {:>7} {:>10}",
        "", "hook ms", "cross_entropy ms", "ratio", "added MiB"
    );
    for (case, runs) in cases.iter().zip(&runs) {
        let of = |value: fn(&Measured) -> f64| median(runs.iter().map(value));
        let (hook, loss) = (of(|m| m.hook_ms), of(|m| m.loss_ms));
        println!(
            "{case:<12} {hook:>9.0} {loss:>17.0} {:>7.2} {:>10.1}",
            hook / loss,
            of(|m| m.added_mib)
        );
    }
}

fn run_case(case: &str) -> Measured {
    let directory = tempfile::tempdir().unwrap();
    let mut hook =
        DataDietHook::builder(directory.path(), "seed-0").tokens(VOCABULARY).build().unwrap();
    let logits = logits(case);
    let labels: Vec<u32> = (0..BATCH * TOKENS).map(|at| (at * 7919 % VOCABULARY) as u32).collect();
    // What the thread and the tables take whatever the logits are.
    let warm = Tensor::zeros((1, 4, VOCABULARY), DType::F32, &Device::Cpu).unwrap();
    hook.on_score_batch(&[0], &warm, &labels[..4]).unwrap();
    hook.flush().unwrap();

    let before = reset_peak();
    let ids: Vec<usize> = (0..BATCH).collect();
    let since = Instant::now();
    hook.on_score_batch(&ids, &logits, &labels).unwrap();
    let hook_ms = since.elapsed().as_secs_f64() * 1e3;
    hook.flush().unwrap();
    let added_mib = measure::peak_mib() - before;
    let _ = hook.finish().unwrap();

    let flat = logits.contiguous().unwrap().reshape((BATCH * TOKENS, VOCABULARY)).unwrap();
    drop(logits);
    let labels = Tensor::new(labels, &Device::Cpu).unwrap();
    let since = Instant::now();
    cross_entropy(&flat, &labels).unwrap();
    let loss_ms = since.elapsed().as_secs_f64() * 1e3;
    Measured { hook_ms, loss_ms, added_mib }
}

fn logits(case: &str) -> Tensor {
    let device = Device::Cpu;
    let shape = match case {
        "transposed" => (VOCABULARY, BATCH, TOKENS),
        "narrowed" => (BATCH, TOKENS, VOCABULARY + 100),
        _ => (BATCH, TOKENS, VOCABULARY),
    };
    let elements = shape.0 * shape.1 * shape.2;
    // Cheap and spread out, as logits are.
    let values: Vec<f32> = (0..elements as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 16) as f32 / 8192.0)
        .collect();
    let whole = Tensor::from_vec(values, shape, &device).unwrap();
    match case {
        "transposed" => whole.permute((1, 2, 0)).unwrap(),
        "narrowed" => whole.narrow(2, 50, VOCABULARY).unwrap(),
        "f16" => whole.to_dtype(DType::F16).unwrap(),
        _ => whole,
    }
}

/// Lets the peak of this process begin anew, where Linux allows it, and returns what is resident.
fn reset_peak() -> f64 {
    // Fails elsewhere; then the figure is that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    measure::peak_mib()
}
