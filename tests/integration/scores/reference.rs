//! Every score from its definition, with all rows of the experiment in memory.

use std::collections::{BTreeMap, BTreeSet};

use data_diet::observe::{Phase, Signal};
use data_diet::scores::{Score, Span, TrainPhaseScore};

use super::plan::{Observation, Plan};

/// Mean, standard deviation (`n - 1`) and count over runs.
pub(crate) type Statistics = (f64, f64, i32);

/// What a table of scores should hold.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) examples: Vec<i64>,
    pub(crate) labels: Vec<i32>,
    pub(crate) runs: Vec<i32>,
    /// Per score, one entry per example in the order of `examples`.
    pub(crate) scores: BTreeMap<String, Vec<Statistics>>,
    /// Which score `el2n` is.
    pub(crate) el2n: Option<String>,
    pub(crate) non_finite: u64,
    pub(crate) repeated: u64,
    pub(crate) partial: u64,
}

/// An experiment with everything known of it.
pub(crate) struct Reference<'a> {
    plan: &'a Plan,
    rows: &'a [Observation],
    /// Those on the first rank that has their example in their epoch.
    counted: Vec<&'a Observation>,
}

impl<'a> Reference<'a> {
    pub(crate) fn new(plan: &'a Plan, rows: &'a [Observation]) -> Self {
        let counted = rows.iter().filter(|row| is_on_its_first_rank(row, rows)).collect();
        Self { plan, rows, counted }
    }

    /// Whether a run has recorded what a score is made of, at the moments that it is about.
    fn is_of(&self, score: Score, row: &Observation) -> bool {
        let records = |signal| self.plan.records(row.run, signal);
        let train = row.phase == Phase::Train;
        match score {
            Score::Signal { signal, phase, span } => {
                records(signal) && row.phase == phase && is_within(row, span)
            }
            Score::TrainPhase { score, epochs } => {
                let (first, last) = epochs.unwrap_or((0, u32::MAX));
                let recorded = match score {
                    TrainPhaseScore::Aum => records(Signal::Margin),
                    TrainPhaseScore::CartographyConfidence
                    | TrainPhaseScore::CartographyVariability
                    | TrainPhaseScore::ThresholdCloseness
                    | TrainPhaseScore::DynamicUncertainty
                    | TrainPhaseScore::Dual => records(Signal::Confidence),
                    _ => true,
                };
                train && first <= row.epoch && row.epoch <= last && recorded
            }
            score => panic!("the reference does not know {score}"),
        }
    }

    /// The value of one run, if it has one.
    fn value(&self, score: Score, run: usize, example: i64) -> Option<f64> {
        let rows = self.counted.iter().filter(|row| row.run == run && self.is_of(score, row));
        let rows: Vec<&Observation> = rows.copied().collect();
        let of_example = || in_order(rows.iter().copied().filter(|row| row.row.example == example));
        let finite = |signal| {
            let values = of_example().into_iter().map(|row| signal_of(row, signal));
            values.filter(|value| value.is_finite()).collect::<Vec<_>>()
        };
        let history: Vec<bool> = of_example().into_iter().map(is_correct).collect();
        if history.is_empty() {
            return None;
        }
        let never = !history.contains(&true);
        // Toneva et al. 2018: acc(t) > acc(t + 1).
        let events = history.windows(2).filter(|w| w[0] && !w[1]).count() as f64;
        let score = match score {
            Score::Signal { signal, .. } => return mean(&finite(signal)),
            Score::TrainPhase { score, .. } => score,
            score => panic!("the reference does not know {score}"),
        };
        match score {
            TrainPhaseScore::Aum => mean(&finite(Signal::Margin)),
            TrainPhaseScore::CartographyConfidence => mean(&finite(Signal::Confidence)),
            TrainPhaseScore::CartographyVariability => {
                let values = finite(Signal::Confidence);
                let mean_value = mean(&values)?;
                let squares: Vec<f64> = values.iter().map(|v| (v - mean_value).powi(2)).collect();
                mean(&squares).map(f64::sqrt)
            }
            TrainPhaseScore::CartographyCorrectness => mean(
                &history.iter().map(|&correct| f64::from(u8::from(correct))).collect::<Vec<_>>(),
            ),
            // Never learned ranks above every learned one, also of those that were presented more.
            TrainPhaseScore::Forgetting if never => {
                let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
                for row in &rows {
                    *counts.entry(row.row.example).or_default() += 1;
                }
                counts.values().max().map(|&most| most as f64)
            }
            TrainPhaseScore::CartographyForgetting if never => Some(1000.0),
            TrainPhaseScore::ForgettingInf if never => Some(f64::INFINITY),
            TrainPhaseScore::Forgetting
            | TrainPhaseScore::ForgettingInf
            | TrainPhaseScore::CartographyForgetting => Some(events),
            TrainPhaseScore::ThresholdCloseness => {
                mean(&finite(Signal::Confidence)).map(|mean| mean * (1.0 - mean))
            }
            TrainPhaseScore::DynamicUncertainty => {
                over_windows(&finite(Signal::Confidence), |_mean, deviation| deviation)
            }
            TrainPhaseScore::Dual => {
                over_windows(&finite(Signal::Confidence), |mean, deviation| {
                    (1.0 - mean) * deviation
                })
            }
            TrainPhaseScore::NeverLearned => Some(f64::from(u8::from(never))),
            TrainPhaseScore::FirstLearned => {
                history.iter().position(|&correct| correct).map(|at| at as f64)
            }
            TrainPhaseScore::Presentations => Some(history.len() as f64),
            score => panic!("the reference does not know {}", score.name()),
        }
    }

