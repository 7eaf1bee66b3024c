//! Nothing is overwritten by accident.

use std::fs::{self, File};
use std::process::Stdio;

use super::recipes::Scored;
use crate::harness::{command, data_diet, finish};

const HALF: [&str; 6] = ["--by", "el2n", "--keep", "highest", "--fraction", "50 %"];

#[test]
fn what_exists_is_replaced_only_when_asked() {
    let scored = Scored::new();
    let output = scored.beside("out.csv");
    let [recipe, rejected] = ["out.recipe.json", "rejected.csv"].map(|name| scored.beside(name));
    let files =
        ["--scores", &scored.scores, "--manifest", &scored.manifest, "--key", "id", "-o", &output];
    let filter = [&["filter"], &files[..], &HALF, &["--rejected", &rejected]].concat();
    for taken in [&output, &recipe, &rejected] {
        fs::write(taken, "earlier").unwrap();
        data_diet(&filter, 1).tells(taken).tells("or replace it with --force");
        assert_eq!(fs::read_to_string(taken).unwrap(), "earlier");
        fs::remove_file(taken).unwrap();
    }
    data_diet(&filter, 0).tells("kept 6 of 12 rows").tells("the other 6 rows -> ");
    let read = |path: &str| fs::read_to_string(path).unwrap();
    let (kept, others) = (read(&output), read(&rejected));
    let mut ids: Vec<u32> =
        kept.lines().skip(1).chain(others.lines().skip(1)).map(|id| id.parse().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..12).collect::<Vec<_>>());
    fs::write(&output, "earlier").unwrap();
    data_diet(&[&filter[..], &["--force"]].concat(), 0);
    assert_eq!(read(&output), kept);

    let experiment = scored.experiment();
    let scores = ["scores", &experiment, "-o", &scored.scores];
    data_diet(&scores, 1).tells("or replace it with --force");
    data_diet(&[&scores[..], &["--force"]].concat(), 0);
    let ids = scored.beside("ids.npy");
    let select = [&["select", "--scores", &scored.scores, "-o", &ids][..], &HALF].concat();
    data_diet(&select, 0).tells("kept 6 of 12 examples (50.0 %)");
    data_diet(&select, 1).tells("or replace it with --force");
}

#[test]
fn no_output_is_an_input() {
    let scored = Scored::new();
    let map = scored.beside("map.csv");
    fs::write(&map, "id,example\n0,0\n").unwrap();
    let link = scored.beside("link.csv");
    fs::hard_link(&scored.manifest, &link).unwrap();
    let mut inputs = vec![&scored.manifest, &scored.scores, &link, &map];
    let symlink = scored.beside("symlink.csv");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&scored.scores, &symlink).unwrap();
    #[cfg(unix)]
    inputs.push(&symlink);
    let files = ["--scores", &scored.scores, "--manifest", &scored.manifest, "--key", "id"];
    let keys = ["--key-map", &map, "--force"];
    for input in inputs {
        let before = fs::read(input).unwrap();
        for output in [
            &["-o", input][..],
            &["-o", "-", "--rejected", input],
            &["-o", "-", "--save-recipe", input],
        ] {
            let filter = [&["filter"], &files[..], &keys, &HALF, output].concat();
            data_diet(&filter, 2).tells("is the same file as --");
            assert_eq!(fs::read(input).unwrap(), before);
        }
    }
    // Standard input that is redirected from the output.
    let stdin = ["filter", "--scores", &scored.scores, "--manifest", "-", "--format", "csv"];
    let arguments =
        [&stdin[..], &HALF, &["--key", "id", "--force", "-o", &scored.manifest]].concat();
    let before = fs::read(&scored.manifest).unwrap();
    let mut child = command(&arguments);
    child.stdin(Stdio::from(File::open(&scored.manifest).unwrap()));
    finish(&mut child, 2).tells("is the same file as --manifest `-` (a standard stream)");
    assert_eq!(fs::read(&scored.manifest).unwrap(), before);
    // Standard output that goes on at the end of the manifest.
    let arguments = [&["filter"], &files[..], &HALF, &["-o", "-"]].concat();
    let file = File::options().append(true).open(&scored.manifest).unwrap();
    let status = command(&arguments).stdout(Stdio::from(file)).status().unwrap();
    assert_eq!(status.code(), Some(2));
    assert_eq!(fs::read(&scored.manifest).unwrap(), before);
    let select = [&["select", "--scores", &scored.scores, "-o", &scored.scores][..], &HALF];
    data_diet(&[&select.concat()[..], &["--force"]].concat(), 2).tells("is the same file as");
}

#[test]
fn a_dash_is_standard_output_everywhere() {
    let scored = Scored::new();
    let table = fs::read(&scored.scores).unwrap();
    let experiment = scored.experiment();
    let output = command(&["scores", &experiment, "-o", "-"]).output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == table, "the same bytes as in a file");
    let select = ["select", "--scores", &scored.scores, "-o", "-"];
    let call = data_diet(&[&select[..], &HALF].concat(), 0);
    assert_eq!(call.stdout.lines().count(), 6);
    assert!(!std::path::Path::new("-").exists());
    let call = data_diet(&[&select[..], &HALF, &["--annotate"]].concat(), 0);
    assert!(call.stdout.starts_with("example,label,el2n,decision\n0,"), "{}", call.stdout);
    assert_eq!(call.stdout.lines().count(), 13);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_a_closed_pipe_is_not() {
    let scored = Scored::new();
    let files = ["--scores", &scored.scores, "-o", "-"];
    let filter = ["--manifest", &scored.manifest, "--key", "id"];
    for arguments in [
        [&["filter"], &files[..], &filter, &HALF].concat(),
        [&["select"], &files[..], &HALF].concat(),
        vec!["scores", &scored.experiment(), "-o", "-"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command(&arguments).stdout(Stdio::from(full)).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(&arguments).stdout(Stdio::from(writer)).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            (output.status.code(), told.contains("Broken pipe")),
            (Some(0), false),
            "{told}"
        );
    }
}
