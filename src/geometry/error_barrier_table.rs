//! The table `error_barrier`: error rate and loss along the line between two networks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;

use super::columns::{self, Columns};
use super::parts::Parts;
use super::schema::{self, BARRIERS, ERROR_BARRIER_IDENTITY};
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::barrier::{RiskCurve, RiskPoint};

/// How the running statistics of batch normalization were obtained between the two networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunningStatistics {
    /// Interpolated like every other weight, or the network has none.
    Interpolated,
    /// Re-estimated at every position by passes over data in training mode.
    Reestimated,
}

impl RunningStatistics {
    /// The name in the column `running_statistics`: `interpolated` or `reestimated`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Interpolated => "interpolated",
            Self::Reestimated => "reestimated",
        }
    }
}

/// The line between two networks at one step, measured on one group of examples. The table holds
/// one row per position of the curve.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorBarrierRow {
    /// The run whose weights are at `alpha = 1`.
    pub first: String,
    /// The run whose weights are at `alpha = 0`.
    pub second: String,
    /// The step at which both runs had the same weights, or `None` if they never had.
    pub spawn_step: Option<u64>,
    /// Optimizer updates applied to each network's weights, counted from the beginning of the
    /// parent run.
    pub step: u64,
    /// Epochs completed, counted from the beginning of the parent run.
    pub epoch: u32,
    /// The name of the group of examples.
    pub set: String,
    /// The number of examples in the group.
    pub examples: u32,
    /// How batch normalization was treated along the line.
    pub running_statistics: RunningStatistics,
    /// Error rate and mean loss along the line.
    pub curve: RiskCurve,
}

/// The barriers at one step, averaged over all pairs spawned at the same step.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanBarrier {
    /// The step at which the networks of each pair had the same weights.
    pub spawn_step: Option<u64>,
    /// Optimizer updates applied to the weights.
    pub step: u64,
    /// Epochs completed; the lowest if the pairs differ.
    pub epoch: u32,
    /// The name of the group of examples.
    pub set: String,
    /// How batch normalization was treated along the line.
    pub running_statistics: RunningStatistics,
    /// The number of pairs.
    pub pairs: usize,
    /// The barrier of the error rate above the chord, in `0..=1`; NaN if a pair has none.
    pub error_by_chord: f64,
    /// The barrier of the error rate above the mean of the ends, in `0..=1`; NaN if a pair has none.
    pub error_by_mean: f64,
    /// The barrier of the loss above the chord; NaN if any pair's loss is not finite.
    pub loss_by_chord: f64,
    /// The barrier of the loss above the mean of the ends; NaN if any pair's loss is not finite.
    pub loss_by_mean: f64,
}

/// The error barriers of an experiment, stored in `EXPERIMENT/error_barrier/part-*.parquet`.
///
/// Curves are identified by the names of their runs. Delete the directory when you record one of
/// these runs again: unlike a run's kernel velocities, which are removed together with its weights,
/// one part holds the curves of several runs.
///
/// | column | type | |
/// |---|---|---|
/// | `first`, `second` | string | the two runs |
/// | `spawn_step` | i64, or null | where they were the same |
/// | `step`, `epoch` | i64, i32 | when they were measured |
/// | `set`, `examples` | string, i32 | on which examples |
/// | `running_statistics` | string | `interpolated` or `reestimated` |
/// | `alpha` | f64 | the weight of `first` |
/// | `error`, `loss` | f64 | at `alpha`: error rate (NaN for models without one, such as a regression), mean loss |
/// | `error_by_chord`, `error_by_mean` | f64 | the barriers of the error rate, the same in every row of a curve; NaN without one |
/// | `loss_by_chord`, `loss_by_mean` | f64 | those of the loss, NaN if it is not finite somewhere |
#[derive(Clone, Debug)]
pub struct ErrorBarrierTable {
    parts: Parts,
    rows: Vec<ErrorBarrierRow>,
}

