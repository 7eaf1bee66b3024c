//! The scores of an experiment in memory, one row per example.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::column_sink::{ColumnSink, Keys, Statistics};
use super::fold::{fold, threads};
use super::info::ScoreInfo;
use super::moments::Moments;
use super::request::ScoreOptions;
use super::spill::Spill;
use super::values::Values;
use super::writer;
use crate::error::{Error, ErrorKind, Result};
use crate::run::Experiment;
use crate::selection::ScoreColumn;
use crate::storage::AtomicFile;

/// The scores of the examples that the runs have seen, in ascending order of id.
#[derive(Clone, Debug)]
pub struct ScoreTable {
    pub(crate) examples: Vec<i64>,
    pub(crate) labels: Vec<i32>,
    pub(crate) runs: Vec<i32>,
    pub(crate) statistics: Vec<ScoreStatistics>,
    pub(crate) info: ScoreInfo,
}

/// One score of every example: mean, standard deviation and count over runs. See
/// [`Score`](crate::scores::Score) for what the names mean and which direction is hard.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScoreStatistics {
    /// The score's name.
    pub name: String,
    /// The mean over runs; NaN if no run has a value.
    pub mean: Vec<f64>,
    /// The sample standard deviation (`n - 1`) over runs; NaN for fewer than two values, or an
    /// infinite mean.
    pub std: Vec<f64>,
    /// The number of runs that have a value.
    pub count: Vec<i32>,
}

/// The result of [`ScoreTable::fold_to_file`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScoreFileSummary {
    /// The number of examples, which are the rows.
    pub examples: usize,
    /// The scores' names, in the order of the columns.
    pub scores: Vec<String>,
    /// Where the scores come from.
    pub info: ScoreInfo,
}

impl ScoreTable {
    /// Folds the observations of an experiment's runs into one row per example.
    ///
    /// A score that only some of the runs have recorded is folded over those runs. A signal that a run
    /// has not recorded is derived where that is exact, to `f32` rounding: `confidence` = exp(-`loss`)
    /// where all targets were classes, and any signal from the table `logits` if it has every logit as
    /// `f32` (`el2n`, `el1n` and `loss` of class targets only). [`ScoreInfo::derived`] says what was.
    ///
    /// # Memory
    ///
    /// Bytes per example:
    ///
    /// - 24, and 24 for each score of the result (none with [`fold_to_file`](Self::fold_to_file));
    ///
    /// - while folding, 4 for each score whose epochs or steps are being read (12 where examples
    ///   are seen several times in them), 12 each for forgetting and `aum`, 32 for cartography;
    ///
    /// - 4 if a run has several ranks, and 4 to 40 if ids are not `0..n`.
    ///
    /// Runs are folded one after the other, so neither their number nor that of the observations
    /// matters.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for an unknown run, and for a signal, an epoch or a step
    /// that no run has recorded or can derive, listing what there is and what is needed;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the runs differ in their kind of
    /// model; [`Empty`](ErrorKind::Empty) if there are no observations;
    /// [`Corrupt`](ErrorKind::Corrupt) if a file is damaged; [`Io`](ErrorKind::Io) if it cannot be
    /// read.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use data_diet::{Amount, Experiment, Rule, ScoreOptions, ScoreTable};
    ///
    /// let experiment = Experiment::open("runs/digits")?;
    /// let scores = ScoreTable::fold(&experiment, &ScoreOptions::default())?;
    /// let kept = scores.column("el2n")?.select(Rule::Highest(Amount::Fraction(0.7)))?;
    /// println!("train on {} examples", kept.len());
    /// # Ok::<(), data_diet::Error>(())
    /// ```
    pub fn fold(experiment: &Experiment, options: &ScoreOptions) -> Result<Self> {
        Self::fold_with_progress(experiment, options, |_rows| {})
    }

