//! Kernel velocities over the snapshots of a run: rows, resuming, and what is refused.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Tensor};
use data_diet::geometry::{KernelVelocityTable, TimeUnit};
use data_diet_candle::geometry::KernelVelocity;
use data_diet_candle::ntk::{GramOptions, gram};
use data_diet_candle::weights::{Params, Weights};
use data_diet_candle::{Error, Result};
use tempfile::TempDir;

use crate::models::{Perceptron, scatter, tensor};

const WIDTHS: [usize; 3] = [3, 4, 2];

fn model() -> Perceptron {
    Perceptron::new(&WIDTHS, DType::F32, 1)
}

/// Weights of a run at steps 0, 10, 30 and 35, in epochs of 20 steps.
fn snapshots() -> Vec<Weights> {
    let at = |(place, step): (usize, u64)| {
        let other = model();
        scatter(&other.variables, 100 + place as u64);
        let tensors = other.params().copy().unwrap();
        Weights { step, epoch: step as u32 / 20, tensors }
    };
    [0, 10, 30, 35].into_iter().enumerate().map(at).collect()
}

fn sets() -> [(&'static str, Tensor); 2] {
    [("easy", tensor(50, &[4, 3], DType::F32)), ("hard", tensor(51, &[3, 3], DType::F32))]
}

struct Measured {
    directory: TempDir,
    kernels: Vec<(String, u64)>,
}

impl Measured {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap(), kernels: Vec::new() }
    }

    fn table(&self) -> KernelVelocityTable {
        KernelVelocityTable::open(self.directory.path(), "seed-0").unwrap()
    }

    fn run(&mut self, velocity: &KernelVelocity<'_>, model: &Perceptron, snapshots: &[Weights]) {
        self.kernels.clear();
        let kernels = &mut self.kernels;
        let snapshots = snapshots.iter().cloned().map(Ok);
        let mut table = KernelVelocityTable::open(self.directory.path(), "seed-0").unwrap();
        let progress = |set: &str, step| kernels.push((set.to_owned(), step));
        velocity.run(snapshots, |x| model.forward(x), &mut table, progress).unwrap();
    }
}

fn of_both(params: &Params) -> KernelVelocity<'_> {
    sets()
        .into_iter()
        .fold(KernelVelocity::new(params), |velocity, (name, inputs)| velocity.set(name, inputs))
}

fn weights(params: &Params) -> Vec<Vec<f32>> {
    let copy = params.copy().unwrap();
    copy.values().map(|tensor| tensor.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

#[test]
fn every_pair_of_neighbors_has_a_row_and_every_kernel_is_computed_once() {
    let (model, snapshots, mut measured) = (model(), snapshots(), Measured::new());
    let params = model.params();
    let before = weights(&params);
    measured.run(&of_both(&params), &model, &snapshots);
    assert_eq!(weights(&params), before);
    let mut expected = Vec::new();
    for pair in snapshots.windows(2) {
        for (name, inputs) in sets() {
            let kernel = |at: &Weights| {
                params.load(&at.tensors).unwrap();
                gram(&params, &inputs, |x| model.forward(x)).unwrap()
            };
            let distance = kernel(&pair[0]).distance(&kernel(&pair[1])).unwrap();
            expected.push((name, pair[0].step, pair[1].step, distance));
        }
    }
    let table = measured.table();
    let rows = table.rows().iter();
    let rows: Vec<_> =
        rows.map(|row| (row.set.as_str(), row.first_step, row.second_step, row.distance)).collect();
    assert_eq!(rows, expected);
    assert!(expected.iter().all(|row| row.3 > 0.0));
    let row = &table.rows()[3];
    assert_eq!((row.first_epoch, row.second_epoch, row.examples, row.classes), (0, 1, 3, 2));
    assert_eq!((row.dt, row.dt_unit), (20.0, TimeUnit::Steps));
    let mut kernels = measured.kernels.clone();
    kernels.sort();
    kernels.dedup();
    assert_eq!((kernels.len(), measured.kernels.len()), (8, 8));
}

#[test]
fn time_in_epochs_may_be_a_fraction() {
    let (model, mut measured) = (model(), Measured::new());
    let params = model.params();
    let [(name, inputs), _] = sets();
    let velocity = KernelVelocity::new(&params).set(name, inputs).per_epoch(20);
    measured.run(&velocity, &model, &snapshots());
    let table = measured.table();
    let times: Vec<f64> = table.rows().iter().map(|row| row.dt).collect();
    assert_eq!(times, [0.5, 1.0, 0.25]);
    for row in table.rows() {
        assert_eq!(row.dt_unit, TimeUnit::Epochs);
        assert_eq!(row.velocity().unwrap(), row.distance / row.dt);
    }
}

#[test]
fn what_the_table_has_is_not_computed_again() {
    let (model, snapshots) = (model(), snapshots());
    let params = model.params();
    let mut whole = Measured::new();
    whole.run(&of_both(&params), &model, &snapshots);
    let mut measured = Measured::new();
    // One group over the first pair, then both over everything.
    let [(name, inputs), _] = sets();
    measured.run(&KernelVelocity::new(&params).set(name, inputs), &model, &snapshots[..2]);
    measured.run(&of_both(&params), &model, &snapshots);
    let of = |set: &str| -> Vec<u64> {
        let kernels = measured.kernels.iter().filter(|(name, _)| name == set);
        kernels.map(|&(_, step)| step).collect()
    };
    assert_eq!(of("easy"), [10, 30, 35]);
    assert_eq!(of("hard"), [0, 10, 30, 35]);
    let sorted = |measured: &Measured| {
        let mut rows = measured.table().rows().to_vec();
        rows.sort_by_key(|row| (row.set.clone(), row.first_step));
        rows
    };
    assert_eq!(sorted(&measured), sorted(&whole));
    measured.run(&of_both(&params), &model, &snapshots);
    assert_eq!(measured.kernels, []);
    assert_eq!(sorted(&measured), sorted(&whole));
}

#[test]
fn an_interrupted_measurement_keeps_its_rows_and_gives_the_weights_back() {
    let (model, snapshots, measured) = (model(), snapshots(), Measured::new());
    let params = model.params();
    let before = weights(&params);
    let mut broken = snapshots.clone();
    broken[2].tensors.remove("layer0.bias");
    let mut table = measured.table();
    let run = |snapshots: Vec<Result<Weights>>, table: &mut KernelVelocityTable| {
        of_both(&params).run(snapshots, |x| model.forward(x), table, |_, _| {}).unwrap_err()
    };
    let error = run(broken.into_iter().map(Ok).collect(), &mut table);
    assert_eq!(
        error.to_string(),
        "the snapshot at step 30: weights: expected those of this model, but `layer0.bias` is missing"
    );
    assert_eq!((table.rows().len(), measured.table().rows().len()), (2, 2));
    assert_eq!(weights(&params), before);
    let lost = vec![
        Ok(snapshots[0].clone()),
        Ok(snapshots[1].clone()),
        Err(Error::Argument("lost".to_owned())),
    ];
    assert_eq!(run(lost, &mut table).to_string(), "lost");
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let snapshots = snapshots.iter().skip(1).cloned().map(Ok);
        of_both(&params).run(snapshots, |x| model.forward(x), &mut table, |_, _| panic!("stop"))
    }));
    assert!(panic.is_err());
    assert_eq!(weights(&params), before);
}

