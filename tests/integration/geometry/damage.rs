//! Damaged, missing and foreign parts of both tables: told by whoever reads them, and found by `verify`.

use std::fs;
use std::path::{Path, PathBuf};

use data_diet::geometry::{ErrorBarrierTable, KernelVelocityTable};
use data_diet::run::Finding;
use data_diet::{ErrorKind, Experiment, Result};

use super::tables::{barrier, velocity};
use crate::harness::{Directory, data_diet, recorded};

/// An experiment of one recorded run, with two parts in each table.
fn measured() -> Directory {
    let directory = Directory::new();
    let path = directory.experiment();
    recorded::finished(&path, "seed-0", 0);
    let mut velocities = KernelVelocityTable::open(&path, "seed-0").unwrap();
    velocities.append(&[velocity("window_0", 0, 0.25), velocity("window_1", 0, 0.5)]).unwrap();
    velocities.append(&[velocity("window_0", 50, 0.25)]).unwrap();
    let mut barriers = ErrorBarrierTable::open(&path).unwrap();
    barriers.append(&[barrier("child-1", 100, 0.75), barrier("child-2", 100, 0.5)]).unwrap();
    barriers.append(&[barrier("child-1", 200, 0.5)]).unwrap();
    directory
}

fn findings(directory: &Directory) -> Vec<Finding> {
    let experiment = Experiment::open(directory.experiment()).unwrap();
    experiment.verify(|_| {}).unwrap().findings
}

/// The only thing that is found.
#[track_caller]
fn finding(directory: &Directory, path: &Path) -> Finding {
    let mut findings = findings(directory);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].path, path, "{findings:?}");
    findings.remove(0)
}

type Read = fn(&Path) -> Result<usize>;

/// The second part of each table, and how many rows its table has.
fn parts(directory: &Directory) -> [(PathBuf, Read); 2] {
    let path = directory.experiment();
    [
        (path.join("kernel_velocity/run=seed-0/part-000001.parquet"), |path| {
            Ok(KernelVelocityTable::open(path, "seed-0")?.rows().len())
        }),
        (path.join("error_barrier/part-000001.parquet"), |path| {
            Ok(ErrorBarrierTable::open(path)?.rows().len())
        }),
    ]
}

#[test]
fn sound_tables_are_checked_and_counted() {
    let directory = measured();
    let path = directory.experiment();
    let experiment = Experiment::open(&path).unwrap();
    let mut told = 0;
    let verification = experiment.verify(|bytes| told = bytes).unwrap();
    assert!(verification.findings.is_empty(), "{:?}", verification.findings);
    // 72 observations in two parts, 3 velocities and 3 curves of 3 points.
    assert_eq!((verification.parts, verification.rows), (2 + 2 + 2, 72 + 3 + 9));
    assert_eq!((verification.bytes, told), (experiment.bytes().unwrap(), verification.bytes));
    let shown = path.display().to_string();
    data_diet(&["verify", &shown], 0).tells("6 parts, 84 rows");
    data_diet(&["recover", &shown], 0);
    // What a measurement that was killed leaves, out of sight of every reader.
    fs::write(path.join("_runs/.data-diet-x.draft"), "half").unwrap();
    data_diet(&["recover", &shown], 0);
    data_diet(&["inspect", &shown], 0);
    data_diet(&["verify", &shown], 0).tells("no problems found");
}

#[test]
fn every_cut_and_every_flipped_bit_is_told() {
    let directory = measured();
    let path = directory.experiment();
    for (part, read) in parts(&directory) {
        let whole = fs::read(&part).unwrap();
        let sound = read(&path).unwrap();
        let told = |what: &str, also_verify: bool| {
            let error = read(&path).unwrap_err();
            let kinds = [ErrorKind::Corrupt, ErrorKind::UnsupportedFormat];
            assert!(kinds.contains(&error.kind()), "{what}: {error:?}");
            assert!(error.to_string().contains("part-000001.parquet"), "{what}: {error}");
            if also_verify {
                let found = finding(&directory, &part).error;
                assert_eq!(found.to_string(), error.to_string(), "{what}");
            }
        };
        for length in (0..whole.len()).step_by(29) {
            fs::write(&part, &whole[..length]).unwrap();
            told(&format!("{length} bytes"), length % 20 == 0);
        }
        let mut damaged = whole.clone();
        for bit in (0..whole.len() * 8).step_by(67) {
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&part, &damaged).unwrap();
            told(&format!("bit {bit}"), bit % 25 == 0);
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
        fs::write(&part, &whole).unwrap();
        assert_eq!(read(&path).unwrap(), sound);
        assert!(findings(&directory).is_empty());
    }
}

