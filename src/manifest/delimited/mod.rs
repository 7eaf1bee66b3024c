//! CSV and TSV: finds records and copies them byte for byte.
//!
//! `marks` finds records many bytes at a time where quotes are placed as writers place them, and
//! `parser` finds them elsewhere. `csv-core` defines what a record is in both cases.

mod header;
mod marks;
mod parser;
mod record;

use std::io::Write;
use std::ops::Range;

use super::Manifest;
use super::added_scores::Added;
use super::input::ManifestInput;
use super::lines::Lines;
use super::pipeline::{self, Output, Splitter};
use super::row_filter::{BadRow, RowFilter};
use crate::error::{Error, ErrorKind, Result};
use header::Header;
use marks::Marks;
use record::{LineEnd, push_with, trimmed_end, unquoted};

pub(super) use parser::{Parsed, Parser};

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// The number of bytes to mark at once: at first, after a record that `parser` had to read, and at
/// most for shorter records.
const MIN_MARKED: usize = 1 << 10;
const MAX_MARKED: usize = 1 << 14;

/// Filters delimited text, and returns the names of its columns.
pub(super) fn filter(
    manifest: &Manifest,
    input: ManifestInput<'_>,
    output: &mut (dyn Write + Send),
    row_filter: &mut RowFilter<'_>,
) -> Result<Vec<String>> {
    let mut records = Records::new(manifest, row_filter);
    let ignored = pipeline::run(input, output, manifest.text_options(), &mut records)?;
    let header = records.header;
    row_filter.ignore_bytes(ignored);
    match header {
        Some(header) => Ok(header.names),
        // One of many files may have nothing in it.
        None if row_filter.has_several_files() => Ok(Vec::new()),
        None => Err(row_filter.bad_manifest(ErrorKind::Manifest, "is empty")),
    }
}

struct Records<'a, 's> {
    manifest: &'a Manifest,
    delimiter: u8,
    row_filter: &'a mut RowFilter<'s>,
    added: Option<Added<'a>>,
    /// Known after the first record.
    header: Option<Header>,
    at_start: bool,
    quotes: bool,
    lines: Lines,
    /// The line end of the header, and of the record before the window.
    header_end: LineEnd,
    last_end: LineEnd,
    parser: Parser,
    marks: Marks,
    marked: usize,
    /// Records that have been found but not decided about: where they end, and their ids.
    ends: Vec<usize>,
    ids: Vec<i64>,
    keep_flags: Vec<bool>,
    scratch: Vec<u8>,
}

