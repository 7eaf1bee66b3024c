//! Compressed text: what it says is read and written, damage is an error.

use std::fs;
use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::super::{Duplicates, Manifest, ManifestCompression, ManifestFormat, ManifestInput};
use super::even;
use crate::error::ErrorKind;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(text, 1).unwrap()
}

fn compress(text: &[u8], compression: ManifestCompression) -> Vec<u8> {
    match compression {
        ManifestCompression::Plain => text.to_vec(),
        ManifestCompression::Gzip => gzip(text),
        ManifestCompression::Zstd => zstd(text),
    }
}

fn decompress(bytes: &[u8], compression: ManifestCompression) -> Vec<u8> {
    let mut text = Vec::new();
    match compression {
        ManifestCompression::Plain => text.extend_from_slice(bytes),
        ManifestCompression::Gzip => {
            MultiGzDecoder::new(bytes).read_to_end(&mut text).map(drop).unwrap();
        }
        ManifestCompression::Zstd => text = ::zstd::decode_all(bytes).unwrap(),
    }
    text
}

proptest! {
    #[test]
    fn all_kept_is_the_identity_and_members_follow_each_other(
        ids in prop::collection::vec((0..500_i64).prop_map(|id| 2 * id), 1..400),
        cut in 0.0..1.0_f64,
        read in prop::sample::select(ManifestCompression::ALL.to_vec()),
        write in prop::sample::select(ManifestCompression::ALL.to_vec()),
    ) {
        let rows: Vec<String> = ids.iter().map(|id| format!("\"x, {id}\",{id}\r\n")).collect();
        let text = format!("text,id\n{}", rows.concat()).into_bytes();
        let (first, second) = text.split_at((cut * text.len() as f64) as usize);
        let bytes = [compress(first, read), compress(second, read)].concat();
        let manifest = Manifest::new(ManifestFormat::Csv).key("id").duplicates(Duplicates::Allow);
        for compression in [Some(write), None] {
            let manifest = manifest.clone().compression(compression);
            let mut kept = Vec::new();
            manifest.filter(&even(), ManifestInput::stream(&bytes[..]), &mut kept).unwrap();
            prop_assert_eq!(&decompress(&kept, compression.unwrap_or(read)), &text);
        }
    }
}

#[test]
fn names_say_how_files_are_compressed() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let text = b"id\n1\n2\n";
    fs::write(place("a.csv.gz"), gzip(text)).unwrap();
    // Compressed whatever its name: the bytes tell.
    fs::write(place("b.csv"), zstd(text)).unwrap();
    for (source, output, compression) in [
        ("a.csv.gz", "kept.csv", ManifestCompression::Plain),
        ("a.csv.gz", "kept.csv.gz", ManifestCompression::Gzip),
        ("b.csv", "kept.csv.zst", ManifestCompression::Zstd),
    ] {
        let format = ManifestFormat::from_path(source).unwrap();
        let input = ManifestInput::file(place(source)).unwrap();
        Manifest::new(format).key("id").filter_to_file(&even(), input, place(output)).unwrap();
        assert_eq!(decompress(&fs::read(place(output)).unwrap(), compression), b"id\n2\n");
    }
    assert_eq!(ManifestFormat::from_path("a.NDJSON.GZ").unwrap(), ManifestFormat::Jsonl);
    for name in ["a.parquet.gz", "a.gz", "a.csv.gz.zst"] {
        assert!(ManifestFormat::from_path(name).is_err(), "{name}");
    }
}

#[test]
fn damage_is_corrupt_and_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (0..3000).map(|row| format!("{}\n", row * 7919 % 1000)).collect();
    let text = format!("id\n{}", rows.concat());
    let filter = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        let manifest = Manifest::new(ManifestFormat::Csv).key("id").duplicates(Duplicates::Allow);
        let output = directory.path().join("kept.csv");
        let outcome =
            manifest.filter_to_file(&even(), ManifestInput::file(&path).unwrap(), &output);
        assert!(outcome.is_ok() || !output.exists());
        outcome
    };
    for (name, bytes) in [("a.csv.gz", gzip(text.as_bytes())), ("a.csv.zst", zstd(text.as_bytes()))]
    {
        for length in (0..bytes.len()).step_by(101).chain([bytes.len() - 1]) {
            let error = filter(name, &bytes[..length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{length} bytes: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 0x55;
        let error = filter(name, &flipped).unwrap_err();
        assert!([ErrorKind::Corrupt, ErrorKind::Manifest].contains(&error.kind()), "{error}");
        let followed = filter(name, &[&bytes[..], b"and more"].concat());
        if name.ends_with("gz") {
            assert_eq!(followed.unwrap().ignored_bytes, 8);
            fs::remove_file(directory.path().join("kept.csv")).unwrap();
        } else {
            assert_eq!(followed.unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let error = filter(name, b"id\n2\n").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("but its contents are not"), "{error}");
    }
}

#[test]
fn a_stream_that_fails_is_no_damage() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::Error::other("the cable was pulled"));
            }
            self.0.read(buffer)
        }
    }
    let text = (0..1000).map(|row| format!("{row}\n")).collect::<Vec<_>>().concat();
    for bytes in [gzip(text.as_bytes()), zstd(text.as_bytes())] {
        let input = ManifestInput::stream(Failing(&bytes[..bytes.len() / 2]));
        let manifest = Manifest::new(ManifestFormat::Csv).header(false).key("0");
        let error = manifest.filter(&even(), input, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains("the cable was pulled"), "{error}");
    }
}

#[test]
fn parquet_is_not_compressed_once_more() {
    let manifest =
        Manifest::new(ManifestFormat::Parquet).compression(Some(ManifestCompression::Gzip));
    let error =
        manifest.filter(&even(), ManifestInput::stream(&b""[..]), &mut io::sink()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}
