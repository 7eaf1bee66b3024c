//! `data-diet filter` on manifests of many kinds: string keys, compression, directories, added scores.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::Twelve;
use crate::harness::{command, data_diet, finish};

/// Scores of the twelve examples.
struct Scored {
    twelve: Twelve,
    scores: String,
}

impl Scored {
    fn new() -> Self {
        let twelve = Twelve::new();
        let scores = twelve.beside("scores.parquet");
        data_diet(&["scores", &twelve.shown(), "-o", &scores], 0);
        Self { twelve, scores }
    }

    /// A call that keeps six of the twelve, or another rule.
    fn arguments<'a>(&'a self, manifest: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let start =
            ["filter", "--force", "--scores", &self.scores, "--by", "el2n", "--manifest", manifest];
        let half = ["--keep", "highest", "--count", "6"];
        let rule = if more.contains(&"--min") { &[][..] } else { &half[..] };
        [&start[..], rule, more].concat()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.twelve.beside(name);
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.twelve.beside(name)).unwrap()
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn rows(row: impl Fn(usize) -> String) -> String {
    (0..12).map(row).collect()
}

#[test]
fn file_names_are_tied_to_ids_by_a_map() {
    let scored = Scored::new();
    let ids = scored.write("by-id.csv", format!("id\n{}", rows(|row| format!("{row}\n"))));
    let names = rows(|row| format!("images/{row}.png\n"));
    let manifest = scored.write("by-name.csv", format!("path\n{names}"));
    let map = scored.write(
        "map.tsv",
        format!("path\texample\n{}", rows(|row| format!("images/{row}.png\t{row}\n"))),
    );
    let other = scored.write(
        "other.csv",
        format!("number,file\n{}", rows(|row| format!("{row},images/{row}.png\n"))),
    );
    let by_id = data_diet(&scored.arguments(&ids, &["--key", "id", "-o", "-"]), 0);
    let expected = by_id.stdout.replace("id\n", "path\n");
    let expected: String = expected
        .lines()
        .map(
            |line| {
                if line == "path" { "path\n".to_owned() } else { format!("images/{line}.png\n") }
            },
        )
        .collect();
    let named = ["--key", "path", "--key-map", &map, "-o", "-"];
    assert_eq!(data_diet(&scored.arguments(&manifest, &named), 0).stdout, expected);
    let columns = ["--key-map-key", "file", "--key-map-example", "number"];
    let named = [&["--key", "path", "--key-map", &other, "-o", "-"][..], &columns].concat();
    assert_eq!(data_diet(&scored.arguments(&manifest, &named), 0).stdout, expected);
    let wrong = ["--key", "path", "--key-map", &other, "--dry-run"];
    data_diet(&scored.arguments(&manifest, &wrong), 1)
        .tells("no column `path`, which a key map must have; there are: number, file");
    data_diet(&scored.arguments(&manifest, &["--key-map", &map, "--dry-run"]), 2)
        .tells("key map: expected a key column beside it");
    data_diet(&scored.arguments(&manifest, &["--key", "path", "--dry-run"]), 1)
        .tells("got `images/0.png`; map text keys to ids with `key_map`");
}

#[test]
fn compression_goes_by_the_name_and_on_streams_by_the_manifest() {
    let scored = Scored::new();
    let text = format!("id\n{}", rows(|row| format!("{row}\n")));
    let manifest = scored.write("train.csv.gz", gzip(&text));
    let plain = scored.twelve.beside("kept.csv");
    data_diet(&scored.arguments(&manifest, &["--key", "id", "-o", &plain]), 0);
    let kept = scored.read("kept.csv");
    assert_eq!(kept.lines().count(), 7);
    let packed = scored.twelve.beside("kept.csv.gz");
    data_diet(&scored.arguments(&manifest, &["--key", "id", "-o", &packed]), 0);
    let mut unpacked = String::new();
    MultiGzDecoder::new(&fs::read(&packed).unwrap()[..]).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, kept);
    // From a pipe that is compressed to one that is not.
    let arguments = scored.arguments("-", &["--format", "csv", "--key", "id", "-o", "-"]);
    let mut child = command(&[&arguments[..], &["--compress", "plain"]].concat());
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&gzip(&text)).unwrap();
    drop(writer);
    assert_eq!(finish(child.stdin(Stdio::from(reader)), 0).stdout, kept);
    // As the manifest is.
    let output = command(&arguments).stdin(fs::File::open(&manifest).unwrap()).output().unwrap();
    let mut unpacked = String::new();
    MultiGzDecoder::new(&output.stdout[..]).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, kept);
    let cut = scored.write("cut.csv.gz", &gzip(&text)[..20]);
    data_diet(&scored.arguments(&cut, &["--key", "id", "--dry-run"]), 1)
        .tells("cut.csv.gz: is truncated in the middle of its gzip data");
}

