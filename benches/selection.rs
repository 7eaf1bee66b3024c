//! Measures choosing examples by a score: reading one score of a table on disk, keeping the highest
//! half, and asking for every example whether it is kept, as a data loader does.
//!
//! ```text
//! cargo bench --features cli --bench selection            # 1 and 10 million examples
//! cargo bench --features cli --bench selection -- --full  # and 100 million
//! ```
//!
//! The table has a second score, which is not read. Reading the same score and doing nothing with it
//! stands beside the rules.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use data_diet::selection::{Classes, ScoreColumn};
use data_diet::{Amount, Rule};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::measure::{in_turn, median};

mod measure;

const KINDS: [&str; 5] = ["read", "highest", "random", "stratified", "balanced"];
const CLASSES: i32 = 1000;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Measured {
    read_seconds: f64,
    select_seconds: f64,
    member_seconds: f64,
    peak_mib: f64,
}

fn main() {
    if let Some(case) = measure::case() {
        let (kind, path) = case.split_once(':').unwrap();
        let mut measured = run_case(kind, Path::new(path));
        measured.peak_mib = measure::peak_mib();
        return measure::tell(&measured);
    }
    let full = std::env::args().any(|argument| argument == "--full");
    let directory = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    println!("one score of a table, {CLASSES} classes, half of the examples kept; medians\n");
    println!(
        "{:<12} {:>12} {:>9} {:>9} {:>12} {:>10}",
        "", "examples", "read s", "select s", "members s", "peak MiB"
    );
    for examples in [1_000_000, 10_000_000, 100_000_000] {
        let rounds = match examples {
            100_000_000 if !full => continue,
            100_000_000 => 1,
            _ => 3,
        };
        let path = directory.path().join(format!("{examples}.parquet"));
        write(&path, examples);
        let cases: Vec<String> =
            KINDS.iter().map(|kind| format!("{kind}:{}", path.display())).collect();
        for (kind, runs) in KINDS.iter().zip(in_turn::<Measured>(rounds, &cases)) {
            let of = |value: fn(&Measured) -> f64| median(runs.iter().map(value));
            println!(
                "{kind:<12} {examples:>12} {:>9.2} {:>9.2} {:>12.2} {:>10.0}",
                of(|m| m.read_seconds),
                of(|m| m.select_seconds),
                of(|m| m.member_seconds),
                of(|m| m.peak_mib),
            );
        }
        std::fs::remove_file(&path).unwrap();
    }
}

fn write(path: &Path, examples: i64) {
    let mut random = StdRng::seed_from_u64(1);
    let field = |name: &str, kind| Field::new(name, kind, false);
    let schema = Arc::new(Schema::new(vec![
        field("example", DataType::Int64),
        field("label", DataType::Int32),
        field("el2n_mean", DataType::Float64),
        field("forgetting_mean", DataType::Float64),
    ]));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(131_072))
        .build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).unwrap();
    let mut start = 0;
    while start < examples {
        let rows = (examples - start).min(131_072);
        let ids = Int64Array::from_iter_values(start..start + rows);
        let label = |_| random.random_range(0..CLASSES);
        let labels = Int32Array::from_iter_values((0..rows).map(label));
        let score = |_| random.random_range(0.0..1.4_f64);
        let el2n = Float64Array::from_iter_values((0..rows).map(score));
        let event = |_| f64::from(random.random_range(0..5_u8));
        let forgetting = Float64Array::from_iter_values((0..rows).map(event));
        let columns: Vec<ArrayRef> =
            vec![Arc::new(ids), Arc::new(labels), Arc::new(el2n), Arc::new(forgetting)];
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()).unwrap();
        start += rows;
    }
    writer.close().unwrap();
}

fn run_case(kind: &str, path: &Path) -> Measured {
    let clock = Instant::now();
    let column = ScoreColumn::read(path, "el2n").unwrap();
    let examples = column.examples().len();
    let read_seconds = clock.elapsed().as_secs_f64();
    let amount = Amount::Fraction(0.5);
    let (rule, classes) = match kind {
        "highest" => (Rule::Highest(amount), Classes::Ignored),
        "random" => (Rule::Random { amount, seed: 0 }, Classes::Ignored),
        "stratified" => (Rule::Stratified { amount, strata: 50, seed: 0 }, Classes::Ignored),
        "balanced" => (Rule::Highest(amount), Classes::Balanced),
        _ => {
            black_box(column);
            return Measured { read_seconds, ..Measured::default() };
        }
    };
    let clock = Instant::now();
    let selection = column.select_with_classes(rule, classes).unwrap();
    let select_seconds = clock.elapsed().as_secs_f64();
    assert_eq!(selection.len(), examples / 2);
    let clock = Instant::now();
    let members = (0..examples as i64).filter(|&example| selection.contains(example)).count();
    assert_eq!(members, examples / 2);
    let member_seconds = clock.elapsed().as_secs_f64();
    Measured { read_seconds, select_seconds, member_seconds, peak_mib: 0.0 }
}