impl ErrorBarrierTable {
    /// Opens the table of an experiment and reads the curves in it. A table that does not exist is
    /// empty.
    ///
    /// # Errors
    ///
    /// [`UnsupportedFormat`](ErrorKind::UnsupportedFormat) if a part belongs to another table;
    /// [`Corrupt`](ErrorKind::Corrupt) if a part is damaged.
    pub fn open(experiment: impl AsRef<Path>) -> Result<Self> {
        let mut parts = parts(experiment.as_ref());
        let mut rows = Vec::new();
        for (path, batches) in parts.read()? {
            rows.extend(read_rows(&path, &batches)?);
        }
        Ok(Self { parts, rows })
    }

    /// Returns every curve, in the order in which they were written.
    #[must_use]
    pub fn rows(&self) -> &[ErrorBarrierRow] {
        &self.rows
    }

    /// Returns whether the table has a curve of the same pair, spawn step, step, set and treatment
    /// of batch normalization.
    #[must_use]
    pub fn contains(&self, row: &ErrorBarrierRow) -> bool {
        self.rows.iter().any(|known| known.key() == row.key())
    }

    /// Writes curves as a new part of the table. They are safe on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a curve without the name of a run or a
    /// set; [`AlreadyExists`](ErrorKind::AlreadyExists) if the table already
    /// [contains](Self::contains) one of the curves, or another process writes the table at the
    /// same time; [`Io`](ErrorKind::Io) if the file cannot be written. On an error nothing is
    /// written.
    pub fn append(&mut self, rows: &[ErrorBarrierRow]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut keys: BTreeSet<_> = self.rows.iter().map(ErrorBarrierRow::key).collect();
        if let Some(row) = rows.iter().find(|row| !keys.insert(row.key())) {
            let ErrorBarrierRow { first, second, set, step, .. } = row;
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!(
                    "set: the table already has `{set}` of `{first}` and `{second}` at step {step}"
                ),
            ));
        }
        self.parts.append(&encode(rows)?)?;
        self.rows.extend_from_slice(rows);
        Ok(())
    }

    /// Returns the barriers at every step and on every set, averaged over the pairs of each spawn
    /// step, in ascending order of spawn step, set, treatment of batch normalization and step.
    #[must_use]
    pub fn means(&self) -> Vec<MeanBarrier> {
        let mut groups: BTreeMap<_, Vec<&ErrorBarrierRow>> = BTreeMap::new();
        for row in &self.rows {
            let key = (row.spawn_step, &row.set, row.running_statistics, row.step);
            groups.entry(key).or_default().push(row);
        }
        let means =
            groups.into_iter().map(|((spawn_step, set, running_statistics, step), rows)| {
                let mean = |height: fn(&RiskCurve) -> f64| {
                    rows.iter().map(|row| height(&row.curve)).sum::<f64>() / rows.len() as f64
                };
                MeanBarrier {
                    spawn_step,
                    step,
                    epoch: rows.iter().map(|row| row.epoch).min().unwrap_or_default(),
                    set: set.clone(),
                    running_statistics,
                    pairs: rows.len(),
                    error_by_chord: mean(HEIGHTS[0]),
                    error_by_mean: mean(HEIGHTS[1]),
                    loss_by_chord: mean(HEIGHTS[2]),
                    loss_by_mean: mean(HEIGHTS[3]),
                }
            });
        means.collect()
    }
}

/// The barriers of a curve, in the order of [`BARRIERS`].
const HEIGHTS: [fn(&RiskCurve) -> f64; BARRIERS.len()] = [
    |curve| curve.errors().by_chord().height,
    |curve| curve.errors().by_mean().height,
    |curve| curve.losses().by_chord().height,
    |curve| curve.losses().by_mean().height,
];

impl ErrorBarrierRow {
    pub(super) fn key(&self) -> (&str, &str, Option<u64>, u64, &str, RunningStatistics) {
        let Self { first, second, spawn_step, step, set, running_statistics, .. } = self;
        (first, second, *spawn_step, *step, set, *running_statistics)
    }
}

/// The parts of an experiment's table.
pub(super) fn parts(experiment: &Path) -> Parts {
    Parts::new(experiment, ERROR_BARRIER_IDENTITY, "", schema::error_barrier())
}

