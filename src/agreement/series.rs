//! One score of an experiment as several columns, one for each run or one for each epoch: what can be
//! compared to learn how many seeds, or how many epochs, are enough.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result};
use crate::run::{Experiment, Run};
use crate::scores::{Epochs, Moments, ScoreOptions, ScoreTable};
use crate::selection::ScoreColumn;
use crate::step::Phase;

/// One score, in a column for each run or for each epoch of an experiment.
///
/// # Examples
///
/// ```no_run
/// use data_diet::{Agreement, AgreementOptions, Experiment, ScoreSeries};
///
/// let experiment = Experiment::open("runs/digits")?;
/// let epochs = ScoreSeries::over_epochs(&experiment, &[], "el2n", None, |_rows| {})?;
/// if let Some(((_, last), earlier)) = epochs.columns().split_last() {
///     for (epoch, column) in earlier {
///         let agreement = Agreement::of(column, last, &AgreementOptions::default())?;
///         println!("{epoch}: {}", agreement.spearman.value);
///     }
/// }
/// # Ok::<(), data_diet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreSeries {
    score: String,
    columns: Vec<(String, ScoreColumn)>,
}

impl ScoreSeries {
    /// Joins columns of one score under a name each.
    #[must_use]
    pub fn new(score: impl Into<String>, columns: Vec<(String, ScoreColumn)>) -> Self {
        Self { score: score.into(), columns }
    }

    /// A score of each run by itself, named by the runs; `runs` is empty for all of them. A score
    /// without an epoch, such as `el2n`, is taken at the epoch that it stands for over all these runs.
    /// `progress` is told the rows that were read since its last call.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for an unknown run or score, or fewer than 2 runs; what folding
    /// meets.
    pub fn over_runs(
        experiment: &Experiment,
        runs: &[String],
        score: &str,
        mut progress: impl FnMut(u64),
    ) -> Result<Self> {
        let names: BTreeSet<String> = if runs.is_empty() {
            experiment.runs()?.iter().map(|run| run.name().to_owned()).collect()
        } else {
            runs.iter().cloned().collect()
        };
        let names: Vec<String> = names.into_iter().collect();
        for name in &names {
            experiment.run(name)?;
        }
        enough(experiment, "runs", &names)?;
        let score = resolved(experiment, &names, score, &mut progress)?;
        let epochs = epoch_of(&score).map_or(Epochs::Last, |epoch| Epochs::List(vec![epoch]));
        let column = |name: &String| {
            let column = table(experiment, &[name], epochs.clone(), true, &mut progress)
                .and_then(|table| table.column(&score))
                .map_err(|error| error.context(format!("run `{name}`")))?;
            Ok((name.clone(), column))
        };
        let columns = names.iter().map(column).collect::<Result<_>>()?;
        Ok(Self { score, columns })
    }