impl<'a, 's> Records<'a, 's> {
    fn new(manifest: &'a Manifest, row_filter: &'a mut RowFilter<'s>) -> Self {
        let (delimiter, quotes) = (manifest.delimiter_byte(), manifest.has_quotes());
        Self {
            manifest,
            delimiter,
            row_filter,
            added: Added::of(manifest),
            header: None,
            at_start: true,
            quotes,
            lines: Lines::default(),
            header_end: LineEnd::None,
            last_end: LineEnd::None,
            parser: Parser::new(delimiter, quotes),
            marks: Marks::default(),
            marked: MIN_MARKED,
            ends: Vec::new(),
            ids: Vec::new(),
            keep_flags: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Reads the first record, before which there may be a byte order mark.
    fn first(&mut self, window: &[u8], at_end: bool, output: &mut Output<'_>) -> Result<usize> {
        if !at_end && window.len() < BYTE_ORDER_MARK.len() {
            return Ok(0);
        }
        let mark = if window.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let length = match self.parser.parse(&window[mark..], at_end) {
            Parsed::Part => return Ok(0),
            Parsed::Blank => return Ok(window.len()),
            Parsed::OpenQuote => return Err(self.refuse(open_quote(), window, 0)),
            Parsed::Record(length) => mark + length,
        };
        let names = (0..self.parser.fields()).map(|column| self.parser.field(column));
        let header = Header::new(self.manifest, self.delimiter, names, &*self.row_filter)?;
        let header = self.header.insert(header);
        self.header_end = LineEnd::of(&window[..length]);
        if self.manifest.header {
            let raw = &window[..length];
            match &self.added {
                None => output.push(raw)?,
                Some(added) => {
                    header.refuse(added.names(), &*self.row_filter)?;
                    let names = header::header_line(added.names(), self.delimiter, self.quotes)?;
                    push_with(raw, &names, output)?;
                }
            }
        } else {
            self.decide_parsed(window, 0..length, output)?;
        }
        self.at_start = false;
        Ok(length)
    }

    /// Decides about the record that was parsed last, and where it is in the window.
    fn decide_parsed(
        &mut self,
        window: &[u8],
        place: Range<usize>,
        output: &mut Output<'_>,
    ) -> Result<()> {
        let Some(header) = &self.header else { return Ok(()) };
        let (start, raw) = (place.start, &window[place]);
        let fields = self.parser.fields();
        let content = trimmed_end(raw);
        let ends_empty = content.ends_with(&[self.delimiter])
            && fields > 0
            && self.parser.field(fields - 1).is_empty();
        if !header.fits(fields, ends_empty, self.added.is_some()) {
            let bad = self.wrong_field_count(header.names.len(), fields, &window[..start], raw);
            return Err(self.refuse(bad, window, start));
        }
        let id = match &header.key {
            None => Ok(self.row_filter.id_of_row()),
            Some((column, name)) => self.row_filter.id_of_text(self.parser.field(*column), name),
        };
        self.ids.push(id.map_err(|bad| self.refuse(bad, window, start))?);
        self.ends.push(raw.len());
        self.decide(window, start, output)
    }

    /// Finds the marked records of the window from `from` on, and their ids. `at_end` says that
    /// nothing follows the window.
    fn find_marked(&mut self, window: &[u8], from: usize, at_end: bool) -> Result<()> {
        let bytes = &window[from..];
        let Some(header) = &self.header else { return Ok(()) };
        let columns = header.names.len();
        let mut at = 0;
        loop {
            let mut start = at;
            let mut end = self.marks.end(start);
            // Blank lines belong to the record after them.
            while end == Some(start) {
                start += 1;
                end = self.marks.end(start);
            }
            let Some(end) = end else { return Ok(()) };
            let mut next = end + 1;
            if bytes[end] == b'\r' {
                match bytes.get(next) {
                    Some(b'\n') => next += 1,
                    Some(_) => {}
                    None if at_end => {}
                    None => return Ok(()),
                }
            }
            let fields = self.marks.delimiters(start, end) + 1;
            if fields != columns {
                let ends_empty = bytes[..end].ends_with(&[self.delimiter]);
                if !header.fits(fields, ends_empty, self.added.is_some()) {
                    let (before, raw) = (&window[..from + at], &bytes[at..next]);
                    let bad = self.wrong_field_count(columns, fields, before, raw);
                    return Err(self.refuse(bad, window, from + at));
                }
            }
            let id = match &header.key {
                None => Ok(self.row_filter.id_of_row()),
                Some((column, name)) => {
                    let start = match column.checked_sub(1) {
                        None => start,
                        Some(before) => {
                            self.marks.delimiter(start, before).map_or(end, |place| place + 1)
                        }
                    };
                    let last = column + 1 == fields;
                    let to = if last { None } else { self.marks.delimiter(start, 0) };
                    let field = &bytes[start..to.unwrap_or(end)];
                    self.row_filter.id_of_text(&unquoted(field, self.quotes), name)
                }
            };
            self.ids.push(id.map_err(|bad| self.refuse(bad, window, from + at))?);
            self.ends.push(next);
            at = next;
        }
    }

    /// Decides about the records that were found, the first of which begins at `from`.
    fn decide(&mut self, window: &[u8], from: usize, output: &mut Output<'_>) -> Result<()> {
        let bytes = &window[from..];
        self.row_filter.decide(&self.ids, &mut self.keep_flags);
        if self.row_filter.asks_for_lines() {
            let (lines, ends) = (&self.lines, &self.ends);
            self.row_filter.locate(ends.len(), |row| {
                let start = from + row.checked_sub(1).map_or(0, |before| ends[before]);
                lines.of(&window[..start], &window[start..])
            });
        }
        let mut start = 0;
        // Consecutive kept records are copied at once.
        let mut run = 0..0;
        for (place, &keep) in self.keep_flags.iter().enumerate() {
            let end = self.ends[place];
            if keep && let Some(added) = &self.added {
                self.scratch.clear();
                for value in added.values(self.ids[place]) {
                    self.scratch.push(self.delimiter);
                    if let Some(value) = value {
                        write!(self.scratch, "{value}").map_err(super::write_failed)?;
                    }
                }
                push_with(&bytes[start..end], &self.scratch, output)?;
            } else if keep {
                if run.end != start {
                    output.push(&bytes[run])?;
                    run = start..start;
                }
                run.end = end;
            }
            start = end;
        }
        output.push(&bytes[run])?;
        self.ids.clear();
        self.ends.clear();
        Ok(())
    }

    /// Makes an error about the record that begins there.
    fn refuse(&self, bad: BadRow, window: &[u8], start: usize) -> Error {
        let (skipped, row) = window.split_at(start);
        self.lines.refuse(self.row_filter, bad, skipped, row)
    }

    fn wrong_field_count(
        &self,
        columns: usize,
        fields: usize,
        before: &[u8],
        raw: &[u8],
    ) -> BadRow {
        let lines = memchr::memchr_iter(b'\n', raw).count().max(1);
        let previous = if before.is_empty() { self.last_end } else { LineEnd::of(before) };
        let ends = [previous, LineEnd::of(raw)];
        let other = ends.into_iter().find(|end| {
            *end != self.header_end && *end != LineEnd::None && self.header_end != LineEnd::None
        });
        let hint = if let (true, true) = (lines > 1, self.quotes) {
            format!(
                "; it spans {lines} lines, so a quote may be open: if quotes are ordinary \
                 characters here, switch `quotes` off"
            )
        } else if !self.quotes && raw.contains(&b'"') {
            "; if quotes go around fields here, switch `quotes` on".to_owned()
        } else if let Some(other) = other {
            format!(
                "; a line ends with {} and the header with {}, so a field may hold a line break \
                 without quotes around it",
                other.name(),
                self.header_end.name()
            )
        } else {
            String::new()
        };
        BadRow::new(format!("expected {columns} columns, got {fields}{hint}"))
    }

    fn take_records(
        &mut self,
        window: &[u8],
        at_end: bool,
        output: &mut Output<'_>,
    ) -> Result<usize> {
        let mut at = 0;
        if self.at_start {
            at = self.first(window, at_end, output)?;
            if self.at_start {
                return Ok(at);
            }
        }
        while at < window.len() {
            let bytes = &window[at..];
            let some = &bytes[..self.marked.min(bytes.len())];
            self.marks.mark(some, self.delimiter, self.quotes);
            self.find_marked(window, at, at_end)?;
            if let Some(&taken) = self.ends.last() {
                self.decide(window, at, output)?;
                at += taken;
                self.marked = (2 * self.marked).clamp(MIN_MARKED, MAX_MARKED);
                continue;
            }
            if !self.marks.stopped() && some.len() < bytes.len() {
                self.marked *= 4;
                continue;
            }
            if !self.marks.stopped() && !at_end {
                return Ok(at);
            }
            match self.parser.parse(bytes, at_end) {
                Parsed::Record(length) => {
                    self.decide_parsed(window, at..at + length, output)?;
                    at += length;
                }
                Parsed::OpenQuote => return Err(self.refuse(open_quote(), window, at)),
                Parsed::Blank if at_end => {
                    output.push(bytes)?;
                    at = window.len();
                }
                Parsed::Part | Parsed::Blank => return Ok(at),
            }
            self.marked = MIN_MARKED;
        }
        Ok(at)
    }
}

impl Splitter for Records<'_, '_> {
    fn take(&mut self, window: &[u8], at_end: bool, output: &mut Output<'_>) -> Result<usize> {
        let taken = self.take_records(window, at_end, output)?;
        self.lines.pass(&window[..taken]);
        if taken > 0 {
            self.last_end = LineEnd::of(&window[..taken]);
        }
        Ok(taken)
    }

    fn bad_row(&self, what: &str) -> Error {
        self.refuse(BadRow::new(what), &[], 0)
    }

    fn bad_manifest(&self, kind: ErrorKind, what: &str) -> Error {
        self.row_filter.bad_manifest(kind, what)
    }
}

fn open_quote() -> BadRow {
    BadRow::new(
        "a quote is opened and never closed; if quotes are ordinary characters here, switch \
         `quotes` off",
    )
}
