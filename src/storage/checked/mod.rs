//! Parquet files whose every byte has a checksum; all tables of an experiment are written and read
//! through this module. Knows neither tables nor columns.
//!
//! ```text
//! batches        -> CheckedEncoder (in memory) -> a file of its caller's   -> CheckedFile -> batches
//! column chunks  -> ChunkSums (as they pass)   -> a file too wide for that -> CheckedFile
//! ```

mod bytes;
mod checksum;
mod chunk_sums;
mod encoder;
mod file;
mod identity;

pub(crate) use bytes::FileBytes;
pub(crate) use chunk_sums::ChunkChecksumWriter;
pub(crate) use encoder::CheckedEncoder;
pub(crate) use file::{CheckedFile, catch_panic};
pub(crate) use identity::Identity;
