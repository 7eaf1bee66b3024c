//! One score of an experiment as several columns, one for each run or for each epoch, to find out
//! how many seeds or epochs are enough.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result};
use crate::observe::Phase;
use crate::run::{Experiment, Run};
use crate::scores::{At, Moments, Score, ScoreOptions, ScoreRequest, ScoreTable};
use crate::selection::ScoreColumn;

/// One score, in a column for each run or for each epoch of an experiment.
///
/// # Examples
///
/// ```no_run
/// use data_diet::Experiment;
/// use data_diet::scores::agreement::{Agreement, AgreementOptions, ScoreSeries};
///
/// let experiment = Experiment::open("runs/digits")?;
/// let epochs = ScoreSeries::by_epoch(&experiment, &[], "el2n", None, |_rows| {})?;
/// if let Some(((_, last), earlier)) = epochs.columns().split_last() {
///     for (epoch, column) in earlier {
///         let agreement = Agreement::between(column, last, &AgreementOptions::default())?;
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
    /// Makes a series of named columns of one score.
    #[must_use]
    pub fn new(score: impl Into<String>, columns: Vec<(String, ScoreColumn)>) -> Self {
        Self { score: score.into(), columns }
    }

    /// Computes a score of each run separately, in columns named for the runs; all runs if `runs`
    /// is empty. A score without an epoch, such as `el2n`, is taken at the epoch that it refers to
    /// over all these runs. `progress` is called with the rows read since its last call.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for an unknown run or score, or fewer than 2 runs;
    /// otherwise as for [`ScoreTable::fold`](crate::scores::ScoreTable::fold).
    pub fn by_run(
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
        let score = resolved(experiment, &names, score.parse()?, &mut progress)?.to_string();
        let column = |name: &String| {
            let column = table(experiment, &[name], score.parse()?, &mut progress)
                .and_then(|table| table.column(&score))
                .map_err(|error| error.context(format!("run `{name}`")))?;
            Ok((name.clone(), column))
        };
        let columns = names.iter().map(column).collect::<Result<_>>()?;
        Ok(Self { score, columns })
    }

    /// Computes a score at each epoch as its mean over runs (all if `runs` is empty), in ascending
    /// order, in columns named `epoch 1` and so on. Includes the epochs that are common to every
    /// run that has recorded the phase. `phase` defaults to the first of score, train and held-out
    /// that there is.
    /// `progress` is called with the rows read since its last call.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for an unknown run, or a score that does not have at least
    /// 2 such epochs; otherwise as for [`ScoreTable::fold`](crate::scores::ScoreTable::fold).
    pub fn by_epoch(
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
        let request: ScoreRequest = score.parse()?;
        if !request.accepts_time() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "score: expected a signal or `grand`, which have a value per epoch, got `{score}`"
                ),
            ));
        }
        let request = request.at(At::EveryEpoch);
        let request = phase.map_or(request.clone(), |phase| request.phase(phase));
        let names: Vec<&String> = runs.iter().collect();
        let table = table(experiment, &names, request, &mut progress)?;
        let phases = phase
            .map_or([Phase::Score, Phase::Train, Phase::HeldOut].to_vec(), |phase| vec![phase]);
        // A quantity without phases, such as a gradient norm, has its plain name.
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
        let what = format!("epochs of `{score}` that all runs share");
        enough(experiment, &what, &[])
            .map(|()| Self { score: score.to_owned(), columns: Vec::new() })
    }

    /// Returns the score's name, with its phase and epoch where it has them.
    #[must_use]
    pub fn score(&self) -> &str {
        &self.score
    }

    /// Returns the columns with their names.
    #[must_use]
    pub fn columns(&self) -> &[(String, ScoreColumn)] {
        &self.columns
    }

    /// Returns the mean over some of the columns, by index: for every example in one of them, the
    /// mean of its numbers; NaN if it has none.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if an index is out of range.
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
        // Stable: an example keeps the label of the first column.
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

