//! The question of the paper: which examples can go? Record, score, choose, train again.

use std::io::Write;

use data_diet::selection::ScoreColumn;
use data_diet::{Amount, Experiment, Rule, ScoreOptions, ScoreTable};

use super::Result;
use super::dataset::Dataset;
use super::network::Network;
use super::options::Options;
use super::progress::Meter;
use super::report;
use super::training::{Task, run_name, train};

/// Networks are trained again with seeds from here on, which no score has seen.
const FRESH_SEEDS: u64 = 1000;

/// What a network is trained on again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subset {
    Everything,
    /// The lowest EL2N is pruned, as in the paper.
    Highest,
    /// The baseline. Another part for each seed: one of them could be lucky.
    Random,
    /// The contrast: the highest EL2N is pruned.
    Lowest,
}

/// Test accuracies after training on one subset, seed by seed.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) subset: Subset,
    pub(crate) examples: usize,
    pub(crate) accuracies: Vec<f64>,
}

impl Subset {
    pub(crate) const ALL: [Self; 4] = [Self::Everything, Self::Highest, Self::Random, Self::Lowest];

    /// Its name beside a progress bar.
    fn name(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Highest => "highest",
            Self::Random => "random",
            Self::Lowest => "lowest",
        }
    }

    fn choose(self, data: &Dataset, el2n: ScoreColumn, kept: f64, seed: u64) -> Result<Dataset> {
        let amount = Amount::Fraction(kept);
        let rule = match self {
            Self::Everything => return Ok(data.clone()),
            Self::Highest => Rule::Highest(amount),
            Self::Random => Rule::Random { amount, seed },
            Self::Lowest => Rule::Lowest(amount),
        };
        data.keep(&el2n.select(rule)?)
    }
}

/// Trains one network per seed on everything, recording each as a run.
pub(crate) fn record(
    task: &Task,
    options: &Options,
    output: &mut dyn Write,
) -> Result<Vec<Network>> {
    let mut networks = Vec::new();
    for seed in 0..options.seeds {
        let steps = task.steps(options.epochs);
        let mut meter = Meter::new(steps);
        meter.label(run_name(seed));
        let record = Some(options.experiment.as_path());
        let trained = train(task, &task.train, steps, seed, record, &mut meter)?;
        meter.finish();
        report::trained(output, &trained)?;
        networks.push(trained.network);
    }
    Ok(networks)
}

/// Folds what was recorded into one row per example, and leaves it as `scores.parquet`.
pub(crate) fn score(options: &Options) -> Result<ScoreTable> {
    let experiment = Experiment::open(&options.experiment)?;
    let mut recorded = ScoreOptions::default();
    // Not `all`: an earlier session may have left more seeds than this one has recorded.
    recorded.runs = (0..options.seeds).map(run_name).collect();
    let scores = ScoreTable::fold(&experiment, &recorded)?;
    scores.write(options.experiment.join("scores.parquet"))?;
    Ok(scores)
}

/// Trains on each subset, for the same number of steps and from the same fresh seeds, so that the
/// outcomes can be compared pair by pair.
pub(crate) fn compare(task: &Task, scores: &ScoreTable, options: &Options) -> Result<Vec<Outcome>> {
    let steps = task.steps(options.epochs);
    let el2n = scores.column(&options.score_name())?;
    let seeds = FRESH_SEEDS..FRESH_SEEDS + options.retrain;
    let mut meter = Meter::new(steps * Subset::ALL.len() * options.retrain as usize);
    let mut outcomes = Vec::new();
    for subset in Subset::ALL {
        let mut outcome = Outcome { subset, examples: 0, accuracies: Vec::new() };
        for seed in seeds.clone() {
            let data = subset.choose(&task.train, el2n.clone(), options.kept(), seed)?;
            outcome.examples = data.len();
            let number = seed - FRESH_SEEDS + 1;
            meter.label(format!("{} {number}/{}", subset.name(), options.retrain));
            outcome.accuracies.push(train(task, &data, steps, seed, None, &mut meter)?.accuracy);
        }
        outcomes.push(outcome);
    }
    meter.finish();
    Ok(outcomes)
}
