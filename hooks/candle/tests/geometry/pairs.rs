//! Barriers between the children of a run in the course of training.

use candle_core::{DType, Tensor};
use data_diet::geometry::barrier::RiskCurve;
use data_diet::geometry::{ErrorBarrierTable, RunningStatistics};
use data_diet_candle::Result;
use data_diet_candle::geometry::barrier::{AlphaGrid, Branch, ErrorBarrier, Line, Risk, curve};
use data_diet_candle::weights::{Params, Weights};
use tempfile::TempDir;

use crate::models::{Perceptron, scatter, tensor};

fn model() -> Perceptron {
    Perceptron::new(&[3, 4, 2], DType::F32, 1)
}

/// Weights of a run at these steps: the same in every run at step 20, where they are spawned.
fn snapshots(run: u64, steps: &[u64]) -> Vec<Weights> {
    let at = |&step: &u64| {
        let other = model();
        scatter(&other.variables, if step == 20 { 7 } else { 1000 * run + step });
        Weights { step, epoch: step as u32 / 10, tensors: other.params().copy().unwrap() }
    };
    steps.iter().map(at).collect()
}

fn branch(run: u64, steps: &[u64]) -> Branch<'static> {
    Branch::new(format!("child-{run}"), snapshots(run, steps).into_iter().map(Ok))
}

fn inputs() -> Tensor {
    tensor(60, &[10, 3], DType::F32)
}

const LABELS: [u32; 10] = [0, 1, 1, 0, 0, 1, 0, 1, 1, 1];

fn barrier(params: &Params) -> ErrorBarrier<'_> {
    let easy = inputs().narrow(0, 0, 4).unwrap();
    ErrorBarrier::new(Line::new(params).grid(AlphaGrid::uniform(4).unwrap()))
        .set("all", inputs(), &LABELS, 3)
        .and_then(|barrier| barrier.set("easy", easy, &LABELS[..4], 100))
        .unwrap()
}

fn expected(params: &Params, model: &Perceptron, runs: [u64; 2], step: u64) -> RiskCurve {
    let [first, second] = runs.map(|run| snapshots(run, &[step]).remove(0).tensors);
    let mut line = Line::new(params).grid(AlphaGrid::uniform(4).unwrap());
    let curve = line.curve(&first, &second, || {
        let mut risk = Risk::default();
        risk.add(&model.forward(&inputs())?, &LABELS)?;
        Ok(risk)
    });
    curve.unwrap()
}

#[test]
fn every_pair_is_measured_at_every_step_that_it_shares() {
    let (directory, model) = (TempDir::new().unwrap(), model());
    let params = model.params();
    let mut table = ErrorBarrierTable::open(directory.path()).unwrap();
    let branches =
        vec![branch(0, &[20, 30, 40]), branch(1, &[20, 25, 30]), branch(2, &[30, 40, 50])];
    let mut told = 0;
    let outcome =
        barrier(&params).run(Some(20), branches, |x| model.forward(x), &mut table, |_| told += 1);
    outcome.unwrap();
    let keys: Vec<(u64, &str, &str, &str)> =
        table.rows().iter().map(|row| (row.step, &*row.first, &*row.second, &*row.set)).collect();
    let pairs = [
        (20, "child-0", "child-1"),
        (30, "child-0", "child-1"),
        (30, "child-0", "child-2"),
        (30, "child-1", "child-2"),
        (40, "child-0", "child-2"),
    ];
    let both = |(step, first, second)| ["all", "easy"].map(|set| (step, first, second, set));
    assert_eq!(keys, pairs.into_iter().flat_map(both).collect::<Vec<_>>());
    assert_eq!(told, 10);
    let row = &table.rows()[4];
    assert_eq!(row.curve.points().len(), 5);
    let expected = expected(&params, &model, [0, 2], 30);
    for (got, expected) in row.curve.points().iter().zip(expected.points()) {
        assert_eq!(got.error, expected.error);
        // In batches of three, the products of matrices may be rounded otherwise.
        assert!((got.loss - expected.loss).abs() < 1e-6);
    }
    assert_eq!((row.examples, row.epoch, row.spawn_step), (10, 3, Some(20)));
    assert_eq!(row.running_statistics, RunningStatistics::Interpolated);
    // Where they were spawned there is none.
    let means = table.means();
    let at = |step: u64, set: &str| {
        means.iter().find(|mean| (mean.step, &*mean.set) == (step, set)).unwrap().clone()
    };
    for set in ["all", "easy"] {
        let spawned = at(20, set);
        assert_eq!((spawned.error_by_chord, spawned.loss_by_chord, spawned.pairs), (0.0, 0.0, 1));
    }
    let rows: Vec<f64> = table
        .rows()
        .iter()
        .filter(|row| (row.step, &*row.set) == (30, "all"))
        .map(|row| row.curve.errors().by_chord().height)
        .collect();
    assert_eq!(at(30, "all").pairs, 3);
    assert!((at(30, "all").error_by_chord - rows.iter().sum::<f64>() / 3.0).abs() < 1e-15);
    assert!(rows.iter().any(|&height| height > 0.0), "{rows:?}");
}

