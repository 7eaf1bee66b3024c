//! Batches whose rows follow from their step, and the rows that a run has made visible.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::error::Result;
use crate::observe::{Batch, BatchFormat, Moment, Phase, Targets};
use crate::run::layout::RunLayout;
use crate::run::part::PartReader;
use crate::run::schema::Table;
use crate::run::{Durability, Experiment, IfRunExists, RunMetadata, RunOptions, RunWriter};
use crate::storage::Disk;

/// Rows of every batch.
pub(crate) const ROWS: u64 = 3;
const RUN: &str = "seed-0";

pub(crate) fn format() -> BatchFormat {
    BatchFormat::classes(2).unwrap()
}

/// Every third step is a score pass.
fn phase_of(step: u64) -> Phase {
    if step % 3 == 2 { Phase::Score } else { Phase::Train }
}

/// Every fourth step takes gradient norms.
fn takes_gradients(step: u64) -> bool {
    step % 4 == 3
}

/// The batch of a step: its examples are `step * ROWS` and on.
pub(crate) fn batch(step: u64) -> Batch {
    let examples: Vec<i64> = (step * ROWS..(step + 1) * ROWS).map(|id| id as i64).collect();
    let logits: Vec<f32> = examples.iter().flat_map(|&id| [id as f32, -0.5]).collect();
    let labels: Vec<i64> = examples.iter().map(|id| id % 2).collect();
    let moment = Moment { phase: phase_of(step), step, epoch: (step / 10) as u32 };
    let targets = Targets::Classes(&labels);
    if takes_gradients(step) {
        let norms: Vec<f32> = examples.iter().map(|&id| id as f32 / 2.0).collect();
        return Batch::grand(&format(), moment, &examples, &norms, targets).unwrap();
    }
    Batch::new(&format(), moment, &examples, &logits, targets).unwrap()
}

/// An experiment directory with one run.
#[derive(Debug)]
pub(crate) struct Fixture {
    directory: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn layout(&self) -> RunLayout {
        RunLayout::new(self.path(), RUN, 0).unwrap()
    }

    pub(crate) fn options(&self) -> RunOptions {
        RunOptions {
            experiment: self.path().to_owned(),
            run: RUN.to_owned(),
            rank: 0,
            format: format(),
            seed: None,
            recorded_by: None,
            spawned_from: None,
            existing: IfRunExists::Refuse,
            durability: Durability::Process,
            segment_bytes: u64::MAX,
            publish_interval: Duration::from_secs(3600),
        }
    }

    pub(crate) fn open(&self, disk: Arc<dyn Disk>) -> Result<(RunWriter, RunMetadata)> {
        RunWriter::open(disk, self.options())
    }

    /// Opens the experiment as a user does, which recovers it, and returns the steps whose rows are
    /// visible, once for every row of each table. Panics unless the tables agree with one another and
    /// with what was recorded.
    pub(crate) fn recovered_steps(&self) -> Vec<u64> {
        let experiment = Experiment::open(self.path()).unwrap();
        let verification = experiment.verify(|_| {}).unwrap();
        assert!(verification.findings.is_empty(), "{:?}", verification.findings);
        self.steps()
    }

    /// The visible steps, ascending; each batch has to be there whole, once and in its tables.
    pub(crate) fn steps(&self) -> Vec<u64> {
        let mut all = Vec::new();
        let mut add = |keys: Vec<(i64, i64)>, with_gradients: bool| {
            for rows in keys.chunks(ROWS as usize) {
                let step = rows[0].0;
                let batch = batch(step as u64);
                let expected: Vec<(i64, i64)> =
                    batch.examples.iter().map(|&example| (step, example)).collect();
                assert_eq!(rows, expected);
                assert_eq!(takes_gradients(step as u64), with_gradients);
                all.push(step as u64);
            }
        };
        for phase in Phase::ALL {
            let observed = row_keys(&self.layout(), Table::Observations, phase);
            let logits = row_keys(&self.layout(), Table::Logits, phase);
            assert_eq!(observed, logits, "the tables differ in {phase}");
            add(observed, false);
        }
        add(row_keys(&self.layout(), Table::Grand, Phase::Score), true);
        all.sort_unstable();
        all
    }
}

/// `(step, example)` of every visible row, in the order of the parts.
pub(crate) fn row_keys(layout: &RunLayout, table: Table, phase: Phase) -> Vec<(i64, i64)> {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    let mut keys = Vec::new();
    for (_, path) in layout.parts(table, phase).unwrap() {
        let mut part = PartReader::open(&path, table).unwrap();
        while let Some(batches) = part.next_row_group(None).unwrap() {
            for rows in batches {
                let column = |name| rows.column_by_name(name).unwrap().as_primitive::<Int64Type>();
                let (steps, examples) = (column("step").values(), column("example").values());
                keys.extend(steps.iter().copied().zip(examples.iter().copied()));
            }
        }
    }
    keys
}

/// The bytes of every log of a run.
pub(crate) fn log_files(layout: &RunLayout) -> Vec<(PathBuf, Vec<u8>)> {
    let logs = layout.logs().unwrap().into_iter();
    logs.map(|(_, path)| (path.clone(), std::fs::read(&path).unwrap())).collect()
}
