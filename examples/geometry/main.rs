//! The second half of the Data Diet paper on the 1,797 handwritten digits that scikit-learn ships: how fast
//! the tangent kernel turns on easy and on hard examples, with clean and with noisy labels, and when in
//! training two copies of a network can no longer be told apart by their errors.
//!
//! ```text
//! cargo run --release --features cli --example geometry
//! ```
//!
//! ```text
//! parent (snapshots, EL2N) -> windows of EL2N -> kernel velocity
//!        \-> two children per spawn step -> sets by EL2N -> error barrier
//! ```

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

mod digits;
mod network;
mod report;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use candle_core::Tensor;
use candle_nn::loss::cross_entropy;
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use data_diet::{
    ErrorBarrierTable, ExampleSet, Experiment, KernelVelocityTable, LabelNoise, Schedule,
    ScoreColumn, ScoreOptions, ScoreTable,
};
use data_diet_candle::barrier::{Branch, ErrorBarrier, Line};
use data_diet_candle::{DataDietHook, KernelVelocity, Params, Snapshots};
use rand::SeedableRng;
use rand::rngs::StdRng;

use digits::Digits;
use network::Network;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const BATCH: usize = 32;
const PARENT: &str = "parent";
/// The paper takes windows of 100 examples.
const WINDOW: usize = 100;
/// Examples in each set of the error barrier, of 1,797; the paper takes 1,000 of 50,000.
const SET: usize = 300;

/// How much to compute.
#[derive(Clone, Debug)]
struct Plan {
    experiment: PathBuf,
    epochs: u32,
    /// Epochs after which the parent is copied.
    spawn_epochs: Vec<u32>,
    /// The epoch whose EL2N orders the examples.
    score_epoch: u32,
    /// The share of wrong labels in the second round.
    noise: f64,
    examples: usize,
}

impl Plan {
    fn new(experiment: impl Into<PathBuf>) -> Self {
        Self {
            experiment: experiment.into(),
            epochs: 12,
            spawn_epochs: vec![0, 1, 2, 4, 8],
            score_epoch: 2,
            noise: 0.1,
            examples: usize::MAX,
        }
    }
}

fn main() -> ExitCode {
    match run(&Plan::new("runs/geometry")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: &Plan) -> Result<()> {
    let clean = Digits::load(plan.examples)?;
    let noise = LabelNoise::symmetric(plan.noise, 0).apply(&clean.labels, digits::CLASSES)?;
    let noisy = clean.with_labels(noise.labels());
    for (name, data) in [("clean", &clean), ("noisy", &noisy)] {
        let experiment = plan.experiment.join(name);
        report::opening(name, data, plan);
        study(&experiment, data, plan)?;
        report::velocities(&KernelVelocityTable::open(&experiment, PARENT)?, plan)?;
        report::barriers(&ErrorBarrierTable::open(&experiment)?, data.steps_per_epoch(BATCH));
    }
    println!("\ntables: {}/*/kernel_velocity and error_barrier", plan.experiment.display());
    Ok(())
}

fn study(experiment: &Path, data: &Digits, plan: &Plan) -> Result<()> {
    // Measured again only where training was: the tables keep what they have.
    if experiment.exists() {
        std::fs::remove_dir_all(experiment)?;
    }
    let parent = Run { name: PARENT.to_owned(), order: 0, spawned_at: None };
    train(experiment, data, plan, &parent)?;
    let el2n = el2n(experiment, plan.score_epoch)?;

    let network = Network::new(&mut StdRng::seed_from_u64(0))?;
    let params = Params::from_varmap(network.weights())?;
    let steps = data.steps_per_epoch(BATCH);
    let snapshots = Snapshots::open(experiment, PARENT)?;
    let mut velocity = KernelVelocity::new(&params).per_epoch(steps);
    for window in ExampleSet::windows(&el2n, WINDOW)? {
        velocity = velocity.set(window.name.clone(), data.images_of(&window)?);
    }
    let mut table = KernelVelocityTable::open(experiment, PARENT)?;
    velocity.run(snapshots.iter(), |images| network.forward(images), &mut table, |_, _| {})?;

    let mut barriers = ErrorBarrier::new(Line::new(&params));
    for set in ExampleSet::extremes(&el2n, SET.min(data.labels.len() / 3), 0)? {
        barriers =
            barriers.set(set.name.clone(), data.images_of(&set)?, &data.labels_of(&set)?, 512)?;
    }
    let mut table = ErrorBarrierTable::open(experiment)?;
    for &epoch in &plan.spawn_epochs {
        let spawn_step = u64::from(epoch) * steps;
        let mut branches = Vec::new();
        for order in 1..=2 {
            let name = format!("epoch-{epoch}-order-{order}");
            let child = Run { name, order, spawned_at: Some(spawn_step) };
            train(experiment, data, plan, &child)?;
            let snapshots = Snapshots::open(experiment, &child.name)?;
            let last = snapshots.steps().last().copied().ok_or("a child without snapshots")?;
            branches.push(Branch::new(child.name, [snapshots.at(last)]));
        }
        let forward = |images: &Tensor| network.forward(images);
        barriers.run(Some(spawn_step), branches, forward, &mut table, |_row| {})?;
    }
    Ok(())
}

/// A run to train.
struct Run {
    name: String,
    /// The seed of the order of its batches.
    order: u64,
    /// The parent's step whose weights it begins with.
    spawned_at: Option<u64>,
}

/// Trains up to the last epoch. The parent records its weights after every epoch, a child in the end.
fn train(experiment: &Path, data: &Digits, plan: &Plan, run: &Run) -> Result<()> {
    let mut random = StdRng::seed_from_u64(0);
    let network = Network::new(&mut random)?;
    let builder = DataDietHook::builder(experiment, run.name.as_str()).classes(digits::CLASSES);
    let mut hook = match run.spawned_at {
        None => builder.snapshots(network.weights(), Schedule::every_epochs(1)),
        Some(step) => builder
            .snapshots(network.weights(), Schedule::first().at_end())
            .spawned_from(network.weights(), PARENT, step),
    }
    .build()?;
    let options = ParamsAdamW { lr: 1e-3, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(network.weights().all_vars(), options)?;
    let mut random = StdRng::seed_from_u64(1000 + run.order);
    while hook.epoch() < plan.epochs {
        for rows in data.shuffled(BATCH, &mut random) {
            let (images, labels) = data.batch(&rows)?;
            let logits = network.forward(&images)?;
            optimizer.backward_step(&cross_entropy(&logits, &labels)?)?;
            hook.on_step_end(&rows, &logits, &labels)?;
        }
        hook.on_epoch_end()?;
        if run.spawned_at.is_none() {
            let rows: Vec<u32> = (0..data.labels.len() as u32).collect();
            let (images, labels) = data.batch(&rows)?;
            hook.on_score_batch(&rows, &network.forward(&images)?, &labels)?;
        }
    }
    Ok(hook.finish()?.check()?)
}

/// EL2N of the parent, which is one run: the paper takes the mean over ten.
fn el2n(experiment: &Path, epoch: u32) -> Result<ScoreColumn> {
    let mut options = ScoreOptions::default();
    options.runs = vec![PARENT.to_owned()];
    let name = format!("el2n_score_epoch_{epoch}");
    options.scores = vec![name.parse()?];
    let scores = ScoreTable::fold(&Experiment::open(experiment)?, &options)?;
    Ok(scores.column(&name)?)
}
