//! `data-diet filter`: from scores and a manifest to a smaller one.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use super::Twelve;
use crate::harness::{command, data_diet, finish};

/// Scores of the twelve examples, and a manifest of them in an order of its own.
struct Scored {
    twelve: Twelve,
    scores: String,
    manifest: String,
}

impl Scored {
    fn new() -> Self {
        let twelve = Twelve::new();
        let (scores, manifest) = (twelve.beside("scores.parquet"), twelve.beside("train.csv"));
        data_diet(&["scores", &twelve.shown(), "-o", &scores], 0);
        let rows: Vec<String> =
            (0..12).map(|row| format!("\"file, {row}.png\",{}\r\n", row * 7 % 12)).collect();
        fs::write(&manifest, format!("file,id\r\n{}", rows.concat())).unwrap();
        Self { twelve, scores, manifest }
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let start = ["filter", "--force", "--scores", &self.scores, "--by", "el2n", "--key", "id"];
        [&start[..], more].concat()
    }

    fn ids(text: &str) -> Vec<u32> {
        let id = |row: &str| row.rsplit(',').next().unwrap().trim().parse().unwrap();
        text.lines().skip(1).map(id).collect()
    }
}

#[test]
fn kept_and_pruned_rows_are_the_manifest() {
    let scored = Scored::new();
    let manifest = fs::read_to_string(&scored.manifest).unwrap();
    let keep = |which: &str| {
        let output = scored.twelve.beside(which);
        let call = data_diet(
            &scored.arguments(&[
                "--manifest",
                &scored.manifest,
                "--keep",
                which,
                "--count",
                "6",
                "-o",
                &output,
            ]),
            0,
        );
        call.tells("kept 6 of 12 rows (50.0 %), pruned 6").tells(&output).tells("class");
        assert_eq!(call.stdout, "");
        fs::read_to_string(output).unwrap()
    };
    let (high, low) = (keep("highest"), keep("lowest"));
    for kept in [&high, &low] {
        assert!(kept.starts_with("file,id\r\n"));
        let rows: Vec<&str> = kept.split_inclusive('\n').skip(1).collect();
        let places: Vec<usize> = rows.iter().map(|row| manifest.find(row).unwrap()).collect();
        assert!(places.is_sorted(), "rows come through whole and in their order");
    }
    let mut both = [Scored::ids(&high), Scored::ids(&low)].concat();
    both.sort_unstable();
    assert_eq!(both, (0..12).collect::<Vec<_>>());
    assert_eq!(keep("random"), keep("random"), "the same seed gives the same rows");
}

#[test]
fn pipes_carry_a_whole_manifest_or_nothing() {
    let scored = Scored::new();
    let pipe = |input: &str, code| {
        let arguments = scored.arguments(&[
            "--manifest",
            "-",
            "--format",
            "jsonl",
            "--keep",
            "lowest",
            "--fraction",
            "1",
            "-o",
            "-",
        ]);
        let mut child = command(&arguments);
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(input.as_bytes()).unwrap();
        drop(writer);
        finish(child.stdin(Stdio::from(reader)), code)
    };
    let rows = "{\"id\": 3}\n{ \"id\":0, \"x\": [1]}\n";
    let call = pipe(rows, 0);
    assert_eq!(call.stdout, rows);
    call.tells("kept 2 of 2 rows").tells("10 examples to keep are not in the manifest");
    let call = pipe(&format!("{rows}{{\"id\": 3}}\n"), 1);
    assert_eq!(call.stdout, "", "nothing of a manifest that is refused in its last row");
    call.tells("1 rows repeat the example id of an earlier row");
}

#[test]
fn a_dry_run_counts_and_writes_nothing() {
    let scored = Scored::new();
    let before = fs::read_dir(scored.twelve.directory.path()).unwrap().count();
    let call = data_diet(
        &scored.arguments(&["--manifest", &scored.manifest, "--min", "0", "--dry-run"]),
        0,
    );
    call.tells("would have kept 12 of 12 rows (100.0 %)");
    assert_eq!(call.stdout, "");
    assert_eq!(fs::read_dir(scored.twelve.directory.path()).unwrap().count(), before);
}

