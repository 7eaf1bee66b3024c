//! Trains parents and children, and measures what the paper measures.

use std::path::Path;

use candle_core::Tensor;
use candle_nn::loss::cross_entropy;
use candle_nn::{AdamW, Module, Optimizer, ParamsAdamW};
use data_diet::geometry::{ErrorBarrierTable, KernelVelocityTable};
use data_diet::observe::Schedule;
use data_diet::selection::{ExampleSet, ScoreColumn};
use data_diet::{Experiment, ScoreOptions, ScoreTable};
use data_diet_candle::DataDietHook;
use data_diet_candle::geometry::KernelVelocity;
use data_diet_candle::geometry::barrier::{ErrorBarrier, Line, Siblings};
use data_diet_candle::weights::{Params, Snapshots};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Result;
use super::data::Data;
use super::network::Network;
use super::options::Options;
use super::progress::Meter;

/// The parent whose weights are copied.
pub(crate) const PARENT: &str = "parent-0";
/// The paper takes windows of 100 examples.
pub(crate) const WINDOW: usize = 100;
/// Examples that go through a network at a time where nothing is learned from them.
const SCORE_BATCH: usize = 1024;

/// A group of examples that was measured.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    /// The share of labels that are wrong on purpose.
    pub(crate) wrong: f64,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Study {
    pub(crate) name: &'static str,
    /// Examples in all.
    pub(crate) examples: usize,
    /// Windows, from the easiest to the hardest.
    pub(crate) windows: Vec<Group>,
    /// `lowest`, `random` and `highest`.
    pub(crate) sets: Vec<Group>,
    /// Of each parent.
    pub(crate) velocities: Vec<KernelVelocityTable>,
    pub(crate) barriers: ErrorBarrierTable,
    pub(crate) steps_per_epoch: u64,
}

/// A run to train.
struct Run {
    name: String,
    /// Of the initial weights.
    seed: u64,
    /// Of the order of its batches.
    order: u64,
    /// The parent's step whose weights it begins with instead.
    spawned_at: Option<u64>,
}

pub(crate) fn study(data: &Data, options: &Options) -> Result<Study> {
    let experiment = options.experiment.join(data.name);
    // Measured again only where training was: the tables keep what they have.
    if experiment.exists() {
        std::fs::remove_dir_all(&experiment)?;
    }
    let steps_per_epoch = data.len().div_ceil(options.batch) as u64;
    let total = options.parents * u64::from(options.epochs) * steps_per_epoch;
    let mut meter = Meter::new(total as usize);
    for seed in 0..options.parents {
        meter.label(format!("{} parent {}/{}", data.name, seed + 1, options.parents));
        let parent = Run { name: parent(seed), seed, order: seed, spawned_at: None };
        train(&experiment, data, options, &parent, &meter)?;
    }
    meter.finish();
    let el2n = el2n(&experiment, options)?;
    let (windows, velocities) = velocities(&experiment, data, options, &el2n, steps_per_epoch)?;
    let (sets, barriers) = barriers(&experiment, data, options, &el2n, steps_per_epoch)?;
    let examples = data.len();
    let name = data.name;
    Ok(Study { name, examples, windows, sets, velocities, barriers, steps_per_epoch })
}

pub(crate) fn parent(seed: u64) -> String {
    format!("parent-{seed}")
}

/// EL2N at an early epoch, as the mean over the parents; the paper takes ten.
fn el2n(experiment: &Path, options: &Options) -> Result<ScoreColumn> {
    let mut asked = ScoreOptions::default();
    let name = format!("el2n_score_epoch_{}", options.score_epoch);
    asked.scores = vec![name.parse()?];
    let scores = ScoreTable::fold(&Experiment::open(experiment)?, &asked)?;
    scores.write(experiment.join("scores.parquet"))?;
    Ok(scores.column(&name)?)
}

/// How fast the kernel of each window turns from epoch to epoch, in each parent.
fn velocities(
    experiment: &Path,
    data: &Data,
    options: &Options,
    el2n: &ScoreColumn,
    steps_per_epoch: u64,
) -> Result<(Vec<Group>, Vec<KernelVelocityTable>)> {
    let network = network(data)?;
    let params = Params::from_varmap(network.weights())?;
    let mut velocity = KernelVelocity::new(&params).per_epoch(steps_per_epoch);
    let mut groups = Vec::new();
    for window in evenly(&ExampleSet::windows(el2n, WINDOW)?, options.windows) {
        velocity = velocity.set(window.name.clone(), data.of(window)?.inputs);
        groups.push(Group { name: window.name.clone(), wrong: data.wrong_share(window)? });
    }
    let kernels = groups.len() * (options.epochs as usize + 1);
    let mut meter = Meter::new(kernels * options.parents as usize);
    meter.label(format!("{} kernels", data.name));
    let mut tables = Vec::new();
    for seed in 0..options.parents {
        let snapshots = Snapshots::open(experiment, &parent(seed))?;
        let mut table = KernelVelocityTable::open(experiment, &parent(seed))?;
        let forward = |images: &Tensor| network.forward(images);
        velocity.run(snapshots.iter(), forward, &mut table, |_, _| meter.advance())?;
        tables.push(table);
    }
    meter.finish();
    Ok((groups, tables))
}

