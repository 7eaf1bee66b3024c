//! The run directory: every file name and schema of a recording, how rows get into files and back
//! out. Is independent of threads and scores.
//!
//! ```text
//! batches -> pending rows -> log (out of sight, one frame per flush) -> sealed Parquet parts -> reader
//! ```
//!
//! # Why a log
//!
//! A Parquet file without its footer is unreadable, so appending rows to one does not survive a
//! crash. There are two ways to keep rows safe until they fill a file.
//!
//! *Commit footers*: write a full Parquet footer after every flush and continue with the next row
//! group. Every row is then encoded twice, since the many small row groups must be re-encoded when
//! the segment is sealed. The total size of dead footers also grows quadratically with the number
//! of flushes.
//!
//! *A log* of checksummed frames: costs a copy into the page cache and encodes every row once, in
//! full row groups. It also keeps the tables consistent, which separate files per table could not
//! do: each frame holds whole batches, with their rows for *every* table, so after a crash the
//! tables agree. `benches/recorder.rs` compares the log with a plain `ArrowWriter`.
//!
//! A frame's content is an Arrow IPC stream, so the log has no encoding of its own.
//!
//! # Life of a segment
//!
//! 1. A flush appends a frame to the log of the current segment,
//!    `_runs/RUN/open/rank-R.NNNNNN.log`, by one positioned write at the committed length. A failed
//!    write leaves the committed length unchanged and is retried.
//! 2. When the log is large or old enough, it is re-read and written as Parquet, one part per table
//!    and phase, first as drafts beside the log. Each draft is synced, then renamed to its final
//!    name, which contains the log's number and has never been used before. The log is removed
//!    last.
//! 3. After a crash, the next program that opens the run does step 2 for every remaining log. Parts
//!    that already carry its number are complete and are kept.
//!
//! A visible `*.parquet` is therefore always complete, and is never replaced.

mod delta;
mod layout;
mod lock;
mod log;
mod metadata;
mod name;
mod page_decoder;
mod part;
mod pending_rows;
mod reader;
mod recovery;
mod replacement;
mod schema;
mod seal;
mod snapshots;
mod spawn_points;
mod verify;
mod warnings;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use metadata::{Gap, RowCounts, RunMetadata, RunStatus, SnapshotCounts, SpawnPoint};
pub use reader::{Experiment, ObservationRows, Observations, Run};
pub use recovery::Recovered;
pub use snapshots::Snapshots;
pub use verify::{Finding, Verification};
pub use warnings::LabelCounts;
pub use writer::Durability;

pub(crate) use layout::{ExperimentLayout, KERNEL_VELOCITY, is_litter, part_name, part_number};
pub(crate) use name::check_run_name;
pub(crate) use page_decoder::{Bits, RowGroup};
pub(crate) use part::{PartReader, RowGroupOutline};
pub(crate) use schema::{FLOAT_STATISTICS, LABEL_LOGIT, LOG_SUM_EXP, Table};
pub(crate) use writer::{IfRunExists, Pending, RunOptions, RunWriter};
