//! Rows of the geometry's tables, as JSON tells them.

use std::path::PathBuf;

use data_diet::geometry::barrier::{RiskCurve, RiskPoint};
use data_diet::geometry::{
    ErrorBarrierRow, ErrorBarrierTable, KernelVelocityRow, KernelVelocityTable, RunningStatistics,
    TimeUnit,
};
use serde::Deserialize;

use super::Result;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Geometry {
    experiment: PathBuf,
    run: String,
    velocities: Vec<Velocity>,
    barriers: Vec<Barrier>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Velocity {
    set: String,
    steps: [u64; 2],
    epochs: [u32; 2],
    distance: f64,
    dt: f64,
    in_epochs: bool,
    examples: u32,
    classes: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Barrier {
    runs: [String; 2],
    spawn_step: Option<u64>,
    step: u64,
    epoch: u32,
    set: String,
    examples: u32,
    reestimated: bool,
    /// Position, error rate, and loss; no loss stands for one that is not a number.
    curve: Vec<(f64, f64, Option<f64>)>,
}

impl Geometry {
    /// Writes everything and returns how many rows and curves that were.
    pub(crate) fn write(self) -> Result<usize> {
        let velocities: Vec<KernelVelocityRow> = self.velocities.into_iter().map(row).collect();
        KernelVelocityTable::open(&self.experiment, &self.run)?.append(&velocities)?;
        let barriers =
            self.barriers.into_iter().map(curve).collect::<data_diet::Result<Vec<_>>>()?;
        ErrorBarrierTable::open(&self.experiment)?.append(&barriers)?;
        Ok(velocities.len() + barriers.len())
    }
}

fn row(velocity: Velocity) -> KernelVelocityRow {
    let Velocity { set, steps, epochs, distance, dt, in_epochs, examples, classes } = velocity;
    KernelVelocityRow {
        set,
        first_step: steps[0],
        second_step: steps[1],
        first_epoch: epochs[0],
        second_epoch: epochs[1],
        distance,
        dt,
        dt_unit: if in_epochs { TimeUnit::Epochs } else { TimeUnit::Steps },
        examples,
        classes,
    }
}

fn curve(barrier: Barrier) -> data_diet::Result<ErrorBarrierRow> {
    let Barrier { runs: [first, second], spawn_step, step, epoch, set, examples, .. } = barrier;
    let point = |(alpha, error, loss): (f64, f64, Option<f64>)| RiskPoint {
        alpha,
        error,
        loss: loss.unwrap_or(f64::NAN),
    };
    Ok(ErrorBarrierRow {
        first,
        second,
        spawn_step,
        step,
        epoch,
        set,
        examples,
        running_statistics: if barrier.reestimated {
            RunningStatistics::Reestimated
        } else {
            RunningStatistics::Interpolated
        },
        curve: RiskCurve::new(barrier.curve.into_iter().map(point).collect())?,
    })
}
