//! Damaged and foreign files: every reader returns an error of a sensible kind, none panics, none
//! returns other values than were recorded, and `verify` finds the damage.

use std::fs;
use std::path::{Path, PathBuf};

use data_diet::observe::Phase;
use data_diet::run::Verification;
use data_diet::selection::ScoreColumn;
use data_diet::{ErrorKind, Experiment, ScoreOptions, ScoreTable};

use crate::harness::{Directory, Row, Training, data_diet, observations, part_files};

const TRAINING: Training = Training { classes: 2, batch_rows: 4, epoch_steps: 5 };

/// A small finished run of one part per table and phase, and its training part.
fn recorded() -> (Directory, PathBuf, Vec<Row>) {
    let directory = Directory::new();
    let mut recorder = directory.recorder("seed-0", &TRAINING.format()).start().unwrap();
    (0..12).for_each(|index| recorder.record(TRAINING.batch(index)).unwrap());
    let _ = recorder.finish().unwrap();
    let path = directory.experiment();
    let part = part_files(&path, "observations", "seed-0", Phase::Train).remove(0);
    let experiment = Experiment::open(&path).unwrap();
    let rows = observations(&experiment, "seed-0", Phase::Train).unwrap();
    assert_eq!(rows.len(), 40);
    (directory, part, rows)
}

fn verify(experiment: &Experiment) -> Verification {
    experiment.verify(|_| {}).unwrap()
}

/// What the readers say about an experiment with one broken part.
fn check_broken(path: &Path, part: &Path, what: &str) {
    let is_told = |kind| matches!(kind, ErrorKind::Corrupt | ErrorKind::UnsupportedFormat);
    let experiment = Experiment::open_read_only(path).unwrap();
    let error = observations(&experiment, "seed-0", Phase::Train).unwrap_err();
    assert!(is_told(error.kind()), "{what}: {error:?}");
    assert!(error.to_string().contains("part-000000.parquet"), "{what}: {error}");
    let error = ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap_err();
    assert!(is_told(error.kind()), "{what}: {error:?}");
    let findings = verify(&experiment).findings;
    assert!(findings.iter().any(|finding| finding.path == part), "{what}: {findings:?}");
}

#[test]
fn a_part_cut_off_at_any_byte_is_an_error() {
    let (directory, part, _) = recorded();
    let bytes = fs::read(&part).unwrap();
    for length in 0..bytes.len() {
        fs::write(&part, &bytes[..length]).unwrap();
        let experiment = Experiment::open_read_only(directory.experiment()).unwrap();
        let error = observations(&experiment, "seed-0", Phase::Train).unwrap_err();
        let kinds = [ErrorKind::Corrupt, ErrorKind::UnsupportedFormat];
        assert!(kinds.contains(&error.kind()), "{length} bytes: {error:?}");
        if length % 101 == 0 {
            check_broken(&directory.experiment(), &part, &format!("{length} bytes"));
        }
    }
}

#[test]
fn flipped_bits_of_a_part_are_an_error() {
    let (directory, part, _) = recorded();
    let mut bytes = fs::read(&part).unwrap();
    let bits = bytes.len() * 8;
    let closing = bits - 16 * 8..bits;
    for bit in (0..bits).step_by(17).chain(closing) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&part, &bytes).unwrap();
        let experiment = Experiment::open_read_only(directory.experiment()).unwrap();
        let error = observations(&experiment, "seed-0", Phase::Train).unwrap_err();
        let kinds = [ErrorKind::Corrupt, ErrorKind::UnsupportedFormat];
        assert!(kinds.contains(&error.kind()), "bit {bit}: {error:?}");
        if bit % 7 == 0 {
            check_broken(&directory.experiment(), &part, &format!("bit {bit}"));
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn files_that_are_not_ours_are_foreign() {
    let (directory, part, _) = recorded();
    let path = directory.experiment();
    let logits = part_files(&path, "logits", "seed-0", Phase::Train).remove(0);
    let scores = directory.join("scores.parquet");
    let experiment = Experiment::open(&path).unwrap();
    ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap().write(&scores).unwrap();
    let cases = [
        ("an empty file", Vec::new()),
        ("text", b"step,epoch,example\n0,0,0\n".to_vec()),
        ("another table", fs::read(logits).unwrap()),
        ("another tool's Parquet", fs::read(scores).unwrap()),
    ];
    for (what, bytes) in cases {
        fs::write(&part, bytes).unwrap();
        let error = observations(&experiment, "seed-0", Phase::Train).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedFormat, "{what}: {error}");
        check_broken(&path, &part, what);
        println!("{what}");
        data_diet(&["verify".as_ref(), directory.experiment().as_os_str()], 1)
            .says("part-000000.parquet");
    }
}

#[test]
fn other_files_in_a_tables_tree_and_missing_parts_are_found() {
    let (directory, part, _) = recorded();
    let experiment = Experiment::open(directory.experiment()).unwrap();
    let stray = part.with_file_name("notes.txt");
    fs::write(&stray, "x").unwrap();
    let findings = verify(&experiment).findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].path, stray);
    fs::remove_file(stray).unwrap();
    assert!(verify(&experiment).findings.is_empty());
    fs::remove_file(&part).unwrap();
    let findings = verify(&experiment).findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].error.to_string().contains("counts 48 rows"), "{findings:?}");
}

