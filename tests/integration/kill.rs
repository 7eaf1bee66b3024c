//! SIGKILL at any instant: what a recording process that dies leaves behind, and what a reader beside
//! a living one sees.

use std::path::Path;
use std::time::Duration;

use data_diet::observe::Phase;
use data_diet::run::RunStatus;
use data_diet::{ErrorKind, Experiment};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{
    Directory, Recording, Row, Training, directory_of_child, observations, say, table,
};

const TRAINING: Training = Training { classes: 3, batch_rows: 16, epoch_steps: 40 };
const FLUSH_ROWS: u64 = 100;
/// Batches that may wait in the queue.
const QUEUE: usize = 4;
/// Batches after which the child asks for a flush itself.
const ASKED_FLUSH: u64 = 32;
const LAST: u64 = 1_000_000;

/// What the child does until it is killed: records, and tells after every batch that it was handed
/// over, and after a flush what is safe.
fn record(directory: &Path, segment_bytes: u64) {
    let queue_bytes = QUEUE * TRAINING.batch(0).bytes();
    let mut recorder = data_diet::record::Recorder::builder(
        directory.join("experiment"),
        "seed-0",
        TRAINING.format(),
    )
    .flush_rows(FLUSH_ROWS)
    .flush_interval(Duration::from_secs(3600))
    .segment_bytes(segment_bytes)
    .queue_bytes(queue_bytes)
    .start()
    .unwrap();
    say("started");
    for index in 0..LAST {
        recorder.record(TRAINING.batch(index)).unwrap();
        say(&format!("handed over {}", index + 1));
        if (index + 1) % ASKED_FLUSH == 0 {
            recorder.flush().unwrap();
            say(&format!("flushed {}", index + 1));
        }
    }
}

#[test]
#[ignore = "the child of the tests of this file"]
fn child_with_large_segments() {
    if let Some(directory) = directory_of_child() {
        record(&directory, 1 << 20);
    }
}

#[test]
#[ignore = "the child of the tests of this file"]
fn child_that_publishes_all_the_time() {
    if let Some(directory) = directory_of_child() {
        record(&directory, 1);
    }
}

/// The highest number of batches that the child said it had handed over, and had flushed.
#[derive(Debug, Default)]
struct Told {
    handed_over: u64,
    flushed: u64,
}

impl Told {
    fn hear(&mut self, text: &str) {
        let number = |what: &str| text.strip_prefix(what)?.trim().parse().ok();
        self.handed_over = self.handed_over.max(number("handed over").unwrap_or(0));
        self.flushed = self.flushed.max(number("flushed").unwrap_or(0));
    }
}

/// Opens what a kill left and checks everything that recovery promises. Returns the batches that
/// survived.
fn check(directory: &Directory, told: &Told) -> u64 {
    let path = directory.experiment();
    let experiment = match Experiment::open(&path) {
        Ok(experiment) => experiment,
        Err(error) => {
            // Killed before there was a run at all.
            assert_eq!((error.kind(), told.handed_over), (ErrorKind::NotFound, 0), "{error}");
            return 0;
        }
    };
    assert!(experiment.recovered().iter().all(|run| !run.damaged), "{:?}", experiment.recovered());
    if experiment.runs().unwrap().is_empty() {
        assert_eq!(told.handed_over, 0);
        return 0;
    }
    let run = experiment.run("seed-0").unwrap();
    assert_eq!(run.status(), RunStatus::Failed);
    let rows = |phase| run.rows(phase).unwrap();
    let total = rows(Phase::Train) + rows(Phase::Score);
    let batch = TRAINING.batch_rows as u64;
    assert_eq!(total % batch, 0, "a batch was torn");
    let batches = total / batch;
    assert!(batches >= told.flushed, "{told:?}, but only {batches} survived");
    // Beyond what was flushed: the rows below a flush's size, those in the queue, and the batch in hand.
    let at_risk = FLUSH_ROWS.div_ceil(batch) + QUEUE as u64 + 1;
    assert!(batches + at_risk >= told.handed_over, "{told:?}, but only {batches} survived");
    for phase in Phase::ALL {
        let expected = TRAINING.phase_rows(phase, batches);
        assert_eq!(table(&path, "logits", "seed-0", phase), expected, "logits, {phase}");
        let observed = observations(&experiment, "seed-0", phase).unwrap();
        let keys = |row: &Row| (row.step, row.epoch, row.example, row.label);
        assert!(observed.iter().map(keys).eq(expected.iter().map(keys)), "observations, {phase}");
    }
    let verification = experiment.verify(|_| {}).unwrap();
    assert!(verification.findings.is_empty(), "{:?}", verification.findings);
    assert_eq!(verification.rows, 2 * total);
    batches
}

