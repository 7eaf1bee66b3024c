//! CSV and TSV: finds records and copies them byte for byte.
//!
//! `marks` finds records many bytes at a time where quotes are placed as writers place them, and
//! `parser` finds them elsewhere. `csv-core` defines what a record is in both cases.

mod header;
mod marks;
mod parser;

use std::borrow::Cow;
use std::io::Write;

use super::Manifest;
use super::added_scores::Added;
use super::input::ManifestInput;
use super::pipeline::{self, Output, Splitter};
use super::row_filter::RowFilter;
use crate::error::{Error, ErrorKind, Result};
use header::Header;
use marks::Marks;

pub(super) use header::Columns;
pub(super) use parser::{Parsed, Parser};

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// The number of bytes to mark at once: at first, after a record that `parser` had to read, and at
/// most for shorter records.
const MIN_MARKED: usize = 1 << 10;
const MAX_MARKED: usize = 1 << 14;

/// Filters delimited text. `columns` holds the columns that the file must have, if any, and
/// receives those it has.
pub(super) fn filter(
    manifest: &Manifest,
    delimiter: u8,
    input: ManifestInput<'_>,
    output: &mut (dyn Write + Send),
    row_filter: &mut RowFilter<'_>,
    columns: &mut Option<Columns>,
) -> Result<()> {
    let mut records = Records::new(manifest, delimiter, row_filter, columns.take());
    pipeline::run(input, output, manifest.compression, &mut records)?;
    let Some(header) = records.header else {
        return Err(row_filter.bad_manifest(ErrorKind::Manifest, "is empty"));
    };
    *columns = Some(header.columns);
    Ok(())
}

struct Records<'a, 's> {
    manifest: &'a Manifest,
    delimiter: u8,
    row_filter: &'a mut RowFilter<'s>,
    added: Option<Added<'a>>,
    /// The columns that it must have.
    expected: Option<Columns>,
    /// Known after the first record.
    header: Option<Header>,
    at_start: bool,
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
    fn new(
        manifest: &'a Manifest,
        delimiter: u8,
        row_filter: &'a mut RowFilter<'s>,
        expected: Option<Columns>,
    ) -> Self {
        Self {
            manifest,
            delimiter,
            row_filter,
            added: Added::of(manifest),
            expected,
            header: None,
            at_start: true,
            parser: Parser::new(delimiter, manifest.quotes),
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
            Parsed::OpenQuote => return Err(self.open_quote()),
            Parsed::Record(length) => mark + length,
        };
        let names = (0..self.parser.fields()).map(|column| self.parser.field(column));
        let header = Header::new(self.manifest, names, &*self.row_filter)?;
        if let Some(expected) = &self.expected {
            expected.check(&header.columns, &*self.row_filter)?;
        }
        let header = self.header.insert(header);
        if self.manifest.header {
            let raw = &window[..length];
            match &self.added {
                None => output.push(raw)?,
                Some(added) => {
                    header.columns.refuse(added.names(), &*self.row_filter)?;
                    let names =
                        header::header_line(added.names(), self.delimiter, self.manifest.quotes)?;
                    push_with(raw, &names, output)?;
                }
            }
        } else {
            self.decide_parsed(&window[..length], output)?;
        }
        self.at_start = false;
        Ok(length)
    }

    /// Decides about the record that was parsed last.
    fn decide_parsed(&mut self, raw: &[u8], output: &mut Output<'_>) -> Result<()> {
        let Some(header) = &self.header else { return Ok(()) };
        if header.columns.count() != self.parser.fields() {
            return Err(wrong_field_count(
                self.row_filter,
                header.columns.count(),
                self.parser.fields(),
                raw,
            ));
        }
        self.ids.push(match &header.key {
            None => self.row_filter.id_of_row(),
            Some((column, name)) => self.row_filter.id_of_text(self.parser.field(*column), name)?,
        });
        self.ends.push(raw.len());
        self.decide(raw, output)
    }

