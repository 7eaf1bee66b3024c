//! Every score from its definition, with all rows of the experiment in memory.

use std::collections::{BTreeMap, BTreeSet};

use data_diet::Phase;

use super::plan::Observation;

/// Mean, standard deviation (`n - 1`) and count over runs.
pub(crate) type Statistics = (f64, f64, i32);

/// What the table of scores should hold.
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
}

pub(crate) fn expected(observations: &[Observation], runs: usize) -> Expected {
    let counted: Vec<&Observation> =
        observations.iter().filter(|row| is_on_its_first_rank(row, observations)).collect();
    let examples: BTreeSet<i64> = observations.iter().map(|o| o.row.example).collect();
    let per_run = |value: &dyn Fn(usize, i64) -> Option<f64>| -> Vec<Statistics> {
        let over_runs = |&example: &i64| {
            statistics(&(0..runs).filter_map(|run| value(run, example)).collect::<Vec<_>>())
        };
        examples.iter().map(over_runs).collect()
    };
    let mut scores = BTreeMap::new();
    let epochs: BTreeSet<(Phase, u32)> = observations.iter().map(|o| (o.phase, o.epoch)).collect();
    for &(phase, epoch) in &epochs {
        let mean_el2n = |run, example| {
            let of_epoch = |o: &&&Observation| {
                (o.run, o.row.example, o.phase, o.epoch) == (run, example, phase, epoch)
            };
            let values = counted.iter().filter(of_epoch).filter_map(|o| el2n(o));
            mean(&values.collect::<Vec<_>>())
        };
        scores.insert(format!("el2n_{phase}_epoch_{epoch}"), per_run(&mean_el2n));
    }
    let el2n = last_common_epoch(observations, runs);
    if let Some(name) = &el2n {
        scores.insert("el2n".to_owned(), scores[name].clone());
    }
    // Per run and example: whether it was classified correctly, presentation by presentation.
    let mut histories: BTreeMap<(usize, i64), Vec<bool>> = BTreeMap::new();
    let mut presentations: Vec<&&Observation> =
        counted.iter().filter(|o| o.phase == Phase::Train).collect();
    presentations.sort_by_key(|o| (o.step, o.position));
    for o in presentations {
        histories.entry((o.run, o.row.example)).or_default().push(is_correct(o));
    }
    // Never learned ranks above every learned one, also of those that were presented more often.
    let most = |run| {
        let counts = histories.iter().filter(|((of, _), _)| *of == run).map(|(_, h)| h.len());
        counts.max().unwrap_or(0) as f64
    };
    let history = |run, example| histories.get(&(run, example));
    // Toneva et al. 2018: acc(t) > acc(t + 1).
    let events = |history: &[bool]| history.windows(2).filter(|w| w[0] && !w[1]).count() as f64;
    let never = |history: &[bool]| !history.contains(&true);
    let forgetting = |unlearned: &dyn Fn(usize) -> f64| {
        per_run(&|run, example| {
            let history = history(run, example)?;
            Some(if never(history) { unlearned(run) } else { events(history) })
        })
    };
    let columns = [
        ("forgetting", forgetting(&most)),
        ("forgetting_inf", forgetting(&|_| f64::INFINITY)),
        ("never_learned", per_run(&|r, e| Some(f64::from(u8::from(never(history(r, e)?)))))),
        ("first_learned", per_run(&|r, e| Some(history(r, e)?.iter().position(|&c| c)? as f64))),
        ("presentations", per_run(&|r, e| Some(history(r, e)?.len() as f64))),
    ];
    let has_values = |values: &[Statistics]| values.iter().any(|value| value.2 > 0);
    let columns = columns.into_iter().filter(|(_, values)| has_values(values));
    scores.extend(columns.map(|(name, values)| (name.to_owned(), values)));
    let of = |example| observations.iter().filter(move |o| o.row.example == example);
    let label = |&example: &i64| of(example).next().map_or(0, |o| o.row.label as i32);
    let seen_in = |&example: &i64| of(example).map(|o| o.run).collect::<BTreeSet<_>>().len() as i32;
    Expected {
        labels: examples.iter().map(label).collect(),
        runs: examples.iter().map(seen_in).collect(),
        scores,
        el2n,
        non_finite: counted.iter().filter(|o| el2n_of(o).is_nan()).count() as u64,
        repeated: (observations.len() - counted.len()) as u64,
        examples: examples.into_iter().collect(),
    }
}

/// A loader that pads ranks repeats an example on another rank within an epoch: it counts on the
/// first rank only.
fn is_on_its_first_rank(row: &Observation, all: &[Observation]) -> bool {
    let key = |o: &Observation| (o.run, o.phase, o.epoch, o.row.example);
    all.iter().filter(|other| key(other) == key(row)).all(|other| other.rank >= row.rank)
}

/// The last epoch of the score phase that every run has recorded, or else of the train phase. A run
/// without any rows in a phase has no say in it.
fn last_common_epoch(observations: &[Observation], runs: usize) -> Option<String> {
    [Phase::Score, Phase::Train].into_iter().find_map(|phase| {
        let has = |run: usize, epoch: u32| {
            observations.iter().any(|o| (o.run, o.phase, o.epoch) == (run, phase, epoch))
        };
        let of_phase = || observations.iter().filter(|o| o.phase == phase);
        let is_empty = |run: usize| !of_phase().any(|o| o.run == run);
        let epochs = of_phase().map(|o| o.epoch);
        let common = epochs.filter(|&epoch| (0..runs).all(|run| is_empty(run) || has(run, epoch)));
        common.max().map(|epoch| format!("el2n_{phase}_epoch_{epoch}"))
    })
}

fn el2n(o: &Observation) -> Option<f64> {
    Some(el2n_of(o)).filter(|value| !value.is_nan())
}

/// `||softmax(z) - y||_2`, NaN if a logit is.
pub(crate) fn el2n_of(o: &Observation) -> f64 {
    let exponentials: Vec<f64> = o.row.logits.iter().map(|&z| f64::from(z).exp()).collect();
    let total: f64 = exponentials.iter().sum();
    let error =
        |(class, e): (usize, &f64)| e / total - f64::from(u8::from(class as i64 == o.row.label));
    exponentials.iter().enumerate().map(error).map(|error| error * error).sum::<f64>().sqrt()
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

fn statistics(values: &[f64]) -> Statistics {
    let n = values.len() as f64;
    let Some(mean) = mean(values) else { return (f64::NAN, f64::NAN, 0) };
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let std = if values.len() < 2 { f64::NAN } else { (squares / (n - 1.0)).sqrt() };
    (mean, std, values.len() as i32)
}