    /// A score at each epoch, as its mean over runs (all of them if `runs` is empty), in ascending order,
    /// named `epoch 1` and so on. Only epochs that every run has recorded which has recorded the phase
    /// at all; `phase` is the score phase where there is one, unless asked for.
    /// `progress` is told the rows that were read since its last call.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for an unknown run, or a score that does not have at least 2
    /// such epochs; what folding meets.
    pub fn over_epochs(
        experiment: &Experiment,
        runs: &[String],
        score: &str,
        phase: Option<Phase>,
        mut progress: impl FnMut(u64),
    ) -> Result<Self> {
        let chosen = if runs.is_empty() {
            experiment.runs()?
        } else {
            runs.iter().map(|name| experiment.run(name)).collect::<Result<_>>()?
        };
        let names: Vec<&String> = runs.iter().collect();
        let table = table(experiment, &names, Epochs::All, false, &mut progress)?;
        let phases = phase.map_or([Phase::Score, Phase::Train].to_vec(), |phase| vec![phase]);
        // Of a quantity without phases, such as a gradient's norm, the plain name.
        let patterns = phases.iter().map(|&phase| (Some(phase), format!("{score}_{phase}_epoch_")));
        let patterns = patterns.chain([(None, format!("{score}_epoch_"))]);
        for (phase, prefix) in patterns {
            let common = phase.map(|phase| common_epochs(&chosen, phase)).transpose()?;
            let epoch = |name: &str| {
                let epoch = name.strip_prefix(&prefix)?.parse::<u32>().ok()?;
                common.as_ref().is_none_or(|common| common.contains(&epoch)).then_some(epoch)
            };
            let names = table.statistics().iter().map(|score| score.name.as_str());
            let mut epochs: Vec<(u32, &str)> =
                names.filter_map(|name| Some((epoch(name)?, name))).collect();
            epochs.sort_unstable();
            if epochs.is_empty() {
                continue;
            }
            let labels: Vec<String> =
                epochs.iter().map(|(epoch, _)| format!("epoch {epoch}")).collect();
            enough(experiment, &format!("epochs of `{score}` that all runs share"), &labels)?;
            let columns = labels.into_iter().zip(&epochs);
            let columns = columns
                .map(|(label, (_, name))| Ok((label, table.column(name)?)))
                .collect::<Result<_>>()?;
            let score = prefix.trim_end_matches("_epoch_").to_owned();
            return Ok(Self { score, columns });
        }
        let at_epochs = |name: &str| Some(name[..name.rfind("_epoch_")?].to_owned());
        let there: BTreeSet<String> =
            table.statistics().iter().filter_map(|score| at_epochs(&score.name)).collect();
        let there: Vec<String> = there.into_iter().collect();
        Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "no score `{score}` with a value per epoch that all runs share; per epoch there are: {}",
                there.join(", ")
            ),
        ))
    }

    /// The score's name, with its phase and epoch where it has them.
    #[must_use]
    pub fn score(&self) -> &str {
        &self.score
    }

    /// The columns with their names.
    #[must_use]
    pub fn columns(&self) -> &[(String, ScoreColumn)] {
        &self.columns
    }

    /// The mean over some of the columns, by their places: of every example that one of them has, the
    /// mean of its numbers; NaN where it has none.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a place that is not there.
    pub fn mean(&self, places: &[usize]) -> Result<ScoreColumn> {
        let column = |&place: &usize| {
            self.columns.get(place).map(|(_, column)| column).ok_or_else(|| {
                let columns = self.columns.len();
                Error::invalid(format!("place: expected below {columns}, got {place}"))
            })
        };
        let columns = places.iter().map(column).collect::<Result<Vec<_>>>()?;
        let mut rows: Vec<(i64, i32)> = Vec::new();
        for column in &columns {
            rows.extend(column.examples().iter().copied().zip(column.labels().iter().copied()));
        }
        // Stable: of an example's labels the first column's stays.
        rows.sort_by_key(|&(example, _)| example);
        rows.dedup_by_key(|&mut (example, _)| example);
        let (examples, labels): (Vec<i64>, Vec<i32>) = rows.into_iter().unzip();
        let mut moments = vec![Moments::default(); examples.len()];
        for column in &columns {
            let mut place = 0;
            for (&example, &score) in column.examples().iter().zip(column.scores()) {
                while examples[place] < example {
                    place += 1;
                }
                if !score.is_nan() {
                    moments[place].add(score);
                }
            }
        }
        ScoreColumn::new(examples, labels, moments.into_iter().map(Moments::mean).collect())
    }
}

/// The one way from an experiment to scores: everything that this file compares comes through here.
fn table(
    experiment: &Experiment,
    runs: &[&String],
    epochs: Epochs,
    forgetting: bool,
    progress: &mut dyn FnMut(u64),
) -> Result<ScoreTable> {
    let options =
        ScoreOptions { runs: runs.iter().copied().cloned().collect(), epochs, forgetting };
    ScoreTable::fold_with_progress(experiment, &options, progress)
}

/// A name that stands for another one over all runs, such as `el2n`, might stand for something else in
/// each of them.
fn resolved(
    experiment: &Experiment,
    runs: &[String],
    score: &str,
    progress: &mut dyn FnMut(u64),
) -> Result<String> {
    if score != "el2n" {
        return Ok(score.to_owned());
    }
    let runs: Vec<&String> = runs.iter().collect();
    let table = table(experiment, &runs, Epochs::Last, false, progress)?;
    table.info().el2n.clone().ok_or_else(|| {
        let message = "no score `el2n`: there is no epoch in which every run has recorded it";
        Error::new(ErrorKind::NotFound, message)
    })
}

fn epoch_of(score: &str) -> Option<u32> {
    score.rsplit_once("_epoch_")?.1.parse().ok()
}

fn common_epochs(runs: &[Run], phase: Phase) -> Result<BTreeSet<u32>> {
    let mut common: Option<BTreeSet<u32>> = None;
    for run in runs {
        let epochs: BTreeSet<u32> = run.epochs(phase)?.into_iter().collect();
        if !epochs.is_empty() {
            common = Some(match common {
                Some(common) => &common & &epochs,
                None => epochs,
            });
        }
    }
    Ok(common.unwrap_or_default())
}

fn enough(experiment: &Experiment, what: &str, names: &[String]) -> Result<()> {
    if names.len() >= 2 {
        return Ok(());
    }
    let (path, got) = (experiment.path().display(), names.len());
    let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    let message = format!("{path}: expected at least 2 {what} to compare, got {got}{names}");
    Err(Error::new(ErrorKind::NotFound, message))
}