    /// Finds the marked records of `bytes` and their ids. `at_end` says that nothing follows
    /// `bytes`.
    fn find_marked(&mut self, bytes: &[u8], at_end: bool) -> Result<()> {
        let Some(header) = &self.header else { return Ok(()) };
        let columns = header.columns.count();
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
                return Err(wrong_field_count(self.row_filter, columns, fields, &bytes[at..next]));
            }
            self.ids.push(match &header.key {
                None => self.row_filter.id_of_row(),
                Some((column, name)) => {
                    let from = match column.checked_sub(1) {
                        None => start,
                        Some(before) => {
                            self.marks.delimiter(start, before).map_or(end, |place| place + 1)
                        }
                    };
                    let last = column + 1 == columns;
                    let to = if last { None } else { self.marks.delimiter(from, 0) };
                    let field = &bytes[from..to.unwrap_or(end)];
                    self.row_filter.id_of_text(&unquoted(field, self.manifest.quotes), name)?
                }
            });
            self.ends.push(next);
            at = next;
        }
    }

    /// Decides about the records found in `bytes`, which begins with the first of them.
    fn decide(&mut self, bytes: &[u8], output: &mut Output<'_>) -> Result<()> {
        self.row_filter.decide(&self.ids, &mut self.keep_flags);
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

    fn open_quote(&self) -> Error {
        self.row_filter.bad_row(
            "a quote is opened and never closed; if quotes are ordinary characters here, switch \
             `quotes` off",
        )
    }
}

impl Splitter for Records<'_, '_> {
    fn take(&mut self, window: &[u8], at_end: bool, output: &mut Output<'_>) -> Result<usize> {
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
            self.marks.mark(some, self.delimiter, self.manifest.quotes);
            self.find_marked(bytes, at_end)?;
            if let Some(&taken) = self.ends.last() {
                self.decide(bytes, output)?;
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
                    self.decide_parsed(&bytes[..length], output)?;
                    at += length;
                }
                Parsed::OpenQuote => return Err(self.open_quote()),
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

    fn bad_row(&self, what: &str) -> Error {
        self.row_filter.bad_row(what)
    }

    fn bad_manifest(&self, kind: ErrorKind, what: &str) -> Error {
        self.row_filter.bad_manifest(kind, what)
    }
}

/// Copies a record with more columns at its end.
fn push_with(raw: &[u8], more: &[u8], output: &mut Output<'_>) -> Result<()> {
    let end = match raw {
        [.., b'\r', b'\n'] => 2,
        [.., b'\r' | b'\n'] => 1,
        _ => 0,
    };
    let (content, end) = raw.split_at(raw.len() - end);
    output.push(content)?;
    output.push(more)?;
    output.push(end)
}

/// Returns a field without the quotes around it, and with doubled quotes inside it halved.
fn unquoted(field: &[u8], quotes: bool) -> Cow<'_, [u8]> {
    match field {
        [b'"', within @ .., b'"'] if quotes => {
            if memchr::memchr(b'"', within).is_none() {
                return Cow::Borrowed(within);
            }
            let mut text = Vec::with_capacity(within.len());
            let mut rest = within;
            while let Some(quote) = memchr::memchr(b'"', rest) {
                text.extend_from_slice(&rest[..=quote]);
                rest = rest.get(quote + 2..).unwrap_or_default();
            }
            text.extend_from_slice(rest);
            Cow::Owned(text)
        }
        _ => Cow::Borrowed(field),
    }
}

fn wrong_field_count(
    row_filter: &RowFilter<'_>,
    columns: usize,
    fields: usize,
    raw: &[u8],
) -> Error {
    let lines = memchr::memchr_iter(b'\n', raw).count().max(1);
    let hint = if lines > 1 {
        format!(
            "; it spans {lines} lines, so a quote may be open: if quotes are ordinary characters \
             here, switch `quotes` off"
        )
    } else {
        String::new()
    };
    row_filter.bad_row(format!("expected {columns} columns, got {fields}{hint}"))
}
