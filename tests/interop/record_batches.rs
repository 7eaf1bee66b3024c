//! Records what the Python tests ask for, through the candle hook as a trainer would.
//!
//! Commands come as JSON lines on standard input, each answered by one JSON line on standard output
//! that says `{"ok": ...}` or `{"error": "..."}`. Arrays come as raw little-endian files, as `NumPy`'s
//! `tofile` writes them: ids and labels as `i64`, soft targets as `f32`, logits in the dtype that the
//! command names. `recording.py` is the other end.

#![allow(clippy::print_stdout, reason = "the answers are this program's output")]

mod geometry;

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use std::{fs, io, process, thread};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarMap;
use data_diet_candle::{DataDietHook, LogitsFormat, RunReport, Schedule, Signal};
use serde::Deserialize;
use serde_json::{Value, json};

use geometry::Geometry;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
enum Command {
    /// Starts a run; the one before has to be finished.
    Open(Open),
    /// Records rows in batches.
    Record(Record),
    /// Records the same rows epoch after epoch, until the next line comes.
    Repeat(Repeat),
    /// Answers when everything so far would survive a crash.
    Flush,
    /// Ends the run in order.
    Finish,
    /// Ends the process as a crash does.
    Abort,
    /// Writes rows of the geometry's tables; no run has to be open.
    Geometry(Geometry),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    experiment: PathBuf,
    run: String,
    /// The outputs of one example, whatever the kind.
    classes: usize,
    /// `classes` without it.
    kind: Option<String>,
    examples: Option<u64>,
    signals: Option<Vec<Signal>>,
    logits: Option<LogitsFormat>,
    ignore_index: Option<i64>,
    seed: Option<u64>,
    rank: Option<u32>,
    flush_rows: Option<u64>,
    publish_interval_ms: Option<u64>,
    /// Variables that are recorded before every step.
    #[serde(default)]
    weights: Vec<Weight>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weight {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    values: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pass {
    Train,
    Score,
    HeldOut,
    /// Gradient norms in place of logits.
    Grand,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    phase: Pass,
    step: Option<u64>,
    epoch: Option<u32>,
    /// Rows per batch; all in one without it.
    batch_rows: Option<usize>,
    ids: PathBuf,
    labels: Option<PathBuf>,
    /// The tokens of a sequence: logits are `[rows, tokens, classes]` and labels `[rows, tokens]`.
    tokens: Option<usize>,
    /// Whether there is an id per token.
    #[serde(default)]
    packed: bool,
    soft_targets: Option<PathBuf>,
    logits: PathBuf,
    dtype: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeat {
    rows: Record,
    /// Time between two batches.
    pause_ms: u64,
}

/// The arrays of a [`Record`], loaded once.
struct Rows {
    phase: Pass,
    ids: Vec<i64>,
    /// The tokens of a row, if there is an id per token.
    packed: Option<usize>,
    labels: Tensor,
    logits: Tensor,
    /// Rows per batch.
    batch: usize,
}

fn main() -> Result<()> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut driver = Driver { hook: None, classes: 0 };
    let mut next = lines.recv().ok();
    while let Some(line) = next.take() {
        let answer = match driver.obey(&line?, &lines, &mut next) {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        println!("{answer}");
        io::stdout().flush()?;
        next = next.or_else(|| lines.recv().ok());
    }
    Ok(())
}

struct Driver {
    hook: Option<DataDietHook>,
    classes: usize,
}

impl Driver {
    /// `next` receives the line that ended a repetition, which is a command of its own.
    fn obey(
        &mut self,
        line: &str,
        lines: &Receiver<io::Result<String>>,
        next: &mut Option<io::Result<String>>,
    ) -> Result<Value> {
        match serde_json::from_str(line)? {
            Command::Open(open) => {
                if self.hook.is_some() {
                    return Err("the run before is not finished".into());
                }
                self.classes = open.classes;
                self.hook = Some(open.hook()?);
                Ok(Value::Null)
            }
            Command::Record(record) => {
                let hook = self.hook.as_mut().ok_or("no run is open")?;
                record.set_clock(hook)?;
                let rows = Rows::load(record, self.classes)?;
                for start in rows.starts() {
                    rows.record(hook, start)?;
                }
                Ok(rows.ids.len().into())
            }
            Command::Repeat(Repeat { rows, pause_ms }) => {
                let hook = self.hook.as_mut().ok_or("no run is open")?;
                rows.set_clock(hook)?;
                let rows = Rows::load(rows, self.classes)?;
                let mut recorded = 0;
                loop {
                    for start in rows.starts() {
                        recorded += rows.record(hook, start)?;
                        match lines.recv_timeout(Duration::from_millis(pause_ms)) {
                            Err(RecvTimeoutError::Timeout) => {}
                            line => {
                                *next = line.ok();
                                return Ok(recorded.into());
                            }
                        }
                    }
                    hook.on_epoch_end()?;
                }
            }
            Command::Flush => {
                self.hook.as_mut().ok_or("no run is open")?.flush()?;
                Ok(Value::Null)
            }
            Command::Finish => {
                let hook = self.hook.take().ok_or("no run is open")?;
                Ok(describe(&hook.finish()?))
            }
            Command::Abort => process::abort(),
            Command::Geometry(geometry) => geometry.write().map(Value::from),
        }
    }
}

impl Open {
    fn hook(self) -> Result<DataDietHook> {
        let hook = DataDietHook::builder(self.experiment, self.run);
        let mut hook = match self.kind.as_deref() {
            None | Some("classes") => hook.classes(self.classes),
            Some("tokens") => hook.tokens(self.classes),
            Some("multi_label") => hook.multi_label(self.classes),
            Some("binary") => hook.binary(),
            Some("regression") => hook.regression(self.classes),
            Some(kind) => return Err(format!("kind {kind}").into()),
        };
        if let Some(examples) = self.examples {
            hook = hook.examples(examples);
        }
        if let Some(signals) = self.signals {
            hook = hook.signals(signals);
        }
        if let Some(logits) = self.logits {
            hook = hook.logits(logits);
        }
        if let Some(label) = self.ignore_index {
            hook = hook.ignore_index(label);
        }
        if let Some(seed) = self.seed {
            hook = hook.seed(seed);
        }
        if let Some(rank) = self.rank {
            hook = hook.rank(rank);
        }
        if let Some(rows) = self.flush_rows {
            hook = hook.flush_rows(rows);
        }
        if let Some(interval) = self.publish_interval_ms {
            hook = hook.publish_interval(Duration::from_millis(interval));
        }
        if !self.weights.is_empty() {
            let variables = VarMap::new();
            for weight in self.weights {
                let dtype = dtype(&weight.dtype)?;
                let values = tensor(&weight.values, dtype, &weight.shape)?;
                let mut data = variables.data().lock().map_err(|_poisoned| "the VarMap")?;
                data.insert(weight.name, Var::from_tensor(&values)?);
            }
            hook = hook.snapshots(&variables, Schedule::every_steps(1));
        }
        Ok(hook.build()?)
    }
}

impl Record {
    fn set_clock(&self, hook: &mut DataDietHook) -> Result<()> {
        if let Some(step) = self.step {
            hook.set_step(step)?;
        }
        if let Some(epoch) = self.epoch {
            hook.set_epoch(epoch)?;
        }
        Ok(())
    }
}

impl Rows {
    fn load(record: Record, classes: usize) -> Result<Self> {
        let ids = integers(&record.ids)?;
        let packed = record.tokens.filter(|_| record.packed);
        let rows = ids.len() / packed.unwrap_or(1);
        let labels = match (&record.labels, &record.soft_targets) {
            (Some(labels), None) => match record.tokens {
                Some(tokens) => tensor(labels, DType::I64, &[rows, tokens])?,
                None => tensor(labels, DType::I64, &[rows])?,
            },
            (None, Some(weights)) => tensor(weights, DType::F32, &[rows, classes])?,
            _ => return Err("expected either labels or soft targets".into()),
        };
        let dtype = dtype(&record.dtype)?;
        let shape = match (&record.phase, record.tokens) {
            (Pass::Grand, _) => vec![rows],
            (_, Some(tokens)) => vec![rows, tokens, classes],
            _ => vec![rows, classes],
        };
        let logits = tensor(&record.logits, dtype, &shape)?;
        let batch = record.batch_rows.unwrap_or(rows);
        Ok(Self { phase: record.phase, ids, packed, labels, logits, batch })
    }

    fn rows(&self) -> usize {
        self.ids.len() / self.packed.unwrap_or(1)
    }

    /// The first row of every batch.
    fn starts(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.rows()).step_by(self.batch)
    }

    /// Records one batch, whose logits are a view, and returns its number of rows.
    fn record(&self, hook: &mut DataDietHook, start: usize) -> Result<usize> {
        let rows = self.batch.min(self.rows() - start);
        let per_row = self.packed.unwrap_or(1);
        let ids = &self.ids[start * per_row..(start + rows) * per_row];
        if let Some(tokens) = self.packed {
            let ids = Tensor::from_slice(ids, (rows, tokens), &Device::Cpu)?;
            let (labels, logits) =
                (self.labels.narrow(0, start, rows)?, self.logits.narrow(0, start, rows)?);
            hook.on_step_end(&ids, &logits, &labels)?;
            return Ok(rows);
        }
        let (labels, logits) =
            (self.labels.narrow(0, start, rows)?, self.logits.narrow(0, start, rows)?);
        match self.phase {
            Pass::Train => hook.on_step_end(ids, &logits, &labels)?,
            Pass::Score => hook.on_score_batch(ids, &logits, &labels)?,
            Pass::HeldOut => hook.on_held_out_batch(ids, &logits, &labels)?,
            Pass::Grand => hook.on_grand_batch(ids, &logits, &labels)?,
        }
        Ok(rows)
    }
}

fn dtype(name: &str) -> Result<DType> {
    Ok(name.parse().map_err(|_unknown| format!("dtype {name}"))?)
}

fn integers(path: &Path) -> Result<Vec<i64>> {
    let bytes = fs::read(path)?;
    let (values, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(format!("{}: expected 64-bit integers", path.display()).into());
    }
    Ok(values.iter().map(|&value| i64::from_le_bytes(value)).collect())
}

fn tensor(path: &Path, dtype: DType, shape: &[usize]) -> Result<Tensor> {
    let bytes = fs::read(path)?;
    let expected = shape.iter().product::<usize>() * dtype.size_in_bytes();
    if bytes.len() != expected {
        let got = bytes.len();
        return Err(format!("{}: expected {expected} bytes, got {got}", path.display()).into());
    }
    Ok(Tensor::from_raw_buffer(&bytes, dtype, shape, &Device::Cpu)?)
}

fn describe(report: &RunReport) -> Value {
    json!({ "text": report.to_string(), "status": report.status, "rows": report.rows })
}
