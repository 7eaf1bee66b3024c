//! The one pass over all observations.
//!
//! All runs are read side by side, one epoch at a time, so that what is held per epoch is one value
//! per example. Within an epoch the ranks of a run follow one another; an example that a data loader
//! repeated on a second rank, to make the ranks equally long, counts on the first one only.

use std::collections::BTreeSet;

use super::file::Keys;
use super::forgetting::Presentations;
use super::index::ExampleIndex;
use super::moments::Moments;
use super::table::ScoreInfo;
use crate::error::{Error, ErrorKind, Result};
use crate::run::{Experiment, ObservationRows, Observations, Run};
use crate::signal::Signal;
use crate::step::Phase;

/// Which epochs to score EL2N at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Epochs {
    /// Every recorded epoch.
    #[default]
    All,
    /// The last epoch of each phase.
    Last,
    /// These epochs, where they were recorded.
    List(Vec<u32>),
}

/// What to compute from which runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScoreOptions {
    /// The runs by name; empty for all of the experiment.
    pub runs: Vec<String>,
    /// The epochs to score EL2N at.
    pub epochs: Epochs,
    /// Whether to count forgetting events, which reads every training observation.
    pub forgetting: bool,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self { runs: Vec::new(), epochs: Epochs::default(), forgetting: true }
    }
}

/// One score of every example, as it comes out of the fold: by place, not by id.
pub(super) trait Columns {
    /// Takes a column; examples that turn up later have no value in it.
    fn push(&mut self, name: String, moments: Vec<Moments>) -> Result<()>;
}

/// What a fold knows beside its columns.
pub(super) struct Folded {
    /// The places of the examples in ascending order of id.
    pub(super) order: Vec<usize>,
    pub(super) keys: Keys,
    pub(super) info: ScoreInfo,
}

/// Folds the observations of an experiment's runs. `progress` is called now and then with the number of
/// rows that were read since the last call.
pub(super) fn fold(
    experiment: &Experiment,
    options: &ScoreOptions,
    columns: &mut dyn Columns,
    progress: &mut dyn FnMut(u64),
) -> Result<Folded> {
    let runs = chosen_runs(experiment, &options.runs)?;
    let empty = runs_without_rows(&runs)?;
    let takes_part = |run: &Run| records_el2n(run) && !empty.contains(run.name());
    let mut fold = Fold::new(&runs);
    let mut latest = None;
    for phase in Phase::ALL {
        let recorded = runs.iter().map(|run| run.epochs(phase)).collect::<Result<Vec<_>>>()?;
        let with_el2n = runs.iter().zip(&recorded).filter(|(run, _)| takes_part(run));
        let with_el2n: Vec<&Vec<u32>> = with_el2n.map(|(_, epochs)| epochs).collect();
        let scored = epochs_to_score(&options.epochs, &with_el2n);
        let counts_forgetting = options.forgetting && phase == Phase::Train;
        let read: BTreeSet<u32> = if counts_forgetting {
            recorded.iter().flatten().copied().collect()
        } else {
            scored.clone()
        };
        let mut streams = open_streams(&runs, phase, &read)?;
        for &epoch in &read {
            let wanted = scored.contains(&epoch);
            let non_finite = fold.non_finite;
            let moments = fold.epoch(epoch, &mut streams, counts_forgetting, progress)?;
            if wanted {
                columns.push(format!("el2n_{phase}_epoch_{epoch}"), moments)?;
            } else {
                // Read for its forgetting events alone: there is no mean to be left out of.
                fold.non_finite = non_finite;
            }
        }
        let last = last_common(&with_el2n, &scored);
        latest = last.map(|epoch| format!("el2n_{phase}_epoch_{epoch}")).or(latest);
    }
    if let Epochs::List(asked) = &options.epochs {
        check_epochs(asked, &runs)?;
    }
    if fold.index.len() == 0 {
        return Err(Error::new(
            ErrorKind::Empty,
            format!("{}: the runs have no published observations", experiment.path().display()),
        ));
    }
    if options.forgetting {
        fold.push_forgetting(columns)?;
    }
    let info = ScoreInfo {
        runs: runs.iter().map(|run| run.name().to_owned()).collect(),
        el2n: latest,
        non_finite: fold.non_finite,
        repeated: fold.repeated,
    };
    Ok(fold.into_folded(info))
}

/// What is known of all examples so far.
struct Fold {
    index: ExampleIndex,
    runs: Vec<RunFold>,
    /// Observations left out because their signal is NaN.
    non_finite: u64,
    /// Observations left out because another rank had the example in the same epoch.
    repeated: u64,
}

