//! Recorded children of one parent, as their recordings link them.

use std::path::Path;

use candle_core::{DType, Tensor};
use data_diet::geometry::ErrorBarrierTable;
use data_diet_candle::geometry::barrier::{ErrorBarrier, Line, Siblings};
use data_diet_candle::{DataDietHook, Schedule};
use tempfile::TempDir;

use crate::models::{Perceptron, scatter, tensor};

fn model() -> Perceptron {
    Perceptron::new(&[3, 4, 2], DType::F32, 1)
}

/// Records some steps of a run, with its weights after each.
fn record(experiment: &Path, run: &str, steps: u64, parent: Option<(&str, u64)>) {
    let model = model();
    let mut builder = DataDietHook::builder(experiment, run)
        .classes(2)
        .snapshots(&model.variables, Schedule::every_steps(1));
    if let Some((parent, step)) = parent {
        builder = builder.spawned_from(&model.variables, parent, step);
    }
    let mut hook = builder.build().unwrap();
    for step in 0..steps {
        scatter(&model.variables, run.len() as u64 * 100 + step);
        let logits = Tensor::zeros((1, 2), DType::F32, &candle_core::Device::Cpu).unwrap();
        hook.on_step_end(&[0_u32], &logits, &[0_u32]).unwrap();
    }
    hook.finish().unwrap().check().unwrap();
}

fn family() -> TempDir {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    record(path, "parent", 4, None);
    record(path, "child-1", 3, Some(("parent", 2)));
    record(path, "child-22", 5, Some(("parent", 2)));
    record(path, "later", 2, Some(("parent", 3)));
    record(path, "stranger", 2, None);
    directory
}

#[test]
fn children_of_one_parent_find_their_steps() {
    let (directory, model) = (family(), model());
    let siblings = Siblings::open(directory.path(), &["child-1", "child-22"]).unwrap();
    assert_eq!((siblings.parent(), siblings.spawn_step()), ("parent", 2));
    assert_eq!(siblings.last_common_step().unwrap(), 5);
    let params = model.params();
    let inputs = tensor(5, &[6, 3], DType::F32);
    let labels = [0_u32, 1, 0, 1, 0, 1];
    let mut barrier = ErrorBarrier::new(Line::new(&params)).set("all", inputs, &labels, 4).unwrap();
    let mut table = ErrorBarrierTable::open(directory.path()).unwrap();
    let forward = |inputs: &Tensor| model.forward(inputs);
    let at = siblings.branches_at(5).unwrap();
    barrier.run(Some(siblings.spawn_step()), at, forward, &mut table, |_| {}).unwrap();
    let steps = |table: &ErrorBarrierTable| -> Vec<u64> {
        table.rows().iter().map(|row| row.step).collect()
    };
    assert_eq!(steps(&table), [5]);
    barrier.run(Some(2), siblings.branches(), forward, &mut table, |_| {}).unwrap();
    assert_eq!(steps(&table), [5, 2, 3, 4]);
    assert_eq!(table.rows()[1].curve.losses().by_chord().height, 0.0, "where they were the same");
    // The parent passed the same weights, and what it had before is none of the pair's.
    let with_parent = Siblings::open(directory.path(), &["parent", "child-1"]).unwrap();
    assert_eq!(with_parent.last_common_step().unwrap(), 4);
    barrier.run(Some(2), with_parent.branches(), forward, &mut table, |_| {}).unwrap();
    assert_eq!(steps(&table)[4..], [2, 3, 4]);
}

#[test]
fn runs_without_a_common_parent_are_told_apart() {
    let directory = family();
    let message = |runs: &[&str]| Siblings::open(directory.path(), runs).unwrap_err().to_string();
    let what = "runs: expected runs that started from the same weights of one parent, but";
    assert_eq!(
        message(&["child-1", "later", "stranger"]),
        format!(
            "{what} `child-1` with those of `parent` at step 2, `later` with those of `parent` at \
             step 3, `stranger` from its own weights"
        )
    );
    assert_eq!(message(&["stranger"]), format!("{what} `stranger` from its own weights"));
    assert_eq!(message(&[]), format!("{what} there is none"));
    let error = message(&["child-1", "nobody"]);
    let runs = "child-1, child-22, later, parent, stranger";
    assert!(error.ends_with(&format!("has no run `nobody`; there are: {runs}")), "{error}");
}

#[test]
fn a_step_that_a_run_lacks_is_answered_with_those_it_has() {
    let directory = family();
    let siblings = Siblings::open(directory.path(), &["child-1", "child-22"]).unwrap();
    let error = siblings.branches_at(7).unwrap_err().to_string();
    assert_eq!(error, "run `child-1` has no snapshot at step 7; there are: 2, 3, 4, 5");
    std::fs::remove_dir_all(directory.path().join("snapshots/run=child-1")).unwrap();
    let siblings = Siblings::open(directory.path(), &["child-1", "child-22"]).unwrap();
    let error = siblings.branches_at(5).unwrap_err().to_string();
    assert_eq!(error, "run `child-1` has recorded no snapshots");
    assert_eq!(
        siblings.last_common_step().unwrap_err().to_string(),
        "runs: expected a step since 2 at which every run has a snapshot, but `child-1` has none; \
         `child-22` has 2, 3, 4, 5, 6, 7"
    );
}
