//! Measures what recording costs, beside the same work without it, in one run.
//!
//! ```text
//! cargo bench --features cli --bench recorder
//! ```
//!
//! Every case runs in a process of its own, several times in turn, so that its CPU time and its peak
//! memory are its own; medians are printed, and ratios of medians. Times are noisy on shared machines:
//! trust the ratios.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::fs::{self, File};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Int32Array, Int64Array, RecordBatch,
};
use arrow::datatypes::{DataType, Field, Schema};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, Optimizer, SGD, VarBuilder, VarMap, linear, loss::cross_entropy, seq};
use cpu_time::ProcessTime;
use data_diet::observe::{
    Batch, BatchFormat, ExampleSignals, LogitsFormat, Moment, Phase, Target, Targets,
};
use data_diet::record::Recorder;
use data_diet_candle::DataDietHook;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use crate::measure::{in_turn, median};

mod measure;

const EXAMPLES: usize = 50_000;
const CLASSES: usize = 10;
const EPOCHS: usize = 60;
const ROUNDS: usize = 5;

/// What one run of a case measured.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Measured {
    rows: f64,
    cpu_seconds: f64,
    wall_seconds: f64,
    bytes: f64,
    peak_mib: f64,
    /// Microseconds per step on the training thread: median and 99th percentile.
    step_us: (f64, f64),
    hook_us: (f64, f64),
}

fn main() {
    if let Some(case) = measure::case() {
        let directory = tempfile::tempdir().unwrap();
        let mut measured = run_case(&case, directory.path());
        measured.peak_mib = measure::peak_mib();
        return measure::tell(&measured);
    }
    println!("CPU time of the whole process, less that of the same loop without recording");
    println!("{EXAMPLES} examples, {EPOCHS} epochs, {CLASSES} classes, batches of 256 rows\n");
    println!(
        "{:<34} {:>12} {:>8} {:>10} {:>10}",
        "", "CPU s/Mrow", "ratio", "bytes/row", "peak MiB"
    );
    for logits in ["", "-logits"] {
        let [loop_only, plain, recorder] =
            ["loop", "plain", "recorder"].map(|case| format!("{case}{logits}"));
        let measured = in_turn::<Measured>(ROUNDS, &[&loop_only, &plain, &recorder]);
        let mrows = measured[0][0].rows / 1e6;
        let base = median(measured[0].iter().map(|m| m.cpu_seconds));
        let added =
            |case: usize| (median(measured[case].iter().map(|m| m.cpu_seconds)) - base) / mrows;
        for (case, name) in [(1, "plain ArrowWriter"), (2, "recorder")] {
            println!(
                "{:<34} {:>12.3} {:>8.2} {:>10.2} {:>10.0}",
                format!("{name}{}", logits.replace('-', ", ")),
                added(case),
                added(case) / added(1),
                median(measured[case].iter().map(|m| m.bytes / m.rows)),
                median(measured[case].iter().map(|m| m.peak_mib)),
            );
        }
        println!(
            "{:<34} {:>12} {:>8} {:>10} {:>10.0}",
            "loop alone",
            "-",
            "-",
            "-",
            median(measured[0].iter().map(|m| m.peak_mib))
        );
    }
    println!("\nTraining thread, MLP 784-300-100-10, batch 128, SGD, CPU: microseconds per step\n");
    println!(
        "{:<34} {:>10} {:>10} {:>10} {:>10} {:>8}",
        "", "step p50", "step p99", "hook p50", "hook p99", "hook %"
    );
    let names = ["train-bare", "train-hook", "train-hook-logits", "train-naive"];
    let measured = in_turn::<Measured>(ROUNDS, &names);
    for (name, runs) in names.iter().zip(&measured) {
        let of = |value: fn(&Measured) -> f64| median(runs.iter().map(value));
        let (step, hook) = (of(|m| m.step_us.0), of(|m| m.hook_us.0));
        println!(
            "{name:<34} {step:>10.1} {:>10.1} {hook:>10.1} {:>10.1} {:>8.2}",
            of(|m| m.step_us.1),
            of(|m| m.hook_us.1),
            100.0 * hook / (step - hook),
        );
    }
    let cpu = |case: usize| median(measured[case].iter().map(|m| m.cpu_seconds));
    let wall = |case: usize| median(measured[case].iter().map(|m| m.wall_seconds));
    println!();
    for (case, name) in names.iter().enumerate().skip(1) {
        println!(
            "{name:<34} wall {:.3}x, CPU {:.3}x of train-bare",
            wall(case) / wall(0),
            cpu(case) / cpu(0)
        );
    }
}

fn run_case(case: &str, directory: &Path) -> Measured {
    let with_logits = case.ends_with("-logits");
    match case.trim_end_matches("-logits") {
        "train-bare" => train(directory, Hooked::No),
        "train-hook" => train(directory, Hooked::Yes { with_logits }),
        "train-naive" => train(directory, Hooked::Naive),
        kind => throughput(directory, kind, with_logits),
    }
}

/// Logits like those of a network that learns: the label's grows, noise stays.
struct Source {
    labels: Vec<i64>,
    random: StdRng,
    order: Vec<usize>,
}

