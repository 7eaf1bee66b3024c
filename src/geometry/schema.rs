//! The schemas of the geometry's tables: columns, types, and the versions that readers check.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::run::KERNEL_VELOCITY;
use crate::storage::Identity;

/// The identity that parts of the table of kernel velocities carry.
pub(super) const KERNEL_VELOCITY_IDENTITY: Identity =
    Identity { table: KERNEL_VELOCITY, version: 1 };
/// The identity that parts of the table of error barriers carry.
pub(super) const ERROR_BARRIER_IDENTITY: Identity = Identity { table: "error_barrier", version: 1 };

/// The columns that hold the height of a barrier, of the error rate and of the loss.
pub(super) const BARRIERS: [&str; 4] =
    ["error_by_chord", "error_by_mean", "loss_by_chord", "loss_by_mean"];

/// One row for each set and pair of snapshots of a run.
pub(super) fn kernel_velocity() -> SchemaRef {
    let field = |name: &str, kind: DataType| Field::new(name, kind, false);
    Arc::new(Schema::new(vec![
        field("set", DataType::Utf8),
        field("first_step", DataType::Int64),
        field("second_step", DataType::Int64),
        field("first_epoch", DataType::Int32),
        field("second_epoch", DataType::Int32),
        field("distance", DataType::Float64),
        field("velocity", DataType::Float64),
        field("dt", DataType::Float64),
        field("dt_unit", DataType::Utf8),
        field("examples", DataType::Int32),
        field("classes", DataType::Int32),
    ]))
}

/// One row for each position on the line between two networks.
pub(super) fn error_barrier() -> SchemaRef {
    let field = |name: &str, kind: DataType| Field::new(name, kind, false);
    let mut fields = vec![
        field("first", DataType::Utf8),
        field("second", DataType::Utf8),
        Field::new("spawn_step", DataType::Int64, true),
        field("step", DataType::Int64),
        field("epoch", DataType::Int32),
        field("set", DataType::Utf8),
        field("examples", DataType::Int32),
        field("running_statistics", DataType::Utf8),
        field("alpha", DataType::Float64),
        field("error", DataType::Float64),
        field("loss", DataType::Float64),
    ];
    fields.extend(BARRIERS.map(|name| field(name, DataType::Float64)));
    Arc::new(Schema::new(fields))
}
