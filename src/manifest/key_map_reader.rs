//! Reads a key map from a table of keys and ids.

use std::borrow::Cow;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::LogicalType;

use super::ManifestFormat;
use super::compression::{self, ManifestCompression};
use super::delimited::{Parsed, Parser};
use super::input::ManifestInput;
use super::key_map::KeyMap;
use super::key_text;
use super::pipeline::{self, Output, Splitter, TextOptions};
use crate::error::{Error, ErrorKind, Result};

impl KeyMap {
    /// Reads a table in which one column holds keys and another the example ids that they refer to:
    /// CSV or TSV with a header, JSON Lines or Parquet, recognized by its extension, compressed or
    /// not. An integer key is its decimal digits, a UUID its canonical text.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such column, listing the columns;
    /// [`Manifest`](crate::ErrorKind::Manifest), with the row, for a key that is missing or occurs
    /// twice and an id that is not an integer in `0..2^63`; [`Io`](crate::ErrorKind::Io) and
    /// [`Corrupt`](crate::ErrorKind::Corrupt) for files that cannot be read;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the extension means no format.
    pub fn read(path: impl AsRef<Path>, key: &str, example: &str) -> Result<Self> {
        let path = path.as_ref();
        let mut pairs = Pairs::new(path, [key, example]);
        let input = ManifestInput::file(path)?;
        let delimiter = match ManifestFormat::from_path(path)? {
            ManifestFormat::Csv => Some(b','),
            ManifestFormat::Tsv => Some(b'\t'),
            ManifestFormat::Jsonl => None,
            ManifestFormat::ClassFolders | ManifestFormat::WebDataset => {
                return Err(Error::invalid(format!(
                    "key map: expected CSV, TSV, JSON Lines or Parquet, got {}",
                    path.display()
                )));
            }
            ManifestFormat::Parquet => {
                // Some decoders of the Parquet crate panic on damaged input.
                catch_unwind(AssertUnwindSafe(|| pairs.read_parquet(input))).unwrap_or_else(
                    |_panic| Err(Error::corrupt(path, "is damaged: the Parquet decoder panicked")),
                )?;
                return Ok(pairs.map);
            }
        };
        let plain = TextOptions {
            compression: Some(ManifestCompression::Plain),
            memory: compression::DEFAULT_MEMORY,
        };
        if let Some(delimiter) = delimiter {
            let parser = Parser::new(delimiter, true);
            let mut records = Records { pairs, parser, columns: None, at_start: true };
            pipeline::run(input, &mut io::sink(), plain, &mut records)?;
            if records.columns.is_none() {
                return Err(records.bad_manifest(ErrorKind::Manifest, "is empty"));
            }
            Ok(records.pairs.map)
        } else {
            let mut lines = Lines(pairs);
            pipeline::run(input, &mut io::sink(), plain, &mut lines)?;
            Ok(lines.0.map)
        }
    }
}

/// The keys and ids read so far.
struct Pairs<'a> {
    map: KeyMap,
    path: &'a Path,
    row: u64,
    /// The names of the key column and the id column.
    names: [&'a str; 2],
}

impl<'a> Pairs<'a> {
    fn new(path: &'a Path, names: [&'a str; 2]) -> Self {
        Self { map: KeyMap::default(), path, row: 0, names }
    }

    fn bad_row(&self, what: &str) -> Error {
        let (path, row) = (self.path.display(), self.row);
        Error::new(ErrorKind::Manifest, format!("{path}: row {row} (from 0): {what}"))
    }

    fn bad_file(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(kind, format!("{}: {what}", self.path.display()))
    }

    fn no_id(&self, got: &str) -> Error {
        let (name, got) = (self.names[1], got.chars().take(60).collect::<String>());
        self.bad_row(&format!(
            "expected an example id (an integer in 0..2^63) in `{name}`, got `{got}`"
        ))
    }

    fn no_key(&self) -> Error {
        self.bad_row(&format!("expected a key (text or an integer) in `{}`", self.names[0]))
    }

    fn add(&mut self, key: &[u8], example: i64) -> Result<()> {
        self.map.insert(key, example).map_err(|error| self.bad_row(&error.to_string()))?;
        self.row += 1;
        Ok(())
    }

    /// Finds the indices of the two columns.
    fn find<'n>(&self, columns: &(impl Iterator<Item = &'n str> + Clone)) -> Result<[usize; 2]> {
        let find = |name: &str| {
            columns.clone().position(|column| column == name).ok_or_else(|| {
                let columns = columns.clone().collect::<Vec<_>>().join(", ");
                self.bad_file(
                    ErrorKind::NotFound,
                    &format!("no column `{name}`, which a key map must have; there are: {columns}"),
                )
            })
        };
        Ok([find(self.names[0])?, find(self.names[1])?])
    }

    fn read_parquet(&mut self, input: ManifestInput<'_>) -> Result<()> {
        let corrupt = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::corrupt(self.path, format!("is not Parquet that can be read: {error}"))
        };
        let (file, _) = input.into_file()?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .map_err(|error| corrupt(error.into()))?;
        let schema = reader.schema();
        let columns = self.find(&schema.fields().iter().map(|field| field.name().as_str()))?;
        let id = schema.field(columns[1]).data_type();
        if !id.is_integer() {
            let what = format!("expected integer ids in the column `{}`, got {id}", self.names[1]);
            return Err(self.bad_file(ErrorKind::Manifest, &what));
        }
        let key = &reader.parquet_schema().root_schema().get_fields()[columns[0]];
        let is_uuid = key.get_basic_info().logical_type_ref() == Some(&LogicalType::Uuid);
        let mask = ProjectionMask::roots(reader.parquet_schema(), columns);
        let reader = reader.with_projection(mask).build().map_err(|error| corrupt(error.into()))?;
        for batch in reader {
            let batch = batch.map_err(|error| {
                Error::corrupt(self.path, format!("is not Parquet that can be read: {error}"))
            })?;
            // In the file's order, whichever comes first.
            let place = usize::from(columns[0] > columns[1]);
            let same = columns[0] == columns[1];
            let (keys, ids) = (batch.column(place), batch.column(if same { 0 } else { 1 - place }));
            let text =
                if keys.data_type().is_integer() { DataType::Utf8 } else { DataType::Binary };
            let keys = cast(keys, &text).and_then(|keys| cast(&keys, &DataType::Binary));
            let ids = cast(ids, &DataType::Int64);
            let (Ok(keys), Ok(ids)) = (keys, ids) else { return Err(self.no_key()) };
            let (keys, ids) = (keys.as_binary::<i32>(), ids.as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                if keys.is_null(row) {
                    return Err(self.no_key());
                }
                if ids.is_null(row) || ids.value(row) < 0 {
                    return Err(self.no_id(if ids.is_null(row) {
                        "nothing, or a number beyond 64 bits"
                    } else {
                        "a negative number"
                    }));
                }
                let key = keys.value(row);
                let key = if is_uuid { key_text::uuid(key) } else { Cow::Borrowed(key) };
                self.add(&key, ids.value(row))?;
            }
        }
        Ok(())
    }
}