/// Reads the curves of a part.
pub(super) fn read_rows(path: &Path, batches: &[RecordBatch]) -> Result<Vec<ErrorBarrierRow>> {
    let mut curves: Vec<(ErrorBarrierRow, Vec<RiskPoint>)> = Vec::new();
    for batch in batches {
        let columns = Columns::new(path, batch);
        for row in 0..batch.num_rows() {
            let (curve, point) = read_row(&columns, row)?;
            match curves.last_mut() {
                // Curves are written whole, in ascending order of position.
                Some((last, points)) if *last == curve && point.alpha != 0.0 => {
                    points.push(point);
                }
                _ => curves.push((curve, vec![point])),
            }
        }
    }
    let rows = curves.into_iter().map(|(mut row, points)| {
        row.curve = RiskCurve::new(points).map_err(|error| {
            let (first, second, step) = (&row.first, &row.second, row.step);
            let what = format!("the curve of `{first}` and `{second}` at step {step}: {error}");
            Error::corrupt(path, what)
        })?;
        Ok(row)
    });
    rows.collect()
}

/// Repeats one value of each curve for every position of the curve.
fn repeated<T: Clone>(
    rows: &[ErrorBarrierRow],
    of: impl Fn(&ErrorBarrierRow) -> Result<T>,
) -> Result<Vec<T>> {
    let mut values = Vec::new();
    for row in rows {
        values.resize(values.len() + row.curve.points().len(), of(row)?);
    }
    Ok(values)
}

fn encode(rows: &[ErrorBarrierRow]) -> Result<RecordBatch> {
    let text = |of: &dyn Fn(&ErrorBarrierRow) -> Result<String>| -> Result<ArrayRef> {
        Ok(Arc::new(StringArray::from(repeated(rows, of)?)))
    };
    let counts = |of: &dyn Fn(&ErrorBarrierRow) -> Result<i32>| -> Result<ArrayRef> {
        Ok(Arc::new(Int32Array::from(repeated(rows, of)?)))
    };
    let points = |of: fn(&RiskPoint) -> f64| -> ArrayRef {
        let values = rows.iter().flat_map(|row| row.curve.points()).map(of);
        Arc::new(Float64Array::from_iter_values(values))
    };
    let spawn_steps = repeated(rows, |row| {
        row.spawn_step.map(|step| columns::step("spawn_step", step)).transpose()
    })?;
    let steps = repeated(rows, |row| columns::step("step", row.step))?;
    let mut columns = vec![
        text(&|row| columns::name("first", &row.first))?,
        text(&|row| columns::name("second", &row.second))?,
        Arc::new(Int64Array::from(spawn_steps)),
        Arc::new(Int64Array::from(steps)),
        counts(&|row| columns::count("epoch", row.epoch))?,
        text(&|row| columns::name("set", &row.set))?,
        counts(&|row| columns::count("examples", row.examples))?,
        text(&|row| Ok(row.running_statistics.name().to_owned()))?,
        points(|point| point.alpha),
        points(|point| point.error),
        points(|point| point.loss),
    ];
    for height in HEIGHTS {
        let heights = repeated(rows, |row| Ok(height(&row.curve)))?;
        columns.push(Arc::new(Float64Array::from(heights)));
    }
    RecordBatch::try_new(schema::error_barrier(), columns)
        .map_err(|error| Error::invalid("rows: cannot be encoded").with_source(error))
}

/// Reads one position, and the curve it belongs to without its points.
fn read_row(columns: &Columns<'_>, row: usize) -> Result<(ErrorBarrierRow, RiskPoint)> {
    let treatments = [RunningStatistics::Interpolated, RunningStatistics::Reestimated];
    let curve = ErrorBarrierRow {
        first: columns.text("first", row)?.to_owned(),
        second: columns.text("second", row)?.to_owned(),
        spawn_step: columns.step_if_any("spawn_step", row)?,
        step: columns.step("step", row)?,
        epoch: columns.count("epoch", row)?,
        set: columns.text("set", row)?.to_owned(),
        examples: columns.count("examples", row)?,
        running_statistics: columns.word(
            "running_statistics",
            row,
            &treatments.map(|treatment| (treatment.name(), treatment)),
        )?,
        curve: RiskCurve::empty(),
    };
    let point = RiskPoint {
        alpha: columns.float("alpha", row)?,
        error: columns.float("error", row)?,
        loss: columns.float("loss", row)?,
    };
    Ok((curve, point))
}
