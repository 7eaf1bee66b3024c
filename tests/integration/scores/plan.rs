//! Random experiments: what a few processes might have recorded of a few runs.

use std::path::Path;

use data_diet::observe::{Phase, Signal};
use data_diet::record::Recorder;
use proptest::prelude::*;

use crate::harness::recorded::{Presented, finish, format, in_small_parts, record};

pub(crate) const CLASSES: usize = 3;

/// One row of the whole experiment, with everything that a score may depend on.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) run: usize,
    pub(crate) rank: usize,
    pub(crate) phase: Phase,
    pub(crate) epoch: u32,
    pub(crate) step: u64,
    /// Its place in the batch.
    pub(crate) position: usize,
    pub(crate) row: Presented,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    runs: Vec<RunPlan>,
    small_parts: bool,
}

#[derive(Clone, Debug)]
struct RunPlan {
    ranks: usize,
    signals: Vec<Signal>,
    moments: Vec<MomentPlan>,
}

/// What all ranks do at one moment: each has a batch of its own, possibly none.
#[derive(Clone, Debug)]
struct MomentPlan {
    phase: Phase,
    epochs_passed: u32,
    batches: Vec<Vec<Presented>>,
}

/// Dense ids, ids near the bounds of the dense part, and hashes. The label follows from the id.
fn presented() -> impl Strategy<Value = Presented> {
    let ids = prop::sample::select(vec![0, 1, 2, 3, 5, 8, 65_535, 65_536, 1 << 40, i64::MAX]);
    // Quarters, so that ties and repeated values are common.
    let quarters = (-8_i8..=8).prop_map(|quarter| f32::from(quarter) / 4.0);
    let logits = prop::collection::vec(quarters, CLASSES);
    let broken = prop::bool::weighted(0.06);
    (ids, logits, broken).prop_map(|(example, mut logits, broken): (i64, _, _)| {
        if broken {
            logits[1] = f32::NAN;
        }
        Presented { example, label: i64::from(example.count_ones()) % CLASSES as i64, logits }
    })
}

fn run_plan() -> impl Strategy<Value = RunPlan> {
    (1_usize..=3).prop_flat_map(|ranks| {
        let batch = prop::collection::vec(presented(), 0..5);
        let batches = prop::collection::vec(batch, ranks);
        let phase = prop::sample::select(Phase::ALL.to_vec());
        let epochs_passed = prop::sample::select(vec![0_u32, 0, 0, 1, 1, 2]);
        let moment = (phase, epochs_passed, batches).prop_map(|(phase, epochs_passed, batches)| {
            MomentPlan { phase, epochs_passed, batches }
        });
        let signals = prop::sample::select(vec![
            Signal::ALL.to_vec(),
            vec![Signal::El2n, Signal::Loss, Signal::Margin],
            vec![Signal::Loss, Signal::Confidence],
        ]);
        let moments = prop::collection::vec(moment, 0..14);
        (signals, moments).prop_map(move |(signals, moments)| RunPlan { ranks, signals, moments })
    })
}

pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let runs = prop::collection::vec(run_plan(), 1..4);
    (runs, any::<bool>()).prop_map(|(runs, small_parts)| Plan { runs, small_parts })
}

impl Plan {
    pub(crate) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Whether a run records a signal, or the loss that confidence is derived from.
    pub(crate) fn records(&self, run: usize, signal: Signal) -> bool {
        let signals = &self.runs[run].signals;
        let from_loss = signal == Signal::Confidence && signals.contains(&Signal::Loss);
        from_loss || signals.contains(&signal)
    }

    /// The same with one run only, which is the first one then.
    pub(crate) fn alone(&self, run: usize) -> Self {
        Self { runs: vec![self.runs[run].clone()], ..self.clone() }
    }

    /// Records the experiment, and returns all its rows.
    pub(crate) fn record(&self, experiment: &Path) -> Vec<Observation> {
        let mut observations = Vec::new();
        for (run, plan) in self.runs.iter().enumerate() {
            let start = |rank| {
                let mut format = format(CLASSES);
                format.signals.clone_from(&plan.signals);
                let builder = Recorder::builder(experiment, name(run), format).rank(rank as u32);
                let builder = if self.small_parts { in_small_parts(builder) } else { builder };
                builder.start().unwrap()
            };
            let mut recorders: Vec<Recorder> = (0..plan.ranks).map(start).collect();
            let (mut step, mut epoch) = (0, 0);
            for MomentPlan { phase, epochs_passed, batches } in &plan.moments {
                epoch += epochs_passed;
                for (rank, rows) in batches.iter().enumerate().filter(|(_, rows)| !rows.is_empty())
                {
                    record(&mut recorders[rank], *phase, step, epoch, rows);
                    let rows = rows.iter().cloned().enumerate();
                    observations.extend(rows.map(|(position, row)| Observation {
                        run,
                        rank,
                        phase: *phase,
                        epoch,
                        step,
                        position,
                        row,
                    }));
                }
                step += u64::from(*phase == Phase::Train);
            }
            for recorder in recorders {
                finish(recorder);
            }
        }
        observations
    }
}

pub(crate) fn name(run: usize) -> String {
    format!("seed-{run}")
}
