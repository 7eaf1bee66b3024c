//! CSV and TSV: records found by `csv-core`, and copied byte for byte.

use std::io::{Read, Write};
use std::ops::Range;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::input::ManifestInput;
use super::sieve::Sieve;
use super::{Manifest, write_failed};
use crate::error::{Error, ErrorKind, Result};

/// A row that is longer holds no data that anyone meant, but an open quote.
const LONGEST_RECORD: usize = 1 << 30;
const BUFFER_BYTES: usize = 1 << 18;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

pub(super) fn filter(
    manifest: &Manifest,
    delimiter: u8,
    input: ManifestInput<'_>,
    output: &mut dyn Write,
    sieve: &mut Sieve<'_>,
) -> Result<()> {
    let mut records = Records::new(manifest, delimiter, input.into_reader());
    let unreadable = |sieve: &Sieve<'_>, error: std::io::Error| {
        sieve.bad_manifest(ErrorKind::Io, "cannot be read").with_source(error)
    };
    let mut columns = None;
    let mut key = None;
    while let Some(record) = records.next().map_err(|error| unreadable(sieve, error))? {
        if record.open_quote {
            return Err(sieve.bad_row(
                "a quote is opened and never closed; if quotes are ordinary characters here, \
                 switch `quotes` off",
            ));
        }
        if columns.is_none() {
            columns = Some(record.fields());
            key = find_key(manifest, &record, sieve)?;
            if manifest.header {
                output.write_all(record.raw).map_err(write_failed)?;
                continue;
            }
        }
        if let Some(columns) = columns
            && columns != record.fields()
        {
            return Err(ragged(sieve, columns, &record));
        }
        let keep = match &key {
            None => sieve.keeps(sieve.next_row() as i64),
            Some((column, name)) => {
                let text = String::from_utf8_lossy(record.field(*column));
                sieve.keeps_text(&text, name)?
            }
        };
        if keep {
            output.write_all(record.raw).map_err(write_failed)?;
        }
    }
    if columns.is_none() {
        return Err(sieve.bad_manifest(ErrorKind::Manifest, "is empty"));
    }
    Ok(())
}

/// The key's place and name, looked up in the first record.
fn find_key(
    manifest: &Manifest,
    first: &Record<'_>,
    sieve: &Sieve<'_>,
) -> Result<Option<(usize, String)>> {
    let Some(name) = &manifest.key else { return Ok(None) };
    let names: Vec<String> = (0..first.fields())
        .map(|column| {
            if manifest.header {
                String::from_utf8_lossy(first.field(column)).into_owned()
            } else {
                column.to_string()
            }
        })
        .collect();
    let mut places = (0..names.len()).filter(|&column| &names[column] == name);
    match (places.next(), places.next()) {
        (Some(column), None) => Ok(Some((column, name.clone()))),
        (None, _) => Err(sieve.no_column(name, names.iter().map(String::as_str))),
        (Some(_), Some(_)) => Err(sieve.bad_manifest(
            ErrorKind::Manifest,
            format!("two columns have the key's name `{name}`"),
        )),
    }
}

fn ragged(sieve: &Sieve<'_>, columns: usize, record: &Record<'_>) -> Error {
    let lines = record.raw.split(|&byte| byte == b'\n').count() - 1;
    let hint = if lines > 1 {
        format!(
            "; it spans {lines} lines, so a quote may be open: if quotes are ordinary characters \
             here, switch `quotes` off"
        )
    } else {
        String::new()
    };
    sieve.bad_row(format!("expected {columns} columns, got {}{hint}", record.fields()))
}

/// One record: its bytes as they came, and its fields without their quotes.
struct Record<'a> {
    raw: &'a [u8],
    text: &'a [u8],
    ends: &'a [usize],
    /// Whether the input ended inside a quoted field.
    open_quote: bool,
}

impl Record<'_> {
    fn fields(&self) -> usize {
        self.ends.len()
    }

    fn field(&self, column: usize) -> &[u8] {
        let start = column.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[column]]
    }
}

