//! Decides about every row of a manifest by its example id, and counts. Knows no format.

use std::collections::BTreeMap;

use super::summary::{ClassCounts, ManifestSummary};
use super::{Duplicates, Manifest, Unscored};
use crate::error::{Error, ErrorKind, Result};
use crate::selection::{Fate, Selection};

pub(super) struct Sieve<'a> {
    selection: &'a Selection,
    unscored: Unscored,
    duplicates: Duplicates,
    /// The manifest's name, for messages.
    name: String,
    /// One bit per example of the selection: whether a row has carried it.
    seen: Vec<u64>,
    kept_seen: u64,
    summary: ManifestSummary,
    classes: BTreeMap<i32, ClassCounts>,
    first_unscored: Option<(u64, i64)>,
    first_duplicate: Option<(u64, i64)>,
}

impl<'a> Sieve<'a> {
    pub(super) fn new(selection: &'a Selection, manifest: &Manifest, name: String) -> Self {
        Self {
            selection,
            unscored: manifest.unscored,
            duplicates: manifest.duplicates,
            name,
            seen: vec![0; selection.considered().div_ceil(64)],
            kept_seen: 0,
            summary: ManifestSummary::default(),
            classes: BTreeMap::new(),
            first_unscored: None,
            first_duplicate: None,
        }
    }

    /// The number of the next row, from 0, which is its example id where there is no key column.
    pub(super) fn next_row(&self) -> u64 {
        self.summary.rows
    }

    /// Whether the next row, which carries this id, stays.
    pub(super) fn keeps(&mut self, example: i64) -> bool {
        let row = self.summary.rows;
        self.summary.rows += 1;
        let member = self.selection.member(example);
        if let Some(member) = &member {
            let (word, bit) = (member.position / 64, 1 << (member.position % 64));
            if self.seen[word] & bit != 0 {
                self.summary.duplicates += 1;
                self.first_duplicate.get_or_insert((row, example));
            } else if member.fate == Fate::Kept {
                self.kept_seen += 1;
            }
            self.seen[word] |= bit;
        }
        let keep = match &member {
            Some(member) if member.fate != Fate::Unscored => member.fate == Fate::Kept,
            _ => {
                self.summary.unscored += 1;
                self.first_unscored.get_or_insert((row, example));
                self.unscored == Unscored::Keep
            }
        };
        if let Some(member) = member.filter(|member| member.fate != Fate::Unscored) {
            let counts = self.classes.entry(member.label).or_insert(ClassCounts {
                label: member.label,
                kept: 0,
                pruned: 0,
            });
            *(if keep { &mut counts.kept } else { &mut counts.pruned }) += 1;
        }
        self.summary.kept += u64::from(keep);
        keep
    }

    /// Whether the next row stays, whose id is the text of a field.
    pub(super) fn keeps_text(&mut self, key: &str, column: &str) -> Result<bool> {
        let text = key.trim_ascii();
        if text.is_empty() {
            return Err(self.missing(column));
        }
        match text.parse() {
            Ok(example) if example >= 0 => Ok(self.keeps(example)),
            _ => Err(self.no_id(column, key)),
        }
    }

    pub(super) fn missing(&self, column: &str) -> Error {
        self.bad_row(format!("expected an example id in `{column}`, got nothing"))
    }

    pub(super) fn no_id(&self, column: &str, got: &str) -> Error {
        let most = 60;
        let cut = if got.chars().count() > most { "..." } else { "" };
        let got: String = got.chars().take(most).collect();
        self.bad_row(format!(
            "expected an example id, an integer in 0..2^63, in `{column}`, got `{got}{cut}`"
        ))
    }

    /// Something is wrong with the next row.
    pub(super) fn bad_row(&self, what: impl std::fmt::Display) -> Error {
        let row = self.next_row();
        Error::new(ErrorKind::Manifest, format!("{}: row {row} (from 0): {what}", self.name))
    }

    /// Something is wrong with the manifest as a whole.
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

    /// The outcome, unless a policy refuses the manifest.
    pub(super) fn finish(mut self) -> Result<ManifestSummary> {
        self.summary.missing = self.selection.len() as u64 - self.kept_seen;
        self.summary.classes = std::mem::take(&mut self.classes).into_values().collect();
        let ManifestSummary { rows, kept, unscored, duplicates, .. } = self.summary;
        if let (Duplicates::Fail, Some((row, example))) = (self.duplicates, self.first_duplicate) {
            return Err(self.bad_manifest(
                ErrorKind::Manifest,
                format!(
                    "{duplicates} rows repeat the example id of an earlier row, first row {row} \
                     (from 0) with id {example}; set `duplicates` to allow that"
                ),
            ));
        }
        if let (Unscored::Fail, Some((row, example))) = (self.unscored, self.first_unscored) {
            return Err(self.bad_manifest(
                ErrorKind::Manifest,
                format!(
                    "{unscored} of {rows} rows have no score, first row {row} (from 0) with id \
                     {example}; set `unscored` to keep or prune them"
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
