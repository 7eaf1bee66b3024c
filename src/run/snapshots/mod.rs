//! The table `snapshots`: the weights of one step in one Parquet file, exact to the bit.
//!
//! A row is a chunk of a tensor: `epoch`, `name`, `dtype`, `shape`, `chunk`, `offset` (in elements), and
//! the elements as `values` (a list of `f32`) for `f32`, `f16` and `bf16`, which widen without loss, or
//! as little-endian bytes in `data` for other types. Rows are ordered by name, then by offset. The step
//! is in the path.
//!
//! A snapshot does not go through the log: it is written once, as a draft, and published whole.

mod chunk;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::Snapshots;

pub(crate) use chunk::{schema, writer_properties};
pub(crate) use reader::verify;
pub(crate) use writer::publish;