#[test]
fn curves_that_the_table_has_are_not_measured_again() {
    let (directory, model) = (TempDir::new().unwrap(), model());
    let params = model.params();
    let run = |barrier: &mut ErrorBarrier<'_>, steps: &[u64]| {
        let mut table = ErrorBarrierTable::open(directory.path()).unwrap();
        let (mut told, branches) = (Vec::new(), vec![branch(0, steps), branch(1, steps)]);
        let progress =
            |row: &data_diet::geometry::ErrorBarrierRow| told.push((row.step, row.set.clone()));
        barrier.run(None, branches, |x| model.forward(x), &mut table, progress).unwrap();
        told
    };
    assert_eq!(run(&mut barrier(&params), &[20, 30]).len(), 4);
    let all = |step| ["all", "easy"].map(|set| (step, set.to_owned()));
    assert_eq!(run(&mut barrier(&params), &[20, 25, 30]), all(25));
    assert!(run(&mut barrier(&params), &[20, 25, 30]).is_empty());
    let passes = || Ok(());
    let line = Line::new(&params).reestimate_batch_norm(passes);
    let mut anew = ErrorBarrier::new(line).set("all", inputs(), &LABELS, 10).unwrap();
    assert_eq!(run(&mut anew, &[30]), [(30, "all".to_owned())]);
    let table = ErrorBarrierTable::open(directory.path()).unwrap();
    assert_eq!(table.rows()[6].running_statistics, RunningStatistics::Reestimated);
}

