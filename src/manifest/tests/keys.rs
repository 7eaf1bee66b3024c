//! Keys that are texts: through a map they come to the same as the ids themselves.

use std::fs;
use std::io;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;

use super::super::{Duplicates, KeyMap, Manifest, ManifestFormat, ManifestInput, Unscored};
use super::{even, filter};
use crate::error::ErrorKind;

/// A name that needs quotes now and then.
fn name(id: i64) -> String {
    match id % 4 {
        0 => format!("dir/{id}, \"final\".png"),
        1 => format!("{id:05}"),
        2 => format!("é{id}"),
        _ => format!("a b {id}"),
    }
}

fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.into_inner().unwrap()
}

proptest! {
    #[test]
    fn names_through_a_map_are_ids(ids in Just((0..60_i64).collect::<Vec<_>>()).prop_shuffle()) {
        let map = Arc::new(KeyMap::new((0..60).map(|id| (name(id), id))).unwrap());
        let quoted = |id: i64| format!("\"{}\"", name(id).replace('"', "\"\""));
        let csv = |key: &dyn Fn(i64) -> String| {
            let rows: Vec<String> = ids.iter().map(|&id| format!("{},{id}\n", key(id))).collect();
            format!("key,row\n{}", rows.concat())
        };
        let jsonl = |key: &dyn Fn(i64) -> serde_json::Value| {
            let row = |&id: &i64| format!("{{\"key\":{},\"row\":{id}}}\n", key(id));
            ids.iter().map(row).collect::<Vec<_>>().concat()
        };
        let rows = |text: &[u8]| -> Vec<String> {
            let row = |line: &str| line.rsplit([',', ':']).next().unwrap().to_owned();
            String::from_utf8_lossy(text).lines().map(row).collect()
        };
        for (format, by_name, by_id) in [
            (ManifestFormat::Csv, csv(&quoted), csv(&|id| id.to_string())),
            (ManifestFormat::Jsonl, jsonl(&|id| name(id).into()), jsonl(&|id| id.into())),
        ] {
            let manifest = Manifest::new(format).key("key");
            let (expected, summary) = filter(&manifest, by_id).unwrap();
            let (kept, mapped) = filter(&manifest.key_map(Arc::clone(&map)), by_name).unwrap();
            prop_assert_eq!(rows(&kept), rows(&expected));
            prop_assert_eq!(mapped, summary);
        }
        let names: StringArray = ids.iter().map(|&id| Some(name(id))).collect();
        let bytes = parquet(vec![("key", Arc::new(names))]);
        let manifest = Manifest::new(ManifestFormat::Parquet).key("key").key_map(map);
        let (_, summary) = filter(&manifest, bytes).unwrap();
        prop_assert_eq!((summary.kept, summary.unmapped), (30, 0));
    }
}

#[test]
fn keys_that_no_example_has_follow_the_policy_and_are_counted_apart() {
    let map = Arc::new(KeyMap::new([("a", 2), ("b", 3), ("far", 5000)]).unwrap());
    let manifest = Manifest::new(ManifestFormat::Csv).key("key").key_map(map);
    let text = "key\na\nb\nfar\nc\nd\n";
    let error = filter(&manifest, text).unwrap_err();
    let expected = "2 of 5 rows have a key that is not in the key map, first line 5 (row 3, from 0) with key `c`";
    assert!(error.to_string().contains(expected), "{error}");
    let (kept, summary) = filter(&manifest.clone().unscored(Unscored::Keep), text).unwrap();
    assert_eq!(String::from_utf8(kept).unwrap(), "key\na\nfar\nc\nd\n");
    assert_eq!((summary.unmapped, summary.unscored), (2, 1));
    assert!(summary.to_string().contains("2 with a key that is not in the key map"), "{summary}");
    let (kept, _) = filter(&manifest.clone().unscored(Unscored::Prune), text).unwrap();
    assert_eq!(kept, b"key\na\n");
    let error = filter(&manifest, "key\na\n\"\"\n").unwrap_err();
    assert!(error.to_string().contains("expected a key in `key`, got nothing"), "{error}");
}

