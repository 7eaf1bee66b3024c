//! The table `kernel_velocity`: how far the kernel of a group of examples turned between two
//! snapshots of a run.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;

use super::columns::{self, Columns};
use super::parts::Parts;
use super::schema::{self, KERNEL_VELOCITY_IDENTITY};
use crate::error::{Error, Result};
use crate::geometry::kernel;
use crate::run::check_run_name;

/// The unit of time between two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Optimizer updates.
    Steps,
    /// Passes over the training data.
    Epochs,
}

impl TimeUnit {
    /// The name in the column `dt_unit`: `steps` or `epochs`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Epochs => "epochs",
        }
    }
}

/// How far the kernel of one group of examples turned between two snapshots of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelVelocityRow {
    /// The group's name.
    pub set: String,
    /// Optimizer updates applied to the earlier weights.
    pub first_step: u64,
    /// Optimizer updates applied to the later weights.
    pub second_step: u64,
    /// Epochs completed at the earlier weights.
    pub first_epoch: u32,
    /// Epochs completed at the later weights.
    pub second_epoch: u32,
    /// The [kernel distance](kernel::distance) between the two, in `0..=1`.
    pub distance: f64,
    /// The time between the two, in [`dt_unit`](Self::dt_unit); positive.
    pub dt: f64,
    /// The unit of `dt`.
    pub dt_unit: TimeUnit,
    /// The number of examples in the group.
    pub examples: u32,
    /// The number of logits per example.
    pub classes: u32,
}

impl KernelVelocityRow {
    /// Returns the kernel velocity `distance / dt`, in one over [`dt_unit`](Self::dt_unit).
    ///
    /// # Errors
    ///
    /// See [`kernel::velocity`].
    pub fn velocity(&self) -> Result<f64> {
        kernel::velocity(self.distance, self.dt)
    }
}

/// The kernel velocities of one run, stored in `EXPERIMENT/kernel_velocity/run=RUN/part-*.parquet`.
///
/// | column | type | |
/// |---|---|---|
/// | `set` | string | the group of examples |
/// | `first_step`, `second_step` | i64 | the two snapshots |
/// | `first_epoch`, `second_epoch` | i32 | epochs completed at each |
/// | `distance` | f64 | kernel distance between the two |
/// | `velocity` | f64 | `distance / dt` |
/// | `dt` | f64 | the time between them |
/// | `dt_unit` | string | `steps` or `epochs` |
/// | `examples`, `classes` | i32 | the kernel has `examples * classes` rows |
///
/// # Examples
///
/// ```
/// use data_diet::geometry::{KernelVelocityRow, KernelVelocityTable, TimeUnit};
///
/// # let directory = tempfile::tempdir()?;
/// # let experiment = directory.path();
/// let mut table = KernelVelocityTable::open(experiment, "seed-0")?;
/// table.append(&[KernelVelocityRow {
///     set: "window_000".to_owned(),
///     first_step: 0,
///     second_step: 100,
///     first_epoch: 0,
///     second_epoch: 2,
///     distance: 0.5,
///     dt: 2.0,
///     dt_unit: TimeUnit::Epochs,
///     examples: 100,
///     classes: 10,
/// }])?;
/// let table = KernelVelocityTable::open(experiment, "seed-0")?;
/// assert_eq!(table.rows()[0].velocity()?, 0.25);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct KernelVelocityTable {
    parts: Parts,
    rows: Vec<KernelVelocityRow>,
}

impl KernelVelocityTable {
    /// Opens the table of a run and reads the rows in it. A table that does not exist is empty.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if no run can have this name;
    /// [`UnsupportedFormat`](crate::ErrorKind::UnsupportedFormat) if a part belongs to another table;
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if a part is damaged.
    pub fn open(experiment: impl AsRef<Path>, run: &str) -> Result<Self> {
        let mut parts = parts(experiment.as_ref(), run)?;
        let mut rows = Vec::new();
        for (path, batches) in parts.read()? {
            rows.extend(read_rows(&path, &batches)?);
        }
        Ok(Self { parts, rows })
    }

    /// Returns every row, in the order in which they were written.
    #[must_use]
    pub fn rows(&self) -> &[KernelVelocityRow] {
        &self.rows
    }

    /// Returns the row of a group between two snapshots in this unit, or `None` if there is no such
    /// row.
    #[must_use]
    pub fn find(
        &self,
        set: &str,
        first_step: u64,
        second_step: u64,
        unit: TimeUnit,
    ) -> Option<&KernelVelocityRow> {
        self.rows.iter().find(|row| {
            (row.first_step, row.second_step, row.dt_unit) == (first_step, second_step, unit)
                && row.set == set
        })
    }