#[derive(Default)]
struct RunFold {
    presentations: Vec<Presentations>,
    seen: Vec<bool>,
    /// Sum and number of this epoch's values.
    sums: Vec<(f64, u32)>,
    /// The rank that had an example in this epoch, plus one; empty for a run of one rank.
    owners: Vec<u32>,
    ranks: usize,
}

impl Fold {
    fn new(runs: &[Run]) -> Self {
        let mut index = ExampleIndex::default();
        let declared = runs.iter().flat_map(Run::ranks).filter_map(|rank| rank.format.examples);
        index.expect(declared.max().unwrap_or(0));
        let run_fold = |run: &Run| RunFold { ranks: run.ranks().len(), ..RunFold::default() };
        Self { index, runs: runs.iter().map(run_fold).collect(), non_finite: 0, repeated: 0 }
    }

    /// Reads one epoch of all runs, and returns the moments over runs of each example's mean EL2N.
    fn epoch(
        &mut self,
        epoch: u32,
        streams: &mut [Vec<RankStream>],
        counts_forgetting: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Moments>> {
        let mut moments: Vec<Moments> = Vec::new();
        for (run, ranks) in streams.iter_mut().enumerate() {
            self.runs[run].sums.fill((0.0, 0));
            self.runs[run].owners.fill(0);
            for (rank, stream) in ranks.iter_mut().enumerate() {
                while let Some((rows, range)) = stream.next_of_epoch(epoch)? {
                    self.add(run, rank, &rows, range.clone(), counts_forgetting);
                    progress(range.len() as u64);
                }
            }
            moments.resize(self.index.len(), Moments::default());
            for (moments, &(sum, count)) in moments.iter_mut().zip(&self.runs[run].sums) {
                if count > 0 {
                    moments.add(sum / f64::from(count));
                }
            }
        }
        Ok(moments)
    }

    fn add(
        &mut self,
        run: usize,
        rank: usize,
        rows: &ObservationRows,
        range: std::ops::Range<usize>,
        counts_forgetting: bool,
    ) {
        let fold = &mut self.runs[run];
        let (examples, labels) = (&rows.examples()[range.clone()], &rows.labels()[range.clone()]);
        let el2n = rows.signal(Signal::El2n).map(|values| &values[range.clone()]);
        let mut correct = rows.correct().skip(range.start);
        for (row, (&example, &label)) in examples.iter().zip(labels).enumerate() {
            let place = self.index.place(example, label);
            let correct = correct.next().unwrap_or(false);
            if place >= fold.seen.len() {
                fold.seen.resize(place + 1, false);
                fold.sums.resize(place + 1, (0.0, 0));
                fold.presentations.resize(place + 1, Presentations::default());
                if fold.ranks > 1 {
                    fold.owners.resize(place + 1, 0);
                }
            }
            if fold.ranks > 1 {
                let owner = &mut fold.owners[place];
                if *owner != 0 && *owner != rank as u32 + 1 {
                    self.repeated += 1;
                    continue;
                }
                *owner = rank as u32 + 1;
            }
            fold.seen[place] = true;
            if counts_forgetting {
                fold.presentations[place].present(correct);
            }
            match el2n.map(|values| values[row]) {
                Some(value) if !value.is_nan() => {
                    let (sum, count) = &mut fold.sums[place];
                    *sum += f64::from(value);
                    *count += 1;
                }
                Some(_) => self.non_finite += 1,
                None => {}
            }
        }
    }

    fn push_forgetting(&self, columns: &mut dyn Columns) -> Result<()> {
        type Score = fn(&Presentations, u32) -> Option<f64>;
        let scores: [(&str, Score); 5] = [
            ("forgetting", |example, most| Some(example.score(most))),
            ("forgetting_inf", |example, _| Some(example.score_or_infinity())),
            ("never_learned", |example, _| Some(f64::from(u8::from(example.never_learned())))),
            ("first_learned", |example, _| example.first_learned().map(f64::from)),
            ("presentations", |example, _| Some(f64::from(example.count()))),
        ];
        for (name, score) in scores {
            let mut moments = vec![Moments::default(); self.index.len()];
            for run in &self.runs {
                let most = run.presentations.iter().map(Presentations::count).max().unwrap_or(0);
                for (moments, example) in moments.iter_mut().zip(&run.presentations) {
                    if example.count() > 0
                        && let Some(score) = score(example, most)
                    {
                        moments.add(score);
                    }
                }
            }
            if moments.iter().any(|moments| moments.count() > 0) {
                columns.push(name.to_owned(), moments)?;
            }
        }
        Ok(())
    }

    fn into_folded(self, info: ScoreInfo) -> Folded {
        let order = self.index.order();
        let runs_of = |place: usize| {
            let seen = |run: &&RunFold| run.seen.get(place).copied().unwrap_or(false);
            self.runs.iter().filter(seen).count() as i32
        };
        let keys = Keys {
            examples: order.iter().map(|&place| self.index.ids()[place]).collect(),
            labels: order.iter().map(|&place| self.index.labels()[place]).collect(),
            runs: order.iter().map(|&place| runs_of(place)).collect(),
        };
        Folded { order, keys, info }
    }
}

/// The observations of one rank, handed out epoch by epoch.
struct RankStream {
    observations: Observations,
    rows: Option<(ObservationRows, usize)>,
}

impl RankStream {
    /// The next stretch of rows of this epoch; rows of earlier epochs are passed over.
    fn next_of_epoch(
        &mut self,
        epoch: u32,
    ) -> Result<Option<(ObservationRows, std::ops::Range<usize>)>> {
        loop {
            let (rows, start) = match self.rows.take() {
                Some(rows) => rows,
                None => match self.observations.next().transpose()? {
                    Some(rows) => (rows, 0),
                    None => return Ok(None),
                },
            };
            let epochs = &rows.epochs()[start..];
            let earlier = epochs.partition_point(|&at| i64::from(at) < i64::from(epoch));
            let of_epoch = epochs.partition_point(|&at| i64::from(at) <= i64::from(epoch));
            if earlier == epochs.len() {
                continue;
            }
            let range = start + earlier..start + of_epoch;
            if range.end < rows.len() {
                self.rows = Some((rows.clone(), range.end));
            }
            return Ok((!range.is_empty()).then_some((rows, range)));
        }
    }
}

fn chosen_runs(experiment: &Experiment, names: &[String]) -> Result<Vec<Run>> {
    let runs = if names.is_empty() {
        experiment.runs()?
    } else {
        let names: BTreeSet<&String> = names.iter().collect();
        names.into_iter().map(|name| experiment.run(name)).collect::<Result<_>>()?
    };
    let classes = |run: &Run| format!("`{}` has {}", run.name(), run.classes());
    if let Some(other) = runs.iter().find(|run| run.classes() != runs[0].classes()) {
        return Err(Error::invalid(format!(
            "runs: expected one class count, but {} and {}; choose the runs by name",
            classes(&runs[0]),
            classes(other)
        )));
    }
    Ok(runs)
}

fn open_streams(
    runs: &[Run],
    phase: Phase,
    epochs: &BTreeSet<u32>,
) -> Result<Vec<Vec<RankStream>>> {
    let stream = |run: &Run, rank| {
        let columns = vec!["epoch", "example", "label", "correct", "el2n"];
        let observations = run.read(phase, rank, Some(columns), Some(epochs.clone()))?;
        Ok(RankStream { observations, rows: None })
    };
    let of_run = |run: &Run| (0..run.ranks().len()).map(|rank| stream(run, rank)).collect();
    runs.iter().map(of_run).collect()
}

fn records_el2n(run: &Run) -> bool {
    run.ranks().any(|rank| rank.format.signals.contains(&Signal::El2n))
}

/// Runs that have published nothing yet have no say in which epoch is the last one of all.
fn runs_without_rows(runs: &[Run]) -> Result<BTreeSet<String>> {
    let mut empty = BTreeSet::new();
    for run in runs {
        if Phase::ALL.into_iter().map(|phase| run.rows(phase)).sum::<Result<u64>>()? == 0 {
            empty.insert(run.name().to_owned());
        }
    }
    Ok(empty)
}

fn epochs_to_score(epochs: &Epochs, recorded: &[&Vec<u32>]) -> BTreeSet<u32> {
    let all = recorded.iter().copied().flatten().copied();
    match epochs {
        Epochs::All => all.collect(),
        Epochs::Last => {
            let all: BTreeSet<u32> = all.collect();
            last_common(recorded, &all).or(all.last().copied()).into_iter().collect()
        }
        Epochs::List(asked) => all.filter(|epoch| asked.contains(epoch)).collect(),
    }
}

/// The last of some epochs that every run has which has recorded any; `el2n` without an epoch means this one.
fn last_common(recorded: &[&Vec<u32>], scored: &BTreeSet<u32>) -> Option<u32> {
    let in_all = |epoch: &&u32| recorded.iter().all(|run| run.is_empty() || run.contains(epoch));
    scored.iter().rev().find(in_all).copied()
}

fn check_epochs(asked: &[u32], runs: &[Run]) -> Result<()> {
    let mut recorded = BTreeSet::new();
    for run in runs {
        for phase in Phase::ALL {
            recorded.extend(run.epochs(phase)?);
        }
    }
    match asked.iter().find(|epoch| !recorded.contains(epoch)) {
        None => Ok(()),
        Some(epoch) => Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "epoch {epoch} was not recorded; there are: {}",
                recorded.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
            ),
        )),
    }
}