#[test]
fn digits_are_text_where_keys_are_mapped() {
    let map = KeyMap::new([("7", 3), ("007", 2), (" 7", 4)]).unwrap();
    let manifest = Manifest::new(ManifestFormat::Csv).key("key").key_map(map);
    let (kept, _) = filter(&manifest, "key\n7\n007\n 7\n").unwrap();
    assert_eq!(kept, b"key\n007\n 7\n");
    let map = KeyMap::new([("7", 2)]).unwrap();
    let manifest = Manifest::new(ManifestFormat::Jsonl).key("key").key_map(map);
    let (kept, _) = filter(&manifest, "{\"key\":7}\n").unwrap();
    assert_eq!(kept, b"{\"key\":7}\n", "an integer is its digits");
    let error = filter(&manifest, "{\"key\":7.5}\n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Empty);
    let expected = "line 1 (row 0, from 0) has `7.5`, and the map has keys such as `7`";
    assert!(error.to_string().contains(expected), "{error}");
    let manifest =
        Manifest::new(ManifestFormat::Parquet).key("key").key_map(KeyMap::new([("7", 2)]).unwrap());
    let bytes = parquet(vec![("key", Arc::new(Int64Array::from(vec![7])))]);
    assert_eq!(filter(&manifest, bytes).unwrap().1.kept, 1);
}

#[test]
fn two_keys_of_one_example_are_duplicates() {
    let map = Arc::new(KeyMap::new([("left", 2), ("right", 2)]).unwrap());
    let manifest = Manifest::new(ManifestFormat::Csv).key("key").key_map(map);
    assert!(filter(&manifest, "key\nleft\nright\n").is_err());
    let manifest = manifest.duplicates(Duplicates::Allow);
    assert_eq!(filter(&manifest, "key\nleft\nright\n").unwrap().1.kept, 2);
}

#[test]
fn a_map_needs_a_key_column() {
    let map = KeyMap::new([("a", 2)]).unwrap();
    let error = filter(&Manifest::new(ManifestFormat::Csv).key_map(map), "key\na\n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn maps_are_read_from_every_format() {
    let directory = tempfile::tempdir().unwrap();
    let names: StringArray = (0..9).map(|id| Some(name(id))).collect();
    let ids: ArrayRef = Arc::new((0..9).map(Some).collect::<Int64Array>());
    let quoted = |id: i64| name(id).replace('"', "\"\"");
    let row = |id: i64| format!("{id},x,\"{}\"\r\n", quoted(id));
    let csv = (0..9).map(row).collect::<Vec<_>>().concat();
    let csv = format!("\u{feff}example,other,file\r\n{csv}");
    let line = |id: i64| serde_json::json!({ "file": name(id), "example": id }).to_string() + "\n";
    let jsonl: String = (0..9).map(line).collect();
    let zstd = zstd::encode_all(csv.as_bytes(), 1).unwrap();
    for (file, bytes) in [
        ("map.csv", csv.clone().into_bytes()),
        ("map.csv.zst", zstd),
        (
            "map.tsv",
            csv.replace(",x,", "\tx\t").replace("example,other,", "example\tother\t").into(),
        ),
        ("map.jsonl", jsonl.into_bytes()),
        ("map.parquet", parquet(vec![("file", Arc::new(names)), ("example", ids)])),
    ] {
        let path = directory.path().join(file);
        fs::write(&path, bytes).unwrap();
        let map = KeyMap::read(&path, "file", "example").unwrap();
        assert_eq!(map.len(), 9, "{file}");
        for id in 0..9 {
            assert_eq!(map.example(name(id).as_bytes()), Some(id), "{file}");
        }
        let error = KeyMap::read(&path, "path", "example").unwrap_err();
        if file == "map.jsonl" {
            assert!(error.to_string().contains("row 0 (from 0): expected a key"), "{error}");
        } else {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            assert!(error.to_string().contains("no column `path`"), "{error}");
        }
    }
}

#[test]
fn maps_that_do_not_fit_are_refused_with_the_row() {
    let directory = tempfile::tempdir().unwrap();
    for (text, kind, expected) in [
        (
            "file,example\na,1\na,2\n",
            ErrorKind::Manifest,
            "row 1 (from 0): key map: key `a` occurs twice",
        ),
        ("file,example\na,-1\n", ErrorKind::Manifest, "row 0 (from 0): expected an example id"),
        ("file,example\na,x\n", ErrorKind::Manifest, "got `x`"),
        ("file,example\n,1\n", ErrorKind::Manifest, "expected a key for example 1"),
        ("file,example\na\n", ErrorKind::Manifest, "expected 2 columns, got 1"),
        ("file,example\n\"a,1\n", ErrorKind::Manifest, "a quote is opened"),
        ("file,id\na,1\n", ErrorKind::NotFound, "no column `example`, which a key map must have"),
        ("", ErrorKind::Manifest, "is empty"),
    ] {
        let path = directory.path().join("map.csv");
        fs::write(&path, text).unwrap();
        let error = KeyMap::read(&path, "file", "example").unwrap_err();
        assert!(error.to_string().contains(expected), "{text:?}: {error}");
        assert_eq!(error.kind(), kind, "{text:?}: {error}");
    }
    assert_eq!(KeyMap::read("nowhere.csv", "a", "b").unwrap_err().kind(), ErrorKind::Io);
    let manifest = Manifest::new(ManifestFormat::Csv).key("id");
    let error =
        manifest.filter(&even(), ManifestInput::stream(&b"id\na.png\n"[..]), &mut io::sink());
    assert!(error.unwrap_err().to_string().contains("map text keys to ids with `key_map`"));
}
