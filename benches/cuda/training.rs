//! The same training steps without the hook, with the hook in several settings, and with the logits
//! read back by hand.

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::{Result, Tensor};
use candle_nn::loss::cross_entropy;
use candle_nn::{Optimizer, SGD};
use cpu_time::ProcessTime;
use data_diet_candle::{DataDietHook, LogitsFormat, Schedule, Signal};
use serde::Serialize;
use tempfile::TempDir;

use crate::measure::median;
use crate::network::{CLASSES, Network, Sizes};

const SIGNALS: [Signal; 3] = [Signal::El2n, Signal::Loss, Signal::Margin];
/// Rounds in which every way has its turn, beside one that does not count.
const ROUNDS: usize = 5;
/// The fewest steps of a turn.
const LEAST_STEPS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Bare,
    Signals,
    Logits,
    Snapshots,
    Naive,
}

impl Way {
    const ALL: [Self; 5] = [Self::Bare, Self::Signals, Self::Logits, Self::Snapshots, Self::Naive];

    fn name(self, steps: usize) -> String {
        match self {
            Self::Bare => "nothing".to_owned(),
            Self::Signals => "hook, signals".to_owned(),
            Self::Logits => "hook, signals and logits".to_owned(),
            Self::Snapshots => format!("hook, signals, weights every {steps} steps"),
            Self::Naive => "`to_vec2` of the logits".to_owned(),
        }
    }

    /// What crosses the bus for a step, by arithmetic, with ids on the host and class indices on the
    /// device: per row each signal in `f32`, a label of 8 bytes and a status of 1, each column filled up
    /// to 8 bytes; every logit in `f32`; the weights, spread over the steps between two snapshots.
    fn bytes(self, network: &Network, steps: usize) -> usize {
        let rows = network.batch();
        let logits = rows * 4 * CLASSES;
        let columns = [rows * 8, rows * 4 * SIGNALS.len(), rows];
        let signals: usize = columns.map(|bytes| bytes.next_multiple_of(8)).iter().sum();
        match self {
            Self::Bare => 0,
            Self::Signals => signals,
            Self::Logits => signals + logits,
            Self::Snapshots => signals + network.weight_bytes() / steps,
            Self::Naive => logits,
        }
    }
}

/// One way of one network.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    network: &'static str,
    batch: usize,
    way: String,
    steps: usize,
    rounds: usize,
    /// Medians of rounds, in milliseconds.
    step_ms: f64,
    cpu_ms: f64,
    /// The median over the rounds of a round's time through that of the same round with nothing.
    ratio: f64,
    /// Microseconds of the training thread in the call: median and 99th percentile of all steps.
    call_us: Option<(f64, f64)>,
    /// By arithmetic, not measured.
    computed_bytes: usize,
}

/// Everything that a way needs, and what it has taken so far.
struct Contestant {
    way: Way,
    hook: DataDietHook,
    /// Holds what the hook writes.
    _directory: TempDir,
    /// Of each round, per step, in milliseconds.
    wall: Vec<f64>,
    cpu: Vec<f64>,
    calls: Vec<Duration>,
}

pub(crate) fn heading() {
    println!(
        "Milliseconds per training step, medians of rounds in which every way has its turn; the ratio \
         is to the same round with nothing. Microseconds that the training thread spends in the call. \
         Bytes over the bus per step are computed, not measured.\n"
    );
    println!("| network | recorded | ms | ratio | CPU ms | call, median | call, p99 | bytes |");
    println!("|---|---|--:|--:|--:|--:|--:|--:|");
}

pub(crate) fn measure(network: &Network, sizes: Sizes) -> Vec<Measured> {
    let mut optimizer = SGD::new(network.weights.all_vars(), 1e-3).unwrap();
    let mut trial = Contestant::new(Way::Bare, network, LEAST_STEPS);
    trial.turn(network, &mut optimizer, LEAST_STEPS).unwrap();
    trial.turn(network, &mut optimizer, LEAST_STEPS).unwrap();
    let turns = (ROUNDS + 1) * Way::ALL.len();
    let affordable = sizes.seconds * 1e3 / trial.wall[1] / turns as f64;
    let steps = (affordable as usize).clamp(LEAST_STEPS, sizes.steps);
    let mut all = Way::ALL.map(|way| Contestant::new(way, network, steps));
    for round in 0..=ROUNDS {
        // Rotated, so that no contestant is always first.
        for place in 0..all.len() {
            let contestant = &mut all[(round + place) % Way::ALL.len()];
            contestant.turn(network, &mut optimizer, steps).unwrap();
        }
        if round == 0 {
            all.iter_mut().for_each(Contestant::forget);
        }
    }
    let bare = all[0].wall.clone();
    all.map(|contestant| contestant.finish(network, steps, &bare)).into()
}

