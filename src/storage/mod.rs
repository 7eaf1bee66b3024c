//! Files that are complete or absent.
//!
//! Owns how bytes reach the disk: atomic files and directories, early write-back, checksummed Parquet
//! files, and the retry policy for transient disk errors. Leaves tables and their columns to its
//! callers. Every module that writes a file builds on this one.

mod atomic_directory;
mod atomic_file;
mod background_sync;
mod checked;
mod disk;
mod parquet_writers;
mod retry;

pub(crate) use atomic_directory::AtomicDirectory;
pub(crate) use atomic_file::AtomicFile;
pub(crate) use background_sync::BackgroundSync;
pub(crate) use checked::{
    CheckedEncoder, CheckedFile, ChunkChecksumWriter, FileBytes, Identity, catch_panic,
};
pub(crate) use disk::{Disk, DiskFile, LocalDisk, replace_file};
pub(crate) use parquet_writers::{CREATED_BY, StickyErrorWriter, io_error};
pub(crate) use retry::{Retry, is_transient, retry_until};