struct Records<'a> {
    pairs: Pairs<'a>,
    parser: Parser,
    /// The indices of the key column and the id column, and the number of columns.
    columns: Option<([usize; 2], usize)>,
    at_start: bool,
}

impl Splitter for Records<'_> {
    fn take(&mut self, window: &[u8], at_end: bool, _: &mut Output<'_>) -> Result<usize> {
        let mark = "\u{feff}".as_bytes();
        let mut at = 0;
        if self.at_start {
            if !at_end && window.len() < mark.len() {
                return Ok(0);
            }
            at = if window.starts_with(mark) { mark.len() } else { 0 };
            self.at_start = false;
        }
        loop {
            match self.parser.parse(&window[at..], at_end) {
                Parsed::Part => return Ok(at),
                Parsed::Blank => return Ok(window.len()),
                Parsed::OpenQuote => {
                    return Err(self.pairs.bad_row("a quote is opened and never closed"));
                }
                Parsed::Record(length) => at += length,
            }
            let fields = self.parser.fields();
            let text = |column| String::from_utf8_lossy(self.parser.field(column));
            match self.columns {
                None => {
                    let names: Vec<_> = (0..fields).map(text).collect();
                    let columns = self.pairs.find(&names.iter().map(AsRef::as_ref))?;
                    self.columns = Some((columns, fields));
                }
                Some((_, expected)) if expected != fields => {
                    let what = format!("expected {expected} columns, got {fields}");
                    return Err(self.pairs.bad_row(&what));
                }
                Some(([key, example], _)) => {
                    let id = text(example);
                    let parsed = id.trim_ascii().parse().ok().filter(|&id: &i64| id >= 0);
                    let example = parsed.ok_or_else(|| self.pairs.no_id(&id))?;
                    self.pairs.add(self.parser.field(key), example)?;
                }
            }
        }
    }

    fn bad_row(&self, what: &str) -> Error {
        self.pairs.bad_row(what)
    }

    fn bad_manifest(&self, kind: ErrorKind, what: &str) -> Error {
        self.pairs.bad_file(kind, what)
    }
}

struct Lines<'a>(Pairs<'a>);

impl Lines<'_> {
    fn add(&mut self, line: &[u8]) -> Result<()> {
        let pairs = &mut self.0;
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line)
            .map_err(|error| pairs.bad_row("expected a JSON object").with_source(error))?;
        let [key, id] = pairs.names.map(|name| object.get(name));
        let id = id.unwrap_or(&serde_json::Value::Null);
        let example = id.as_i64().filter(|&id| id >= 0);
        let example = example.ok_or_else(|| pairs.no_id(&id.to_string()))?;
        match key {
            Some(serde_json::Value::String(key)) => pairs.add(key.as_bytes(), example),
            Some(key @ serde_json::Value::Number(number)) if !number.is_f64() => {
                pairs.add(key.to_string().as_bytes(), example)
            }
            _ => Err(pairs.no_key()),
        }
    }
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
            at += length;
            if !rest[..length].trim_ascii().is_empty() {
                self.add(&rest[..length])?;
            }
        }
        Ok(at)
    }

    fn bad_row(&self, what: &str) -> Error {
        self.0.bad_row(what)
    }

    fn bad_manifest(&self, kind: ErrorKind, what: &str) -> Error {
        self.0.bad_file(kind, what)
    }
}