/// Everything that this module compares is computed here.
fn table(
    experiment: &Experiment,
    runs: &[&String],
    score: ScoreRequest,
    progress: &mut dyn FnMut(u64),
) -> Result<ScoreTable> {
    let options = ScoreOptions {
        runs: runs.iter().copied().cloned().collect(),
        scores: vec![score],
        ..ScoreOptions::default()
    };
    ScoreTable::fold_with_progress(experiment, &options, progress)
}

/// A name without a moment, such as `el2n`, refers to one score over all runs, and could refer to
/// another in each of them.
fn resolved(
    experiment: &Experiment,
    runs: &[String],
    score: Score,
    progress: &mut dyn FnMut(u64),
) -> Result<Score> {
    if !matches!(score, Score::Latest(_) | Score::LatestGrand | Score::LatestPerplexity) {
        return Ok(score);
    }
    let runs: Vec<&String> = runs.iter().collect();
    let table = table(experiment, &runs, score.into(), progress)?;
    match table.info().aliases.get(&score.to_string()) {
        Some(name) => name.parse(),
        None => Ok(score),
    }
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

#[cfg(test)]
mod tests {
    use super::super::{Agreement, AgreementOptions, SplitOptions};
    use super::*;

    fn column(examples: &[i64], scores: &[f64]) -> ScoreColumn {
        let labels = examples.iter().map(|&example| example as i32 % 2).collect();
        ScoreColumn::new(examples.to_vec(), labels, scores.to_vec()).unwrap()
    }

    fn series(columns: &[ScoreColumn]) -> ScoreSeries {
        let name = |(at, column): (usize, &ScoreColumn)| (format!("seed-{at}"), column.clone());
        ScoreSeries::new("x", columns.iter().enumerate().map(name).collect())
    }

    #[test]
    fn a_mean_is_over_the_columns_that_have_a_number() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let series = series(&[
            column(&[1, 4, 9, 12], &[1.0, 2.0, nan, inf]),
            column(&[0, 4, 9, 12], &[5.0, 6.0, nan, 3.0]),
            column(&[9], &[7.0]),
        ]);
        let mean = series.mean(&[1, 0]).unwrap();
        assert_eq!(mean.examples(), [0, 1, 4, 9, 12]);
        assert_eq!(mean.labels(), [0, 1, 0, 1, 0]);
        assert_eq!(mean.scores()[..3], [5.0, 1.0, 4.0]);
        assert!(mean.scores()[3].is_nan());
        assert_eq!(mean.scores()[4], inf);
        assert_eq!(series.mean(&[0, 1, 2]).unwrap().scores()[3], 7.0);
        assert_eq!(series.mean(&[2]).unwrap(), column(&[9], &[7.0]));
        let error = series.mean(&[3]).unwrap_err();
        assert_eq!(error.to_string(), "place: expected below 3, got 3");
    }

    #[test]
    fn two_columns_can_be_parted_in_one_way() {
        let ids: Vec<i64> = (0..20).collect();
        let scores = |step: i32| (0..20).map(|at| f64::from(at * step % 20)).collect::<Vec<_>>();
        let (one, other) = (column(&ids, &scores(7)), column(&ids, &scores(3)));
        let series = series(&[one.clone(), other.clone()]);
        let options = AgreementOptions { bootstrap: None, ..AgreementOptions::default() };
        let mut left = Vec::new();
        let splits = series
            .split_agreement(SplitOptions::default(), &options, |more| left.push(more))
            .unwrap();
        assert_eq!(left, [0]);
        let agreement = Agreement::between(&one, &other, &options).unwrap();
        let split = &splits[..];
        let [split] = split else { panic!("{split:?}") };
        assert_eq!((split.runs, split.others, split.splits), (1, 1, 1));
        let spread = split.spearman;
        assert_eq!([spread.mean, spread.low, spread.high], [agreement.spearman.value; 3]);
        assert_eq!(split.kendall.mean, agreement.kendall.value);
        for ((fraction, spread), overlap) in split.shared.iter().zip(&agreement.overlaps) {
            assert_eq!((*fraction, spread.mean), (overlap.fraction, overlap.shared.value));
        }
    }
}