#[test]
fn mistakes_leave_an_earlier_output_alone() {
    let scored = Scored::new();
    let output = scored.twelve.beside("kept.csv");
    fs::write(&output, "earlier").unwrap();
    let manifest = scored.manifest.as_str();
    let with = |more: &[&str], code| {
        let call = data_diet(&scored.arguments(&[more, &["-o", &output]].concat()), code);
        assert_eq!(fs::read_to_string(&output).unwrap(), "earlier");
        call
    };
    with(&["--manifest", manifest, "--min", "2"], 1)
        .tells("min 2 keeps none of 12 examples, whose scores lie between");
    with(&["--manifest", manifest, "--keep", "highest", "--fraction", "1.5"], 2)
        .tells("expected a share from 0 to 1 such as 0.7");
    with(&["--manifest", manifest, "--keep", "highest", "--count", "13"], 2)
        .tells("count: expected at most 12");
    with(&["--manifest", "no.csv", "--min", "0"], 1).tells("cannot read no.csv");
    with(&["--manifest", "-", "--min", "0"], 2).tells("name the format");
    with(&["--manifest", manifest, "--keep", "highest"], 2).tells("--fraction");
    with(&["--manifest", manifest], 2).tells("--min");
    let foreign = scored.twelve.beside("foreign.csv");
    fs::write(&foreign, "file,id\na,0\nb,99\n").unwrap();
    with(&["--manifest", &foreign, "--min", "0"], 1)
        .tells("1 of 2 rows have no score, first line 3 (row 1, from 0) with id 99")
        .tells("set `unscored` to keep or prune them");
    let call = data_diet(
        &[
            "filter",
            "--scores",
            &scored.scores,
            "--by",
            "el2m",
            "--manifest",
            manifest,
            "--min",
            "0",
            "--dry-run",
        ],
        1,
    );
    call.tells("no score `el2m`; there are: el2n, el2n_");
    let call = data_diet(
        &[
            "filter",
            "--scores",
            &scored.scores,
            "--by",
            "el2n",
            "--key",
            "ID",
            "--manifest",
            manifest,
            "--min",
            "0",
            "--dry-run",
        ],
        1,
    );
    call.tells("no key column `ID`; there are: file, id");
    let call = data_diet(
        &[
            "filter",
            "--scores",
            manifest,
            "--by",
            "el2n",
            "--manifest",
            manifest,
            "--min",
            "0",
            "--dry-run",
        ],
        1,
    );
    call.tells("train.csv: is not a Parquet table that can be read");
}

#[test]
fn policies_are_flags() {
    let scored = Scored::new();
    let foreign = scored.twelve.beside("foreign.csv");
    fs::write(&foreign, "a,0\nb,99\nc,0\n").unwrap();
    let filter = |unscored: &str| {
        let arguments = [
            "filter",
            "--scores",
            &scored.scores,
            "--by",
            "forgetting",
            "--key",
            "1",
            "--no-header",
            "--manifest",
            &foreign,
            "--min",
            "0",
            "--duplicates",
            "allow",
            "--unscored",
            unscored,
            "-o",
            "-",
        ];
        data_diet(&arguments, 0).stdout
    };
    assert_eq!(filter("keep"), "a,0\nb,99\nc,0\n");
    assert_eq!(filter("prune"), "a,0\nc,0\n");
}

#[test]
fn help_teaches() {
    let help = data_diet(&["filter", "--help"], 0);
    for words in [
        "--keep highest --fraction 0.7",
        "--dry-run",
        "--unscored",
        "from a pipe to a pipe",
        "--drop-highest",
        "--classes balanced",
        "--class-floor 20%",
        "--recipe kept.recipe.json",
        "--keep window --offset 10%",
    ] {
        help.says(words);
    }
}