/// So many of the sets, from the first to the last.
fn evenly(sets: &[ExampleSet], most: usize) -> impl Iterator<Item = &ExampleSet> {
    let count = sets.len().min(most.max(1));
    let place = move |at: usize| match count {
        1 => sets.len() - 1,
        _ => at * (sets.len() - 1) / (count - 1),
    };
    (0..count).map(move |at| &sets[place(at)])
}

/// The barriers at the end of training between children of the same weights.
fn barriers(
    experiment: &Path,
    data: &Data,
    options: &Options,
    el2n: &ScoreColumn,
    steps_per_epoch: u64,
) -> Result<(Vec<Group>, ErrorBarrierTable)> {
    let network = network(data)?;
    let params = Params::from_varmap(network.weights())?;
    let mut barriers = ErrorBarrier::new(Line::new(&params));
    let mut groups = Vec::new();
    let [lowest, highest, random] = ExampleSet::extremes(el2n, options.set.min(data.len() / 3), 0)?;
    for set in [lowest, random, highest] {
        let batch = data.of(&set)?;
        barriers = barriers.set(set.name.clone(), batch.inputs, &batch.labels, SCORE_BATCH)?;
        groups.push(Group { name: set.name.clone(), wrong: data.wrong_share(&set)? });
    }
    let left = |epoch: &u32| u64::from(options.epochs - epoch) * steps_per_epoch;
    let total = options.children * options.spawn_epochs.iter().map(left).sum::<u64>();
    let mut meter = Meter::new(total as usize);
    let mut table = ErrorBarrierTable::open(experiment)?;
    for &epoch in &options.spawn_epochs {
        meter.label(format!("{} spawned at {epoch}", data.name));
        let mut names = Vec::new();
        for order in 1..=options.children {
            let name = format!("epoch-{epoch}-child-{order}");
            let spawned_at = Some(u64::from(epoch) * steps_per_epoch);
            let order = 1000 * u64::from(epoch) + order;
            let child = Run { name: name.clone(), seed: 0, order, spawned_at };
            train(experiment, data, options, &child, &meter)?;
            names.push(name);
        }
        let siblings = Siblings::open(experiment, &names)?;
        let last = siblings.branches_at(siblings.last_common_step()?)?;
        let forward = |images: &Tensor| network.forward(images);
        barriers.run(Some(siblings.spawn_step()), last, forward, &mut table, |_row| {})?;
    }
    meter.finish();
    Ok((groups, table))
}

/// A network whose weights are about to be replaced.
fn network(data: &Data) -> Result<Network> {
    Network::new(data.sizes, &mut StdRng::seed_from_u64(0), data.set.inputs().device())
}

/// Trains up to the last epoch. A parent records its weights after every epoch, a child in the end.
fn train(
    experiment: &Path,
    data: &Data,
    options: &Options,
    run: &Run,
    meter: &Meter,
) -> Result<()> {
    let device = data.set.inputs().device();
    let network = Network::new(data.sizes, &mut StdRng::seed_from_u64(run.seed), device)?;
    let weights = network.weights();
    let mut builder =
        DataDietHook::builder(experiment, run.name.as_str()).classes(data.sizes.classes);
    builder = match run.spawned_at {
        None => builder.snapshots(weights, Schedule::every_epochs(1)),
        Some(step) => builder
            .snapshots(weights, Schedule::first_step().at_end())
            .spawned_from(weights, PARENT, step),
    };
    let mut hook = builder.seed(run.seed).build()?;
    let adam = ParamsAdamW { lr: 1e-3, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(network.variables(), adam)?;
    let mut random = StdRng::seed_from_u64(1 << 32 | run.order);
    while hook.epoch() < options.epochs {
        for batch in data.set.shuffled(options.batch, &mut random) {
            let batch = batch?;
            let logits = network.forward(&batch.inputs)?;
            optimizer.backward_step(&cross_entropy(&logits, &batch.labels)?)?;
            hook.on_step_end(&batch.ids, &logits, &batch.labels)?;
            meter.advance();
        }
        hook.on_epoch_end()?;
        if run.spawned_at.is_none() && hook.epoch() <= options.score_epoch {
            for batch in data.set.in_order(SCORE_BATCH) {
                let batch = batch?;
                hook.on_score_batch(&batch.ids, &network.forward(&batch.inputs)?, &batch.labels)?;
            }
        }
    }
    Ok(hook.finish()?.check()?)
}
