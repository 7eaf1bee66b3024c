//! Runs on disks that fail, fill up, lie and lose power.

mod columns;
mod crash;
mod faulty_disk;
mod forgetful_disk;
mod full_disk;
mod log;
mod power_cut;
mod resume;
mod rows;

pub(crate) use faulty_disk::{Call, FaultyDisk};
pub(crate) use rows::{Fixture, batch, format};
