//! Recording, scoring, and training again on what a score keeps.

use std::io::Write;

use data_diet::selection::ScoreColumn;
use data_diet::{Amount, Experiment, Rule, ScoreOptions, ScoreTable};

use super::Result;
use super::data::Corpus;
use super::dataset::Dataset;
use super::options::Options;
use super::progress::Meter;
use super::report;
use super::side_by_side;
use super::training::{Task, run_name, train};

/// The first seed of the networks that are trained again: not one of those that made the scores.
const FRESH_SEEDS: u64 = 1000;

/// A score that ranks sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Score {
    Perplexity,
    El2n,
}

/// What was recorded, with a score for every sequence of the training set.
#[derive(Debug)]
pub(crate) struct Scores {
    /// Means over the runs.
    mean: Columns,
    /// Of each run alone.
    by_run: Vec<Columns>,
}

#[derive(Debug)]
struct Columns {
    perplexity: ScoreColumn,
    el2n: ScoreColumn,
}

/// What the networks are trained on again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subset {
    Everything,
    Random,
    WithoutHighest(Score),
    WithoutLowest(Score),
}

/// How the networks did that were trained on a subset.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) subset: Subset,
    pub(crate) sequences: usize,
    /// The share of noise of any kind in it, as the mean over the networks.
    pub(crate) noise: f64,
    /// On the test set.
    pub(crate) perplexities: Vec<f64>,
}

impl Score {
    pub(crate) const ALL: [Self; 2] = [Self::Perplexity, Self::El2n];

    /// The name of its column. Perplexity is the exponential of the mean loss of a sequence's tokens, so
    /// within a run the two rank alike.
    pub(crate) fn column(self) -> &'static str {
        match self {
            Self::Perplexity => "loss",
            Self::El2n => "el2n",
        }
    }

    /// A value of the column, for people.
    pub(crate) fn shown(self, value: f64) -> f64 {
        match self {
            Self::Perplexity => value.exp(),
            Self::El2n => value,
        }
    }

    /// The name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Perplexity => "perplexity",
            Self::El2n => "EL2N",
        }
    }
}

impl Columns {
    fn of_table(table: &ScoreTable) -> Result<Self> {
        let column = |score: Score| table.column(score.column());
        Ok(Self { perplexity: column(Score::Perplexity)?, el2n: column(Score::El2n)? })
    }

    fn of(&self, score: Score) -> &ScoreColumn {
        match score {
            Score::Perplexity => &self.perplexity,
            Score::El2n => &self.el2n,
        }
    }
}

impl Scores {
    /// The mean over the runs, by ascending id.
    pub(crate) fn mean(&self, score: Score) -> &ScoreColumn {
        self.mean.of(score)
    }

    /// Of each run alone.
    pub(crate) fn by_run(&self, score: Score) -> impl Iterator<Item = &ScoreColumn> {
        self.by_run.iter().map(move |columns| columns.of(score))
    }
}

impl Subset {
    pub(crate) const ALL: [Self; 6] = [
        Self::Everything,
        Self::Random,
        Self::WithoutHighest(Score::Perplexity),
        Self::WithoutLowest(Score::Perplexity),
        Self::WithoutHighest(Score::El2n),
        Self::WithoutLowest(Score::El2n),
    ];

    fn choose(self, data: &Dataset, scores: &Scores, kept: f64, seed: u64) -> Result<Dataset> {
        let amount = Amount::Fraction(kept);
        let (score, rule) = match self {
            Self::Everything => return Ok(data.clone()),
            Self::Random => (Score::Perplexity, Rule::Random { amount, seed }),
            Self::WithoutHighest(score) => (score, Rule::Lowest(amount)),
            Self::WithoutLowest(score) => (score, Rule::Highest(amount)),
        };
        data.keep(&scores.mean(score).clone().select(rule)?)
    }
}

/// Trains one network per seed on everything, recording each as a run, and scores the sequences.
pub(crate) fn record(task: &Task, options: &Options, output: &mut dyn Write) -> Result<Scores> {
    let seeds: Vec<u64> = (0..options.seeds).collect();
    let steps = task.steps(options.epochs);
    let meter = Meter::new(steps * seeds.len());
    let trained = side_by_side::run(task.workers(), &seeds, |&seed| {
        let mut meter = meter.another();
        meter.label(run_name(seed));
        train(task, &task.train, steps, seed, Some(&options.experiment), &mut meter)
    })?;
    meter.finish();
    for trained in &trained {
        report::trained(output, trained)?;
    }
    score(options)
}

