//! Weights copied while training goes on in their place.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarMap;
use data_diet::observe::Schedule;
use data_diet_candle::weights::{NamedTensors, Params, Snapshots};

use crate::expected::{Reading, read};
use crate::fixture::{Fixture, RUN};
use crate::numbers::Numbers;
use crate::place::Place;
use crate::training::{Recipe, Trainer};

everywhere!(
    to_the_bit_while_the_optimizer_goes_on,
    of_every_dtype_and_overwritten_at_once,
    large_weights_overwritten_at_once,
);

/// The bits of some weights, widened to `f64`, by name.
type Bits = BTreeMap<String, Vec<u64>>;

fn bits(tensors: &NamedTensors) -> Bits {
    let bits = |tensor: &Tensor| read(tensor).iter().map(|value| value.to_bits()).collect();
    tensors.iter().map(|(name, tensor)| (name.clone(), bits(tensor))).collect()
}

/// Asserts that a run has these snapshots and no others.
fn assert_snapshots(fixture: &Fixture, expected: &BTreeMap<u64, Bits>) {
    let snapshots = Snapshots::open(fixture.path(), RUN).unwrap();
    assert_eq!(snapshots.steps(), expected.keys().copied().collect::<Vec<_>>());
    for weights in snapshots.iter() {
        let weights = weights.unwrap();
        let (got, expected) = (bits(&weights.tensors), &expected[&weights.step]);
        assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (name, values) in expected {
            assert!(got[name] == *values, "`{name}` differs at step {}", weights.step);
        }
    }
}

fn to_the_bit_while_the_optimizer_goes_on(place: &Place) {
    for reading in [Reading::AtTheEnd, Reading::EveryStep] {
        let fixture = Fixture::new();
        let recipe = Recipe { examples: 70, ..Recipe::PLAIN };
        let mut trainer = Trainer::new(recipe, &place.device);
        let params = Params::from_varmap(&trainer.weights).unwrap();
        let schedule = Schedule::every_steps(7).and(Schedule::at_steps([1, 2, 3]));
        let builder = fixture.builder().classes(recipe.classes);
        // Room for one copy: the next has to wait until it is written.
        let builder = builder.snapshots(&trainer.weights, schedule).snapshot_bytes(1);
        let mut copies = BTreeMap::from([(0, params.copy().unwrap())]);
        let mut expected = BTreeMap::new();
        let mut hook = builder.build().unwrap();
        for step in 1..=place.times(700, 21) as u64 {
            trainer.train(&mut hook, 1).unwrap();
            if step % 7 != 0 && step > 3 {
                continue;
            }
            let copy = params.copy().unwrap();
            match reading {
                Reading::EveryStep => drop(expected.insert(step, bits(&copy))),
                Reading::AtTheEnd => drop(copies.insert(step, copy)),
            }
        }
        hook.finish().unwrap().check().unwrap();
        expected.extend(copies.iter().map(|(&step, copy)| (step, bits(copy))));
        assert_snapshots(&fixture, &expected);
    }
}

fn of_every_dtype_and_overwritten_at_once(place: &Place) {
    let dtypes = [DType::F32, DType::F16, DType::BF16, DType::F64];
    let variables = dtypes.map(|dtype| (dtype.as_str(), dtype, vec![33, 65]));
    assert_overwritten_at_once(place, &variables, place.times(200, 5));
}

fn large_weights_overwritten_at_once(place: &Place) {
    let side = place.times(4096, 64);
    let variables = [("a", DType::F32, vec![side, side]), ("b", DType::F32, vec![side])];
    assert_overwritten_at_once(place, &variables, place.times(8, 3));
}

/// Snapshots of variables that get other values as soon as the hook has returned.
fn assert_overwritten_at_once(
    place: &Place,
    variables: &[(&str, DType, Vec<usize>)],
    steps: usize,
) {
    let (fixture, weights) = (Fixture::new(), VarMap::new());
    let mut numbers = Numbers::new(41);
    for (name, dtype, shape) in variables {
        let values = numbers.tensor(1.0, shape, &Device::Cpu).to_dtype(*dtype).unwrap();
        let variable = Var::from_tensor(&values.to_device(&place.device).unwrap()).unwrap();
        weights.data().lock().unwrap().insert((*name).to_owned(), variable);
    }
    let params = Params::from_varmap(&weights).unwrap();
    // The values of two moments, that take turns.
    let others: Vec<Tensor> =
        params.variables().map(|variable| other(variable, &mut numbers)).collect();
    let first = params.copy().unwrap();
    let overwrite = |step: u64| {
        for ((variable, first), other) in params.variables().zip(first.values()).zip(&others) {
            variable.set(if step.is_multiple_of(2) { other } else { first }).unwrap();
        }
    };
    let builder = fixture.builder().classes(2).snapshots(&weights, Schedule::every_steps(1));
    let mut copies = BTreeMap::from([(0, params.copy().unwrap())]);
    let mut hook = builder.build().unwrap();
    overwrite(0);
    for step in 1..=steps as u64 {
        copies.insert(step, params.copy().unwrap());
        hook.set_step(step).unwrap();
        overwrite(step);
    }
    hook.finish().unwrap().check().unwrap();
    let expected = copies.iter().map(|(&step, copy)| (step, bits(copy))).collect();
    assert_snapshots(&fixture, &expected);
}

/// Other values of the same shape, type and place.
fn other(tensor: &Tensor, numbers: &mut Numbers) -> Tensor {
    let values = numbers.tensor(2.0, tensor.dims(), &Device::Cpu).to_dtype(tensor.dtype()).unwrap();
    values.to_device(tensor.device()).unwrap()
}
