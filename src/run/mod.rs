//! The run directory: every file name, every table's schema, how rows get into files and back out.
//! Knows neither threads nor scores.
//!
//! ```text
//! batches -> pending rows -> log (out of sight, one frame per flush) -> sealed Parquet parts -> reader
//! ```
//!
//! # Why a log
//!
//! A Parquet file without its footer is unreadable, so rows cannot be appended to one and survive a
//! crash. Two ways were considered to keep what is not yet a finished file. *Commit footers* (a full
//! Parquet footer after every flush, the next row group behind it) encode every row twice, because
//! the many small row groups have to be re-encoded when the segment is sealed, and the dead footers
//! grow with the square of the flushes. A *log* of checksummed frames costs a copy into the page cache
//! and encodes every row once, in full row groups. It also gives one property that files per table
//! cannot: a frame holds the rows of *all* tables of whole batches, so that after a crash the tables
//! agree with each other. `benches/recorder.rs` measures it against a plain `ArrowWriter`.
//!
//! A frame's content is the Arrow IPC stream format, so the log adds no encoding of its own.
//!
//! # Life of a segment
//!
//! 1. Flushes append frames to `_runs/RUN/open/rank-R.NNNNNN.log`, each by one positioned write at the
//!    committed length. A failed write leaves the committed length as it was and is tried again.
//! 2. When the log is large or old enough, it is re-read and written as Parquet, one part per table
//!    and phase, as drafts beside it; each draft is synced and renamed to its final, fresh name with
//!    the log's number. The log is removed last.
//! 3. After a crash, whoever opens the run does step 2 for every log that is left. Parts of that
//!    number that exist already were complete, and win.
//!
//! A visible `*.parquet` is therefore always complete, and is never replaced.

mod columns;
mod delta;
mod family;
mod layout;
mod lock;
mod log;
mod metadata;
mod part;
mod reader;
mod recovery;
mod replacement;
mod rows;
mod schema;
mod seal;
mod snapshots;
mod verify;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use metadata::{Gap, RowCounts, RunMetadata, RunStatus, SnapshotCounts, SpawnPoint};
pub use reader::{Experiment, ObservationRows, Observations, Run};
pub use recovery::Recovered;
pub use snapshots::Snapshots;
pub use verify::{Finding, Verification};
pub use writer::Durability;

pub(crate) use columns::{Bits, RowGroup};
pub(crate) use layout::{KERNEL_VELOCITY, check_run_name};
pub(crate) use part::{PartReader, RowGroupOutline};
pub(crate) use schema::Table;
pub(crate) use writer::{Existing, Pending, RunOptions, RunWriter};