/// Folds what was recorded into one row per sequence, leaves it as `scores.parquet`, and folds each
/// run alone.
fn score(options: &Options) -> Result<Scores> {
    let experiment = Experiment::open(&options.experiment)?;
    // Not all runs: an earlier session may have left more seeds than this one has recorded.
    let runs: Vec<String> = (0..options.seeds).map(run_name).collect();
    let fold = |runs: &[String]| -> Result<ScoreTable> {
        let mut recorded = ScoreOptions::default();
        recorded.runs = runs.to_vec();
        for score in Score::ALL {
            recorded.scores.push(score.column().parse()?);
        }
        Ok(ScoreTable::fold(&experiment, &recorded)?)
    };
    let table = fold(&runs)?;
    table.write(options.experiment.join("scores.parquet"))?;
    let by_run = runs.chunks(1).map(|run| Columns::of_table(&fold(run)?)).collect::<Result<_>>()?;
    Ok(Scores { mean: Columns::of_table(&table)?, by_run })
}

/// Trains on each subset, for the same number of steps and from the same fresh seeds, so that the
/// outcomes can be compared pair by pair.
pub(crate) fn compare(
    task: &Task,
    corpus: &Corpus,
    scores: &Scores,
    options: &Options,
) -> Result<Vec<Outcome>> {
    let steps = task.steps(options.epochs);
    let seeds = FRESH_SEEDS..FRESH_SEEDS + options.retrain;
    let jobs: Vec<(Subset, u64)> = Subset::ALL
        .iter()
        .flat_map(|&subset| seeds.clone().map(move |seed| (subset, seed)))
        .collect();
    let meter = Meter::new(steps * jobs.len());
    let trained = side_by_side::run(task.workers(), &jobs, |&(subset, seed)| {
        let mut meter = meter.another();
        meter.label("training again");
        let data = subset.choose(&task.train, scores, options.kept(), seed)?;
        let perplexity = train(task, &data, steps, seed, None, &mut meter)?.perplexity;
        Ok((data.len(), corpus.noise_share(data.ids()), perplexity))
    })?;
    meter.finish();
    let outcomes = Subset::ALL.iter().zip(trained.chunks(options.retrain as usize));
    let outcomes = outcomes.map(|(&subset, trained)| Outcome {
        subset,
        sequences: trained[0].0,
        noise: trained.iter().map(|&(_, noise, _)| noise).sum::<f64>() / trained.len() as f64,
        perplexities: trained.iter().map(|&(_, _, perplexity)| perplexity).collect(),
    });
    Ok(outcomes.collect())
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    #[test]
    fn a_subset_is_without_its_end_of_the_score() {
        let column = |values: [f64; 5]| {
            ScoreColumn::new((0..5).collect(), vec![-1; 5], values.to_vec()).unwrap()
        };
        let mean = Columns {
            perplexity: column([5.0, 1.0, 4.0, 2.0, 3.0]),
            el2n: column([0.1, 0.2, 0.3, 0.4, 0.5]),
        };
        let scores = Scores { mean, by_run: Vec::new() };
        let rows = Tensor::zeros((5, 2), candle_core::DType::I64, &Device::Cpu).unwrap();
        let data = Dataset::of_tensors((0..5).collect(), rows.clone(), rows).unwrap();
        let kept = |subset: Subset| subset.choose(&data, &scores, 0.6, 7).unwrap().ids().to_vec();
        assert_eq!(kept(Subset::Everything), [0, 1, 2, 3, 4]);
        assert_eq!(kept(Subset::WithoutHighest(Score::Perplexity)), [1, 3, 4]);
        assert_eq!(kept(Subset::WithoutLowest(Score::Perplexity)), [0, 2, 4]);
        assert_eq!(kept(Subset::WithoutHighest(Score::El2n)), [0, 1, 2]);
        assert_eq!(kept(Subset::WithoutLowest(Score::El2n)), [2, 3, 4]);
        assert_eq!(kept(Subset::Random).len(), 3);
    }
}
