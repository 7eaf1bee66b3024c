//! Columns of scores that wait in a temporary file, so that a fold over many epochs holds one of them.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::file::Statistics;
use super::fold::Columns;
use super::moments::Moments;
use crate::error::{Error, Result};

/// Columns as the fold makes them: a column's entries in order of place, one column behind the other.
#[derive(Debug)]
pub(super) struct Spill {
    directory: PathBuf,
    output: BufWriter<File>,
    columns: Vec<(String, usize)>,
}

impl Spill {
    /// A spill on the file system that will hold this file.
    pub(super) fn beside(path: &Path) -> Result<Self> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let file = temporary(directory)?;
        let output = BufWriter::with_capacity(1 << 18, file);
        Ok(Self { directory: directory.to_owned(), output, columns: Vec::new() })
    }

    /// The same columns in the order of ids; holds one of them at a time.
    pub(super) fn sort(mut self, order: &[usize]) -> Result<SortedSpill> {
        let failed = |error| Error::io("write a temporary file in", &self.directory, error);
        self.output.flush().map_err(failed)?;
        self.output.rewind().map_err(failed)?;
        let mut input = BufReader::with_capacity(1 << 18, self.output.get_ref());
        let mut output = BufWriter::with_capacity(1 << 18, temporary(&self.directory)?);
        let mut names = Vec::new();
        for (name, length) in &self.columns {
            let mut moments = Vec::with_capacity(order.len());
            for _ in 0..*length {
                moments.push(Moments::read(&mut input).map_err(failed)?);
            }
            moments.resize(order.len(), Moments::default());
            for &place in order {
                moments[place].write(&mut output).map_err(failed)?;
            }
            names.push(name.clone());
        }
        output.flush().map_err(failed)?;
        let file = output.into_inner().map_err(|error| failed(error.into_error()))?;
        Ok(SortedSpill { directory: self.directory, file, names, rows: order.len() })
    }
}

impl Columns for Spill {
    fn push(&mut self, name: String, moments: Vec<Moments>) -> Result<()> {
        for moments in &moments {
            moments
                .write(&mut self.output)
                .map_err(|error| Error::io("write a temporary file in", &self.directory, error))?;
        }
        self.columns.push((name, moments.len()));
        Ok(())
    }
}

/// Columns in the order of ids, each of one length.
#[derive(Debug)]
pub(super) struct SortedSpill {
    directory: PathBuf,
    file: File,
    names: Vec<String>,
    rows: usize,
}

impl SortedSpill {
    pub(super) fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// Some rows of a column.
    pub(super) fn read(&mut self, column: usize, rows: Range<usize>) -> Result<Statistics> {
        let failed = |error| Error::io("read a temporary file in", &self.directory, error);
        let offset = (column * self.rows + rows.start) * Moments::BYTES;
        let mut bytes = vec![0; rows.len() * Moments::BYTES];
        self.file
            .seek(SeekFrom::Start(offset as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(failed)?;
        let mut statistics = Statistics::default();
        let mut bytes = &bytes[..];
        for _ in rows {
            let moments = Moments::read(&mut bytes).map_err(failed)?;
            statistics.mean.push(moments.mean());
            statistics.std.push(moments.standard_deviation());
            statistics.count.push(moments.count() as i32);
        }
        Ok(statistics)
    }
}

fn temporary(directory: &Path) -> Result<File> {
    tempfile::tempfile_in(directory)
        .map_err(|error: io::Error| Error::io("create a temporary file in", directory, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_rows_of_any_column_come_back_in_the_order_of_ids() {
        let directory = tempfile::tempdir().unwrap();
        let mut spill = Spill::beside(&directory.path().join("scores.parquet")).unwrap();
        let moments = |value: f64| {
            let mut moments = Moments::default();
            moments.add(value);
            moments
        };
        spill
            .push("a".to_owned(), (0..3).map(|place| moments(f64::from(place))).collect())
            .unwrap();
        let later = (0..5).map(|place| moments(10.0 + f64::from(place))).collect();
        spill.push("b".to_owned(), later).unwrap();
        let mut sorted = spill.sort(&[4, 2, 0, 3, 1]).unwrap();
        assert_eq!(sorted.names(), ["a", "b"]);
        assert_eq!(sorted.read(1, 1..4).unwrap().mean, [12.0, 10.0, 13.0]);
        let first = sorted.read(0, 0..3).unwrap();
        assert_eq!((first.count, first.mean[1]), (vec![0, 1, 1], 2.0));
        assert!(first.mean[0].is_nan(), "place 4 was not there yet");
    }
}
