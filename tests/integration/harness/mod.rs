//! What every integration test stands on: an experiment directory that goes away, the command line as
//! a user runs it, a made-up training run whose every row is known, and its tables read back.

mod child;
mod command;
mod directory;
pub(crate) mod recorded;
mod tables;
mod training;

pub(crate) use child::{Recording, directory_of_child, say};
pub(crate) use command::{command, data_diet, finish};
pub(crate) use directory::{Directory, copy_directory};
pub(crate) use tables::{Row, observations, part_files, table};
pub(crate) use training::Training;