    /// Like [`fold`](Self::fold). `progress` is called now and then with the number of rows read
    /// since the last call.
    ///
    /// # Errors
    ///
    /// As for [`fold`](Self::fold).
    pub fn fold_with_progress(
        experiment: &Experiment,
        options: &ScoreOptions,
        mut progress: impl FnMut(u64),
    ) -> Result<Self> {
        let mut columns = InMemory::default();
        let folded = fold(experiment, options, &mut columns, &mut progress)?;
        let order = folded.order.as_deref();
        let statistics = |moments: &Vec<Moments>| {
            let places = 0..folded.keys.examples.len();
            let place = |row: usize| order.map_or(row, |order| order[row] as usize);
            let moments = |row| moments.get(place(row)).copied().unwrap_or_default();
            let mut statistics = Statistics::with_capacity(places.len());
            places.for_each(|row| statistics.push(moments(row)));
            statistics
        };
        // A column with two names is finished once for each.
        let mut left: BTreeMap<usize, usize> = BTreeMap::new();
        folded.columns.iter().for_each(|(_, column)| *left.entry(*column).or_default() += 1);
        let mut finish = |(name, column): &(String, usize)| {
            let Statistics { mean, std, count } = statistics(&columns.0[*column]);
            if let Some(left) = left.get_mut(column) {
                *left -= 1;
                if *left == 0 {
                    columns.0[*column] = Vec::new();
                }
            }
            ScoreStatistics { name: name.clone(), mean, std, count }
        };
        let statistics = folded.columns.iter().map(&mut finish).collect();
        let Keys { examples, labels, runs } = folded.keys;
        Ok(Self { examples, labels, runs, statistics, info: folded.info })
    }

    /// Like [`fold`](Self::fold), but writes a Parquet file as [`write`](Self::write) does. Memory
    /// is proportional to the number of examples, not of observations, however many scores are
    /// asked for: finished columns wait in a temporary file beside the output, which takes 4 to 8
    /// bytes per example, run and score.
    ///
    /// # Errors
    ///
    /// As for [`fold`](Self::fold); [`Io`](ErrorKind::Io) if a file cannot be written.
    pub fn fold_to_file(
        experiment: &Experiment,
        options: &ScoreOptions,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(u64),
    ) -> Result<ScoreFileSummary> {
        // Created before the long work, so that an unwritable path fails at once.
        let file = AtomicFile::create(path.as_ref())?;
        let mut spill = Spill::beside(path.as_ref())?;
        let folded = fold(experiment, options, &mut spill, &mut progress)?;
        let columns = spill.sort(folded.order.as_deref())?;
        let (scores, places): (Vec<String>, Vec<usize>) = folded.columns.into_iter().unzip();
        let threads = threads(options);
        writer::write(file, &folded.keys, &scores, &folded.info, threads, |score, rows| {
            columns.read(places[score], rows)
        })?;
        Ok(ScoreFileSummary { examples: folded.keys.examples.len(), scores, info: folded.info })
    }

    /// Returns the example ids, ascending.
    #[must_use]
    pub fn examples(&self) -> &[i64] {
        &self.examples
    }

    /// Returns the class of each example, as it was first recorded.
    #[must_use]
    pub fn labels(&self) -> &[i32] {
        &self.labels
    }

    /// Returns the number of runs in which each example was seen.
    #[must_use]
    pub fn runs(&self) -> &[i32] {
        &self.runs
    }

    /// Returns every score, in the order of the columns.
    #[must_use]
    pub fn statistics(&self) -> &[ScoreStatistics] {
        &self.statistics
    }

    /// Returns where the scores come from.
    #[must_use]
    pub fn info(&self) -> &ScoreInfo {
        &self.info
    }

    /// Returns the mean over runs of one score, to select examples by.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for an unknown name, listing the names.
    pub fn column(&self, name: &str) -> Result<ScoreColumn> {
        let score = self.statistics.iter().find(|score| score.name == name).ok_or_else(|| {
            unknown(name, self.statistics.iter().map(|score| score.name.as_str()))
        })?;
        ScoreColumn::new(self.examples.clone(), self.labels.clone(), score.mean.clone())
    }

