//! Directories: their files one after the other are one manifest.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use super::super::{
    Manifest, ManifestDirectory, ManifestFormat, ManifestInput, ManifestSummary, Unscored,
};
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
        "1 rows repeat the example id of an earlier row, first row 1 (from 0) of ",
    );
    refuse(
        &csv,
        &[("a.csv", "id\n2\n"), ("b.csv", "id\n5000\n")],
        many,
        "first row 0 (from 0) of ",
    );
    refuse(
        &csv,
        &[("a.csv", "id,x\n2,\n"), ("b.csv", "x,id\n,4\n")],
        many,
        "b.csv: expected the columns of the first file, id, x; got x, id",
    );
    refuse(&csv, &[("a.csv", "id\n2\n"), ("b.csv", "id\n4\nx\n")], many, "b.csv: row 1 (from 0)");
    refuse(&csv, &[("a.csv", "id\n2\n"), ("b.csv", "")], many, "b.csv: is empty");
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

#[test]
fn parquet_shards_of_other_columns_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("in"), directory.path().join("out"));
    fs::create_dir(&from).unwrap();
    parquet(&from.join("a.parquet"), &[2]);
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["4"]));
    let rows = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    fs::write(from.join("b.parquet"), writer.into_inner().unwrap()).unwrap();
    let error = filter(&Manifest::new(ManifestFormat::Parquet).key("id"), &from, &to).unwrap_err();
    let expected = "b.parquet: expected the columns of the first file, id Int64; got id Utf8";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn image_folders_are_known_by_their_metadata() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("in"), directory.path().join("out"));
    fs::create_dir_all(from.join("images")).unwrap();
    fs::write(from.join("images/0.png"), "pixels").unwrap();
    fs::write(from.join("labels.csv"), "not,asked\n").unwrap();
    fs::write(from.join("metadata.csv"), "file_name,text\nimages/0.png,a\n1.png,b\n").unwrap();
    let summary = filter(&Manifest::new(ManifestFormat::Csv), &from, &to).unwrap();
    assert_eq!((summary.files, summary.kept), (1, 1));
    assert_eq!(names(&to), ["metadata.csv"]);
    assert_eq!(fs::read(to.join("metadata.csv")).unwrap(), b"file_name,text\nimages/0.png,a\n");

    fs::write(from.join("metadata.csv"), "name,text\nimages/0.png,a\n1.png,b\n").unwrap();
    let again = directory.path().join("again");
    let error = filter(&Manifest::new(ManifestFormat::Csv), &from, &again).unwrap_err();
    assert!(error.to_string().contains("expected a column `file_name`"), "{error}");
    assert!(!again.exists());
}

#[test]
fn image_folders_of_splits_need_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("in"), directory.path().join("out"));
    for (split, ids) in [("train", "2,a.png\n3,b.png\n4,c.png\n"), ("test", "900,a.png\n5,b.png\n")]
    {
        fs::create_dir_all(from.join(split)).unwrap();
        let path = from.join(split).join("metadata.csv");
        fs::write(path, format!("id,mask_file_name\n{ids}")).unwrap();
    }
    let manifest = Manifest::new(ManifestFormat::Csv).unscored(Unscored::Keep);
    let error = filter(&manifest, &from, &to).unwrap_err();
    assert!(error.to_string().contains("has 2 metadata files"), "{error}");
    let images = ManifestDirectory::image_folder(&from).unwrap();
    assert_eq!(images.files(), [Path::new("test/metadata.csv"), Path::new("train/metadata.csv")]);
    manifest.key("id").filter_directory(&even(), images, Some(&to)).unwrap();
    let text = |split: &str| fs::read_to_string(to.join(split).join("metadata.csv")).unwrap();
    assert_eq!(text("train"), "id,mask_file_name\n2,a.png\n4,c.png\n");
    assert_eq!(text("test"), "id,mask_file_name\n900,a.png\n");
    // One split is a folder of its own, whose rows have numbers.
    let one = directory.path().join("one");
    filter(&Manifest::new(ManifestFormat::Csv), &from.join("train"), &one).unwrap();
    assert_eq!(
        fs::read_to_string(one.join("metadata.csv")).unwrap(),
        "id,mask_file_name\n2,a.png\n4,c.png\n"
    );
    let error = ManifestDirectory::image_folder(directory.path().join("one/none")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}
