//! JSON Lines: one object per line, copied byte for byte.
//!
//! Of an object, only the key has to be valid JSON. Everything else passes through as it is: `NaN`
//! and `Infinity` as Python writes them, halves of surrogate pairs, bytes that are not UTF-8. That is
//! why objects are scanned here and not parsed by `serde_json`, which refuses those.

mod object;

use std::io::Write;
use std::ops::Range;

use super::added_scores::Added;
use super::input::ManifestInput;
use super::lines::Lines as LineCounter;
use super::pipeline::{self, Output, Splitter};
use super::row_filter::{BadRow, RowFilter};
use super::{Manifest, write_failed};
use crate::error::{Error, ErrorKind, Result};
pub(super) use object::Object;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Blank lines are not rows, and are dropped.
pub(super) fn filter(
    manifest: &Manifest,
    input: ManifestInput<'_>,
    output: &mut (dyn Write + Send),
    row_filter: &mut RowFilter<'_>,
) -> Result<()> {
    let added = Added::of(manifest);
    let mut lines = Lines {
        manifest,
        row_filter,
        added,
        at_start: true,
        counter: LineCounter::default(),
        found: Vec::new(),
        ids: Vec::new(),
        keep_flags: Vec::new(),
        scratch: Vec::new(),
    };
    let ignored = pipeline::run(input, output, manifest.text_options(), &mut lines)?;
    row_filter.ignore_bytes(ignored);
    Ok(())
}

struct Lines<'a, 's> {
    manifest: &'a Manifest,
    row_filter: &'a mut RowFilter<'s>,
    added: Option<Added<'a>>,
    at_start: bool,
    counter: LineCounter,
    /// Lines that have been found but not decided about, and their ids.
    found: Vec<Line>,
    ids: Vec<i64>,
    keep_flags: Vec<bool>,
    scratch: Vec<u8>,
}

/// The position of a line, and what is needed to keep it.
struct Line {
    place: Range<usize>,
    has_fields: bool,
    taken: Option<String>,
}

impl Splitter for Lines<'_, '_> {
    fn take(&mut self, window: &[u8], at_end: bool, output: &mut Output<'_>) -> Result<usize> {
        let mut at = 0;
        if self.at_start {
            if window.len() < BYTE_ORDER_MARK.len() && !at_end {
                return Ok(0);
            }
            self.at_start = false;
            if window.starts_with(BYTE_ORDER_MARK) {
                output.push(BYTE_ORDER_MARK)?;
                at = BYTE_ORDER_MARK.len();
            }
        }
        while at < window.len() {
            let rest = &window[at..];
            let length = match memchr::memchr(b'\n', rest) {
                Some(end) => end + 1,
                None if at_end => rest.len(),
                None => break,
            };
            let place = at..at + length;
            at += length;
            if !window[place.clone()].trim_ascii().is_empty() {
                let found = self.find(&window[place.clone()], place.clone());
                found.map_err(|bad| {
                    let (skipped, row) = window.split_at(place.start);
                    self.counter.refuse(self.row_filter, bad, skipped, row)
                })?;
            }
        }
        self.decide(window, output)?;
        self.counter.pass(&window[..at]);
        Ok(at)
    }

    fn bad_row(&self, what: &str) -> Error {
        self.counter.refuse(self.row_filter, BadRow::new(what), &[], &[])
    }

    fn bad_manifest(&self, kind: ErrorKind, what: &str) -> Error {
        self.row_filter.bad_manifest(kind, what)
    }
}

impl Lines<'_, '_> {
    /// Finds the id of a line.
    fn find(&mut self, line: &[u8], place: Range<usize>) -> Result<(), BadRow> {
        let mut has_fields = false;
        let mut key = None;
        let mut taken = None;
        // Without a key or an added score, the line need not be looked into.
        if self.manifest.key.is_some() || self.added.is_some() {
            for field in Object::new(line)? {
                let field = field?;
                has_fields = true;
                if let Some(added) = &self.added {
                    let is_added = |added: &&str| field.is_named(added);
                    taken = taken.or_else(|| added.names().find(is_added).map(str::to_owned));
                }
                if let Some(wanted) = &self.manifest.key
                    && field.is_named(wanted)
                    && key.replace(field.value).is_some()
                {
                    return Err(BadRow::new(format!("expected one field `{wanted}`, got two")));
                }
            }
        }
        let id = match (&self.manifest.key, key) {
            (None, _) => self.row_filter.id_of_row(),
            (Some(name), None) => return Err(self.row_filter.missing(name)),
            (Some(name), Some(value)) => self.id_of(value, name)?,
        };
        self.ids.push(id);
        self.found.push(Line { place, has_fields, taken });
        Ok(())
    }

    fn id_of(&mut self, value: &[u8], name: &str) -> Result<i64, BadRow> {
        match serde_json::from_slice(value) {
            Ok(serde_json::Value::String(text)) => {
                self.row_filter.id_of_text(text.as_bytes(), name)
            }
            Ok(serde_json::Value::Number(_)) => {
                // Its digits, which a float might not hold.
                self.row_filter.id_of_text(value, name)
            }
            Ok(serde_json::Value::Null) => Err(self.row_filter.missing(name)),
            Ok(other) => Err(self.row_filter.no_id(name, &other.to_string())),
            Err(_) if value == b"NaN" => Err(self.row_filter.missing(name)),
            Err(error) => {
                let got = String::from_utf8_lossy(value);
                Err(self.row_filter.no_id(name, &got).with_source(error))
            }
        }
    }

    fn decide(&mut self, window: &[u8], output: &mut Output<'_>) -> Result<()> {
        self.row_filter.decide(&self.ids, &mut self.keep_flags);
        if self.row_filter.asks_for_lines() {
            let (counter, found) = (&self.counter, &self.found);
            self.row_filter.locate(found.len(), |row| {
                let (skipped, row) = window.split_at(found[row].place.start);
                counter.of(skipped, row)
            });
        }
        for ((line, &id), &keep) in self.found.iter().zip(&self.ids).zip(&self.keep_flags) {
            let text = &window[line.place.clone()];
            match &self.added {
                _ if !keep => {}
                None => output.push(text)?,
                Some(added) => {
                    if let Some(name) = &line.taken {
                        return Err(self.row_filter.has_column(name));
                    }
                    self.scratch.clear();
                    write_values(added, id, !line.has_fields, &mut self.scratch, self.row_filter)?;
                    let (object, end) = text.split_at(text.trim_ascii_end().len() - 1);
                    output.push(object)?;
                    output.push(&self.scratch)?;
                    output.push(end)?;
                }
            }
        }
        self.found.clear();
        self.ids.clear();
        Ok(())
    }
}

/// Writes the fields for the scores of a row.
fn write_values(
    added: &Added<'_>,
    id: i64,
    is_empty: bool,
    text: &mut Vec<u8>,
    row_filter: &RowFilter<'_>,
) -> Result<()> {
    for (place, (name, value)) in added.names().zip(added.values(id)).enumerate() {
        let comma = if is_empty && place == 0 { "" } else { "," };
        let quoted = serde_json::Value::from(name);
        match value {
            None => write!(text, "{comma}{quoted}:null"),
            Some(value) if value.is_finite() => {
                write!(text, "{comma}{quoted}:{}", serde_json::Value::from(value))
            }
            Some(value) => {
                return Err(row_filter.bad_manifest(
                    ErrorKind::Manifest,
                    format!(
                        "the `{name}` of example {id} is {value}, which JSON has no number for; add \
                         another score"
                    ),
                ));
            }
        }
        .map_err(write_failed)?;
    }
    Ok(())
}
