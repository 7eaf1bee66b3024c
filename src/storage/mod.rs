//! Files that are complete or absent.
//!
//! Owns how bytes reach the disk: atomic files and directories, early write-back, checksummed Parquet,
//! and which disk errors are worth a retry. Knows neither tables nor columns; every room that writes a
//! file builds on this one.

mod atomic_directory;
mod atomic_file;
mod checked;
mod disk;
mod early_sync;
mod parquet_output;
mod retry;

pub(crate) use atomic_directory::AtomicDirectory;
pub(crate) use atomic_file::AtomicFile;
pub(crate) use checked::{CheckedEncoder, CheckedFile, ChunkSums, FileBytes, Identity, contained};
pub(crate) use disk::{Disk, DiskFile, LocalDisk, replace_file};
pub(crate) use early_sync::EarlySync;
pub(crate) use parquet_output::{ParquetGroups, Unforgiving, io_error};
pub(crate) use retry::{Retry, is_transient, retry_until};