#[test]
fn metadata_that_is_garbage_or_newer_is_told_apart() {
    let (directory, _, _) = recorded();
    let path = directory.experiment().join("_runs/seed-0/run.json");
    let sound = fs::read_to_string(&path).unwrap();
    let newer = sound.replace("\"schema_version\": 2", "\"schema_version\": 3");
    assert_ne!(newer, sound);
    let cases = [
        ("", ErrorKind::Corrupt),
        ("garbage", ErrorKind::Corrupt),
        ("{}", ErrorKind::Corrupt),
        (&sound[..sound.len() / 2], ErrorKind::Corrupt),
        (r#"{"schema_version": 1}"#, ErrorKind::Corrupt),
        (r#"{"schema_version": 7, "all": "new"}"#, ErrorKind::UnsupportedFormat),
        (&newer, ErrorKind::UnsupportedFormat),
    ];
    for (text, expected) in cases {
        fs::write(&path, text).unwrap();
        let opened = Experiment::open(directory.experiment()).unwrap_err();
        assert_eq!(opened.kind(), expected, "{text}: {opened}");
        assert!(opened.to_string().contains("run.json"), "{opened}");
        let experiment = Experiment::open_read_only(directory.experiment()).unwrap();
        assert_eq!(experiment.runs().unwrap_err().kind(), expected);
        assert_eq!(experiment.verify(|_| {}).unwrap_err().kind(), expected);
        let folded = ScoreTable::fold(&experiment, &ScoreOptions::default());
        assert_eq!(folded.unwrap_err().kind(), expected);
        data_diet(&["verify".as_ref(), directory.experiment().as_os_str()], 1);
    }
}

#[test]
fn a_broken_table_of_scores_is_an_error_or_reads_as_it_was() {
    let (directory, _, _) = recorded();
    let experiment = Experiment::open(directory.experiment()).unwrap();
    let path = directory.join("scores.parquet");
    ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap().write(&path).unwrap();
    let (bytes, sound) = (fs::read(&path).unwrap(), ScoreColumn::read(&path, "el2n").unwrap());
    assert!(Verification::verify_scores(&path).findings.is_empty());
    for length in (0..bytes.len()).step_by(3) {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = ScoreColumn::read(&path, "el2n").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{length} bytes: {error}");
        assert_eq!(Verification::verify_scores(&path).findings.len(), 1, "{length} bytes");
    }
    let bits = |column: &ScoreColumn| -> Vec<(i64, i32, u64)> {
        let scores = column.scores().iter().map(|score| score.to_bits());
        let keys = column.examples().iter().copied().zip(column.labels().iter().copied());
        keys.zip(scores).map(|((example, label), score)| (example, label, score)).collect()
    };
    let mut broken = bytes.clone();
    let mut told = 0;
    for bit in (0..bytes.len() * 8).step_by(31) {
        broken[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &broken).unwrap();
        // Another column's damage does no harm here.
        match ScoreColumn::read(&path, "el2n") {
            Ok(read) => assert_eq!(bits(&read), bits(&sound), "bit {bit}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}: {error}");
                told += 1;
            }
        }
        if bit % 5 == 0 {
            assert_eq!(Verification::verify_scores(&path).findings.len(), 1, "bit {bit}");
        }
        broken[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(told > 50, "{told}");
    fs::write(&path, "example,el2n\n").unwrap();
    assert_eq!(ScoreColumn::read(&path, "el2n").unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(
        Verification::verify_scores(&path).findings[0].error.kind(),
        ErrorKind::UnsupportedFormat
    );
    let none = directory.join("none");
    assert_eq!(ScoreColumn::read(&none, "el2n").unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(Verification::verify_scores(&none).findings[0].error.kind(), ErrorKind::Io);
}

#[test]
fn damage_to_scores_is_told_by_its_column() {
    let (directory, _, _) = recorded();
    let path = directory.experiment().join("scores.parquet");
    let shown = |path: &Path| path.display().to_string();
    let experiment = shown(&directory.experiment());
    data_diet(&["scores", &experiment, "-o", &shown(&path)], 0);
    data_diet(&["verify", &experiment], 0).tells("no problems found");
    data_diet(&["verify", &shown(&path)], 0).tells("1 part, 48 rows");
    let mut bytes = fs::read(&path).unwrap();
    // The first chunk is that of the ids.
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let what = "the checksum of column `example` in row group 0 is wrong";
    data_diet(&["verify", &experiment], 1).says(what);
    data_diet(&["verify", &shown(&path)], 1).says(what);
    let error = ScoreColumn::read(&path, "el2n").unwrap_err();
    assert!(error.to_string().ends_with(what), "{error}");
    // A table of somebody else's is nobody's business, unless it has the name of ours.
    let text = directory.experiment().join("kept.parquet");
    fs::write(&text, "not ours").unwrap();
    fs::remove_file(&path).unwrap();
    data_diet(&["verify", &experiment], 0).tells("no problems found");
    fs::rename(&text, &path).unwrap();
    data_diet(&["verify", &experiment], 1).says("scores.parquet: is not a Parquet file");
}
