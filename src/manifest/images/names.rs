//! The file names in the metadata of an image folder.

use std::io;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::compression::{self, ManifestCompression};
use super::super::delimited::{Parsed, Parser};
use super::super::input::ManifestInput;
use super::super::jsonl::Object;
use super::super::pipeline::{self, Output, Splitter, TextOptions};
use super::super::{Manifest, ManifestFormat};
use crate::error::{Error, ErrorKind, Result};

/// Returns whether a column ties rows of an image folder to their images: `file_name` or
/// `..._file_name`, or of lists `file_names` or `..._file_names`.
pub(in super::super) fn is_file_name(column: &str) -> bool {
    let one = column.strip_suffix('s').unwrap_or(column);
    one == "file_name" || one.ends_with("_file_name")
}

type Visit<'a> = &'a mut (dyn FnMut(&str) -> Result<()> + Send);

/// Calls a function with every file name in a metadata file, which is well-formed.
pub(super) fn for_each(manifest: &Manifest, path: &Path, visit: Visit<'_>) -> Result<()> {
    let options = TextOptions {
        compression: Some(ManifestCompression::Plain),
        memory: compression::DEFAULT_MEMORY,
    };
    let input = ManifestInput::file(path)?;
    match manifest.format {
        ManifestFormat::Csv | ManifestFormat::Tsv => {
            let parser = Parser::new(manifest.delimiter_byte(), manifest.has_quotes());
            let mut records = Records { path, parser, columns: None, visit };
            pipeline::run(input, &mut io::sink(), options, &mut records)?;
        }
        ManifestFormat::Jsonl => {
            let mut lines = Lines { path, visit };
            pipeline::run(input, &mut io::sink(), options, &mut lines)?;
        }
        ManifestFormat::Parquet => of_parquet(path, input, visit)?,
        ManifestFormat::ClassFolders | ManifestFormat::WebDataset => {}
    }
    Ok(())
}

fn refuse(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Manifest, format!("{}: {what}", path.display()))
}

struct Records<'a> {
    path: &'a Path,
    parser: Parser,
    /// The columns that hold file names.
    columns: Option<Vec<usize>>,
    visit: Visit<'a>,
}

impl Splitter for Records<'_> {
    fn take(&mut self, window: &[u8], at_end: bool, _: &mut Output<'_>) -> Result<usize> {
        let mark = "\u{feff}".as_bytes();
        let mut at = 0;
        if self.columns.is_none() && window.starts_with(mark) {
            at = mark.len();
        }
        loop {
            match self.parser.parse(&window[at..], at_end) {
                Parsed::Part => return Ok(if self.columns.is_none() { 0 } else { at }),
                Parsed::Blank => return Ok(window.len()),
                Parsed::OpenQuote => return Err(self.bad_row("a quote is open")),
                Parsed::Record(length) => at += length,
            }
            let text = |column| String::from_utf8_lossy(self.parser.field(column));
            let fields = 0..self.parser.fields();
            let Some(columns) = &self.columns else {
                let columns = fields.filter(|&column| is_file_name(&text(column))).collect();
                self.columns = Some(columns);
                continue;
            };
            for &column in columns.iter().filter(|&&column| fields.contains(&column)) {
                let name = text(column);
                if !name.is_empty() {
                    (self.visit)(&name)?;
                }
            }
        }
    }

    fn bad_row(&self, what: &str) -> Error {
        refuse(self.path, what)
    }

    fn bad_manifest(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(kind, format!("{}: {what}", self.path.display()))
    }
}

struct Lines<'a> {
    path: &'a Path,
    visit: Visit<'a>,
}

impl Lines<'_> {
    fn line(&mut self, line: &[u8]) -> Result<()> {
        let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        for field in Object::new(line).into_iter().flatten() {
            // The filter has read the same lines.
            let Ok(field) = field else { break };
            if !serde_json::from_slice::<String>(field.name).is_ok_and(|name| is_file_name(&name)) {
                continue;
            }
            match serde_json::from_slice(field.value) {
                Ok(Names::One(name)) => (self.visit)(&name)?,
                Ok(Names::Many(names)) => names.iter().try_for_each(|name| (self.visit)(name))?,
                Ok(Names::None) => {}
                Err(error) => {
                    let what = "expected a file name or a list of them";
                    return Err(refuse(self.path, what).with_source(error));
                }
            }
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Many(Vec<String>),
    None,
}

impl Splitter for Lines<'_> {
    fn take(&mut self, window: &[u8], at_end: bool, _: &mut Output<'_>) -> Result<usize> {
        let mut at = 0;
        while at < window.len() {
            let rest = &window[at..];
            let length = match memchr::memchr(b'\n', rest) {
                Some(end) => end + 1,
                None if at_end => rest.len(),
                None => break,
            };
            self.line(&rest[..length])?;
            at += length;
        }
        Ok(at)
    }

    fn bad_row(&self, what: &str) -> Error {
        refuse(self.path, what)
    }

    fn bad_manifest(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(kind, format!("{}: {what}", self.path.display()))
    }
}

fn of_parquet(path: &Path, input: ManifestInput<'_>, visit: Visit<'_>) -> Result<()> {
    let corrupt =
        |error: &dyn std::error::Error| Error::corrupt(path, format!("cannot be read: {error}"));
    let (file, _) = input.into_file()?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| corrupt(&error))?;
    let fields = reader.schema().fields();
    let columns: Vec<usize> =
        (0..fields.len()).filter(|&column| is_file_name(fields[column].name())).collect();
    let mask = ProjectionMask::roots(reader.parquet_schema(), columns);
    let reader = reader.with_projection(mask).build().map_err(|error| corrupt(&error))?;
    for batch in reader {
        let batch = batch.map_err(|error| corrupt(&error))?;
        for column in batch.columns() {
            let values: &ArrayRef = match column.data_type() {
                DataType::List(_) => column.as_list::<i32>().values(),
                DataType::LargeList(_) => column.as_list::<i64>().values(),
                _ => column,
            };
            let texts = cast(values, &DataType::Utf8).map_err(|error| corrupt(&error))?;
            for name in texts.as_string::<i32>().iter().flatten() {
                visit(name)?;
            }
        }
    }
    Ok(())
}
