//! Decides about every row of a manifest by its example id, and counts the decisions. Knows no
//! format.

mod bad_row;
mod ids;

use std::fmt;

use super::example_states::ExampleStates;
use super::key_map::KeyMap;
use super::summary::ManifestSummary;
use super::{Duplicates, Manifest, Unscored};
use crate::error::{Error, ErrorKind, Result};
use crate::selection::Selection;
use bad_row::Place;

pub(super) use bad_row::BadRow;

/// Rows are decided in two steps, so that many can be looked up at once: first the id of each row
/// is found, in order; then all of them are decided.
pub(super) struct RowFilter<'a> {
    /// The number of examples that the selection keeps.
    to_keep: u64,
    keys: Option<&'a KeyMap>,
    unscored: Unscored,
    duplicates: Duplicates,
    /// Whether the rows that are not kept are written.
    rejected: bool,
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
    /// An example of the selection, for messages.
    some_example: Option<i64>,
    first_unscored: Option<(Place, i64)>,
    first_unmapped: Option<(Place, String)>,
    first_duplicate: Option<(Place, i64)>,
    /// Whether one of these does not have its line yet.
    unplaced: bool,
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
            rejected: manifest.rejected,
            name: name.to_owned(),
            whole: name.to_owned(),
            several: false,
            rows_before: 0,
            ahead: 0,
            kept_seen: 0,
            summary: ManifestSummary::default(),
            states: ExampleStates::new(selection),
            some_example: selection.examples().next(),
            first_unscored: None,
            first_unmapped: None,
            first_duplicate: None,
            unplaced: false,
        }
    }

    /// Continues with another file of the same manifest.
    pub(super) fn start_file(&mut self, name: &str) {
        name.clone_into(&mut self.name);
        self.several = true;
        self.rows_before = self.summary.rows;
        self.summary.files += 1;
    }

    /// Returns whether the manifest has several files.
    pub(super) fn has_several_files(&self) -> bool {
        self.several
    }

    /// Counts bytes behind the end of a compressed file.
    pub(super) fn ignore_bytes(&mut self, bytes: u64) {
        self.summary.ignored_bytes += bytes;
    }

    /// Returns whether keys are text that a map turns into ids.
    pub(super) fn maps_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Whether the line of a row is asked for: the caller should answer by [`locate`](Self::locate)
    /// after each [`decide`](Self::decide) if it knows lines.
    #[inline]
    pub(super) fn asks_for_lines(&self) -> bool {
        self.unplaced
    }

    /// Tells the lines of the rows that were decided last, `count` of them, by their place.
    pub(super) fn locate(&mut self, count: usize, line: impl Fn(usize) -> u64) {
        let first = self.summary.rows - self.rows_before - count as u64;
        let places = [
            self.first_unscored.as_mut().map(|(place, _)| place),
            self.first_unmapped.as_mut().map(|(place, _)| place),
            self.first_duplicate.as_mut().map(|(place, _)| place),
        ];
        for place in places.into_iter().flatten().filter(|place| place.line.is_none()) {
            if let Some(row) = place.row.checked_sub(first).filter(|row| *row < count as u64) {
                place.line = Some(line(row as usize));
            }
        }
        self.unplaced = false;
    }

    /// Decides which of the rows with these ids are written.
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
        keep != self.rejected
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
    fn place(&mut self, row: u64) -> Place {
        self.unplaced = true;
        Place { row, line: None, file: self.several.then(|| self.name.clone()) }
    }

    /// Makes an error about the next row, which begins in this line of a text file (from 1).
    pub(super) fn refuse(&self, bad: BadRow, line: Option<u64>) -> Error {
        let place = Place { row: self.row(), line, file: None };
        let error =
            Error::new(ErrorKind::Manifest, format!("{}: {place}: {}", self.name, bad.what));
        match bad.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }

    /// Makes an error about the current file as a whole.
    pub(super) fn bad_manifest(&self, kind: ErrorKind, what: impl fmt::Display) -> Error {
        Error::new(kind, format!("{}: {what}", self.name))
    }

    /// `hint` says what to do.
    pub(super) fn no_column<'n>(
        &self,
        column: &str,
        columns: impl Iterator<Item = &'n str>,
        hint: &str,
    ) -> Error {
        let columns: Vec<&str> = columns.collect();
        let columns = columns.join(", ");
        self.bad_manifest(
            ErrorKind::NotFound,
            format!("no key column `{column}`; there are: {columns}{hint}"),
        )
    }

    pub(super) fn two_key_columns(&self, column: &str) -> Error {
        self.bad_manifest(
            ErrorKind::Manifest,
            format!("two columns have the key's name `{column}`"),
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

    /// Returns an error that shows one id of each side, if no row is of an example of the selection.
    fn strangers(&self) -> Option<Error> {
        let ManifestSummary { rows, unscored, unmapped, .. } = self.summary;
        if rows == 0 || rows != unscored + unmapped {
            return None;
        }
        let what = match (&self.first_unmapped, &self.first_unscored, self.some_example) {
            (Some((place, key)), _, _) if unmapped == rows => {
                let known = self.keys.and_then(|keys| keys.some_key())?;
                let known = shown(&String::from_utf8_lossy(known));
                format!(
                    "no key is in the key map: {place} has `{key}`, and the map has keys such as \
                     `{known}`"
                )
            }
            (_, Some((place, id)), Some(example)) => format!(
                "none of {rows} rows is of an example with a score: {place} has the id {id}, and \
                 the scores have ids such as {example}"
            ),
            _ => return None,
        };
        Some(self.bad_manifest(ErrorKind::Empty, what))
    }

    /// Returns the counts, unless a policy refuses the manifest. A manifest without rows is fine.
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
                    "{duplicates} rows repeat the example id of an earlier row, first {place} \
                     with id {example}; set `duplicates` to allow that"
                ),
            ));
        }
        if self.unscored != Unscored::Keep
            && let Some(error) = self.strangers()
        {
            return Err(error);
        }
        if let (Unscored::Fail, Some((place, key))) = (self.unscored, &self.first_unmapped) {
            return Err(self.bad_manifest(
                ErrorKind::Manifest,
                format!(
                    "{unmapped} of {rows} rows have a key that is not in the key map, first {place} \
                     with key `{key}`; set `unscored` to keep or prune them"
                ),
            ));
        }
        if let (Unscored::Fail, Some((place, example))) = (self.unscored, &self.first_unscored) {
            return Err(self.bad_manifest(
                ErrorKind::Manifest,
                format!(
                    "{unscored} of {rows} rows have no score, first {place} with id {example}; \
                     set `unscored` to keep or prune them"
                ),
            ));
        }
        if kept == 0 && rows > 0 {
            let what = format!(
                "none of {rows} rows is kept: the rows are of examples that the selection prunes"
            );
            return Err(self.bad_manifest(ErrorKind::Empty, what));
        }
        Ok(self.summary)
    }
}

/// Shortens a long text for a message.
fn shown(text: &str) -> String {
    let most = 60;
    let cut = if text.chars().count() > most { "..." } else { "" };
    text.chars().take(most).chain(cut.chars()).collect()
}