/// Splits a stream into records without losing a byte: blank lines go with the record after them.
struct Records<R> {
    input: R,
    parser: Reader,
    builder: ReaderBuilder,
    buffer: Vec<u8>,
    /// The bytes of the record at hand: from its first byte to what the parser has not seen.
    window: Range<usize>,
    parsed: usize,
    at_start: bool,
    at_end: bool,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl<R: Read> Records<R> {
    fn new(manifest: &Manifest, delimiter: u8, input: R) -> Self {
        let mut builder = ReaderBuilder::new();
        builder.delimiter(delimiter).quoting(manifest.quotes);
        Self {
            input,
            parser: builder.build(),
            builder,
            buffer: vec![0; BUFFER_BYTES],
            window: 0..0,
            parsed: 0,
            at_start: true,
            at_end: false,
            text: vec![0; 1024],
            ends: vec![0; 64],
        }
    }

    fn next(&mut self) -> std::io::Result<Option<Record<'_>>> {
        self.window.start = self.parsed;
        if self.at_start {
            self.pass_over_mark()?;
        }
        let (mut text, mut ends) = (0, 0);
        loop {
            let unseen = &self.buffer[self.parsed..self.window.end];
            if unseen.is_empty() && !self.at_end {
                if self.parsed - self.window.start > LONGEST_RECORD {
                    return Err(std::io::Error::other(format!(
                        "a row of more than {LONGEST_RECORD} bytes; is a quote open?"
                    )));
                }
                self.refill()?;
                continue;
            }
            let (result, read, wrote, ended) =
                self.parser.read_record(unseen, &mut self.text[text..], &mut self.ends[ends..]);
            self.parsed += read;
            text += wrote;
            ends += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(2 * self.text.len(), 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                ReadRecordResult::Record => {
                    self.take_line_feed()?;
                    let open_quote = self.at_end && self.is_open();
                    return Ok(Some(Record {
                        open_quote,
                        raw: &self.buffer[self.window.start..self.parsed],
                        text: &self.text[..text],
                        ends: &self.ends[..ends],
                    }));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    /// Whether the bytes of the record at hand leave a quote open: a line feed behind them would not
    /// end it then.
    fn is_open(&self) -> bool {
        let raw = &self.buffer[self.window.start..self.parsed];
        if !raw.contains(&b'"') {
            return false;
        }
        let mut parser = self.builder.build();
        let left = raw.strip_prefix(BYTE_ORDER_MARK).unwrap_or(raw);
        let (mut text, mut ends) = (vec![0; raw.len() + 1], vec![0; raw.len() + 1]);
        let (mut wrote, mut ended) = (0, 0);
        for bytes in [left, b"\n"] {
            let (result, _, more_text, more_ends) =
                parser.read_record(bytes, &mut text[wrote..], &mut ends[ended..]);
            (wrote, ended) = (wrote + more_text, ended + more_ends);
            if result == ReadRecordResult::Record {
                return false;
            }
        }
        true
    }

    /// A byte order mark belongs to the first record's bytes and to none of its fields.
    fn pass_over_mark(&mut self) -> std::io::Result<()> {
        self.at_start = false;
        while self.window.end < BYTE_ORDER_MARK.len() && !self.at_end {
            self.refill()?;
        }
        if self.buffer[..self.window.end].starts_with(BYTE_ORDER_MARK) {
            self.parsed = BYTE_ORDER_MARK.len();
        }
        Ok(())
    }

    /// The parser ends a record at a carriage return; the line feed behind it belongs to the same line.
    fn take_line_feed(&mut self) -> std::io::Result<()> {
        if self.parsed == self.window.start || self.buffer[self.parsed - 1] != b'\r' {
            return Ok(());
        }
        while self.parsed == self.window.end && !self.at_end {
            self.refill()?;
        }
        if self.buffer[self.parsed..self.window.end].first() == Some(&b'\n') {
            self.parsed += 1;
        }
        Ok(())
    }

    /// Reads more bytes behind the window, moved to the front or grown as needed.
    fn refill(&mut self) -> std::io::Result<()> {
        if self.window.end == self.buffer.len() {
            if self.window.start > 0 {
                self.buffer.copy_within(self.window.clone(), 0);
                self.parsed -= self.window.start;
                self.window = 0..self.window.len();
            } else {
                self.buffer.resize(2 * self.buffer.len(), 0);
            }
        }
        let read = loop {
            match self.input.read(&mut self.buffer[self.window.end..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.at_end = read == 0;
        self.window.end += read;
        Ok(())
    }
}
