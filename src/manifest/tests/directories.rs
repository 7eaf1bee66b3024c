//! Directories: their files one after the other are one manifest.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use super::super::{Manifest, ManifestDirectory, ManifestFormat, ManifestInput, ManifestSummary};
use super::even;
use crate::error::ErrorKind;
use crate::error::Result;

fn filter(manifest: &Manifest, from: &Path, to: &Path) -> Result<ManifestSummary> {
    manifest.filter_directory(&even(), ManifestDirectory::open(from, None)?, Some(to))
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

fn parquet(path: &Path, ids: &[i64]) {
    let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    let rows = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    fs::write(path, writer.into_inner().unwrap()).unwrap();
}

fn ids_of(path: &Path) -> Vec<i64> {
    let file = fs::File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    reader
        .flat_map(|batch| {
            let batch = batch.unwrap();
            let ids = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
            ids.values().to_vec()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn shards_are_one_manifest_cut_in_pieces(
        ids in Just((0..50_i64).collect::<Vec<_>>()).prop_shuffle(),
        mut cuts in prop::collection::vec(0_usize..50, 0..5),
        by_key: bool,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("in"), directory.path().join("out"));
        fs::create_dir(&from).unwrap();
        cuts.extend([0, 50]);
        cuts.sort_unstable();
        let row = |id: &i64| format!("{id},\"a, {id}\"\n");
        for (number, ends) in cuts.windows(2).enumerate() {
            let rows: String = ids[ends[0]..ends[1]].iter().map(row).collect();
            fs::write(from.join(format!("part-{number}.csv")), format!("id,text\n{rows}")).unwrap();
        }
        let manifest = Manifest::new(ManifestFormat::Csv);
        let manifest = if by_key { manifest.key("id") } else { manifest };
        let summary = filter(&manifest, &from, &to).unwrap();
        let whole: String = ids.iter().map(row).collect();
        let whole = format!("id,text\n{whole}");
        let mut expected = Vec::new();
        let single = manifest
            .filter(&even(), ManifestInput::stream(whole.as_bytes()), &mut expected)
            .unwrap();
        prop_assert_eq!(names(&to), names(&from));
        let text = |name: String| {
            let text = fs::read_to_string(to.join(name)).unwrap();
            text.strip_prefix("id,text\n").unwrap().to_owned()
        };
        let kept: String = names(&to).into_iter().map(text).collect();
        prop_assert_eq!(format!("id,text\n{kept}").into_bytes(), expected);
        prop_assert_eq!(summary.files as usize, cuts.len() - 1);
        prop_assert_eq!((summary.rows, summary.kept), (single.rows, single.kept));
        prop_assert_eq!(summary.classes, single.classes);
        // Once more changes nothing.
        if by_key {
            let again = directory.path().join("again");
            filter(&manifest, &to, &again).unwrap();
            for name in names(&to) {
                prop_assert_eq!(fs::read(to.join(&name)).unwrap(), fs::read(again.join(&name)).unwrap());
            }
        }
    }
}

#[test]
fn parquet_shards_keep_their_names_and_empty_ones_their_columns() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("in"), directory.path().join("out"));
    fs::create_dir(&from).unwrap();
    for (number, ids) in [&[2, 3, 4][..], &[5, 7], &[], &[6]].iter().enumerate() {
        parquet(&from.join(format!("train-{number:05}-of-00004.parquet")), ids);
    }
    fs::write(from.join("README.md"), "about").unwrap();
    fs::write(from.join("_SUCCESS"), "").unwrap();
    fs::write(from.join(".hidden.csv"), "").unwrap();
    let manifest = Manifest::new(ManifestFormat::Parquet).key("id");
    let summary = filter(&manifest, &from, &to).unwrap();
    assert_eq!((summary.files, summary.rows, summary.kept), (4, 6, 3));
    assert!(summary.to_string().starts_with("kept 3 of 6 rows (50.0 %), pruned 3 in 4 files"));
    let kept: Vec<Vec<i64>> = names(&to).iter().map(|name| ids_of(&to.join(name))).collect();
    assert_eq!(kept, [vec![2, 4], vec![], vec![], vec![6]]);
    assert_eq!(names(directory.path()), ["in", "out"], "no draft is left");
}

#[test]
fn compressed_shards_stay_compressed_and_rows_are_numbered_on() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("in"), directory.path().join("out"));
    fs::create_dir(&from).unwrap();
    for (name, text) in [
        ("b.jsonl.zst", "{\"r\":3}\n{\"r\":4}\n"),
        ("a.jsonl.zst", "{\"r\":0}\n{\"r\":1}\n{\"r\":2}\n"),
    ] {
        fs::write(from.join(name), zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    }
    let manifest = Manifest::new(ManifestFormat::Jsonl);
    // An empty directory is as good as none.
    fs::create_dir(&to).unwrap();
    filter(&manifest, &from, &to).unwrap();
    let text = |name| zstd::decode_all(&fs::read(to.join(name)).unwrap()[..]).unwrap();
    assert_eq!(text("a.jsonl.zst"), b"{\"r\":0}\n{\"r\":2}\n");
    assert_eq!(text("b.jsonl.zst"), b"{\"r\":4}\n");
    let progress = std::cell::Cell::new(0);
    let shards = ManifestDirectory::open(&from, None).unwrap();
    let all = shards.bytes();
    let shards = shards.on_progress(|bytes| progress.set(progress.get() + bytes));
    manifest.filter_directory(&even(), shards, None).unwrap();
    assert_eq!(progress.get(), all);
}

