//! `data-diet verify` and `data-diet recover`, and directories that are not what they should be.

use std::fs;

use super::Twelve;
use crate::harness::recorded::{self, finish};
use crate::harness::{copy_directory, data_diet};

#[test]
fn verify_is_content_with_what_was_recorded_and_changes_nothing() {
    let twelve = Twelve::new();
    let call = data_diet(&["verify", &twelve.shown()], 0);
    call.tells("4 parts, 144 rows, ").tells(" checked: no problems found");
    assert!(call.stdout.is_empty(), "{}", call.describe());
}

#[test]
fn verify_finds_every_flipped_bit() {
    let twelve = Twelve::new();
    let part = twelve.part("seed-1");
    let sound = fs::read(&part).unwrap();
    for place in (0..sound.len()).step_by(sound.len() / 24) {
        let mut damaged = sound.clone();
        damaged[place] ^= 1 << (place % 8);
        fs::write(&part, &damaged).unwrap();
        let call = data_diet(&["verify", &twelve.shown()], 1);
        call.says(&part.display().to_string()).tells("finding");
        assert!(!call.stdout.contains("run=seed-0"), "{}", call.describe());
    }
    fs::write(&part, &sound).unwrap();
    data_diet(&["verify", &twelve.shown()], 0);
}

#[test]
fn verify_finds_a_cut_and_a_missing_part() {
    let twelve = Twelve::new();
    let part = twelve.part("seed-0");
    let sound = fs::read(&part).unwrap();
    for cut in [0, 3, sound.len() / 2, sound.len() - 1] {
        fs::write(&part, &sound[..cut]).unwrap();
        data_diet(&["verify", &twelve.shown()], 1).says(&part.display().to_string());
    }
    fs::remove_file(&part).unwrap();
    let call = data_diet(&["verify", &twelve.shown()], 1);
    call.says("_runs/seed-0/run.json: counts 72 rows, the intact parts hold 36");
}

#[test]
fn verify_finds_files_that_do_not_belong() {
    for (name, what) in [
        ("observations/notes.txt", "is not a part of any run"),
        ("observations/run=seed-0/phase=train/rank=0/part-000000 (copy).parquet", "is not a part"),
        ("observations/run=seed-0/phase=train/rank=0/.part-000001.parquet", "is not a part"),
        ("observations/run=seed-0/phase=train/rank=0/part-1.parquet", "is not a part"),
        (
            "observations/run=gone/phase=train/rank=0/part-000000.parquet",
            "belongs to a run that is not in `_runs`",
        ),
    ] {
        let twelve = Twelve::new();
        let stray = twelve.path().join(name);
        fs::create_dir_all(stray.parent().unwrap()).unwrap();
        fs::copy(twelve.part("seed-0"), &stray).unwrap();
        let call = data_diet(&["verify", &twelve.shown()], 1);
        call.says(&format!("{}: {what}", stray.display())).tells(": 1 finding\n");
        assert_eq!(call.stdout.lines().count(), 1, "{}", call.describe());
    }
}

#[test]
fn other_commands_refuse_damaged_rows_and_name_the_file() {
    let twelve = Twelve::new();
    let part = twelve.part("seed-0");
    let mut bytes = fs::read(&part).unwrap();
    bytes[40] ^= 4;
    fs::write(&part, bytes).unwrap();
    let output = twelve.beside("scores.parquet");
    let call = data_diet(&["scores", &twelve.shown(), "-o", &output], 1);
    call.tells(&part.display().to_string());
    assert!(!std::path::Path::new(&output).exists());
}

#[test]
fn recover_publishes_what_a_crash_left() {
    let twelve = Twelve::new();
    let mut recorder = recorded::builder(&twelve.path(), "seed-2", 3).start().unwrap();
    recorded::record_twelve(&mut recorder, 2);
    recorder.flush().unwrap();
    let crashed = twelve.path().with_file_name("crashed");
    copy_directory(&twelve.path(), &crashed);
    finish(recorder);
    let path = crashed.display().to_string();
    let call = data_diet(&["verify", &path], 0);
    call.tells("run `seed-2` is being recorded, or was interrupted: its unpublished rows");
    let call = data_diet(&["recover", &path], 0);
    call.tells("run `seed-2` (rank 0) was interrupted: 72 rows recovered");
    assert_eq!(call.stderr.lines().count(), 1, "{}", call.describe());
    data_diet(&["recover", &path], 0).tells("nothing to recover");
    data_diet(&["verify", &path], 0).tells("6 parts, 216 rows");
    // The same rows as in the run that was not interrupted.
    let scores = |path: &str, name: &str| {
        let output = twelve.beside(name);
        data_diet(&["scores", path, "--run", "seed-2", "-o", &output], 0);
        fs::read(output).unwrap()
    };
    assert!(scores(&path, "a.parquet") == scores(&twelve.shown(), "b.parquet"));
}

#[test]
fn a_damaged_log_is_put_aside_and_said_so() {
    let directory = tempfile::tempdir().unwrap();
    let (alive, crashed) = (directory.path().join("alive"), directory.path().join("crashed"));
    let mut recorder = recorded::builder(&alive, "seed-0", 3).start().unwrap();
    recorded::record_twelve(&mut recorder, 0);
    recorder.flush().unwrap();
    copy_directory(&alive, &crashed);
    drop(recorder);
    let log = crashed.join("_runs/seed-0/open/rank-0.000000.log");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).unwrap();
    let call = data_diet(&["recover", &crashed.display().to_string()], 0);
    call.tells("a damaged segment was moved to _runs/seed-0/aside");
    assert_eq!(fs::read_dir(crashed.join("_runs/seed-0/aside")).unwrap().count(), 1);
}

#[test]
fn directories_that_are_no_experiment() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display().to_string();
    let missing = directory.path().join("missing").display().to_string();
    let file = directory.path().join("file").display().to_string();
    fs::write(&file, "").unwrap();
    for path in [&path, &missing, &file] {
        for command in ["inspect", "recover", "verify"] {
            // A file may be a table of scores.
            if (command, path) == ("verify", &file) {
                data_diet(&[command, path], 1).says("is not a Parquet file: 0 bytes");
                continue;
            }
            let call = data_diet(&[command, path], 1);
            call.tells(&format!("data-diet: {path} is not an experiment directory"));
            assert!(call.stdout.is_empty(), "{}", call.describe());
        }
    }
}

#[test]
fn metadata_that_is_damaged_or_newer() {
    let twelve = Twelve::new();
    let metadata = twelve.path().join("_runs/seed-0/run.json");
    let sound = fs::read_to_string(&metadata).unwrap();
    fs::write(&metadata, &sound[..sound.len() / 2]).unwrap();
    let call = data_diet(&["inspect", &twelve.shown()], 1);
    call.tells(&format!("{}: is not a run's metadata", metadata.display()));
    let newer = sound.replace("\"schema_version\": 2", "\"schema_version\": 3");
    assert_ne!(newer, sound);
    fs::write(&metadata, newer).unwrap();
    let call = data_diet(&["verify", &twelve.shown()], 1);
    call.tells("has schema version 3, this crate knows up to 2; a newer data-diet reads it");
}
