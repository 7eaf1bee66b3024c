//! A small transformer, text with known noise in it, and what the scores of the sequences tell, in
//! about a minute on two cores:
//!
//! ```text
//! cargo run --features cli --example language
//! ```
//!
//! `training.rs` has the training loop with the hook.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

mod data;
#[path = "../experiment/dataset.rs"]
#[allow(dead_code, reason = "the other examples need more of it")]
mod dataset;
#[path = "../experiment/device.rs"]
mod device;
#[path = "../experiment/exit.rs"]
mod exit;
#[path = "../experiment/figures.rs"]
#[allow(dead_code, reason = "the other examples need more of it")]
mod figures;
mod network;
mod noise;
mod options;
#[path = "../experiment/progress.rs"]
#[allow(dead_code, reason = "the other examples need more of it")]
mod progress;
mod pruning;
mod report;
mod side_by_side;
#[cfg(test)]
mod tests;
mod text;
mod training;
#[path = "../experiment/weights.rs"]
mod weights;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use candle_core::Device;
use clap::Parser;

use data::Corpus;
use network::Sizes;
use options::Options;
use training::Task;

/// Errors come from the threads that train.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The seed of the text and its noise.
const CORPUS_SEED: u64 = 0;

fn main() -> ExitCode {
    let options = Options::parse();
    exit::with(run(&options, &mut io::stdout()))
}

/// Trains and records, scores, looks for the noise, prunes, trains again, and reports the result.
fn run(options: &Options, output: &mut dyn Write) -> Result<()> {
    let corpus = Corpus::new(options.sequences as usize, options.test as usize, CORPUS_SEED);
    let task = task(&corpus, &options.device.open()?)?;
    report::opening(output, &corpus, &task, options)?;
    let scores = pruning::record(&task, options, output)?;
    report::findings(output, &corpus, &scores)?;
    let outcomes = pruning::compare(&task, &corpus, &scores, options)?;
    report::comparison(output, &task, options, &outcomes)?;
    report::extremes(output, &corpus, &scores)?;
    report::next(output, options)
}

fn task(corpus: &Corpus, device: &Device) -> Result<Task> {
    Ok(Task {
        train: corpus.train_set(device)?,
        test: corpus.test_set(device)?,
        sizes: Sizes {
            vocabulary: data::ALPHABET.len(),
            tokens: data::TOKENS,
            width: 32,
            heads: 2,
            blocks: 2,
        },
        batch: 8,
        learning_rate: 8e-3,
    })
}
