//! Decides about every row of a manifest by its example id, and counts the decisions. Knows no
//! format.

use super::example_states::ExampleStates;
use super::key_map::KeyMap;
use super::summary::ManifestSummary;
use super::{Duplicates, Manifest, Unscored};
use crate::error::{Error, ErrorKind, Result};
use crate::selection::Selection;

/// Rows are decided in two steps, so that many can be looked up at once: first the id of each row
/// is found, in order; then all of them are decided.
pub(super) struct RowFilter<'a> {
    /// The number of examples that the selection keeps.
    to_keep: u64,
    keys: Option<&'a KeyMap>,
    unscored: Unscored,
    duplicates: Duplicates,
    /// The name of the current file, for messages.
    name: String,
    /// The name of the whole manifest, and whether it has several files.
    whole: String,
    several: bool,
    /// How many rows the earlier files have.
    rows_before: u64,
    /// Rows whose id is known but that are not decided yet.
    ahead: u64,
    kept_seen: u64,
    summary: ManifestSummary,
    states: ExampleStates<'a>,
    first_unscored: Option<(String, i64)>,
    first_unmapped: Option<(String, String)>,
    first_duplicate: Option<(String, i64)>,
}

/// The id of a row whose key is not in the key map.
pub(super) const UNMAPPED: i64 = -1;

impl<'a> RowFilter<'a> {
    pub(super) fn new(selection: &'a Selection, manifest: &'a Manifest, name: &str) -> Self {
        Self {
            to_keep: selection.len() as u64,
            keys: manifest.key_map.as_deref(),
            unscored: manifest.unscored,
            duplicates: manifest.duplicates,
            name: name.to_owned(),
            whole: name.to_owned(),
            several: false,
            rows_before: 0,
            ahead: 0,
            kept_seen: 0,
            summary: ManifestSummary::default(),
            states: ExampleStates::new(selection),
            first_unscored: None,
            first_unmapped: None,
            first_duplicate: None,
        }
    }

    /// Continues with another file of the same manifest.
    pub(super) fn start_file(&mut self, name: &str) {
        name.clone_into(&mut self.name);
        self.several = true;
        self.rows_before = self.summary.rows;
        self.summary.files += 1;
    }

    /// Returns whether keys are text that a map turns into ids.
    pub(super) fn maps_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Returns the id of the next row by its number over all files.
    #[inline]
    pub(super) fn id_of_row(&mut self) -> i64 {
        let id = self.summary.rows + self.ahead;
        self.ahead += 1;
        id as i64
    }

    /// Returns the id of the next row by the text of its key.
    #[inline]
    pub(super) fn id_of_text(&mut self, key: &[u8], column: &str) -> Result<i64> {
        let id = match self.keys {
            Some(keys) => match keys.example(key) {
                Some(example) => example,
                None if key.is_empty() => return Err(self.missing(column)),
                None => self.unmapped(key),
            },
            None => match digits(key) {
                Some(example) => example,
                None => self.parsed(key, column)?,
            },
        };
        self.ahead += 1;
        Ok(id)
    }

    /// Returns the id of the next row by the number in its key.
    #[inline]
    pub(super) fn id_of_number(&mut self, number: i64, column: &str) -> Result<i64> {
        if self.keys.is_some() {
            return self.id_of_text(number.to_string().as_bytes(), column);
        }
        if number < 0 {
            return Err(self.no_id(column, &number.to_string()));
        }
        self.ahead += 1;
        Ok(number)
    }

    fn parsed(&self, key: &[u8], column: &str) -> Result<i64> {
        let text = String::from_utf8_lossy(key);
        let number = text.trim_ascii();
        if number.is_empty() {
            return Err(self.missing(column));
        }
        let parsed = number.parse().ok().filter(|&example| example >= 0);
        parsed.ok_or_else(|| self.no_id(column, &text))
    }

    fn unmapped(&mut self, key: &[u8]) -> i64 {
        self.summary.unmapped += 1;
        if self.first_unmapped.is_none() {
            let place = self.place(self.row());
            self.first_unmapped = Some((place, shown(&String::from_utf8_lossy(key))));
        }
        UNMAPPED
    }

    /// Decides which of the rows with these ids are kept.
    pub(super) fn decide(&mut self, ids: &[i64], keep_flags: &mut Vec<bool>) {
        keep_flags.clear();
        keep_flags.extend(ids.iter().map(|&example| self.decide_one(example)));
        self.ahead = 0;
    }

    #[inline]
    fn decide_one(&mut self, example: i64) -> bool {
        let state = self.states.visit(example);
        if let Some(state) = state {
            if state.seen() {
                self.duplicate(example);
            } else {
                self.kept_seen += u64::from(state.kept());
            }
        }
        let keep = match state {
            Some(state) if !state.unscored() => {
                self.states.count(state);
                state.kept()
            }
            _ => self.keeps_unscored(example),
        };
        self.summary.rows += 1;
        self.summary.kept += u64::from(keep);
        keep
    }