#[test]
fn a_directory_becomes_a_directory() {
    let scored = Scored::new();
    for shard in 0..3 {
        let rows = (4 * shard..4 * shard + 4).map(|id| format!("{{\"id\":{id}}}\n"));
        scored.write(&format!("train/part-{shard}.jsonl"), rows.collect::<Vec<_>>().concat());
    }
    let (manifest, output) = (scored.twelve.beside("train"), scored.twelve.beside("kept"));
    let call = data_diet(&scored.arguments(&manifest, &["--key", "id", "-o", &output]), 0);
    call.tells("kept 6 of 12 rows (50.0 %), pruned 6 in 3 files").tells(&output);
    let kept = (0..3).map(|shard| scored.read(&format!("kept/part-{shard}.jsonl")));
    assert_eq!(kept.collect::<String>().lines().count(), 6);
    data_diet(&scored.arguments(&manifest, &["--key", "id", "-o", &output]), 1)
        .tells("expected a directory that is new or empty");
    data_diet(&scored.arguments(&manifest, &["--key", "id", "-o", "-"]), 1)
        .tells("name a directory with `-o`");
    // By their number over all files.
    data_diet(&scored.arguments(&manifest, &["--dry-run"]), 0)
        .tells("would have kept 6 of 12 rows");
    scored.write("train/part-3.csv", "id\n1\n");
    data_diet(&scored.arguments(&manifest, &["--dry-run"]), 1)
        .tells("expected files of one format, got part-0.jsonl (jsonl) and part-3.csv (csv)");
    data_diet(&scored.arguments(&manifest, &["--format", "jsonl", "--dry-run"]), 0);
    let nothing = scored.twelve.beside("nothing");
    fs::create_dir(&nothing).unwrap();
    data_diet(&scored.arguments(&nothing, &["--dry-run"]), 1).tells("no manifest; expected files");
}

#[test]
fn an_image_folder_keeps_its_metadata_and_images() {
    let scored = Scored::new();
    let metadata = rows(|row| format!("{row}.png,caption {row}\n"));
    scored.write("pets/train/metadata.csv", format!("file_name,text\n{metadata}"));
    for row in 0..12 {
        scored.write(&format!("pets/train/{row}.png"), "pixels");
    }
    let map = format!("file_name,example\n{}", rows(|row| format!("{row}.png,{row}\n")));
    let map = scored.write("map.csv", map);
    let train = scored.twelve.beside("pets/train");
    let pets = scored.twelve.beside("pets");
    let (one, two) = (scored.twelve.beside("one"), scored.twelve.beside("two"));
    data_diet(&scored.arguments(&train, &["--format", "imagefolder", "-o", &one]), 0);
    data_diet(&scored.arguments(&pets, &["--key-map", &map, "-o", &two]), 0);
    let kept = scored.read("one/metadata.csv");
    assert_eq!(kept.lines().count(), 7);
    assert_eq!(scored.read("two/train/metadata.csv"), kept);
    assert_eq!(fs::read_dir(&one).unwrap().count(), 7, "six images and their metadata");
    let bare = scored.twelve.beside("bare");
    data_diet(&scored.arguments(&train, &["--images", "leave", "-o", &bare]), 0);
    assert_eq!(fs::read_dir(&bare).unwrap().count(), 1);
}

#[test]
fn kept_rows_can_carry_their_scores() {
    let scored = Scored::new();
    let manifest = scored.write("train.csv", format!("id\n{}", rows(|row| format!("{row}\n"))));
    let with = |more: &[&str]| {
        let arguments = [&["--key", "id", "-o", "-"][..], more].concat();
        data_diet(&scored.arguments(&manifest, &arguments), 0).stdout
    };
    let bare = with(&[]);
    let one = with(&["--with-scores"]);
    assert_eq!(one.lines().next(), Some("id,el2n"));
    let ids = one.lines().map(|line| format!("{}\n", line.split(',').next().unwrap()));
    assert_eq!(ids.collect::<Vec<_>>().concat(), bare);
    let lowest = one.lines().skip(1).map(|line| line.split(',').nth(1).unwrap());
    let lowest = lowest.map(|score| score.parse::<f64>().unwrap()).fold(f64::INFINITY, f64::min);
    let threshold = lowest.to_string();
    let rule = ["--key", "id", "-o", "-", "--min", &threshold];
    assert_eq!(data_diet(&scored.arguments(&manifest, &rule), 0).stdout, bare, "to the last digit");
    let two = with(&["--with-scores", "forgetting,el2n"]);
    assert!(two.starts_with("id,forgetting,el2n\n"), "{two}");
    data_diet(&scored.arguments(&manifest, &["--with-scores", "el2m", "--dry-run"]), 1)
        .tells("no score `el2m`");
    let taken = scored.write("taken.csv", "id,el2n\n1,2\n");
    data_diet(&scored.arguments(&taken, &["--key", "id", "--with-scores", "--dry-run"]), 1)
        .tells("there already is a column `el2n`");
}

#[test]
fn help_says_how_to_use_images_and_directories() {
    let help = data_diet(&["filter", "--help"], 0);
    for words in ["--key-map", "imagefolder", ".jsonl.zst", "byte by byte", "--with-scores"] {
        help.says(words);
    }
}
