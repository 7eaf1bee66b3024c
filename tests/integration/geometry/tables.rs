//! What is written is what is read, a second part adds to the first, and what is no table is told.

use std::fs;
use std::path::{Path, PathBuf};

use data_diet::ErrorKind;
use data_diet::geometry::barrier::{RiskCurve, RiskPoint};
use data_diet::geometry::{
    ErrorBarrierRow, ErrorBarrierTable, KernelVelocityRow, KernelVelocityTable, RunningStatistics,
    TimeUnit,
};
use proptest::prelude::*;
use tempfile::TempDir;

pub(super) fn velocity(set: &str, first_step: u64, distance: f64) -> KernelVelocityRow {
    KernelVelocityRow {
        set: set.to_owned(),
        first_step,
        second_step: first_step + 50,
        first_epoch: 1,
        second_epoch: 1,
        distance,
        dt: 0.5,
        dt_unit: TimeUnit::Epochs,
        examples: 100,
        classes: 10,
    }
}

fn curve(points: &[(f64, f64, f64)]) -> RiskCurve {
    let point = |&(alpha, error, loss)| RiskPoint { alpha, error, loss };
    RiskCurve::new(points.iter().map(point).collect()).unwrap()
}

pub(super) fn barrier(second: &str, step: u64, middle: f64) -> ErrorBarrierRow {
    ErrorBarrierRow {
        first: "child-0".to_owned(),
        second: second.to_owned(),
        spawn_step: Some(20),
        step,
        epoch: 3,
        set: "highest".to_owned(),
        examples: 1000,
        running_statistics: RunningStatistics::Interpolated,
        curve: curve(&[(0.0, 0.2, 1.0), (0.5, middle, 3.0), (1.0, 0.4, 1.5)]),
    }
}

/// Every file below a directory, relative to it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn parts_add_up_and_nothing_else_lies_in_the_tree() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut table = KernelVelocityTable::open(path, "seed-0").unwrap();
    table.append(&[velocity("window_0", 0, 0.25), velocity("window_1", 0, 0.0)]).unwrap();
    table.append(&[]).unwrap();
    KernelVelocityTable::open(path, "seed-0")
        .unwrap()
        .append(&[velocity("window_0", 50, 1.0)])
        .unwrap();
    KernelVelocityTable::open(path, "seed-1")
        .unwrap()
        .append(&[velocity("window_0", 0, 0.5)])
        .unwrap();
    let mut barriers = ErrorBarrierTable::open(path).unwrap();
    barriers.append(&[barrier("child-1", 100, 0.9)]).unwrap();
    let part = |table: &str, number| Path::new(table).join(format!("part-{number:06}.parquet"));
    assert_eq!(
        files(path),
        [
            part("error_barrier", 0),
            part("kernel_velocity/run=seed-0", 0),
            part("kernel_velocity/run=seed-0", 1),
            part("kernel_velocity/run=seed-1", 0),
        ]
    );
    let table = KernelVelocityTable::open(path, "seed-0").unwrap();
    let all = [
        velocity("window_0", 0, 0.25),
        velocity("window_1", 0, 0.0),
        velocity("window_0", 50, 1.0),
    ];
    assert_eq!(table.rows(), all);
    assert_eq!(table.find("window_0", 50, 100, TimeUnit::Epochs), Some(&all[2]));
    assert_eq!(table.find("window_0", 50, 100, TimeUnit::Steps), None);
    assert_eq!(table.rows()[0].velocity().unwrap(), 0.5);
}

