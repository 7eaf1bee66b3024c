//! Rows that can be read while the run goes on.

use candle_core::{Device, Tensor};
use data_diet::observe::Phase;
use data_diet::run::RunStatus;
use data_diet::scores::ScoreRequest;
use data_diet::{Amount, Experiment, Rule, ScoreOptions, ScoreTable};
use data_diet_candle::DataDietHook;

use crate::fixture::{Fixture, some_logits};

fn epoch(hook: &mut DataDietHook, examples: &[i64]) {
    for ids in examples.chunks(4) {
        let labels: Vec<i64> = ids.iter().map(|id| id % 3).collect();
        hook.on_step_end(ids, &some_logits(ids.len(), 3), &labels).unwrap();
    }
    hook.on_epoch_end().unwrap();
    let norms: Vec<f32> = examples.iter().map(|&id| id as f32 + 0.5).collect();
    let labels: Vec<i64> = examples.iter().map(|id| id % 3).collect();
    hook.on_grand_batch(examples, &norms, &labels).unwrap();
}

fn scores(fixture: &Fixture) -> ScoreTable {
    let mut options = ScoreOptions::default();
    options.scores.push(ScoreRequest::grand());
    ScoreTable::fold(&Experiment::open(fixture.path()).unwrap(), &options).unwrap()
}

/// The values of a score, as text so that NaN compares.
fn column(table: &ScoreTable, name: &str) -> String {
    format!("{:?}", table.column(name).unwrap())
}

#[test]
fn a_running_run_is_scored_pruned_and_goes_on() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    let all: Vec<i64> = (0..12).collect();
    for round in 1..=2 {
        epoch(&mut hook, &all);
        hook.publish().unwrap();
        assert_eq!(
            fixture.rows(Phase::Train).len(),
            12 * round,
            "no row is missing or there twice"
        );
        assert_eq!(fixture.run().status(), RunStatus::Running);
    }
    let while_running = scores(&fixture);
    let hardest = while_running.column("grand").unwrap();
    let kept = hardest.select(Rule::Highest(Amount::Count(6))).unwrap();
    let kept: Vec<i64> = kept.examples().collect();
    assert_eq!(kept, [6, 7, 8, 9, 10, 11]);
    // Nothing new, nothing to do.
    hook.publish().unwrap();
    epoch(&mut hook, &kept);
    hook.publish().unwrap();
    assert_eq!(fixture.rows(Phase::Train).len(), 24 + 6);
    hook.finish().unwrap().check().unwrap();

    // A finished run of the first two epochs has the scores that were seen while it ran.
    let whole = Fixture::new();
    let mut hook = whole.hook();
    epoch(&mut hook, &all);
    epoch(&mut hook, &all);
    hook.finish().unwrap().check().unwrap();
    let finished = scores(&whole);
    for name in ["el2n", "el2n_train_epoch_1", "forgetting", "aum", "grand"] {
        assert_eq!(column(&while_running, name), column(&finished, name), "{name}");
    }
}

#[test]
fn a_disabled_hook_publishes_nothing() {
    DataDietHook::disabled().publish().unwrap();
}

#[test]
fn labels_that_change_are_in_the_status() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    let logits = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    hook.on_step_end(&[0, 1], &logits, &[0, 1]).unwrap();
    hook.on_step_end(&[0, 1], &logits, &[0, 2]).unwrap();
    hook.flush().unwrap();
    let status = hook.status();
    assert_eq!((status.labels.examples, status.labels.changed), (2, 1));
    assert!(
        status.to_string().contains("WARNING: 1 of 2 examples changed their label"),
        "{status}"
    );
    hook.finish().unwrap().check().unwrap();
    let resumed = fixture.builder().classes(3).resume_at(2, 0).build().unwrap();
    assert_eq!(resumed.finish().unwrap().labels.changed, 1, "the count goes on");
}