impl Source {
    fn new() -> Self {
        let mut random = StdRng::seed_from_u64(1);
        let labels = (0..EXAMPLES).map(|_| random.random_range(0..CLASSES as i64)).collect();
        Self { labels, random, order: (0..EXAMPLES).collect() }
    }

    fn epoch(&mut self, epoch: usize, mut step: impl FnMut(&[i64], &[i64], &[f32])) {
        self.order.shuffle(&mut self.random);
        let order = self.order.clone();
        for rows in order.chunks(256) {
            let ids: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
            let labels: Vec<i64> = rows.iter().map(|&row| self.labels[row]).collect();
            let mut logits = Vec::with_capacity(rows.len() * CLASSES);
            for label in &labels {
                for class in 0..CLASSES as i64 {
                    let learned = if class == *label { 0.1 * epoch as f32 } else { 0.0 };
                    logits.push(learned + self.random.random_range(-2.0..2.0_f32));
                }
            }
            step(&ids, &labels, &logits);
        }
    }
}

fn throughput(directory: &Path, kind: &str, with_logits: bool) -> Measured {
    let mut source = Source::new();
    let mut format = BatchFormat::classes(CLASSES).unwrap();
    format.logits = if with_logits { LogitsFormat::F32 } else { LogitsFormat::Off };
    let mut recorder = (kind == "recorder")
        .then(|| Recorder::builder(directory, "bench", format.clone()).start().unwrap());
    let mut plain = (kind == "plain").then(|| Plain::new(directory, with_logits));
    let (wall, cpu) = (Instant::now(), ProcessTime::now());
    let mut step = 0;
    for epoch in 0..EPOCHS {
        source.epoch(epoch, |ids, labels, logits| {
            let moment = Moment { phase: Phase::Train, step, epoch: epoch as u32 };
            if let Some(plain) = &mut plain {
                plain.write(moment, ids, labels, logits);
            } else {
                let targets = Targets::Classes(labels);
                let batch = Batch::new(&format, moment, ids, logits, targets).unwrap();
                match &mut recorder {
                    Some(recorder) => recorder.record(batch).unwrap(),
                    None => drop(black_box(batch)),
                }
            }
            step += 1;
        });
    }
    if let Some(plain) = plain {
        plain.close();
    }
    if let Some(recorder) = recorder {
        let report = recorder.finish().unwrap();
        assert_eq!(report.rows.written as usize, EXAMPLES * EPOCHS);
    }
    Measured {
        rows: (EXAMPLES * EPOCHS) as f64,
        cpu_seconds: cpu.elapsed().as_secs_f64(),
        wall_seconds: wall.elapsed().as_secs_f64(),
        bytes: parquet_bytes(directory) as f64,
        ..Measured::default()
    }
}

/// What a trainer would write by hand: the same tables, types and properties, written at once.
struct Plain {
    observations: Table,
    logits: Option<Table>,
}

type Table = (ArrowWriter<File>, Arc<Schema>);

impl Plain {
    fn new(directory: &Path, with_logits: bool) -> Self {
        let create = |name: &str, fields: Vec<Field>| {
            let file = File::create(directory.join(name)).unwrap();
            let schema = Arc::new(Schema::new(fields));
            (ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties())).unwrap(), schema)
        };
        let keys = || {
            vec![
                Field::new("step", DataType::Int64, false),
                Field::new("epoch", DataType::Int32, false),
                Field::new("example", DataType::Int64, false),
                Field::new("label", DataType::Int32, false),
            ]
        };
        let mut observations = keys();
        observations.push(Field::new("correct", DataType::Boolean, false));
        for signal in ["el2n", "loss", "margin"] {
            observations.push(Field::new(signal, DataType::Float32, false));
        }
        let mut logits = keys();
        logits.push(Field::new("logits", list_type(), false));
        Self {
            observations: create("observations.parquet", observations),
            logits: with_logits.then(|| create("logits.parquet", logits)),
        }
    }

    fn write(&mut self, moment: Moment, ids: &[i64], labels: &[i64], logits: &[f32]) {
        let signals: Vec<ExampleSignals> = logits
            .chunks(CLASSES)
            .zip(labels)
            .map(|(logits, &label)| ExampleSignals::compute(logits, Target::Class(label as usize)))
            .collect();
        let keys: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![moment.step as i64; ids.len()])),
            Arc::new(Int32Array::from(vec![moment.epoch as i32; ids.len()])),
            Arc::new(Int64Array::from(ids.to_vec())),
            Arc::new(labels.iter().map(|&label| Some(label as i32)).collect::<Int32Array>()),
        ];
        let float = |value: fn(&ExampleSignals) -> f32| -> ArrayRef {
            Arc::new(Float32Array::from(signals.iter().map(value).collect::<Vec<_>>()))
        };
        let mut columns = keys.clone();
        let correct = signals.iter().map(|signals| Some(signals.correct));
        columns.push(Arc::new(correct.collect::<BooleanArray>()));
        columns.extend([float(|s| s.el2n), float(|s| s.loss), float(|s| s.margin)]);
        write_columns(&mut self.observations, columns);
        if let Some(writer) = &mut self.logits {
            let DataType::FixedSizeList(item, length) = list_type() else { unreachable!() };
            let values = Arc::new(Float32Array::from(logits.to_vec()));
            let list = FixedSizeListArray::try_new(item, length, values, None).unwrap();
            let mut columns = keys;
            columns.push(Arc::new(list));
            write_columns(writer, columns);
        }
    }

    fn close(self) {
        self.observations.0.close().unwrap();
        if let Some(logits) = self.logits {
            logits.0.close().unwrap();
        }
    }
}