    /// Whether a broken row is missed by a score.
    fn misses(&self, score: Score, row: &Observation) -> bool {
        let is_mean = matches!(
            score,
            Score::Signal { .. }
                | Score::TrainPhase {
                    score: TrainPhaseScore::Aum
                        | TrainPhaseScore::CartographyConfidence
                        | TrainPhaseScore::CartographyVariability
                        | TrainPhaseScore::ThresholdCloseness
                        | TrainPhaseScore::DynamicUncertainty
                        | TrainPhaseScore::Dual,
                    ..
                }
        );
        is_mean && self.is_of(score, row) && row.row.logits.iter().any(|logit| !logit.is_finite())
    }

    /// Whether some run has rows that a score is made of.
    pub(crate) fn has(&self, score: Score) -> bool {
        self.rows.iter().any(|row| self.is_of(score, row))
    }

    /// The table of these scores.
    pub(crate) fn table(&self, scores: &[Score]) -> Expected {
        let is_used = |row: &&Observation| scores.iter().any(|&score| self.is_of(score, row));
        let used: Vec<&Observation> = self.counted.iter().copied().filter(is_used).collect();
        let examples: BTreeSet<i64> = used.iter().map(|row| row.row.example).collect();
        let by_run = |score: Score| -> Vec<Statistics> {
            let of_example = |&example: &i64| {
                let values =
                    (0..self.plan.runs()).filter_map(|run| self.value(score, run, example));
                statistics(&values.collect::<Vec<_>>())
            };
            examples.iter().map(of_example).collect()
        };
        let of = |example| used.iter().filter(move |row| row.row.example == example);
        let label = |&example: &i64| of(example).next().map_or(0, |row| row.row.label as i32);
        let runs_of =
            |&example: &i64| of(example).map(|row| row.run).collect::<BTreeSet<_>>().len() as i32;
        let runs: Vec<i32> = examples.iter().map(runs_of).collect();
        let with_rows: BTreeSet<usize> =
            self.rows.iter().filter(is_used).map(|row| row.run).collect();
        let partial = runs.iter().filter(|&&runs| (runs as usize) < with_rows.len()).count();
        let missed = |row: &&&Observation| scores.iter().any(|&score| self.misses(score, row));
        Expected {
            labels: examples.iter().map(label).collect(),
            runs,
            scores: scores.iter().map(|&score| (score.to_string(), by_run(score))).collect(),
            el2n: None,
            non_finite: used.iter().filter(missed).count() as u64,
            repeated: (self.rows.iter().filter(is_used).count() - used.len()) as u64,
            partial: partial as u64,
            examples: examples.into_iter().collect(),
        }
    }

    /// The standard table, and the observations that it reads.
    pub(crate) fn standard(&self) -> Expected {
        let epochs: BTreeSet<(Phase, u32)> =
            self.with(Signal::El2n).map(|row| (row.phase, row.epoch)).collect();
        let el2n = |&(phase, epoch): &(Phase, u32)| el2n(phase, epoch);
        let mut scores: Vec<Score> = epochs.iter().map(el2n).collect();
        scores.extend(OF_TRAINING.iter().filter(|&&score| self.has(score)));
        if self.has(whole(TrainPhaseScore::CartographyConfidence)) {
            scores.extend(CARTOGRAPHY);
        }
        let mut table = self.table(&scores);
        table.el2n = self.last_common_epoch();
        if let Some(name) = &table.el2n {
            table.scores.insert("el2n".to_owned(), table.scores[name].clone());
        }
        table
    }

    fn with(&self, signal: Signal) -> impl Iterator<Item = &Observation> {
        self.rows.iter().filter(move |row| self.plan.records(row.run, signal))
    }