    /// Writes the table as Parquet: `example`, `label`, `runs`, and for each score its `_mean`, `_std`
    /// and `_count`. The file appears when it is complete.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let keys = Keys {
            examples: self.examples.clone(),
            labels: self.labels.clone(),
            runs: self.runs.clone(),
        };
        let names: Vec<String> = self.statistics.iter().map(|score| score.name.clone()).collect();
        let read = |score: usize, rows: Range<usize>| {
            let score = &self.statistics[score];
            Ok(Statistics {
                mean: score.mean[rows.clone()].to_vec(),
                std: score.std[rows.clone()].to_vec(),
                count: score.count[rows].to_vec(),
            })
        };
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        writer::write(AtomicFile::create(path.as_ref())?, &keys, &names, &self.info, threads, read)
    }
}

/// The moments over runs of each column, by place.
#[derive(Default)]
struct InMemory(Vec<Vec<Moments>>);

impl ColumnSink for InMemory {
    fn expect(&mut self, columns: usize) {
        self.0.resize(columns, Vec::new());
    }

    fn push(&mut self, column: usize, values: Values) -> Result<()> {
        let moments = &mut self.0[column];
        if moments.len() < values.len() {
            moments.resize(values.len(), Moments::default());
        }
        for (place, moments) in moments[..values.len()].iter_mut().enumerate() {
            let value = values.get(place);
            if !value.is_nan() {
                moments.add(value);
            }
        }
        Ok(())
    }
}

pub(super) fn unknown<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let names: Vec<&str> = names.collect();
    let message = format!("no score `{name}`; there are: {}", names.join(", "));
    Error::new(ErrorKind::NotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Batch, BatchFormat, Moment, Phase, Targets};
    use crate::record::Recorder;

    /// Ids in no particular order, and later epochs that bring new ones.
    fn record(path: &Path, run: &str, shift: f32) {
        let format = BatchFormat::classes(2).unwrap();
        let mut recorder = Recorder::builder(path, run, format.clone()).start().unwrap();
        for step in 0..30_u32 {
            for phase in Phase::ALL {
                let moment = Moment { phase, step: step.into(), epoch: step / 10 };
                let id = |row: u32| i64::from((row * 17 + 5) % (20 + step)) * 1_000_003;
                let ids: Vec<i64> = (0..8).map(id).collect();
                let logits: Vec<f32> =
                    (0..16_u8).map(|z| (f32::from(z) * 0.37 + shift + step as f32).sin()).collect();
                let labels = Targets::Classes(&[0, 1, 0, 1, 1, 1, 0, 0]);
                recorder
                    .record(Batch::new(&format, moment, &ids, &logits, labels).unwrap())
                    .unwrap();
            }
        }
        recorder.finish().unwrap().check().unwrap();
    }

    #[test]
    fn folding_to_a_file_gives_the_file_of_the_table() {
        let directory = tempfile::tempdir().unwrap();
        let runs = directory.path().join("runs");
        record(&runs, "a", 0.0);
        record(&runs, "b", 0.5);
        let experiment = Experiment::open(&runs).unwrap();
        let options = ScoreOptions::default();
        let [spilled, whole] = ["spilled", "whole"].map(|name| directory.path().join(name));
        let table = ScoreTable::fold(&experiment, &options).unwrap();
        table.write(&whole).unwrap();
        let mut rows = 0;
        let file =
            ScoreTable::fold_to_file(&experiment, &options, &spilled, |more| rows += more).unwrap();
        assert!(std::fs::read(&spilled).unwrap() == std::fs::read(&whole).unwrap());
        assert_eq!(rows, 2 * 30 * Phase::ALL.len() as u64 * 8);
        let names: Vec<&str> = table.statistics().iter().map(|score| score.name.as_str()).collect();
        assert_eq!(file.scores, names);
        assert_eq!((file.examples, &file.info), (table.examples().len(), table.info()));
        assert_eq!(file.info.aliases["el2n"], "el2n_score_epoch_2");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3, "no spill is left");
        let column = ScoreColumn::read(&spilled, "el2n").unwrap();
        let bits = |scores: &[f64]| scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
        let expected = table.column("el2n_score_epoch_2").unwrap();
        assert_eq!(column.examples(), expected.examples());
        assert_eq!(bits(column.scores()), bits(expected.scores()));
    }
}
