//! Manifests that do not fit: each is an error that says which row, what was expected and what came.

use std::io::{self, Read, Write};

use super::super::{Duplicates, Manifest, ManifestFormat, ManifestInput};
use super::{even, filter};
use crate::error::ErrorKind;

#[test]
fn rows_that_do_not_fit_are_named() {
    let csv = Manifest::new(ManifestFormat::Csv).key("id");
    let jsonl = Manifest::new(ManifestFormat::Jsonl).key("id");
    let plain = Manifest::new(ManifestFormat::Csv).header(false).key("2");
    let cases = [
        (&csv, "", ErrorKind::Manifest, "is empty"),
        (&csv, "a,b\n1,2\n", ErrorKind::NotFound, "no key column `id`; there are: a, b"),
        (&csv, "id,id\n1,2\n", ErrorKind::Manifest, "two columns have the key's name `id`"),
        (
            &csv,
            "id,a\n2,x\n3\n",
            ErrorKind::Manifest,
            "line 3 (row 1, from 0): expected 2 columns, got 1",
        ),
        (
            &csv,
            "id,a\n2,\"x\n4,y\n",
            ErrorKind::Manifest,
            "line 2 (row 0, from 0): a quote is opened and never closed",
        ),
        (
            &csv,
            "id,a\n2,x\n ,y\n",
            ErrorKind::Manifest,
            "line 3 (row 1, from 0): expected an example id in `id`, got nothing",
        ),
        (&csv, "id,a\n2,\"x\n,4,y\n", ErrorKind::Manifest, "a quote is opened"),
        (&csv, "id,\"a\n2,x\n", ErrorKind::Manifest, "a quote is opened"),
        (&csv, "id,a\n2,\"x\n\",4,\"\"\n", ErrorKind::Manifest, "it spans 2 lines"),
        (&csv, "id\n2.5\n", ErrorKind::Manifest, "in `id`, got `2.5`"),
        (&csv, "id\n-2\n", ErrorKind::Manifest, "(an integer in 0..2^63) in `id`, got `-2`"),
        (&csv, "id\n9223372036854775808\n", ErrorKind::Manifest, "got `9223372036854775808`"),
        (
            &csv,
            "id\n2\n5\n2\n5\n",
            ErrorKind::Manifest,
            "2 rows repeat the example id of an earlier row, first line 4 (row 2, from 0) with id 2",
        ),
        (
            &csv,
            "id\n2\n5000\n6000\n",
            ErrorKind::Manifest,
            "2 of 3 rows have no score, first line 3 (row 1, from 0) with id 5000",
        ),
        (&csv, "id\n1\n3\n", ErrorKind::Empty, "none of 2 rows is kept"),
        (&plain, "1,2\n", ErrorKind::NotFound, "no key column `2`; there are: 0, 1"),
        (
            &jsonl,
            "{\"id\":2}\n{\"a\":1}\n",
            ErrorKind::Manifest,
            "line 2 (row 1, from 0): expected an example id in `id`, got nothing",
        ),
        (&jsonl, "{\"id\":null}\n", ErrorKind::Manifest, "got nothing"),
        (&jsonl, "{\"id\":2.5}\n", ErrorKind::Manifest, "got `2.5`"),
        (&jsonl, "{\"id\":[1]}\n", ErrorKind::Manifest, "got `[1]`"),
        (&jsonl, "{\"id\":2,\"id\":3}\n", ErrorKind::Manifest, "expected one field `id`, got two"),
        (&jsonl, "[2]\n", ErrorKind::Manifest, "line 1 (row 0, from 0): expected a JSON object"),
        (&jsonl, "{\"id\":2} {\"id\":4}\n", ErrorKind::Manifest, "expected one JSON object"),
        (&jsonl, "{\"id\":2\n", ErrorKind::Manifest, "expected a JSON object"),
    ];
    for (manifest, text, kind, expected) in cases {
        let error = filter(manifest, text).expect_err(text);
        assert!(error.to_string().contains(expected), "{text:?}: {error}");
        assert_eq!(error.kind(), kind, "{text:?}: {error}");
    }
}

#[test]
fn duplicates_can_be_allowed() {
    let manifest = Manifest::new(ManifestFormat::Csv).key("id").duplicates(Duplicates::Allow);
    let (kept, summary) = filter(&manifest, "id\n2\n3\n2\n3\n").unwrap();
    assert_eq!(kept, b"id\n2\n2\n");
    assert_eq!((summary.duplicates, summary.kept), (2, 2));
    assert_eq!(summary.missing, 499);
}

#[test]
fn formats_are_known_by_their_extension() {
    for (name, format) in [
        ("a.csv", ManifestFormat::Csv),
        ("a.TSV", ManifestFormat::Tsv),
        ("a.b.ndjson", ManifestFormat::Jsonl),
        ("dir.csv/a.pq", ManifestFormat::Parquet),
    ] {
        assert_eq!(ManifestFormat::from_path(name).unwrap(), format);
        assert_eq!(format.name().parse::<ManifestFormat>().unwrap(), format);
    }
    for name in ["a", "a.csv.zip", "-", ".csv"] {
        assert!(
            ManifestFormat::from_path(name).unwrap_err().to_string().contains("name the format")
        );
    }
}

#[test]
fn failing_streams_are_told_apart() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the cable was pulled"))
        }
    }
    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is full"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for (format, text) in
        [(ManifestFormat::Csv, "id\n2\n"), (ManifestFormat::Jsonl, "{\"id\":2}\n")]
    {
        let manifest = Manifest::new(format).key("id");
        let error =
            manifest.filter(&even(), ManifestInput::stream(Failing), &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("the cable was pulled"), "{error}");
        let input = ManifestInput::stream(text.as_bytes());
        let error = manifest.filter(&even(), input, &mut Failing).unwrap_err();
        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Io);
    }
    let manifest = Manifest::new(ManifestFormat::Parquet);
    let error =
        manifest.filter(&even(), ManifestInput::stream(Failing), &mut io::sink()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(ManifestInput::file("/nowhere/train.csv").is_err());
    assert!(ManifestInput::file(".").unwrap_err().to_string().contains("expected a file"));
}
