//! Converts numbers to the columns of the geometry's tables and back.

use std::path::Path;

use arrow::array::{Array, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::observe::Clock;

/// Converts a step to its column's type.
pub(super) fn step(what: &str, step: u64) -> Result<i64> {
    i64::try_from(step).map_err(|_too_large| {
        Error::invalid(format!("{what}: expected at most {}, got {step}", Clock::MAX_STEP))
    })
}

/// Converts an epoch or a count to its column's type.
pub(super) fn count(what: &str, count: u32) -> Result<i32> {
    i32::try_from(count).map_err(|_too_large| {
        Error::invalid(format!("{what}: expected at most {}, got {count}", i32::MAX))
    })
}

/// Checks that a name is not empty.
pub(super) fn name(what: &str, name: &str) -> Result<String> {
    if name.is_empty() {
        return Err(Error::invalid(format!("{what}: expected a name, got none")));
    }
    Ok(name.to_owned())
}

/// The rows of a part whose schema has been checked.
pub(super) struct Columns<'a> {
    path: &'a Path,
    rows: &'a RecordBatch,
}

impl<'a> Columns<'a> {
    pub(super) fn new(path: &'a Path, rows: &'a RecordBatch) -> Self {
        Self { path, rows }
    }

    fn column<T: 'static>(&self, name: &str) -> Result<&'a T> {
        let column =
            self.rows.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<T>());
        column
            .ok_or_else(|| Error::unsupported_format(self.path, format!("has no column `{name}`")))
    }

    fn present(&self, name: &str, column: &impl Array, row: usize) -> Result<()> {
        if column.is_valid(row) {
            return Ok(());
        }
        Err(Error::corrupt(self.path, format!("column `{name}` misses a value in row {row}")))
    }

    fn out_of_range(&self, name: &str, value: impl std::fmt::Display) -> Error {
        Error::corrupt(self.path, format!("column `{name}` holds {value}"))
    }

    pub(super) fn text(&self, name: &str, row: usize) -> Result<&'a str> {
        let column = self.column::<StringArray>(name)?;
        self.present(name, column, row)?;
        Ok(column.value(row))
    }

    /// Reads one of a fixed set of words.
    pub(super) fn word<T: Copy>(&self, name: &str, row: usize, words: &[(&str, T)]) -> Result<T> {
        let text = self.text(name, row)?;
        let word = words.iter().find(|(word, _)| *word == text);
        word.map(|&(_, meaning)| meaning).ok_or_else(|| self.out_of_range(name, text))
    }

    pub(super) fn float(&self, name: &str, row: usize) -> Result<f64> {
        let column = self.column::<Float64Array>(name)?;
        self.present(name, column, row)?;
        Ok(column.value(row))
    }

    pub(super) fn step(&self, name: &str, row: usize) -> Result<u64> {
        self.step_if_any(name, row)?.ok_or_else(|| self.out_of_range(name, "no step"))
    }

    pub(super) fn step_if_any(&self, name: &str, row: usize) -> Result<Option<u64>> {
        let column = self.column::<Int64Array>(name)?;
        if column.is_null(row) {
            return Ok(None);
        }
        let value = column.value(row);
        u64::try_from(value).map(Some).map_err(|_negative| self.out_of_range(name, value))
    }

    pub(super) fn count(&self, name: &str, row: usize) -> Result<u32> {
        let column = self.column::<Int32Array>(name)?;
        self.present(name, column, row)?;
        let value = column.value(row);
        u32::try_from(value).map_err(|_negative| self.out_of_range(name, value))
    }
}