#[test]
fn refusals_name_the_argument() {
    let (model, snapshots, measured) = (model(), snapshots(), Measured::new());
    let params = model.params();
    let [(name, inputs), _] = sets();
    let mut table = measured.table();
    let mut refusal = |velocity: KernelVelocity<'_>, snapshots: &[&Weights]| {
        let snapshots = snapshots.iter().map(|&at| Ok(at.clone()));
        let outcome = velocity.run(snapshots, |x| model.forward(x), &mut table, |_, _| {});
        outcome.unwrap_err().to_string()
    };
    let one = || KernelVelocity::new(&params).set(name, inputs.clone());
    let all: Vec<&Weights> = snapshots.iter().collect();
    let error = refusal(KernelVelocity::new(&params), &all);
    assert_eq!(error, "set: expected at least one group of examples");
    let error = refusal(one().set(name, inputs.clone()), &all);
    assert_eq!(error, "set: two groups are named `easy`");
    assert_eq!(refusal(one().per_epoch(0), &all), "per_epoch: expected at least 1 step, got 0");
    let error = refusal(one(), &all[..1]);
    assert_eq!(error, "snapshots: expected at least 2, whose kernels are compared, got 1");
    let error = refusal(one(), &[all[1], all[0]]);
    assert_eq!(error, "snapshots: expected steps in ascending order, got 0 after 10");
    assert!(refusal(one(), &[all[1], all[1]]).ends_with("got 10 after 10"));
    let error = refusal(one().options(GramOptions::default().max_bytes(1)), &all);
    assert!(error.starts_with("set `easy` at step 0: max_bytes: expected at least"), "{error}");
    for (few, shape) in [(0, "[0, 3]"), (1, "[1, 3]")] {
        let probes = tensor(1, &[2, 3], DType::F32).narrow(0, 0, few).unwrap();
        let error = refusal(one().set("few", probes), &all);
        let expected =
            "set `few`: inputs: expected a tensor [examples, ...] of at least 2 examples";
        assert_eq!(error, format!("{expected}, got {shape}"));
    }
    let error = refusal(KernelVelocity::new(&params).set("", inputs.clone()), &all);
    assert_eq!(error, "set: expected a name, got none");
    let run = one().run(
        snapshots.iter().cloned().map(Ok),
        |x| model.forward(x),
        &mut measured.table(),
        |_, _| {},
    );
    run.unwrap();
    let other = KernelVelocity::new(&params).set(name, tensor(1, &[5, 3], DType::F32));
    let outcome = other.run(
        snapshots.into_iter().map(Ok),
        |x| model.forward(x),
        &mut measured.table(),
        |_, _| {},
    );
    assert_eq!(
        outcome.unwrap_err().to_string(),
        "set: the table knows `easy` as a group of 4 examples, got 5"
    );
}