fn write_columns((writer, schema): &mut Table, columns: Vec<ArrayRef>) {
    writer.write(&RecordBatch::try_new(Arc::clone(schema), columns).unwrap()).unwrap();
}

fn list_type() -> DataType {
    let item = Arc::new(Field::new("element", DataType::Float32, false));
    DataType::FixedSizeList(item, CLASSES as i32)
}

/// The encodings of the recorder's tables.
fn properties() -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(parquet::basic::ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(131_072))
        .set_data_page_row_count_limit(usize::MAX)
        .set_data_page_size_limit(32 << 20)
        .set_column_dictionary_enabled("label".into(), true);
    for column in ["step", "epoch", "example"] {
        builder = builder.set_column_encoding(column.into(), Encoding::DELTA_BINARY_PACKED);
    }
    for column in ["el2n", "loss", "margin"] {
        builder = builder.set_column_encoding(column.into(), Encoding::BYTE_STREAM_SPLIT);
    }
    let logits = parquet::schema::types::ColumnPath::new(
        ["logits", "list", "element"].map(String::from).to_vec(),
    );
    builder.set_column_encoding(logits, Encoding::BYTE_STREAM_SPLIT).build()
}

#[derive(Clone, Copy, PartialEq)]
enum Hooked {
    No,
    Yes {
        with_logits: bool,
    },
    /// `to_vec2` of the logits at every step, kept in memory.
    Naive,
}

fn train(directory: &Path, hooked: Hooked) -> Measured {
    const STEPS: usize = 1500;
    const BATCH: usize = 128;
    // glibc's allocator keeps large blocks once it has seen one freed, which changes the time of a
    // step more than the hook does. All cases start in the same state.
    drop(black_box(vec![1_u8; 24 << 20]));
    let device = Device::Cpu;
    let weights = VarMap::new();
    let path = VarBuilder::from_varmap(&weights, DType::F32, &device);
    let model = seq()
        .add(linear(784, 300, path.pp("1")).unwrap())
        .add(|x: &Tensor| x.relu())
        .add(linear(300, 100, path.pp("2")).unwrap())
        .add(|x: &Tensor| x.relu())
        .add(linear(100, 10, path.pp("3")).unwrap());
    let mut optimizer = SGD::new(weights.all_vars(), 0.01).unwrap();
    let images = Tensor::randn(0.0_f32, 1.0, (BATCH, 784), &device).unwrap();
    let labels = Tensor::arange(0_u32, BATCH as u32, &device).unwrap();
    let labels =
        (labels.to_dtype(DType::F32).unwrap() / 12.8).unwrap().to_dtype(DType::U32).unwrap();
    let ids: Vec<u32> = (0..BATCH as u32).collect();
    let mut hook = match hooked {
        Hooked::Yes { with_logits } => DataDietHook::builder(directory, "bench")
            .classes(10)
            .logits(if with_logits { LogitsFormat::F32 } else { LogitsFormat::Off })
            .build()
            .unwrap(),
        Hooked::No | Hooked::Naive => DataDietHook::disabled(),
    };
    let mut kept = Vec::new();
    let (mut steps, mut hooks) = (Vec::new(), Vec::new());
    let (wall, cpu) = (Instant::now(), ProcessTime::now());
    for _ in 0..STEPS {
        let start = Instant::now();
        let logits = model.forward(&images).unwrap();
        optimizer.backward_step(&cross_entropy(&logits, &labels).unwrap()).unwrap();
        let trained = Instant::now();
        hook.on_step_end(&ids, &logits, &labels).unwrap();
        if hooked == Hooked::Naive {
            kept.push(logits.to_vec2::<f32>().unwrap());
        }
        hooks.push(trained.elapsed());
        steps.push(start.elapsed());
    }
    drop(black_box(kept));
    hook.finish().unwrap().check().unwrap();
    Measured {
        rows: (STEPS * BATCH) as f64,
        cpu_seconds: cpu.elapsed().as_secs_f64(),
        wall_seconds: wall.elapsed().as_secs_f64(),
        step_us: percentiles(steps),
        hook_us: percentiles(hooks),
        ..Measured::default()
    }
}

fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e6;
    (at(0.5), at(0.99))
}

fn parquet_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| match path.extension() {
            _ if path.is_dir() => parquet_bytes(&path),
            Some(extension) if extension == "parquet" => path.metadata().unwrap().len(),
            _ => 0,
        })
        .sum()
}
