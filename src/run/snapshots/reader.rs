//! Reads snapshots back, checking every byte.

use std::path::{Path, PathBuf};

use super::chunk::{Header, Rows, empty_values};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Snapshot, SnapshotTensor, TensorValues};
use crate::run::part::PartReader;
use crate::run::reader::Run;
use crate::run::schema::Table;

/// The weights that a run has recorded, by step.
///
/// # Examples
///
/// ```no_run
/// use data_diet::Experiment;
///
/// let run = Experiment::open("runs/digits")?.run("seed-0")?;
/// let snapshots = run.snapshots()?;
/// for &step in snapshots.steps() {
///     let snapshot = snapshots.at(step)?;
///     println!("step {step}: {} tensors, {} bytes", snapshot.tensors().len(), snapshot.bytes());
/// }
/// # Ok::<(), data_diet::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshots {
    run: String,
    steps: Vec<u64>,
    paths: Vec<PathBuf>,
}

impl Run {
    /// Opens the weights that the run has recorded; empty if it recorded none.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if the directory cannot be listed.
    pub fn snapshots(&self) -> Result<Snapshots> {
        // Weights are the same on every rank: the first one records them.
        let found = match self.layouts().find(|(layout, _)| layout.rank() == 0) {
            Some((layout, _)) => layout.published_snapshots()?,
            None => Vec::new(),
        };
        let (steps, paths) = found.into_iter().unzip();
        Ok(Snapshots { run: self.name().to_owned(), steps, paths })
    }
}

impl Snapshots {
    /// Returns the steps, ascending: optimizer updates already applied.
    #[must_use]
    pub fn steps(&self) -> &[u64] {
        &self.steps
    }

    /// Reads the weights at a step.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if there is no snapshot of this step, listing the steps;
    /// [`Corrupt`](ErrorKind::Corrupt) if its file is damaged.
    pub fn at(&self, step: u64) -> Result<Snapshot> {
        if let Ok(place) = self.steps.binary_search(&step) {
            return read(&self.paths[place], step);
        }
        let run = &self.run;
        let message = if self.steps.is_empty() {
            format!("run `{run}` has recorded no snapshots")
        } else {
            let steps: Vec<String> = self.steps.iter().map(u64::to_string).collect();
            let steps = steps.join(", ");
            format!("run `{run}` has no snapshot at step {step}; there are: {steps}")
        };
        Err(Error::new(ErrorKind::NotFound, message))
    }
}

/// Checks one file, and returns its rows and bytes.
pub(crate) fn verify(path: &Path, step: u64) -> Result<(u64, u64)> {
    let part = PartReader::open(path, Table::Snapshots)?;
    read(path, step).map(|_snapshot| (part.rows(), part.bytes()))
}

fn read(path: &Path, step: u64) -> Result<Snapshot> {
    let mut part = PartReader::open(path, Table::Snapshots)?;
    if part.schema().fields() != super::chunk::schema().fields() {
        return Err(Error::unsupported_format(path, "its columns are not those of a snapshot"));
    }
    let mut tensors = Vec::new();
    let mut open: Option<OpenTensor> = None;
    let mut epoch = 0;
    while let Some(batches) = part.next_row_group(None)? {
        for batch in batches {
            let rows = Rows(&batch);
            for row in 0..batch.num_rows() {
                let odd = || Error::corrupt(path, format!("row {row} is no chunk of a tensor"));
                let header = rows.header(row).ok_or_else(odd)?;
                epoch = u32::try_from(header.epoch).map_err(|_negative| odd())?;
                if header.chunk == 0 {
                    let begun = OpenTensor::begin(header).ok_or_else(odd)?;
                    if let Some(tensor) = open.replace(begun) {
                        tensors.push(tensor.finish(path)?);
                    }
                } else {
                    let follows = open.as_mut().filter(|tensor| tensor.is_followed_by(&header));
                    follows.ok_or_else(odd)?.chunks += 1;
                }
                // The lines above leave one open.
                let values = &mut open.as_mut().ok_or_else(odd)?.values;
                rows.append(row, values).ok_or_else(odd)?;
            }
        }
    }
    tensors.extend(open.map(|tensor| tensor.finish(path)).transpose()?);
    Snapshot::new(step, epoch, tensors).map_err(|error| error.context(path.display()))
}

/// A tensor whose chunks are being joined.
struct OpenTensor {
    header: Header,
    shape: Vec<usize>,
    values: TensorValues,
    chunks: i32,
}

impl OpenTensor {
    fn begin(header: Header) -> Option<Self> {
        if header.offset != 0 {
            return None;
        }
        let lengths = header.shape.iter().map(|&length| usize::try_from(length).ok());
        let shape = lengths.collect::<Option<Vec<_>>>()?;
        let mut values = empty_values(&header.dtype)?;
        let elements = shape.iter().try_fold(1_usize, |all, &length| all.checked_mul(length))?;
        values.try_reserve(elements);
        Some(Self { header, shape, values, chunks: 1 })
    }

    fn is_followed_by(&self, next: &Header) -> bool {
        let Header { name, dtype, shape, .. } = &self.header;
        (name, dtype, shape) == (&next.name, &next.dtype, &next.shape)
            && next.chunk == self.chunks
            && next.offset == self.values.len() as i64
    }

    fn finish(self, path: &Path) -> Result<SnapshotTensor> {
        let name = self.header.name;
        SnapshotTensor::new(name, self.shape, self.values)
            .map_err(|error| Error::corrupt(path, "a tensor is incomplete").with_source(error))
    }
}
