//! Prints what a Parquet file holds in Parquet's own terms: for every column its repetition levels,
//! definition levels and physical values, row group after row group. The Python tests compare
//! files by it, since no Python library shows levels.
//!
//! Reads file names from standard input, one per line, and answers each with a line of JSON: a list
//! of columns, each `[path, highest definition level, repetition levels, definition levels, values]`,
//! values as hexadecimal bytes.

use std::error::Error;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, Write};

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{AsBytes, DataType};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    for line in io::stdin().lock().lines() {
        let answer = columns(&line?).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        let mut output = io::stdout().lock();
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn columns(path: &str) -> Result<Value, Box<dyn Error>> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let mut columns = Vec::new();
    for place in 0..schema.num_columns() {
        let mut levels = Levels::default();
        for group in 0..reader.num_row_groups() {
            match reader.get_row_group(group)?.get_column_reader(place)? {
                ColumnReader::BoolColumnReader(column) => levels.read(column)?,
                ColumnReader::Int32ColumnReader(column) => levels.read(column)?,
                ColumnReader::Int64ColumnReader(column) => levels.read(column)?,
                ColumnReader::Int96ColumnReader(column) => levels.read(column)?,
                ColumnReader::FloatColumnReader(column) => levels.read(column)?,
                ColumnReader::DoubleColumnReader(column) => levels.read(column)?,
                ColumnReader::ByteArrayColumnReader(column) => levels.read(column)?,
                ColumnReader::FixedLenByteArrayColumnReader(column) => levels.read(column)?,
            }
        }
        let column = schema.column(place);
        let (path, highest) = (column.path().string(), column.max_def_level());
        columns.push(json!([path, highest, levels.repetition, levels.definition, levels.values]));
    }
    Ok(Value::Array(columns))
}

#[derive(Default)]
struct Levels {
    repetition: Vec<i16>,
    definition: Vec<i16>,
    values: Vec<String>,
}

impl Levels {
    fn read<T: DataType>(&mut self, mut column: ColumnReaderImpl<T>) -> Result<(), Box<dyn Error>> {
        loop {
            let (mut repetition, mut definition, mut values) = (Vec::new(), Vec::new(), Vec::new());
            let (records, ..) = column.read_records(
                1024,
                Some(&mut definition),
                Some(&mut repetition),
                &mut values,
            )?;
            if records == 0 {
                return Ok(());
            }
            self.repetition.extend(repetition);
            self.definition.extend(definition);
            for value in values {
                let mut hex = String::new();
                for byte in value.as_bytes() {
                    write!(hex, "{byte:02x}")?;
                }
                self.values.push(hex);
            }
        }
    }
}
