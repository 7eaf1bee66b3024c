//! Experiments for tests, recorded row by row through the public recorder.

use std::path::Path;
use std::time::Duration;

use data_diet::observe::{Batch, BatchFormat, LogitsFormat, Moment, Phase, Targets};
use data_diet::record::{Recorder, RecorderBuilder};
use data_diet::run::RunStatus;

/// One example at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Presented {
    pub(crate) example: i64,
    pub(crate) label: i64,
    pub(crate) logits: Vec<f32>,
}

pub(crate) fn format(classes: usize) -> BatchFormat {
    let mut format = BatchFormat::classes(classes).unwrap();
    format.logits = LogitsFormat::Off;
    format
}

pub(crate) fn builder(experiment: &Path, run: &str, classes: usize) -> RecorderBuilder {
    Recorder::builder(experiment, run, format(classes))
}

/// Publishes every batch as a part of its own, as soon as it comes.
pub(crate) fn in_small_parts(builder: RecorderBuilder) -> RecorderBuilder {
    builder.flush_rows(1).publish_interval(Duration::ZERO)
}

pub(crate) fn record(
    recorder: &mut Recorder,
    phase: Phase,
    step: u64,
    epoch: u32,
    rows: &[Presented],
) {
    let format = recorder.format().clone();
    let examples: Vec<i64> = rows.iter().map(|row| row.example).collect();
    let labels: Vec<i64> = rows.iter().map(|row| row.label).collect();
    let logits: Vec<f32> = rows.iter().flat_map(|row| row.logits.clone()).collect();
    let moment = Moment { phase, step, epoch };
    let batch = Batch::new(&format, moment, &examples, &logits, Targets::Classes(&labels));
    recorder.record(batch.unwrap()).unwrap();
}

/// Ends a recording that nothing has gone wrong with.
pub(crate) fn finish(recorder: Recorder) {
    let report = recorder.finish().unwrap();
    assert_eq!(report.status, RunStatus::Finished, "{report}");
}

/// Makes `run.json` say that a run has another number of classes than it was recorded with.
pub(crate) fn rewrite_outputs(experiment: &Path, run: &str, from: usize, to: usize) {
    let path = experiment.join("_runs").join(run).join("run.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let (old, new) = (format!("\"outputs\": {from}"), format!("\"outputs\": {to}"));
    assert!(text.contains(&old), "{text}");
    std::fs::write(&path, text.replace(&old, &new)).unwrap();
}

/// Twelve examples of three classes over three epochs, in both phases. Example `i` is the easier the
/// lower `i`, and easier from epoch to epoch; `seed` shifts every logit a little.
pub(crate) fn record_twelve(recorder: &mut Recorder, seed: u8) {
    let rows = |epoch: u32| -> Vec<Presented> {
        let row = |example: i64| {
            let label = example % 3;
            let ease = f64::from(epoch) + 1.0 - example as f64 * 0.4 + f64::from(seed) * 0.125;
            let logit = |class| if class == label { ease as f32 } else { 0.0 };
            Presented { example, label, logits: (0..3).map(logit).collect() }
        };
        (0..12).map(row).collect()
    };
    for epoch in 0..3 {
        let rows = rows(epoch);
        for (batch, rows) in rows.chunks(4).enumerate() {
            record(recorder, Phase::Train, u64::from(epoch) * 3 + batch as u64, epoch, rows);
        }
        record(recorder, Phase::Score, u64::from(epoch) * 3 + 3, epoch + 1, &rows);
    }
}

/// A finished run of twelve examples.
pub(crate) fn finished(experiment: &Path, run: &str, seed: u8) {
    let mut recorder = builder(experiment, run, 3).start().unwrap();
    record_twelve(&mut recorder, seed);
    finish(recorder);
}
