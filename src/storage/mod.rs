//! Files that are complete or absent.
//!
//! Owns how bytes reach the disk: atomic files and directories, early write-back, checksummed Parquet,
//! and which disk errors are worth a retry. Knows neither tables nor columns; every room that writes a
//! file builds on this one.

mod atomic_directory;
mod atomic_file;
mod checked;
mod disk;
mod background_sync;
mod row_group_writer;
mod retry;

pub(crate) use atomic_directory::AtomicDirectory;
pub(crate) use atomic_file::AtomicFile;
pub(crate) use checked::{CheckedEncoder, CheckedFile, ChunkChecksumWriter, FileBytes, Identity, catch_panic};
pub(crate) use disk::{Disk, DiskFile, LocalDisk, replace_file};
pub(crate) use background_sync::BackgroundSync;
pub(crate) use row_group_writer::{RowGroupWriter, StickyErrorWriter, io_error};
pub(crate) use retry::{Retry, is_transient, retry_until};
