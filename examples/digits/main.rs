//! From training to a pruned data set on the 1,797 handwritten digits that scikit-learn ships, in
//! less than a minute on two cores:
//!
//! ```text
//! cargo run --features cli --example digits
//! ```
//!
//! `examples/experiment/training.rs` has the training loop with the hook.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

mod data;
#[path = "../experiment/mod.rs"]
mod experiment;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use candle_core::Device;
use experiment::Result;
use experiment::dataset;
use experiment::device::Place;
use experiment::network::Sizes;
use experiment::options::Options;
use experiment::training::Task;

const HELP: &str = "\
Trains a small network on 8x8 handwritten digits, records what it learns from
which example, prunes the easiest ones and trains again on what is left.
With --grand 0,1,3,10 it compares GraNd with EL2N at these epochs instead.

  cargo run --features cli --example digits -- [OPTIONS]
";

fn main() -> ExitCode {
    experiment::main(defaults(), HELP, |_options, device| task(device))
}

fn defaults() -> Options {
    Options {
        experiment: PathBuf::from("runs/digits"),
        data: None,
        device: Place::Cpu,
        epochs: 20,
        seeds: 3,
        retrain: 10,
        score_epoch: None,
        prune: 0.3,
        grand: Vec::new(),
    }
}

fn task(device: &Device) -> Result<Task> {
    let digits = data::Digits::parse(data::DIGITS)?;
    let (train, test) = digits.split(data::SPLIT_SEED)?;
    Ok(Task {
        name: "digits",
        train: digits.dataset(&train, device)?,
        test: digits.dataset(&test, device)?,
        examples: digits.len() as u64,
        width: data::WIDTH,
        sizes: Sizes { pixels: data::PIXELS, hidden: 128, classes: data::CLASSES },
        batch: 32,
        learning_rate: 1e-3,
        manifest: PathBuf::from("examples/digits/manifest.csv"),
        manifest_lists_test: true,
    })
}
