//! Keeps finished columns of scores in a temporary file, so that a fold over many epochs holds one
//! column at a time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::column_sink::{ColumnSink, Statistics};
use super::moments::Moments;
use super::values::Values;
use crate::error::{Error, Result};

/// Columns in the order in which the fold makes them: a run's values of a column by place, one
/// column after the other.
#[derive(Debug)]
pub(super) struct Spill {
    directory: PathBuf,
    file: File,
    length: u64,
    /// For each column, the ranges of the file that hold it, one for each run.
    columns: Vec<Vec<FileExtent>>,
}

/// One run's values of a column.
#[derive(Clone, Copy, Debug)]
struct FileExtent {
    offset: u64,
    values: usize,
    width: usize,
}

impl Spill {
    /// Creates a spill on the file system that will hold this file.
    pub(super) fn beside(path: &Path) -> Result<Self> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Self::in_directory(directory.to_owned())
    }

    fn in_directory(directory: PathBuf) -> Result<Self> {
        let file = tempfile::tempfile_in(&directory)
            .map_err(|error| Error::io("create a temporary file in", &directory, error))?;
        Ok(Self { directory, file, length: 0, columns: Vec::new() })
    }

    /// Returns the same columns in the order of ids. Holds one of them at a time.
    pub(super) fn sort(self, order: Option<&[u32]>) -> Result<SortedSpill> {
        let Some(order) = order else { return Ok(SortedSpill::new(self)) };
        let mut sorted = Self::in_directory(self.directory.clone())?;
        sorted.expect(self.columns.len());
        let unsorted = SortedSpill::new(self);
        for (column, stretches) in unsorted.columns.iter().enumerate() {
            for stretch in stretches {
                let values = unsorted.values(stretch, 0..stretch.values)?;
                let places = order.iter().map(|&place| place as usize);
                let values = match values {
                    Values::F32(values) => Values::F32(
                        places
                            .map(|place| values.get(place).copied().unwrap_or(f32::NAN))
                            .collect(),
                    ),
                    Values::F64(values) => Values::F64(
                        places
                            .map(|place| values.get(place).copied().unwrap_or(f64::NAN))
                            .collect(),
                    ),
                };
                sorted.push(column, values)?;
            }
        }
        Ok(SortedSpill::new(sorted))
    }
}

impl ColumnSink for Spill {
    fn expect(&mut self, columns: usize) {
        self.columns.resize(columns, Vec::new());
    }

    fn push(&mut self, column: usize, values: Values) -> Result<()> {
        let width = match &values {
            Values::F32(values) => write_all(&mut self.file, values, f32::to_le_bytes),
            Values::F64(values) => write_all(&mut self.file, values, f64::to_le_bytes),
        };
        let width = width
            .map_err(|error| Error::io("write a temporary file in", &self.directory, error))?;
        let stretch = FileExtent { offset: self.length, values: values.len(), width };
        self.length += (width * stretch.values) as u64;
        self.columns[column].push(stretch);
        Ok(())
    }
}

/// Writes numbers and returns the size of one in bytes.
fn write_all<T: Copy, const WIDTH: usize>(
    file: &mut File,
    values: &[T],
    bytes: impl Fn(T) -> [u8; WIDTH],
) -> io::Result<usize> {
    let mut buffer = Vec::with_capacity(values.len().min(1 << 16) * WIDTH);
    for values in values.chunks(1 << 16) {
        buffer.clear();
        buffer.extend(values.iter().flat_map(|&value| bytes(value)));
        file.write_all(&buffer)?;
    }
    Ok(WIDTH)
}

/// Columns in the order of ids.
#[derive(Debug)]
pub(super) struct SortedSpill {
    directory: PathBuf,
    file: Mutex<File>,
    columns: Vec<Vec<FileExtent>>,
}

impl SortedSpill {
    fn new(spill: Spill) -> Self {
        let Spill { directory, file, columns, .. } = spill;
        Self { directory, file: Mutex::new(file), columns }
    }

    /// Reads some rows of a column.
    pub(super) fn read(&self, column: usize, rows: Range<usize>) -> Result<Statistics> {
        let mut statistics = Statistics::with_capacity(rows.len());
        if let [stretch] = self.columns[column][..] {
            let values = self.values(&stretch, rows.clone())?;
            for row in 0..rows.len() {
                let value = values.get(row);
                statistics.mean.push(value);
                statistics.std.push(f64::NAN);
                statistics.count.push(i32::from(!value.is_nan()));
            }
            return Ok(statistics);
        }
        let mut moments = vec![Moments::default(); rows.len()];
        for stretch in &self.columns[column] {
            let values = self.values(stretch, rows.clone())?;
            for (row, moments) in moments.iter_mut().enumerate() {
                let value = values.get(row);
                if !value.is_nan() {
                    moments.add(value);
                }
            }
        }
        for moments in moments {
            statistics.push(moments);
        }
        Ok(statistics)
    }

    /// Reads some rows of a run's values, as far as the run has them.
    fn values(&self, stretch: &FileExtent, rows: Range<usize>) -> Result<Values> {
        let rows = rows.start.min(stretch.values)..rows.end.min(stretch.values);
        let offset = stretch.offset + (rows.start * stretch.width) as u64;
        let mut bytes = vec![0; rows.len() * stretch.width];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|error| Error::io("read a temporary file in", &self.directory, error))?;
        drop(file);
        Ok(if stretch.width == 4 {
            Values::F32(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
        } else {
            Values::F64(bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_rows_of_any_column_come_back_in_the_order_of_ids() {
        let directory = tempfile::tempdir().unwrap();
        let mut spill = Spill::beside(&directory.path().join("scores.parquet")).unwrap();
        spill.expect(3);
        spill.push(1, Values::F32(vec![10.0, 11.0, 12.0, 13.0, 14.0])).unwrap();
        spill.push(0, Values::F64(vec![0.1, 1.1, 2.1])).unwrap();
        spill.push(1, Values::F32(vec![20.0, f32::NAN])).unwrap();
        let sorted = spill.sort(Some(&[4, 2, 0, 3, 1])).unwrap();
        let second = sorted.read(1, 1..5).unwrap();
        assert_eq!((second.mean, second.count), (vec![12.0, 15.0, 13.0, 11.0], vec![1, 2, 1, 1]));
        assert!((second.std[1] - 50_f64.sqrt()).abs() < 1e-12 && second.std[0].is_nan());
        let first = sorted.read(0, 0..3).unwrap();
        assert_eq!((first.count, first.mean[1]), (vec![0, 1, 1], 2.1));
        assert!(first.mean[0].is_nan(), "place 4 was not there yet");
        assert_eq!(sorted.read(2, 0..2).unwrap().count, [0, 0], "nobody has pushed it");
    }

    #[test]
    fn columns_in_order_stay_where_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let mut spill = Spill::beside(&directory.path().join("scores.parquet")).unwrap();
        spill.expect(1);
        spill.push(0, Values::F64(vec![0.1, f64::NAN])).unwrap();
        let read = spill.sort(None).unwrap().read(0, 0..3).unwrap();
        assert_eq!((read.mean[0], read.count), (0.1, vec![1, 0, 0]));
        assert!(read.mean[1].is_nan() && read.std.iter().all(|std| std.is_nan()));
    }
}