#[test]
fn damage_has_a_kind_for_each_cause() {
    let directory = measured();
    let [(velocities, _), (barriers, _)] = parts(&directory);
    let whole = fs::read(&velocities).unwrap();
    let flipped = |place: usize| {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        bytes
    };
    let guard = whole.windows(4).rposition(|four| four == b"DDFC").unwrap();
    let observations = directory
        .experiment()
        .join("observations/run=seed-0/phase=train/rank=0/part-000000.parquet");
    let corrupt = ErrorKind::Corrupt;
    let foreign = ErrorKind::UnsupportedFormat;
    let cases = [
        (flipped(10), corrupt, "the checksum of row group 0 is wrong"),
        (flipped(guard + 20), corrupt, "the checksum of the footer is wrong"),
        (flipped(guard + 5), corrupt, "the checksum of the footer is wrong"),
        (flipped(guard), foreign, "the mark before its footer is missing"),
        (flipped(0), foreign, "it does not begin with the Parquet magic"),
        (flipped(whole.len() - 1), foreign, "it does not end with the Parquet magic"),
        (whole[..whole.len() - 9].to_vec(), foreign, "it does not end with the Parquet magic"),
        (Vec::new(), foreign, "is not a Parquet file: 0 bytes"),
        (b"set,first_step\n".to_vec(), foreign, "it does not begin with the Parquet magic"),
        (
            fs::read(&barriers).unwrap(),
            foreign,
            "expected the table `kernel_velocity`, got `error_barrier`",
        ),
        (
            fs::read(observations).unwrap(),
            foreign,
            "expected the table `kernel_velocity`, got `observations`",
        ),
    ];
    for (bytes, kind, what) in cases {
        fs::write(&velocities, bytes).unwrap();
        let error = KernelVelocityTable::open(directory.experiment(), "seed-0").unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().ends_with(what), "{error}");
        let found = finding(&directory, &velocities).error;
        assert_eq!((found.kind(), found.to_string()), (kind, error.to_string()));
        let call = data_diet(&["verify".as_ref(), directory.experiment().as_os_str()], 1);
        call.says(what).tells("1 finding");
    }
}

#[test]
fn files_that_do_not_belong_are_found() {
    let directory = measured();
    let path = directory.experiment();
    for name in [
        "error_barrier/notes.txt",
        "error_barrier/part-1.parquet",
        "error_barrier/run=seed-0/part-000000.parquet",
        "kernel_velocity/part-000000.parquet",
        "kernel_velocity/run=seed-0/part-000000.parquet.tmp",
        "kernel_velocity/run=seed-0/deeper/part-000000.parquet",
        "kernel_velocity/seed-0/part-000000.parquet",
    ] {
        let stray = path.join(name);
        fs::create_dir_all(stray.parent().unwrap()).unwrap();
        fs::write(&stray, "x").unwrap();
        let found = finding(&directory, &stray);
        assert_eq!(found.error.kind(), ErrorKind::UnsupportedFormat, "{found:?}");
        assert!(
            found.error.to_string().contains("remove it from the table's directory"),
            "{found:?}"
        );
        fs::remove_file(&stray).unwrap();
    }
    assert!(findings(&directory).is_empty());
}

#[test]
fn a_part_that_is_gone_and_rows_that_come_twice_are_found() {
    let directory = measured();
    for (second, read) in parts(&directory) {
        let first = second.with_file_name("part-000000.parquet");
        let third = second.with_file_name("part-000002.parquet");
        // Somebody has copied a part.
        fs::copy(&second, &third).unwrap();
        let found = finding(&directory, &third);
        assert!(found.error.to_string().ends_with("is already in the table"), "{found:?}");
        fs::remove_file(&third).unwrap();
        let bytes = fs::read(&first).unwrap();
        fs::remove_file(&first).unwrap();
        let found = finding(&directory, &first);
        assert!(found.error.to_string().ends_with("is missing, but part 1 exists"), "{found:?}");
        // What is left can be used, and what is measured next gets a name of its own.
        assert_eq!(read(&directory.experiment()).unwrap(), 1);
        fs::write(&first, bytes).unwrap();
    }
    assert!(findings(&directory).is_empty());
}
