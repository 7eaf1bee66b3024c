//! Weights recorded while training and loaded back.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::loss::cross_entropy;
use candle_nn::{Linear, Module, Optimizer, SGD, VarBuilder, VarMap, linear};
use data_diet::Experiment;
use data_diet::observe::Schedule;
use data_diet_candle::weights::{Snapshots, Weights};
use data_diet_candle::{DataDietHook, DataDietHookBuilder};

use crate::fixture::{Fixture, RUN};

const DEVICE: Device = Device::Cpu;

struct Trainer {
    weights: VarMap,
    model: Linear,
    optimizer: SGD,
}

impl Trainer {
    fn new() -> Self {
        let weights = VarMap::new();
        let builder = VarBuilder::from_varmap(&weights, DType::F32, &DEVICE);
        let model = linear(4, 3, builder.pp("fc")).unwrap();
        let optimizer = SGD::new(weights.all_vars(), 0.3).unwrap();
        Self { weights, model, optimizer }
    }

    /// One update, with data that depend on the step alone.
    fn train(&mut self, hook: &mut DataDietHook) {
        let value = |i: u64| ((i + 7 * hook.step()) as f32 * 0.37).sin();
        let inputs = Tensor::from_vec((0..8).map(value).collect(), (2, 4), &DEVICE).unwrap();
        let labels = Tensor::new(&[0_u32, 2], &DEVICE).unwrap();
        let logits = self.model.forward(&inputs).unwrap();
        self.optimizer.backward_step(&cross_entropy(&logits, &labels).unwrap()).unwrap();
        hook.on_step_end(&[0, 1], &logits, &labels).unwrap();
    }

    fn values(&self) -> BTreeMap<String, Vec<f32>> {
        let data = self.weights.data().lock().unwrap();
        data.iter().map(|(name, variable)| (name.clone(), flat(variable))).collect()
    }
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn values(weights: &Weights) -> BTreeMap<String, Vec<f32>> {
    weights.tensors.iter().map(|(name, tensor)| (name.clone(), flat(tensor))).collect()
}

fn builder(fixture: &Fixture, trainer: &Trainer, schedule: Schedule) -> DataDietHookBuilder {
    fixture.builder().classes(3).snapshots(&trainer.weights, schedule)
}

fn snapshots(fixture: &Fixture) -> Snapshots {
    Snapshots::open(fixture.path(), RUN).unwrap()
}

#[test]
fn a_snapshot_holds_the_weights_after_that_many_updates() {
    let fixture = Fixture::new();
    let mut trainer = Trainer::new();
    let schedule = Schedule::log_spaced(1).and(Schedule::every_epochs(2)).at_end();
    let mut hook = builder(&fixture, &trainer, schedule).build().unwrap();
    let mut expected = vec![trainer.values()];
    for _ in 0..5 {
        for _ in 0..3 {
            trainer.train(&mut hook);
            expected.push(trainer.values());
        }
        hook.on_epoch_end().unwrap();
    }
    let report = hook.finish().unwrap();
    report.check().unwrap();
    let snapshots = snapshots(&fixture);
    // Epochs 2 and 4 end at steps 6 and 12, the run at 15.
    assert_eq!(snapshots.steps(), [0, 1, 2, 4, 6, 8, 12, 15]);
    assert_eq!(report.snapshots.written, 8);
    assert!(report.to_string().contains("30 rows and 8 snapshots in"), "{report}");
    for &step in snapshots.steps() {
        let weights = snapshots.at(step).unwrap();
        assert_eq!(values(&weights), expected[step as usize], "step {step}");
        assert_eq!(weights.step, step);
    }
    assert_eq!(snapshots.at(12).unwrap().epoch, 4);
    let verification = Experiment::open(fixture.path()).unwrap().verify(|_| {}).unwrap();
    assert!(verification.findings.is_empty(), "{:?}", verification.findings);
}

#[test]
fn loading_restores_the_very_network() {
    let fixture = Fixture::new();
    let mut trainer = Trainer::new();
    let mut hook = builder(&fixture, &trainer, Schedule::every_steps(2)).build().unwrap();
    for _ in 0..4 {
        trainer.train(&mut hook);
    }
    hook.finish().unwrap().check().unwrap();
    let weights = snapshots(&fixture).at(2).unwrap();
    let other = Trainer::new();
    weights.load_into(&other.weights).unwrap();
    assert_eq!(other.values(), values(&weights));
    assert_ne!(other.values(), trainer.values());
    let file = fixture.path().with_extension("safetensors");
    weights.save_safetensors(&file).unwrap();
    let mut through_candle = Trainer::new();
    through_candle.weights.load(&file).unwrap();
    assert_eq!(through_candle.values(), values(&weights));
    let read = Weights::load_safetensors(&file, 2, 0).unwrap();
    assert_eq!((values(&read), read.step), (values(&weights), 2));
}

#[test]
fn another_architecture_is_refused_with_every_difference() {
    let fixture = Fixture::new();
    let trainer = Trainer::new();
    builder(&fixture, &trainer, Schedule::first_step())
        .build()
        .unwrap()
        .finish()
        .unwrap()
        .check()
        .unwrap();
    let weights = snapshots(&fixture).at(0).unwrap();
    let other = VarMap::new();
    let doubles = VarBuilder::from_varmap(&other, DType::F64, &DEVICE);
    let _ = doubles.get_with_hints(3, "fc.bias", candle_nn::Init::Const(5.0)).unwrap();
    let _ = doubles.get_with_hints(1, "head", candle_nn::Init::Const(5.0)).unwrap();
    let error = weights.load_into(&other).unwrap_err().to_string();
    for expected in [
        "`fc.bias` is f32 [3], not f64 [3]",
        "`fc.weight` is not in the model",
        "`head` is missing",
    ] {
        assert!(error.contains(expected), "{error} lacks {expected}");
    }
    let untouched = other.data().lock().unwrap()["fc.bias"].to_vec1::<f64>().unwrap();
    assert_eq!(untouched, [5.0; 3]);
    let error = snapshots(&fixture).at(9).unwrap_err().to_string();
    assert!(error.ends_with("no snapshot at step 9; there are: 0"), "{error}");
}

#[test]
fn parameters_can_be_left_out() {
    let fixture = Fixture::new();
    let trainer = Trainer::new();
    let only = |part: &'static str| {
        let builder = builder(&fixture, &trainer, Schedule::first_step());
        builder.snapshot_parameters(move |name| name.ends_with(part))
    };
    let error = only("gamma").build().unwrap_err().to_string();
    assert!(error.contains("at least one of fc.bias, fc.weight"), "{error}");
    only("bias").build().unwrap().finish().unwrap().check().unwrap();
    let weights = snapshots(&fixture).at(0).unwrap();
    assert_eq!(weights.tensors.keys().collect::<Vec<_>>(), ["fc.bias"]);
    // What was left out keeps its values.
    let other = Trainer::new();
    let before = other.values();
    weights.load_into(&other.weights).unwrap();
    assert_eq!(other.values()["fc.weight"], before["fc.weight"]);
    assert_eq!(other.values()["fc.bias"], trainer.values()["fc.bias"]);
}