    /// Writes rows as a new part of the table. They are safe on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a row without the name of a set,
    /// whose snapshots are not in order of time, or whose distance or time is out of range;
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if the table has a row of the same set,
    /// steps and unit, or another process writes it at the same time; [`Io`](crate::ErrorKind::Io)
    /// if the file cannot be written. On an error nothing is written.
    pub fn append(&mut self, rows: &[KernelVelocityRow]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut all = self.clone();
        for row in rows {
            let (first, second) = (row.first_step, row.second_step);
            if all.find(&row.set, first, second, row.dt_unit).is_some() {
                return Err(Error::new(
                    crate::error::ErrorKind::AlreadyExists,
                    format!(
                        "set: the table already has `{}` between steps {first} and {second}",
                        row.set
                    ),
                ));
            }
            all.rows.push(row.clone());
        }
        self.parts.append(&encode(rows)?)?;
        self.rows = all.rows;
        Ok(())
    }
}

/// The parts of a run's table.
pub(super) fn parts(experiment: &Path, run: &str) -> Result<Parts> {
    check_run_name(run)?;
    Ok(Parts::new(
        experiment,
        KERNEL_VELOCITY_IDENTITY,
        format!("run={run}"),
        schema::kernel_velocity(),
    ))
}

/// Reads the rows of a part.
pub(super) fn read_rows(path: &Path, batches: &[RecordBatch]) -> Result<Vec<KernelVelocityRow>> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns = Columns::new(path, batch);
        for row in 0..batch.num_rows() {
            rows.push(read_row(&columns, row)?);
        }
    }
    Ok(rows)
}

fn encode(rows: &[KernelVelocityRow]) -> Result<RecordBatch> {
    for row in rows {
        if row.first_step >= row.second_step || row.first_epoch > row.second_epoch {
            return Err(Error::invalid(format!(
                "second_step: expected a snapshot after step {} of epoch {}, got step {} of epoch {}",
                row.first_step, row.first_epoch, row.second_step, row.second_epoch
            )));
        }
    }
    let text = |of: &dyn Fn(&KernelVelocityRow) -> Result<String>| -> Result<ArrayRef> {
        Ok(Arc::new(
            rows.iter().map(of).map(|text| text.map(Some)).collect::<Result<StringArray>>()?,
        ))
    };
    let steps = |of: &dyn Fn(&KernelVelocityRow) -> Result<i64>| -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from(rows.iter().map(of).collect::<Result<Vec<_>>>()?)))
    };
    let counts = |of: &dyn Fn(&KernelVelocityRow) -> Result<i32>| -> Result<ArrayRef> {
        Ok(Arc::new(Int32Array::from(rows.iter().map(of).collect::<Result<Vec<_>>>()?)))
    };
    let floats = |of: &dyn Fn(&KernelVelocityRow) -> Result<f64>| -> Result<ArrayRef> {
        Ok(Arc::new(Float64Array::from(rows.iter().map(of).collect::<Result<Vec<_>>>()?)))
    };
    let columns = vec![
        text(&|row| columns::name("set", &row.set))?,
        steps(&|row| columns::step("first_step", row.first_step))?,
        steps(&|row| columns::step("second_step", row.second_step))?,
        counts(&|row| columns::count("first_epoch", row.first_epoch))?,
        counts(&|row| columns::count("second_epoch", row.second_epoch))?,
        floats(&|row| Ok(row.distance))?,
        floats(&KernelVelocityRow::velocity)?,
        floats(&|row| Ok(row.dt))?,
        text(&|row| Ok(row.dt_unit.name().to_owned()))?,
        counts(&|row| columns::count("examples", row.examples))?,
        counts(&|row| columns::count("classes", row.classes))?,
    ];
    RecordBatch::try_new(schema::kernel_velocity(), columns)
        .map_err(|error| Error::invalid("rows: cannot be encoded").with_source(error))
}

fn read_row(columns: &Columns<'_>, row: usize) -> Result<KernelVelocityRow> {
    let units = [TimeUnit::Steps, TimeUnit::Epochs].map(|unit| (unit.name(), unit));
    Ok(KernelVelocityRow {
        set: columns.text("set", row)?.to_owned(),
        first_step: columns.step("first_step", row)?,
        second_step: columns.step("second_step", row)?,
        first_epoch: columns.count("first_epoch", row)?,
        second_epoch: columns.count("second_epoch", row)?,
        distance: columns.float("distance", row)?,
        dt: columns.float("dt", row)?,
        dt_unit: columns.word("dt_unit", row, &units)?,
        examples: columns.count("examples", row)?,
        classes: columns.count("classes", row)?,
    })
}