#[test]
fn curves_come_back_whole_and_their_means_are_over_pairs() {
    let directory = TempDir::new().unwrap();
    let mut table = ErrorBarrierTable::open(directory.path()).unwrap();
    let unrelated = ErrorBarrierRow { spawn_step: None, ..barrier("child-1", 100, 0.4) };
    let diverged = ErrorBarrierRow {
        set: "lowest".to_owned(),
        running_statistics: RunningStatistics::Reestimated,
        curve: curve(&[(0.0, 0.5, 1.0), (0.25, 0.5, f64::NAN), (1.0, 0.5, f64::INFINITY)]),
        ..barrier("child-1", 100, 0.0)
    };
    // Two neighboring curves that differ in nothing but a step, and one that repeats their points.
    let rows = [
        barrier("child-1", 100, 0.8),
        barrier("child-1", 200, 0.8),
        barrier("child-2", 100, 0.6),
        unrelated,
    ];
    table.append(&rows).unwrap();
    table.append(std::slice::from_ref(&diverged)).unwrap();
    let table = ErrorBarrierTable::open(directory.path()).unwrap();
    assert_eq!(table.rows()[..4], rows);
    let read = &table.rows()[4];
    assert_eq!(read.running_statistics, RunningStatistics::Reestimated);
    assert!(read.curve.points()[1].loss.is_nan());
    assert_eq!(read.curve.points()[2].loss, f64::INFINITY);
    assert!(table.contains(&rows[1]) && table.contains(&diverged));

    let means = table.means();
    assert_eq!(means.len(), 4);
    let of_pairs = means.iter().find(|mean| mean.pairs == 2).unwrap();
    assert_eq!((of_pairs.spawn_step, of_pairs.step, &*of_pairs.set), (Some(20), 100, "highest"));
    // The ends are 0.2 and 0.4: chord and mean agree in the middle.
    assert!((of_pairs.error_by_chord - 0.4).abs() < 1e-15);
    assert!((of_pairs.error_by_mean - 0.4).abs() < 1e-15);
    assert!((of_pairs.loss_by_chord - 1.75).abs() < 1e-15);
    let diverged = means.iter().find(|mean| mean.set == "lowest").unwrap();
    assert_eq!((diverged.error_by_chord, diverged.loss_by_chord.is_nan()), (0.0, true));
    assert_eq!((means[0].spawn_step, means[0].pairs), (None, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn velocities_read_back_as_written(
        rows in prop::collection::vec(
            ("[a-z_é0-9]{1,12}", any::<u32>(), 0.0..=1.0_f64, 1e-9..1e9_f64, any::<bool>()), 1..20,
        ),
        cut in 0..20_usize,
    ) {
        let rows: Vec<KernelVelocityRow> = rows.into_iter().enumerate().map(|(row, values)| {
            let (set, step, distance, dt, epochs) = values;
            KernelVelocityRow {
                set: format!("{set}{row}"),
                first_step: u64::from(step),
                second_step: u64::from(step) + 1 + row as u64,
                first_epoch: step / 3,
                second_epoch: step / 3,
                distance,
                dt,
                dt_unit: if epochs { TimeUnit::Epochs } else { TimeUnit::Steps },
                examples: row as u32,
                classes: 2,
            }
        }).collect();
        let directory = TempDir::new().unwrap();
        let mut table = KernelVelocityTable::open(directory.path(), "r").unwrap();
        let (head, tail) = rows.split_at(cut.min(rows.len()));
        let valid = rows.iter().all(|row| i32::try_from(row.second_epoch).is_ok());
        prop_assume!(valid);
        table.append(head).unwrap();
        table.append(tail).unwrap();
        let read = KernelVelocityTable::open(directory.path(), "r").unwrap();
        prop_assert_eq!(table.rows(), read.rows());
        prop_assert_eq!(read.rows(), &rows[..]);
    }
}

#[test]
fn rows_that_are_wrong_are_refused_and_nothing_is_written() {
    let directory = TempDir::new().unwrap();
    let mut table = KernelVelocityTable::open(directory.path(), "seed-0").unwrap();
    let (good, base) = (velocity("window_0", 0, 0.5), velocity("window_1", 0, 0.5));
    let wrong: [(&str, KernelVelocityRow); 7] = [
        ("set: expected a name", velocity("", 0, 0.5)),
        ("distance: expected between 0 and 2, got NaN", velocity("a", 0, f64::NAN)),
        ("dt: expected a positive number, got 0", KernelVelocityRow { dt: 0.0, ..base.clone() }),
        (
            "second_step: expected a snapshot after step 0",
            KernelVelocityRow { second_step: 0, ..base.clone() },
        ),
        (
            "second_step: expected a snapshot after step 0 of epoch 1",
            KernelVelocityRow { second_epoch: 0, ..base.clone() },
        ),
        (
            "second_step: expected at most",
            KernelVelocityRow { second_step: u64::MAX, ..base.clone() },
        ),
        ("examples: expected at most", KernelVelocityRow { examples: u32::MAX, ..base.clone() }),
    ];
    for (message, row) in wrong {
        let error = table.append(&[good.clone(), row]).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
        assert_eq!(table.rows(), []);
    }
    assert!(files(directory.path()).is_empty(), "not even a draft");
    table.append(std::slice::from_ref(&good)).unwrap();
    let error = table.append(&[good]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(error.to_string(), "set: the table already has `window_0` between steps 0 and 50");
    let error = KernelVelocityTable::open(directory.path(), "../x").unwrap_err();
    assert!(error.to_string().starts_with("run: expected"), "{error}");

    let mut table = ErrorBarrierTable::open(directory.path()).unwrap();
    let row = barrier("child-1", 1, 0.5);
    let error = table.append(&[row.clone(), row]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let error = table.append(&[barrier("", 1, 0.5)]).unwrap_err();
    assert_eq!(error.to_string(), "second: expected a name, got none");
    assert_eq!(table.rows(), []);
}

#[test]
fn of_two_who_write_the_same_table_the_second_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let [mut one, mut other] = [(); 2].map(|()| KernelVelocityTable::open(path, "r").unwrap());
    one.append(&[velocity("window_0", 0, 0.5)]).unwrap();
    // It has not seen the row, which may be the very same.
    let error = other.append(&[velocity("window_0", 0, 0.5)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert_eq!(other.rows(), []);
    one.append(&[velocity("window_0", 50, 0.5)]).unwrap();
    assert_eq!(KernelVelocityTable::open(path, "r").unwrap().rows().len(), 2);
    let [mut one, mut other] = [(); 2].map(|()| ErrorBarrierTable::open(path).unwrap());
    one.append(&[barrier("child-1", 1, 0.5)]).unwrap();
    let error = other.append(&[barrier("child-1", 1, 0.5)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
}
