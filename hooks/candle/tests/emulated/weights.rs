//! Weights that an optimizer overwrites while their copies are on the way.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarMap;
use data_diet::observe::TensorValues;
use data_diet_candle::Schedule;

use crate::device::{Numbers, device, upload};
use crate::fixture::{Fixture, some_logits};

fn variable(map: &VarMap, name: &str, tensor: &Tensor, device: &Device) {
    let variable = Var::from_tensor(&upload(tensor, device)).unwrap();
    map.data().lock().unwrap().insert(name.to_owned(), variable);
}

fn random(numbers: &mut Numbers, rows: usize, dtype: DType) -> Tensor {
    let values = numbers.logits(rows * 3);
    Tensor::from_vec(values, (rows, 3), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

#[test]
fn a_snapshot_is_what_the_weights_were_at_its_step() {
    let Some(device) = device("a_snapshot_is_what_the_weights_were_at_its_step") else { return };
    let parameters = [("a.weight", 400, DType::F32), ("b", 7, DType::F16), ("c", 1, DType::BF16)];
    let mut numbers = Numbers(11);
    let map = VarMap::new();
    let mut now: Vec<Tensor> = Vec::new();
    for (name, rows, dtype) in parameters {
        now.push(random(&mut numbers, rows, dtype));
        variable(&map, name, now.last().unwrap(), &device);
    }
    let fixture = Fixture::new();
    let builder = fixture.builder().classes(3).snapshots(&map, Schedule::every_steps(3));
    let mut hook = builder.build().unwrap();
    let mut expected = vec![now.clone()];
    for step in 1..=60_u64 {
        for (place, (name, rows, dtype)) in parameters.into_iter().enumerate() {
            now[place] = random(&mut numbers, rows, dtype);
            let variable = map.data().lock().unwrap()[name].clone();
            variable.set(&upload(&now[place], &device)).unwrap();
        }
        let logits = upload(&some_logits(2, 3), &device);
        hook.on_step_end(&[0, 1], &logits, &[0, 1]).unwrap();
        if step.is_multiple_of(3) {
            expected.push(now.clone());
        }
    }
    hook.finish().unwrap().check().unwrap();
    let snapshots = fixture.run().snapshots().unwrap();
    assert_eq!(snapshots.steps(), (0..=20).map(|place| place * 3).collect::<Vec<u64>>());
    for (step, expected) in (0..).step_by(3).zip(&expected) {
        let snapshot = snapshots.at(step).unwrap();
        for (tensor, expected) in snapshot.tensors().iter().zip(expected) {
            let bits = |values: &TensorValues| match values {
                TensorValues::F32(values) => values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
                TensorValues::F16(values) => values.iter().map(|v| v.to_bits().into()).collect(),
                TensorValues::BF16(values) => values.iter().map(|v| v.to_bits().into()).collect(),
                other => panic!("{}", other.dtype()),
            };
            let flat = expected.flatten_all().unwrap();
            let expected = match expected.dtype() {
                DType::F32 => TensorValues::F32(flat.to_vec1().unwrap()),
                DType::F16 => TensorValues::F16(flat.to_vec1().unwrap()),
                _ => TensorValues::BF16(flat.to_vec1().unwrap()),
            };
            assert_eq!(bits(tensor.values()), bits(&expected), "{} at step {step}", tensor.name());
        }
    }
}