/// Kills children at moments spread over what they say, from before the first word on.
fn kill_at_random_moments(child: &str, kills: u64, seed: u64) {
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut survived = 0;
    for kill in 0..kills {
        let directory = Directory::new();
        let mut recording = Recording::start(child, directory.path());
        let mut told = Told::default();
        // A number of words brings the child to a place in its work, spinning to an instant within it.
        let words = if kill < 5 { kill } else { random.random_range(0..300) };
        for _ in 0..words {
            told.hear(&recording.hear().expect("the child ended by itself"));
        }
        for _ in 0..random.random_range(0..100_000) {
            std::hint::spin_loop();
        }
        if kill == 0 {
            // Somewhere in the start of the process.
            std::thread::sleep(Duration::from_micros(random.random_range(0..20_000)));
        }
        for text in recording.kill() {
            told.hear(&text);
        }
        survived += check(&directory, &told);
    }
    assert!(survived > kills, "the children were killed before they did anything");
}

#[test]
fn a_kill_between_flushes_loses_no_flushed_row() {
    kill_at_random_moments("kill::child_with_large_segments", 25, 0xd1e7);
}

#[test]
fn a_kill_during_publication_loses_no_flushed_row() {
    kill_at_random_moments("kill::child_that_publishes_all_the_time", 25, 0x5eed);
}

#[test]
fn a_kill_during_recovery_is_recovered_from() {
    // Recovery in a child that is killed as well, again and again, before it is let through.
    let directory = Directory::new();
    let mut recording = Recording::start("kill::child_with_large_segments", directory.path());
    let mut told = Told::default();
    while told.flushed < 20 * ASKED_FLUSH {
        told.hear(&recording.hear().unwrap());
    }
    recording.kill().iter().for_each(|text| told.hear(text));
    for delay in 0..20 {
        let mut recovery = Recording::start("kill::child_that_recovers", directory.path());
        assert_eq!(recovery.hear().as_deref(), Some("begins"));
        for _ in 0..delay * 20_000 {
            std::hint::spin_loop();
        }
        recovery.kill();
    }
    check(&directory, &told);
}

#[test]
#[ignore = "the child of the tests of this file"]
fn child_that_recovers() {
    if let Some(directory) = directory_of_child() {
        say("begins");
        Experiment::open(directory.join("experiment")).unwrap();
    }
}

#[test]
fn a_reader_beside_a_recorder_sees_a_growing_prefix() {
    let directory = Directory::new();
    let path = directory.experiment();
    let mut recording =
        Recording::start("kill::child_that_publishes_all_the_time", directory.path());
    assert_eq!(recording.hear().as_deref(), Some("started"));
    let mut seen = [0, 0];
    let mut looks = 0;
    // The child fills its pipe and stops unless somebody listens.
    let listener = std::thread::scope(|scope| {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let listener = scope.spawn(move || {
            let mut told = Told::default();
            while is_done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                told.hear(&recording.hear().expect("the child ended by itself"));
            }
            recording.kill().iter().for_each(|text| told.hear(text));
            told
        });
        while looks < 30 || seen.iter().any(|&rows| rows < 200) {
            let experiment = Experiment::open(&path).unwrap();
            assert!(experiment.recovered().is_empty(), "a living run was taken for a dead one");
            for (phase, seen) in Phase::ALL.into_iter().zip(&mut seen) {
                let rows = observations(&experiment, "seed-0", phase).unwrap();
                assert!(rows.len() >= *seen, "{phase}: {} rows after {seen}", rows.len());
                let wanted = (0..).filter(|&index| TRAINING.moment(index).phase == phase);
                let expected = wanted.flat_map(|index| TRAINING.rows(index));
                let keys = |row: &Row| (row.step, row.epoch, row.example, row.label);
                assert!(rows.iter().zip(expected).all(|(row, wanted)| keys(row) == keys(&wanted)));
                *seen = rows.len();
            }
            looks += 1;
        }
        drop(done);
        listener.join().unwrap()
    });
    check(&directory, &listener);
}
