//! Decides about every row of a manifest by its example id, and counts. Knows no format.

use super::key_map::KeyMap;
use super::summary::{ClassTally, ManifestSummary};
use super::{Duplicates, Manifest, Unscored};
use crate::error::{Error, ErrorKind, Result};
use crate::selection::{Fate, Selection};

pub(super) struct Sieve<'a> {
    selection: &'a Selection,
    keys: Option<&'a KeyMap>,
    unscored: Unscored,
    duplicates: Duplicates,
    /// The name of the file at hand, for messages.
    name: String,
    /// The name of all files together, and whether there are several.
    whole: String,
    several: bool,
    /// How many rows the files before have.
    rows_before: u64,
    /// One bit per example of the selection: whether a row has carried it.
    seen: Vec<u64>,
    kept_seen: u64,
    /// The id of the row that was decided about last, if it has one.
    example: Option<i64>,
    summary: ManifestSummary,
    classes: ClassTally,
    first_unscored: Option<(String, i64)>,
    first_unmapped: Option<(String, String)>,
    first_duplicate: Option<(String, i64)>,
}

impl<'a> Sieve<'a> {
    pub(super) fn new(selection: &'a Selection, manifest: &'a Manifest, name: &str) -> Self {
        Self {
            selection,
            keys: manifest.key_map.as_deref(),
            unscored: manifest.unscored,
            duplicates: manifest.duplicates,
            name: name.to_owned(),
            whole: name.to_owned(),
            several: false,
            rows_before: 0,
            seen: vec![0; selection.considered().div_ceil(64)],
            kept_seen: 0,
            example: None,
            summary: ManifestSummary::default(),
            classes: ClassTally::default(),
            first_unscored: None,
            first_unmapped: None,
            first_duplicate: None,
        }
    }

    /// Goes on with another file of the same manifest.
    pub(super) fn start_file(&mut self, name: &str) {
        name.clone_into(&mut self.name);
        self.several = true;
        self.rows_before = self.summary.rows;
        self.summary.files += 1;
    }

    /// The example id of the row that was decided about last, if it has one.
    pub(super) fn example(&self) -> Option<i64> {
        self.example
    }

    /// The number of the next row in the file at hand, from 0.
    pub(super) fn row(&self) -> u64 {
        self.summary.rows - self.rows_before
    }

    /// Whether keys are text that a map ties to ids.
    pub(super) fn maps_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Whether the next row stays, whose number over all files is its id.
    pub(super) fn keeps_row(&mut self) -> bool {
        self.keeps(self.summary.rows as i64)
    }

    /// Whether the next row stays, which carries this id.
    #[inline]
    pub(super) fn keeps(&mut self, example: i64) -> bool {
        let member = self.selection.member(example);
        let mut scored = None;
        if let Some(member) = &member {
            let (word, bit) = (member.position / 64, 1 << (member.position % 64));
            if self.seen[word] & bit != 0 {
                self.summary.duplicates += 1;
                if self.first_duplicate.is_none() {
                    self.first_duplicate = Some((self.place(), example));
                }
            } else if member.fate == Fate::Kept {
                self.kept_seen += 1;
            }
            self.seen[word] |= bit;
            if member.fate != Fate::Unscored {
                scored = Some((member.label, member.fate == Fate::Kept));
            }
        }
        let keep = if let Some((label, keep)) = scored {
            self.classes.count(label, keep);
            keep
        } else {
            self.summary.unscored += 1;
            if self.first_unscored.is_none() {
                self.first_unscored = Some((self.place(), example));
            }
            self.unscored == Unscored::Keep
        };
        self.example = Some(example);
        self.summary.rows += 1;
        self.summary.kept += u64::from(keep);
        keep
    }

    /// Whether the next row stays, whose id is the text of a field.
    #[inline]
    pub(super) fn keeps_text(&mut self, key: &[u8], column: &str) -> Result<bool> {
        if let Some(keys) = self.keys {
            return match keys.example(key) {
                Some(example) => Ok(self.keeps(example)),
                None if key.is_empty() => Err(self.missing(column)),
                None => Ok(self.keeps_unmapped(key)),
            };
        }
        if let Some(example) = digits(key) {
            return Ok(self.keeps(example));
        }
        let text = String::from_utf8_lossy(key);
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err(self.missing(column));
        }
        match text.parse() {
            Ok(example) if example >= 0 => Ok(self.keeps(example)),
            _ => Err(self.no_id(column, &String::from_utf8_lossy(key))),
        }
    }

    /// Whether the next row stays, whose id is a number.
    pub(super) fn keeps_id(&mut self, example: i64, column: &str) -> Result<bool> {
        if self.keys.is_some() {
            return self.keeps_text(example.to_string().as_bytes(), column);
        }
        if example < 0 {
            return Err(self.no_id(column, &example.to_string()));
        }
        Ok(self.keeps(example))
    }

    /// Whether the next row stays, whose key no example has.
    fn keeps_unmapped(&mut self, key: &[u8]) -> bool {
        self.summary.unmapped += 1;
        if self.first_unmapped.is_none() {
            self.first_unmapped = Some((self.place(), shown(&String::from_utf8_lossy(key))));
        }
        let keep = self.unscored == Unscored::Keep;
        self.example = None;
        self.summary.rows += 1;
        self.summary.kept += u64::from(keep);
        keep
    }

    /// Where the next row stands, for messages about the whole manifest.
    fn place(&self) -> String {
        let row = self.row();
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
                "expected a key, a text or an integer, in `{column}`, got `{got}`"
            ));
        }
        self.bad_row(format!(
            "expected an example id, an integer in 0..2^63, in `{column}`, got `{got}`{}",
            if got.parse::<f64>().is_ok() { "" } else { "; tie texts to ids with `key_map`" }
        ))
    }

    /// Something is wrong with the next row.
    pub(super) fn bad_row(&self, what: impl std::fmt::Display) -> Error {
        let row = self.row();
        Error::new(ErrorKind::Manifest, format!("{}: row {row} (from 0): {what}", self.name))
    }

    /// Something is wrong with the file at hand as a whole.
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
            format!("there is a column `{column}` already; a score cannot be added by that name"),
        )
    }

    /// The outcome, unless a policy refuses the manifest.
    pub(super) fn finish(mut self) -> Result<ManifestSummary> {
        self.name.clone_from(&self.whole);
        self.summary.missing = self.selection.len() as u64 - self.kept_seen;
        self.summary.classes = std::mem::take(&mut self.classes).into_counts();
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
                    "{unmapped} of {rows} rows have a key that the key map lacks, first row {place} \
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

/// The integer that some digits, and nothing else, write.
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

/// The start of a text that may be long.
fn shown(text: &str) -> String {
    let most = 60;
    let cut = if text.chars().count() > most { "..." } else { "" };
    text.chars().take(most).chain(cut.chars()).collect()
}