    #[cold]
    fn duplicate(&mut self, example: i64) {
        self.summary.duplicates += 1;
        if self.first_duplicate.is_none() {
            let place = self.place(self.summary.rows - self.rows_before);
            self.first_duplicate = Some((place, example));
        }
    }

    #[cold]
    fn keeps_unscored(&mut self, example: i64) -> bool {
        if example != UNMAPPED {
            self.summary.unscored += 1;
            if self.first_unscored.is_none() {
                let place = self.place(self.summary.rows - self.rows_before);
                self.first_unscored = Some((place, example));
            }
        }
        self.unscored == Unscored::Keep
    }

    /// Returns the number of the next row in the current file, from 0.
    fn row(&self) -> u64 {
        self.summary.rows - self.rows_before + self.ahead
    }

    /// Describes where a row is, for messages about the whole manifest.
    fn place(&self, row: u64) -> String {
        if self.several {
            format!("{row} (from 0) of {}", self.name)
        } else {
            format!("{row} (from 0)")
        }
    }

    fn wanted(&self) -> &'static str {
        if self.keys.is_some() { "a key" } else { "an example id" }
    }

    pub(super) fn missing(&self, column: &str) -> Error {
        self.bad_row(format!("expected {} in `{column}`, got nothing", self.wanted()))
    }

    pub(super) fn no_id(&self, column: &str, got: &str) -> Error {
        let got = shown(got);
        if self.keys.is_some() {
            return self.bad_row(format!(
                "expected a key (text or an integer) in `{column}`, got `{got}`"
            ));
        }
        self.bad_row(format!(
            "expected an example id (an integer in 0..2^63) in `{column}`, got `{got}`{}",
            if got.parse::<f64>().is_ok() { "" } else { "; map text keys to ids with `key_map`" }
        ))
    }

    /// Makes an error about the next row.
    pub(super) fn bad_row(&self, what: impl std::fmt::Display) -> Error {
        let row = self.row();
        Error::new(ErrorKind::Manifest, format!("{}: row {row} (from 0): {what}", self.name))
    }

    /// Makes an error about the current file as a whole.
    pub(super) fn bad_manifest(&self, kind: ErrorKind, what: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("{}: {what}", self.name))
    }

    pub(super) fn no_column<'n>(
        &self,
        column: &str,
        columns: impl Iterator<Item = &'n str>,
    ) -> Error {
        let columns: Vec<&str> = columns.collect();
        let columns = columns.join(", ");
        self.bad_manifest(
            ErrorKind::NotFound,
            format!("no key column `{column}`; there are: {columns}"),
        )
    }

    pub(super) fn has_column(&self, column: &str) -> Error {
        self.bad_manifest(
            ErrorKind::AlreadyExists,
            format!(
                "there already is a column `{column}`; a score cannot be added under that name"
            ),
        )
    }

    /// Returns the counts, unless a policy refuses the manifest.
    pub(super) fn finish(mut self) -> Result<ManifestSummary> {
        self.name.clone_from(&self.whole);
        self.summary.missing = self.to_keep - self.kept_seen;
        self.summary.classes = self.states.classes();
        let ManifestSummary { rows, kept, unscored, unmapped, duplicates, .. } = self.summary;
        if let (Duplicates::Fail, Some((place, example))) = (self.duplicates, &self.first_duplicate)
        {
            return Err(self.bad_manifest(
                ErrorKind::Manifest,
                format!(
                    "{duplicates} rows repeat the example id of an earlier row, first row {place} \
                     with id {example}; set `duplicates` to allow that"
                ),
            ));
        }
        if let (Unscored::Fail, Some((place, key))) = (self.unscored, &self.first_unmapped) {
            return Err(self.bad_manifest(
                ErrorKind::Manifest,
                format!(
                    "{unmapped} of {rows} rows have a key that is not in the key map, first row {place} \
                     with key `{key}`; set `unscored` to keep or prune them"
                ),
            ));
        }
        if let (Unscored::Fail, Some((place, example))) = (self.unscored, &self.first_unscored) {
            return Err(self.bad_manifest(
                ErrorKind::Manifest,
                format!(
                    "{unscored} of {rows} rows have no score, first row {place} with id {example}; \
                     set `unscored` to keep or prune them"
                ),
            ));
        }
        if kept == 0 {
            let what =
                format!("none of {rows} rows is kept; do the ids match those of the scores?");
            return Err(self.bad_manifest(ErrorKind::Empty, what));
        }
        Ok(self.summary)
    }
}

/// Parses a text of digits and nothing else.
#[inline]
fn digits(text: &[u8]) -> Option<i64> {
    // Eighteen digits always fit.
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    let mut value = 0;
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(value)
}

/// Shortens a long text for a message.
fn shown(text: &str) -> String {
    let most = 60;
    let cut = if text.chars().count() > most { "..." } else { "" };
    text.chars().take(most).chain(cut.chars()).collect()
}