#[test]
fn a_child_goes_on_from_its_parents_weights_step_and_epoch() {
    let fixture = Fixture::new();
    let mut parent = Trainer::new();
    let mut hook = builder(&fixture, &parent, Schedule::every_epochs(1)).build().unwrap();
    for _ in 0..3 {
        parent.train(&mut hook);
        parent.train(&mut hook);
        hook.on_epoch_end().unwrap();
    }
    hook.finish().unwrap().check().unwrap();
    let spawn = |trainer: &Trainer, run: &str, step| {
        DataDietHook::builder(fixture.path(), run)
            .classes(3)
            .snapshots(&trainer.weights, Schedule::every_steps(2))
            .spawned_from(&trainer.weights, RUN, step)
            .build()
    };
    let mut child = Trainer::new();
    let mut hook = spawn(&child, "child", 4).unwrap();
    assert_eq!((hook.step(), hook.epoch()), (4, 2));
    assert_eq!(child.values(), values(&snapshots(&fixture).at(4).unwrap()));
    child.train(&mut hook);
    child.train(&mut hook);
    hook.finish().unwrap().check().unwrap();
    let run = Experiment::open(fixture.path()).unwrap().run("child").unwrap();
    let metadata = run.ranks().next().unwrap();
    let link = metadata.spawned_from.as_ref().unwrap();
    assert_eq!((link.run.as_str(), link.step, metadata.first_step), (RUN, 4, 4));
    let of_child = Snapshots::from(run.snapshots().unwrap());
    assert_eq!(of_child.steps(), [4, 6]);
    // The same data from the same weights: the child is where its parent was.
    assert_eq!(values(&of_child.at(6).unwrap()), parent.values());

    let error = spawn(&Trainer::new(), "other", 5).unwrap_err().to_string();
    assert!(error.contains("no snapshot at step 5; there are: 0, 2, 4, 6"), "{error}");
    let missing = DataDietHook::builder(fixture.path(), "other")
        .classes(3)
        .spawned_from(&child.weights, "nobody", 0)
        .build();
    let error = missing.unwrap_err().to_string();
    assert!(error.contains("no run `nobody`"), "{error}");
    let names: Vec<String> = Experiment::open(fixture.path())
        .unwrap()
        .runs()
        .unwrap()
        .iter()
        .map(|run| run.name().to_owned())
        .collect();
    assert_eq!(names, ["child", RUN], "what was refused has left no run");
}