    /// The last epoch of the score phase that every run has recorded EL2N in, or else of the train
    /// phase, or else of the held-out phase. A run without any such rows in a phase has no say in it.
    fn last_common_epoch(&self) -> Option<String> {
        [Phase::Score, Phase::Train, Phase::HeldOut].into_iter().find_map(|phase| {
            let of_phase = || self.with(Signal::El2n).filter(|row| row.phase == phase);
            let runs: BTreeSet<usize> = of_phase().map(|row| row.run).collect();
            let has =
                |run: usize, epoch: u32| of_phase().any(|row| (row.run, row.epoch) == (run, epoch));
            let epochs = of_phase().map(|row| row.epoch);
            let common = epochs.filter(|&epoch| runs.iter().all(|&run| has(run, epoch)));
            common.max().map(|epoch| el2n(phase, epoch).to_string())
        })
    }
}

/// A score of all epochs of the train phase.
const fn whole(score: TrainPhaseScore) -> Score {
    Score::TrainPhase { score, epochs: None }
}

/// The scores of whole train phases in the standard table.
const OF_TRAINING: [Score; 6] = [
    whole(TrainPhaseScore::Forgetting),
    whole(TrainPhaseScore::ForgettingInf),
    whole(TrainPhaseScore::NeverLearned),
    whole(TrainPhaseScore::FirstLearned),
    whole(TrainPhaseScore::Presentations),
    whole(TrainPhaseScore::Aum),
];
const CARTOGRAPHY: [Score; 3] = [
    whole(TrainPhaseScore::CartographyConfidence),
    whole(TrainPhaseScore::CartographyVariability),
    whole(TrainPhaseScore::CartographyCorrectness),
];

pub(crate) fn el2n(phase: Phase, epoch: u32) -> Score {
    Score::Signal { signal: Signal::El2n, phase, span: Span::epoch(epoch) }
}

fn is_within(row: &Observation, span: Span) -> bool {
    match span {
        Span::Epochs { first, last } => (first..=last).contains(&row.epoch),
        Span::Steps { first, last } => (first..=last).contains(&row.step),
    }
}

/// A loader that pads ranks repeats an example on another rank within an epoch: it counts on the
/// first rank only.
fn is_on_its_first_rank(row: &Observation, all: &[Observation]) -> bool {
    let key = |o: &Observation| (o.run, o.phase, o.epoch, o.row.example);
    all.iter().filter(|other| key(other) == key(row)).all(|other| other.rank >= row.rank)
}

/// Presentations of one example by step, then by position in the batch.
fn in_order<'a>(rows: impl Iterator<Item = &'a Observation>) -> Vec<&'a Observation> {
    let mut rows: Vec<&Observation> = rows.collect();
    rows.sort_by_key(|row| (row.step, row.position));
    rows
}

/// A signal from its definition, NaN if a logit is not finite.
pub(crate) fn signal_of(row: &Observation, signal: Signal) -> f64 {
    let logits: Vec<f64> = row.row.logits.iter().map(|&z| f64::from(z)).collect();
    let exponentials: Vec<f64> = logits.iter().map(|z| z.exp()).collect();
    let total: f64 = exponentials.iter().sum();
    let p: Vec<f64> = exponentials.iter().map(|e| e / total).collect();
    let label = row.row.label as usize;
    let error = |class: usize| p[class] - f64::from(u8::from(class == label));
    let classes = 0..logits.len();
    match signal {
        Signal::El2n => classes.map(|class| error(class).powi(2)).sum::<f64>().sqrt(),
        Signal::El1n => classes.map(|class| error(class).abs()).sum(),
        Signal::Loss => -p[label].ln(),
        Signal::Margin => {
            let others = classes.filter(|&class| class != label).map(|class| logits[class]);
            let is_broken = logits.iter().any(|z| z.is_nan());
            let margin = logits[label] - others.fold(f64::NEG_INFINITY, f64::max);
            if is_broken { f64::NAN } else { margin }
        }
        Signal::Confidence => p[label],
        Signal::Entropy => -p.iter().map(|p| p * p.ln()).sum::<f64>(),
        signal => panic!("the reference does not know {signal}"),
    }
}

/// The lowest class wins a tie; a row with a broken logit is not correct.
fn is_correct(o: &Observation) -> bool {
    let logits = &o.row.logits;
    let label = o.row.label as usize;
    let beats = |class: usize| {
        logits[label] > logits[class] || (class >= label && logits[label] == logits[class])
    };
    logits.iter().all(|z| z.is_finite()) && (0..logits.len()).all(beats)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The mean over windows of ten values, or one of all if there are fewer; of one there is none.
fn over_windows(values: &[f64], value: impl Fn(f64, f64) -> f64) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let of_window = |window: &[f64]| {
        let (mean, deviation, _count) = statistics(window);
        value(mean, deviation)
    };
    mean(&values.windows(values.len().min(10)).map(of_window).collect::<Vec<_>>())
}

fn statistics(values: &[f64]) -> Statistics {
    let n = values.len() as f64;
    let Some(mean) = mean(values) else { return (f64::NAN, f64::NAN, 0) };
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let std = if values.len() < 2 { f64::NAN } else { (squares / (n - 1.0)).sqrt() };
    (mean, std, values.len() as i32)
}