#[test]
fn refusals_name_the_argument() {
    let (directory, model) = (TempDir::new().unwrap(), model());
    let params = model.params();
    let mut table = ErrorBarrierTable::open(directory.path()).unwrap();
    let mut refusal = |spawn_step, branches: Vec<Branch<'_>>| {
        let mut barrier = barrier(&params);
        let outcome = barrier.run(spawn_step, branches, |x| model.forward(x), &mut table, |_| {});
        outcome.unwrap_err().to_string()
    };
    let error = refusal(None, vec![branch(0, &[1])]);
    assert_eq!(error, "branches: expected at least 2 runs, got 1");
    let error = refusal(None, vec![branch(0, &[1]), branch(0, &[1])]);
    assert_eq!(error, "branches: two runs are named `child-0`");
    let error = refusal(None, vec![branch(0, &[1, 3]), branch(1, &[2, 4])]);
    assert_eq!(
        error,
        "branches: expected two runs with a snapshot at the same step, but `child-0` has 1, 3; \
         `child-1` has 2, 4"
    );
    let none = Branch::new("none", Vec::new());
    let error = refusal(None, vec![branch(0, &[1]), none]);
    assert!(error.ends_with("but `child-0` has 1; `none` has none"), "{error}");
    let stranger = snapshots(5, &[30]).into_iter().map(|at| Ok(Weights { step: 20, ..at }));
    let error = refusal(Some(20), vec![branch(0, &[20]), Branch::new("stranger", stranger)]);
    assert_eq!(
        error,
        "branches: expected the same weights of `child-0` and `stranger` at the spawn step 20, but \
         `layer0.bias` differs"
    );
    let error = refusal(None, vec![branch(0, &[3, 1]), branch(1, &[2, 4])]);
    assert_eq!(
        error,
        "branches: expected the snapshots of `child-0` in ascending order, got step 1 after 3"
    );
    let error = refusal(Some(5), vec![branch(0, &[5, 6]), branch(1, &[4, 6])]);
    assert_eq!(
        error,
        "branches: expected snapshots of `child-1` since the spawn step 5, got step 4"
    );
    let other = Perceptron::new(&[3, 2], DType::F32, 1).params().copy().unwrap();
    let other = Ok(Weights { step: 3, epoch: 0, tensors: other });
    let error = refusal(None, vec![branch(0, &[3]), Branch::new("other", vec![other])]);
    assert!(
        error
            .starts_with("`child-0` and `other` at step 3 on set `all`: second: weights: expected"),
        "{error}"
    );

    let line = || ErrorBarrier::new(Line::new(&params));
    let mut none = line();
    let branches = vec![branch(0, &[1]), branch(1, &[1])];
    let outcome = none.run(None, branches, |x| model.forward(x), &mut table, |_| {});
    assert_eq!(outcome.unwrap_err().to_string(), "set: expected at least one group of examples");
    let message = |barrier: Result<ErrorBarrier<'_>>| barrier.unwrap_err().to_string();
    let twice = line().set("a", inputs(), &LABELS, 1).unwrap().set("a", inputs(), &LABELS, 1);
    assert_eq!(message(twice), "set: two groups are named `a`");
    let short = line().set("a", inputs(), &LABELS[..9], 1);
    assert_eq!(message(short), "set `a`: labels: expected one for each of 10 examples, got 9");
    let error = message(line().set("a", inputs(), &LABELS, 0));
    assert_eq!(error, "set `a`: batch: expected at least 1 example, got 0");
    let empty = inputs().narrow(0, 0, 0).unwrap();
    assert_eq!(
        message(line().set("a", empty, &LABELS[..0], 1)),
        "set `a`: inputs: expected a tensor [examples, ...] of at least one example, got [0, 3]"
    );
}

#[test]
fn a_parent_and_its_child_are_a_pair_like_any_other() {
    let (directory, model) = (TempDir::new().unwrap(), model());
    let params = model.params();
    let mut table = ErrorBarrierTable::open(directory.path()).unwrap();
    let parent = Branch::new("parent", snapshots(9, &[0, 10, 30]).into_iter().map(Ok));
    // The parent's snapshots from before the spawn are none of the pair's.
    let since =
        |step: u64| snapshots(9, &[0, 10, 20, 30]).into_iter().filter(move |at| at.step >= step);
    let early = barrier(&params).run(
        Some(20),
        vec![parent, branch(0, &[20, 30])],
        |x| model.forward(x),
        &mut table,
        |_| {},
    );
    assert!(early.unwrap_err().to_string().contains("`parent` since the spawn step 20"));
    let branches = vec![Branch::new("parent", since(20).map(Ok)), branch(0, &[20, 30])];
    barrier(&params).run(Some(20), branches, |x| model.forward(x), &mut table, |_| {}).unwrap();
    assert_eq!(table.rows().len(), 4);
    let direct = curve(
        &params,
        &snapshots(9, &[30]).remove(0).tensors,
        &snapshots(0, &[30]).remove(0).tensors,
        || {
            let mut risk = Risk::default();
            risk.add(&model.forward(&inputs())?, &LABELS)?;
            Ok(risk)
        },
    );
    let (ours, direct) = (&table.rows()[2].curve, direct.unwrap());
    assert_eq!(ours.points()[4].error, direct.points()[10].error);
}