impl Contestant {
    fn new(way: Way, network: &Network, steps: usize) -> Self {
        let directory = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
        let logits = if way == Way::Logits { LogitsFormat::F32 } else { LogitsFormat::Off };
        let builder = DataDietHook::builder(directory.path(), "bench").classes(CLASSES);
        let builder = builder.signals(SIGNALS).logits(logits);
        let hook = match way {
            Way::Bare | Way::Naive => DataDietHook::disabled(),
            Way::Signals | Way::Logits => builder.build().unwrap(),
            Way::Snapshots => {
                let schedule = Schedule::every_steps(steps as u64);
                builder.snapshots(&network.weights, schedule).build().unwrap()
            }
        };
        let (wall, cpu, calls) = (Vec::new(), Vec::new(), Vec::new());
        Self { way, hook, _directory: directory, wall, cpu, calls }
    }

    /// A turn: so many steps, between two moments at which the device has nothing to do.
    fn turn(&mut self, network: &Network, optimizer: &mut SGD, steps: usize) -> Result<()> {
        let device = network.inputs.device();
        let ids: Vec<i64> = (0..network.batch() as i64).collect();
        device.synchronize()?;
        let (wall, cpu) = (Instant::now(), ProcessTime::now());
        for _ in 0..steps {
            let logits = network.forward(&network.inputs, true)?;
            optimizer.backward_step(&cross_entropy(&logits, &network.labels)?)?;
            let since = Instant::now();
            self.call(&ids, &logits, &network.labels)?;
            self.calls.push(since.elapsed());
        }
        device.synchronize()?;
        let per_step = |time: Duration| time.as_secs_f64() * 1e3 / steps as f64;
        self.wall.push(per_step(wall.elapsed()));
        self.cpu.push(per_step(cpu.elapsed()));
        // The next contestant must not pay for what this one has left to write.
        Ok(self.hook.flush()?)
    }

    fn call(&mut self, ids: &[i64], logits: &Tensor, labels: &Tensor) -> Result<()> {
        match self.way {
            Way::Bare => {}
            Way::Naive => drop(black_box(logits.to_vec2::<f32>()?)),
            _ => self.hook.on_step_end(ids, logits, labels)?,
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.wall.clear();
        self.cpu.clear();
        self.calls.clear();
    }

    fn finish(mut self, network: &Network, steps: usize, bare: &[f64]) -> Measured {
        self.hook.finish().unwrap().check().unwrap();
        self.calls.sort_unstable();
        let microseconds = |place: usize| self.calls[place].as_secs_f64() * 1e6;
        let last = self.calls.len() - 1;
        let measured = Measured {
            network: network.name,
            batch: network.batch(),
            way: self.way.name(steps),
            steps,
            rounds: self.wall.len(),
            step_ms: median(self.wall.iter().copied()),
            cpu_ms: median(self.cpu.iter().copied()),
            ratio: median(self.wall.iter().zip(bare).map(|(wall, bare)| wall / bare)),
            call_us: (self.way != Way::Bare)
                .then(|| (microseconds(last / 2), microseconds(last * 99 / 100))),
            computed_bytes: self.way.bytes(network, steps),
        };
        measured.print();
        measured
    }
}

impl Measured {
    fn print(&self) {
        let call = match self.call_us {
            Some((half, most)) => format!("{half:.1} | {most:.1}"),
            None => "- | -".to_owned(),
        };
        println!(
            "| {}, batch {} | {} | {:.3} | {:.3} | {:.3} | {call} | {} |",
            self.network,
            self.batch,
            self.way,
            self.step_ms,
            self.ratio,
            self.cpu_ms,
            self.computed_bytes
        );
    }
}
