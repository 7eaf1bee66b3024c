//! Tar shards: the members of a sample stay together, byte for byte.

use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;

use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::super::{
    KeyMap, Manifest, ManifestDirectory, ManifestFormat, ManifestSummary, Unscored,
};
use super::even;
use crate::error::{ErrorKind, Result};

/// Adds members whose contents are their names, some as long as several blocks.
fn shard(members: &[String]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for name in members {
        let content = name.repeat(if name.len() % 3 == 0 { 100 } else { 1 });
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_mtime(1_700_000_000);
        header.set_cksum();
        // A name of more than 100 bytes gets a header of its own.
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn members(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(Cursor::new(bytes));
    let entries = archive.entries().unwrap();
    let read = entries.map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (name, content)
    });
    read.collect()
}

fn filter(manifest: &Manifest, from: &Path, to: &Path) -> Result<ManifestSummary> {
    manifest.filter_directory(&even(), ManifestDirectory::open(from, None)?, Some(to))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn kept_samples_are_those_of_a_shard_without_the_others(
        samples in prop::collection::vec(1_usize..4, 1..30), long: bool, cut in 0_usize..30,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("in"), directory.path().join("out"));
        fs::create_dir(&from).unwrap();
        let prefix = if long { "x".repeat(120) + "/" } else { String::new() };
        let names = |number: usize| {
            let extensions = ["jpg", "cls", "seg.png"];
            let files = extensions[..samples[number]].iter();
            files.map(|it| format!("{prefix}{number:06}.{it}")).collect::<Vec<_>>()
        };
        let cut = cut.min(samples.len());
        for (name, range) in [("a.tar", 0..cut), ("b.tar", cut..samples.len())] {
            let all: Vec<String> = range.clone().flat_map(&names).collect();
            fs::write(from.join(name), shard(&all)).unwrap();
        }
        let manifest = Manifest::new(ManifestFormat::WebDataset);
        let outcome = filter(&manifest, &from, &to);
        let summary = outcome.unwrap();
        prop_assert_eq!((summary.rows, summary.files), (samples.len() as u64, 2));
        for (name, range) in [("a.tar", 0..cut), ("b.tar", cut..samples.len())] {
            // The very bytes of a shard that was written without the others.
            let kept: Vec<String> = range.filter(|it| it % 2 == 0).flat_map(&names).collect();
            prop_assert!(fs::read(to.join(name)).unwrap() == shard(&kept));
        }
        // By the number in the name.
        let again = directory.path().join("again");
        filter(&manifest.key("__key__"), &from, &again).unwrap();
        for name in ["a.tar", "b.tar"] {
            prop_assert!(fs::read(again.join(name)).unwrap() == fs::read(to.join(name)).unwrap());
        }
    }
}

#[test]
fn what_loaders_skip_passes_through() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("in"), directory.path().join("out"));
    fs::create_dir(&from).unwrap();
    let mut builder = Builder::new(Vec::new());
    let mut add = |name: &str, kind, content: &[u8]| {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append_data(&mut header, name, content).unwrap();
    };
    add("pax", EntryType::XGlobalHeader, b"13 comment=x\n");
    add("train", EntryType::Directory, b"");
    add("README", EntryType::Regular, b"text");
    add("train/1.jpg", EntryType::Regular, b"one");
    add("__meta__", EntryType::Regular, b"more");
    add("train/2.jpg", EntryType::Regular, b"two");
    fs::write(from.join("a.tar"), builder.into_inner().unwrap()).unwrap();
    let manifest = Manifest::new(ManifestFormat::WebDataset).key("__key__");
    assert_eq!(filter(&manifest, &from, &to).unwrap().rows, 2);
    let kept = members(&fs::read(to.join("a.tar")).unwrap());
    let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.ends_with(&["train", "README", "__meta__", "train/2.jpg"]), "{names:?}");
}

#[test]
fn shards_are_compressed_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("in"), directory.path().join("out"));
    fs::create_dir(&from).unwrap();
    let bytes = shard(&["a.txt".to_owned(), "b.txt".to_owned()]);
    let gzip = |name: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &bytes).unwrap();
        fs::write(from.join(name), encoder.finish().unwrap()).unwrap();
    };
    gzip("a.tar.gz");
    gzip("b.tgz");
    fs::write(from.join("c.tar.zst"), zstd::encode_all(&bytes[..], 3).unwrap()).unwrap();
    let map = KeyMap::new([("a", 1), ("b", 2)]).unwrap();
    let manifest = Manifest::new(ManifestFormat::WebDataset)
        .key("__key__")
        .key_map(map)
        .duplicates(super::super::Duplicates::Allow);
    assert_eq!(filter(&manifest, &from, &to).unwrap().kept, 3);
    let read = |name: &str| fs::read(to.join(name)).unwrap();
    let expected = shard(&["b.txt".to_owned()]);
    for name in ["a.tar.gz", "b.tgz"] {
        let mut decoded = Vec::new();
        flate2::read::GzDecoder::new(&read(name)[..]).read_to_end(&mut decoded).unwrap();
        assert!(decoded == expected, "{name}");
    }
    assert!(zstd::decode_all(&read("c.tar.zst")[..]).unwrap() == expected);
}

#[test]
fn damage_and_strangers_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("in"), directory.path().join("out"));
    fs::create_dir(&from).unwrap();
    let manifest = Manifest::new(ManifestFormat::WebDataset);
    let bytes = shard(&["0.a".repeat(300), "1.a".to_owned()]);
    fs::write(from.join("a.tar"), &bytes).unwrap();
    for cut in [700, 1000, 1600] {
        fs::write(from.join("b.tar"), &bytes[..cut]).unwrap();
        let error = filter(&manifest, &from, &to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{cut}: {error}");
        assert!(error.to_string().contains("b.tar"), "{error}");
    }
    fs::write(from.join("b.tar"), "not a tar file".repeat(100)).unwrap();
    assert_eq!(filter(&manifest, &from, &to).unwrap_err().kind(), ErrorKind::Corrupt);
    fs::write(from.join("b.tar"), shard(&["cat.png".to_owned()])).unwrap();
    let error = filter(&manifest.clone().key("__key__"), &from, &to).unwrap_err();
    assert!(error.to_string().contains("got `cat`; map text keys"), "{error}");
    assert!(!to.exists());
    // Neither damage nor any bytes may bring it down.
    for place in (0..bytes.len()).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1 << (place % 8);
        fs::write(from.join("b.tar"), flipped).unwrap();
        let _any_outcome = filter(&manifest.clone().unscored(Unscored::Keep), &from, &to);
        let _ = fs::remove_dir_all(&to);
    }
    let error = manifest
        .filter(&even(), super::super::ManifestInput::stream(&bytes[..]), &mut std::io::sink())
        .unwrap_err();
    assert!(error.to_string().contains("expected a directory of the format webdataset"), "{error}");
}