#[test]
fn refusals_name_the_file_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("in"), directory.path().join("out"));
    let refuse = |manifest: &Manifest, files: &[(&str, &str)], kind, expected: &str| {
        let _ = fs::remove_dir_all(&from);
        fs::create_dir(&from).unwrap();
        for (name, text) in files {
            fs::write(from.join(name), text).unwrap();
        }
        let error = filter(manifest, &from, &to).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(names(directory.path()), ["in"], "{error}");
    };
    let csv = Manifest::new(ManifestFormat::Csv).key("id");
    let many = ErrorKind::Manifest;
    refuse(
        &csv,
        &[("a.csv", "id\n2\n"), ("b.csv", "id\n4\n2\n")],
        many,
        "1 rows repeat the example id of an earlier row, first line 3 (row 1, from 0) of ",
    );
    refuse(
        &csv,
        &[("a.csv", "id\n2\n"), ("b.csv", "id\n5000\n")],
        many,
        "first line 2 (row 0, from 0) of ",
    );
    refuse(
        &csv,
        &[("a.csv", "id\n2\n"), ("b.csv", "id\n4\nx\n")],
        many,
        "b.csv: line 3 (row 1, from 0)",
    );
    refuse(
        &csv,
        &[("a.csv", "id\n2\n"), ("b.jsonl", "")],
        many,
        "expected files of one format, got a.csv (csv) and b.jsonl (jsonl)",
    );
    refuse(
        &csv,
        &[("notes.txt", "")],
        ErrorKind::NotFound,
        "no manifest; expected files named csv",
    );
    refuse(&csv, &[("a.csv", "id\n1\n")], ErrorKind::Empty, "none of 1 rows is kept");
    refuse(&csv, &[("a.csv.gz", "id\n1\n")], ErrorKind::Corrupt, "a.csv.gz: is named as gzip");
    refuse(
        &Manifest::new(ManifestFormat::Tsv),
        &[("a.csv", "id\n2\n")],
        ErrorKind::InvalidArgument,
        "format: expected tsv, got csv",
    );
    // The files of one format can be asked for.
    fs::write(from.join("a.csv"), "id\n2\n3\n").unwrap();
    fs::write(from.join("b.jsonl"), "").unwrap();
    let shards = ManifestDirectory::open(&from, Some(ManifestFormat::Csv)).unwrap();
    csv.filter_directory(&even(), shards, Some(&to)).unwrap();
    assert_eq!(names(&to), ["a.csv"]);
    // What is there stays.
    let open = || ManifestDirectory::open(&from, Some(ManifestFormat::Csv)).unwrap();
    let error = csv.filter_directory(&even(), open(), Some(&to)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    for within in [from.clone(), from.join("kept")] {
        let error = csv.filter_directory(&even(), open(), Some(&within)).unwrap_err();
        assert!([ErrorKind::InvalidArgument, ErrorKind::AlreadyExists].contains(&error.kind()));
        assert_eq!(names(&from), ["a.csv", "b.jsonl"]);
    }
}

/// Shards of one data set come from different days.
#[test]
fn shards_may_differ_in_all_columns_but_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("in"), directory.path().join("out"));
    fs::create_dir(&from).unwrap();
    parquet(&from.join("a.parquet"), &[2]);
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["4", "5"]));
    let rows = RecordBatch::try_from_iter([("more", Arc::clone(&ids)), ("id", ids)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    fs::write(from.join("b.parquet"), writer.into_inner().unwrap()).unwrap();
    let summary = filter(&Manifest::new(ManifestFormat::Parquet).key("id"), &from, &to).unwrap();
    assert_eq!((summary.rows, summary.kept), (3, 2));

    let (from, to) = (directory.path().join("csv"), directory.path().join("csv-out"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("a.csv"), "id,a\n2,x\n3,y\n").unwrap();
    fs::write(from.join("b.csv"), "b,id,c\nx,4,y\n").unwrap();
    fs::write(from.join("c.csv"), "").unwrap();
    fs::write(from.join("d.csv"), "id\n").unwrap();
    let csv = Manifest::new(ManifestFormat::Csv).key("id");
    filter(&csv, &from, &to).unwrap();
    let read = |name: &str| fs::read_to_string(to.join(name)).unwrap();
    assert_eq!(
        ["a.csv", "b.csv", "c.csv", "d.csv"].map(read),
        ["id,a\n2,x\n", "b,id,c\nx,4,y\n", "", "id\n"]
    );
    fs::write(from.join("e.csv"), "a\n1\n").unwrap();
    let error = filter(&csv, &from, &directory.path().join("again")).unwrap_err();
    assert!(error.to_string().contains("e.csv: no key column `id`"), "{error}");
}
