//! Measures folding observations into scores, and that its memory does not grow with their number.
//!
//! ```text
//! cargo bench --features cli --bench scores            # up to 20 million observations
//! cargo bench --features cli --bench scores -- --full  # up to 100 million
//! cargo bench --features cli --bench scores -- --record DIRECTORY --examples 1000000 --epochs 100
//! ```
//!
//! The last line only records what the first two fold, for `benches/engines/fold.py`.
//!
//! The same 200,000 examples (with `--full` a million) are recorded for 25 and for 100 epochs and
//! folded at every epoch. Reading the same columns and doing nothing with them stands beside it.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cpu_time::ProcessTime;
use data_diet::observe::{Batch, BatchFormat, LogitsFormat, Moment, Phase, Targets};
use data_diet::record::Recorder;
use data_diet::{Experiment, ScoreOptions, ScoreTable};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use crate::measure::{in_turn, median};

mod measure;

const ROUNDS: usize = 3;
const EPOCHS: [u32; 2] = [25, 100];

#[derive(Debug, Default, Serialize, Deserialize)]
struct Measured {
    rows: f64,
    wall_seconds: f64,
    cpu_seconds: f64,
    peak_mib: f64,
}

fn main() {
    if let Some(case) = measure::case() {
        let (kind, path) = case.split_once(':').unwrap();
        let mut measured = run_case(kind, Path::new(path));
        measured.peak_mib = measure::peak_mib();
        return measure::tell(&measured);
    }
    if let Some(path) = argument("--record") {
        let number = |name: &str| argument(name).unwrap().parse().unwrap();
        return record(Path::new(&path), number("--examples"), number("--epochs") as u32);
    }
    let full = std::env::args().any(|argument| argument == "--full");
    let examples = if full { 1_000_000 } else { 200_000 };
    let directory = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let mut cases = Vec::new();
    for epochs in EPOCHS {
        let path = directory.path().join(epochs.to_string());
        record(&path, examples, epochs);
        for kind in ["read", "fold"] {
            cases.push(format!("{kind}:{}", path.display()));
        }
    }
    println!("{examples} examples, one run; medians of {ROUNDS}\n");
    println!(
        "{:<8} {:>7} {:>14} {:>9} {:>9} {:>12} {:>10}",
        "", "epochs", "observations", "wall s", "CPU s", "Mrow/s wall", "peak MiB"
    );
    for (case, runs) in cases.iter().zip(in_turn::<Measured>(ROUNDS, &cases)) {
        let of = |value: fn(&Measured) -> f64| median(runs.iter().map(value));
        let (kind, path) = case.split_once(':').unwrap();
        let epochs = PathBuf::from(path).file_name().unwrap().to_string_lossy().into_owned();
        println!(
            "{kind:<8} {epochs:>7} {:>14} {:>9.2} {:>9.2} {:>12.1} {:>10.0}",
            of(|m| m.rows),
            of(|m| m.wall_seconds),
            of(|m| m.cpu_seconds),
            of(|m| m.rows / 1e6 / m.wall_seconds),
            of(|m| m.peak_mib),
        );
    }
}

/// The value after an argument of this name.
fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn record(path: &Path, examples: usize, epochs: u32) {
    let mut random = StdRng::seed_from_u64(1);
    let mut format = BatchFormat::classes(2).unwrap();
    format.logits = LogitsFormat::Off;
    let mut recorder = Recorder::builder(path, "seed-0", format.clone()).start().unwrap();
    let mut order: Vec<i64> = (0..examples as i64).collect();
    let mut step = 0;
    for epoch in 0..epochs {
        order.shuffle(&mut random);
        for ids in order.chunks(4096) {
            let moment = Moment { phase: Phase::Train, step, epoch };
            let logits: Vec<f32> =
                (0..2 * ids.len()).map(|_| random.random_range(-2.0..2.0)).collect();
            let labels: Vec<i64> = ids.iter().map(|id| id % 2).collect();
            let targets = Targets::Classes(&labels);
            recorder.record(Batch::new(&format, moment, ids, &logits, targets).unwrap()).unwrap();
            step += 1;
        }
    }
    let report = recorder.finish().unwrap();
    report.check().unwrap();
    assert_eq!(report.rows.written, examples as u64 * u64::from(epochs));
}

fn run_case(kind: &str, path: &Path) -> Measured {
    let (wall, cpu) = (Instant::now(), ProcessTime::now());
    let experiment = Experiment::open(path).unwrap();
    let mut rows = 0;
    if kind == "read" {
        let run = experiment.run("seed-0").unwrap();
        for batch in run.observations(Phase::Train, 0).unwrap() {
            rows += black_box(batch.unwrap()).len() as u64;
        }
    } else {
        let output = path.join("scores.parquet");
        let options = ScoreOptions::default();
        let file = ScoreTable::fold_to_file(&experiment, &options, output, |more| rows += more);
        assert!(file.unwrap().examples > 0);
    }
    Measured {
        rows: rows as f64,
        wall_seconds: wall.elapsed().as_secs_f64(),
        cpu_seconds: cpu.elapsed().as_secs_f64(),
        ..Measured::default()
    }
}
