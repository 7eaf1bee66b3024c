//! Manifests of every format against what was put into them.

mod added_scores;
mod cases;
mod columnar;
mod compression;
mod directories;
mod images;
mod keys;
mod reference;
mod refusals;
mod splitting;
mod text;
mod webdataset;

use std::io::{self, Read};

use super::{Manifest, ManifestFormat, ManifestInput, ManifestSummary};
use crate::error::{ErrorKind, Result};
use crate::selection::{Rule, ScoreColumn, Selection};

/// Keeps the ids whose score is at least 1; the class of an id is its remainder by 3.
fn selection(scores: &[(i64, f64)]) -> Selection {
    let examples: Vec<i64> = scores.iter().map(|&(id, _)| id).collect();
    let labels = examples.iter().map(|id| (id % 3) as i32).collect();
    let scores = scores.iter().map(|&(_, score)| score).collect();
    let column = ScoreColumn::new(examples, labels, scores).unwrap();
    column.select(Rule::Threshold { min: Some(1.0), max: None }).unwrap()
}

/// Even ids below 1000 stay.
fn even() -> Selection {
    let scores: Vec<(i64, f64)> =
        (0..1000).map(|id| (id, f64::from(u8::from(id % 2 == 0)))).collect();
    selection(&scores)
}

fn filter(manifest: &Manifest, text: impl AsRef<[u8]>) -> Result<(Vec<u8>, ManifestSummary)> {
    let mut kept = Vec::new();
    let input = ManifestInput::stream(text.as_ref());
    let summary = manifest.filter(&even(), input, &mut kept)?;
    Ok((kept, summary))
}

/// Hands out a few bytes at a time, so that every boundary falls somewhere.
struct Trickle<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.step.min(buffer.len()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.bytes = later;
        Ok(length)
    }
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("train.csv");
    std::fs::write(&path, "id\n1\n2\n").unwrap();
    let manifest = Manifest::new(ManifestFormat::from_path(&path).unwrap()).key("id");
    let kept = directory.path().join("kept.csv");
    let input = || ManifestInput::file(&path).unwrap();
    manifest.filter_to_file(&even(), input(), &kept).unwrap();
    assert_eq!(std::fs::read(&kept).unwrap(), b"id\n2\n");
    let error = manifest.filter_to_file(&even(), input(), &kept).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    let manifest = manifest.overwrite(true);
    manifest.filter_to_file(&even(), input(), &kept).unwrap();

    std::fs::write(directory.path().join("bad.csv"), "id\n2\nx\n").unwrap();
    let bad = ManifestInput::file(directory.path().join("bad.csv")).unwrap();
    manifest.filter_to_file(&even(), bad, &kept).unwrap_err();
    assert_eq!(std::fs::read(&kept).unwrap(), b"id\n2\n", "the earlier file stays");

    // The manifest is never replaced, whatever it is called.
    let linked = directory.path().join("linked.csv");
    std::fs::hard_link(&path, &linked).unwrap();
    for output in [&path, &linked] {
        let error = manifest.filter_to_file(&even(), input(), output).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains("another file than the manifest"), "{error}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"id\n1\n2\n");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 4, "no draft is left");
}

/// Kept and rejected rows are all rows.
#[test]
fn rejected_rows_are_the_others() {
    let manifest = Manifest::new(ManifestFormat::Csv).key("id");
    let text = "id\n1\n2\n4\n3\n";
    let (kept, summary) = filter(&manifest, text).unwrap();
    let (rejected, again) = filter(&manifest.rejected(true), text).unwrap();
    assert_eq!((&kept[..], &rejected[..]), (&b"id\n2\n4\n"[..], &b"id\n1\n3\n"[..]));
    assert_eq!(summary, again);
}

#[test]
fn a_header_without_rows_comes_through() {
    for (format, text) in [
        (ManifestFormat::Csv, "id,a\n"),
        (ManifestFormat::Tsv, "\u{feff}id\r\n"),
        (ManifestFormat::Jsonl, ""),
    ] {
        let (kept, summary) = filter(&Manifest::new(format).key("id"), text).unwrap();
        assert_eq!((kept, summary.rows), (text.as_bytes().to_vec(), 0));
    }
    let error = filter(&Manifest::new(ManifestFormat::Csv).key("id"), "").unwrap_err();
    assert!(error.to_string().contains("is empty"), "{error}");
}

#[test]
fn progress_adds_up_to_the_length() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("train.csv");
    let rows: Vec<String> = (0..100_000).map(|row| (row % 1000).to_string()).collect();
    std::fs::write(&path, format!("id\n{}\n", rows.join("\n"))).unwrap();
    let mut told = 0;
    let input = ManifestInput::file(&path).unwrap();
    assert_eq!(input.bytes(), Some(std::fs::metadata(&path).unwrap().len()));
    let manifest =
        Manifest::new(ManifestFormat::Csv).key("id").duplicates(super::Duplicates::Allow);
    let input = input.on_progress(|bytes| told += bytes);
    let summary = manifest.filter(&even(), input, &mut io::sink()).unwrap();
    assert_eq!(told, std::fs::metadata(&path).unwrap().len());
    assert_eq!((summary.rows, summary.kept, summary.duplicates), (100_000, 50_000, 99_000));
}