#[test]
fn a_resumed_run_keeps_its_snapshots_up_to_the_checkpoint() {
    let fixture = Fixture::new();
    let mut trainer = Trainer::new();
    let mut hook = builder(&fixture, &trainer, Schedule::every_steps(1)).build().unwrap();
    let mut expected = vec![trainer.values()];
    for _ in 0..4 {
        trainer.train(&mut hook);
        expected.push(trainer.values());
    }
    drop(hook);
    snapshots(&fixture).at(2).unwrap().load_into(&trainer.weights).unwrap();
    let resumed = builder(&fixture, &trainer, Schedule::every_steps(1)).resume_at(2, 0);
    let mut hook = resumed.build().unwrap();
    assert_eq!(snapshots(&fixture).steps(), [0, 1, 2]);
    trainer.train(&mut hook);
    let report = hook.finish().unwrap();
    report.check().unwrap();
    assert_eq!(report.snapshots.written, 4);
    let snapshots = snapshots(&fixture);
    assert_eq!(snapshots.steps(), [0, 1, 2, 3]);
    assert_eq!(values(&snapshots.at(3).unwrap()), expected[3]);
}

#[test]
fn loops_that_count_their_own_steps_are_served_when_a_scheduled_step_has_passed() {
    let fixture = Fixture::new();
    let trainer = Trainer::new();
    let mut hook = builder(&fixture, &trainer, Schedule::every_steps(25)).build().unwrap();
    for step in [10, 20, 30, 40, 60, 75] {
        hook.set_step(step).unwrap();
    }
    hook.finish().unwrap().check().unwrap();
    assert_eq!(snapshots(&fixture).steps(), [0, 30, 60, 75]);
}

#[test]
fn only_the_first_rank_records_weights() {
    let fixture = Fixture::new();
    let trainer = Trainer::new();
    let hook = builder(&fixture, &trainer, Schedule::first_step()).rank(1).build().unwrap();
    assert_eq!(hook.finish().unwrap().snapshots.written, 0);
}

#[test]
fn what_cannot_be_copied_is_refused_before_the_run_begins() {
    let fixture = Fixture::new();
    let refused = |builder: DataDietHookBuilder, expected: &str| {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(expected), "{error} lacks {expected}");
    };
    let empty = VarMap::new();
    let builder_of =
        |weights| fixture.builder().classes(3).snapshots(weights, Schedule::first_step());
    refused(builder_of(&empty), "build the model before the hook");
    let trainer = Trainer::new();
    refused(
        fixture.builder().classes(3).snapshots(&trainer.weights, Schedule::every_steps(0)),
        "schedule: expected every_steps above 0",
    );
    assert!(!fixture.path().exists());
}

#[test]
fn half_precision_weights_are_recorded_to_the_bit() {
    let fixture = Fixture::new();
    let weights = VarMap::new();
    for (name, dtype) in [("f16", DType::F16), ("bf16", DType::BF16), ("f64", DType::F64)] {
        let values = Tensor::new(&[1.0_f32, -0.0, f32::NAN, 1e-7, 65504.0], &DEVICE).unwrap();
        let variable = Var::from_tensor(&values.to_dtype(dtype).unwrap()).unwrap();
        weights.data().lock().unwrap().insert(name.to_owned(), variable);
    }
    let builder = fixture.builder().classes(3).snapshots(&weights, Schedule::first_step());
    builder.build().unwrap().finish().unwrap().check().unwrap();
    let read = snapshots(&fixture).at(0).unwrap();
    for (name, tensor) in &read.tensors {
        let data = weights.data().lock().unwrap();
        assert_eq!(tensor.dtype(), data[name].dtype());
        let text = |tensor: &Tensor| {
            let wide = tensor.to_dtype(DType::F64).unwrap();
            wide.to_vec1::<f64>().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(text(tensor), text(&data[name]), "{name}");
    }
}
