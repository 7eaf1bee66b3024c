//! SIGKILL while weights are recorded: whole snapshots or none, and every flushed one.

use std::path::Path;

use data_diet::Experiment;
use data_diet::observe::{Snapshot, SnapshotTensor, TensorValues};
use data_diet::record::Recorder;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Directory, Recording, Training, directory_of_child, say};

const TRAINING: Training = Training { classes: 3, batch_rows: 16, epoch_steps: 40 };
/// More than one chunk of a tensor.
const ELEMENTS: usize = 300_000;

fn snapshot(step: u64) -> Snapshot {
    let values = (0..ELEMENTS).map(|element| (element as f32).sin() + step as f32).collect();
    let weight = SnapshotTensor::new("weight", vec![ELEMENTS], TensorValues::F32(values));
    let bias = SnapshotTensor::new("bias", vec![1], TensorValues::I64(vec![step as i64]));
    Snapshot::new(step, 0, vec![weight.unwrap(), bias.unwrap()]).unwrap()
}

#[test]
#[ignore = "the child of the test of this file"]
fn child_that_records_weights() {
    let Some(directory) = directory_of_child() else { return };
    let experiment = directory.join("experiment");
    let mut recorder = Recorder::builder(experiment, "seed-0", TRAINING.format())
        .segment_bytes(1)
        .start()
        .unwrap();
    say("started");
    for index in 0..10_000 {
        recorder.record(TRAINING.batch(index)).unwrap();
        let step = TRAINING.moment(index).step;
        if index % 2 == 0 {
            let copied = recorder.record_snapshot(4 * ELEMENTS + 8, |_spare| {
                Ok::<_, data_diet::Error>(snapshot(step))
            });
            assert!(copied.unwrap());
            say(&format!("handed over {step}"));
        }
        if index % 6 == 4 {
            recorder.flush().unwrap();
            say(&format!("flushed {step}"));
        }
    }
}

/// Checks what a kill left, and returns the number of snapshots.
fn check(directory: &Path, flushed: Option<u64>, handed_over: Option<u64>) -> usize {
    let experiment = match Experiment::open(directory.join("experiment")) {
        Ok(experiment) => experiment,
        Err(error) => {
            assert_eq!(handed_over, None, "{error}");
            return 0;
        }
    };
    let verification = experiment.verify(|_| {}).unwrap();
    assert!(verification.findings.is_empty(), "{:?}", verification.findings);
    let Ok(run) = experiment.run("seed-0") else { return 0 };
    let snapshots = run.snapshots().unwrap();
    assert!(flushed <= snapshots.steps().last().copied(), "{flushed:?}, {:?}", snapshots.steps());
    let taken = (0..).filter(|index| index % 2 == 0).map(|index| TRAINING.moment(index).step);
    for (&step, expected) in snapshots.steps().iter().zip(taken) {
        assert_eq!(step, expected, "a snapshot is missing before a later one");
        assert_eq!(snapshots.at(step).unwrap(), snapshot(step));
    }
    snapshots.steps().len()
}

#[test]
fn a_kill_leaves_whole_snapshots_and_every_flushed_one() {
    let seed = 0x5a9;
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut survived = 0;
    for kill in 0..15 {
        let directory = Directory::new();
        let mut child =
            Recording::start("kill_snapshots::child_that_records_weights", directory.path());
        let (mut flushed, mut handed_over) = (None, None);
        let mut hear = |text: &str| {
            let step = |what: &str| text.strip_prefix(what)?.trim().parse::<u64>().ok();
            flushed = step("flushed").or(flushed);
            handed_over = step("handed over").or(handed_over);
        };
        for _ in 0..if kill < 3 { kill } else { random.random_range(0..40) } {
            hear(&child.hear().expect("the child ended by itself"));
        }
        for _ in 0..random.random_range(0..3_000_000) {
            std::hint::spin_loop();
        }
        child.kill().iter().for_each(|text| hear(text));
        survived += check(directory.path(), flushed, handed_over);
    }
    assert!(survived > 15, "the children were killed before they did anything");
}
