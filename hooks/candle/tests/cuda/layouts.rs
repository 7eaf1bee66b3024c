//! Logits as views of larger tensors, and values that training does not hope for.

use candle_core::{DType, Device, Tensor, Var};
use data_diet::Signal;

use crate::expected::{Kept, Reading, Seen, SeenTargets, assert_recorded};
use crate::fixture::Fixture;
use crate::numbers::Numbers;
use crate::place::Place;

everywhere!(views, half_and_double_precision, rows_that_are_not_finite, huge_and_tied);

const ROWS: usize = 37;
const CLASSES: usize = 10;

/// Records tensors of logits, one per step, and compares what lies on disk. The labels count up.
pub(crate) fn assert_each_recorded(all: &[Tensor], device: &Device) {
    let (rows, classes) = all[0].dims2().unwrap();
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(classes).signals(Signal::ALL).build().unwrap();
    let labels: Vec<i64> = (0..rows).map(|row| (row % classes) as i64).collect();
    let on_device = Tensor::new(labels.as_slice(), device).unwrap();
    let mut seen = Vec::new();
    for logits in all {
        seen.push(Seen {
            step: hook.step(),
            epoch: 0,
            ids: (0..rows as i64).collect(),
            targets: SeenTargets::Classes(labels.clone()),
            logits: Kept::of(logits, Reading::AtTheEnd),
        });
        hook.on_step_end(&(0..rows), logits, &on_device).unwrap();
    }
    hook.finish().unwrap().check().unwrap();
    assert_recorded(&fixture, seen, classes, None);
}

/// Tensors `[ROWS, CLASSES]` that share the memory of others, in many ways.
fn some_views(dtype: DType, device: &Device) -> Vec<Tensor> {
    let mut numbers = Numbers::new(5);
    let mut tensor = |shape: &[usize]| numbers.tensor(8.0, shape, device).to_dtype(dtype).unwrap();
    let (tall, wide) = (tensor(&[ROWS * 3, CLASSES]), tensor(&[ROWS, CLASSES * 3]));
    let (turned, both) = (tensor(&[CLASSES, ROWS]), tensor(&[CLASSES * 2, ROWS * 2]));
    let (row, deep) = (tensor(&[1, CLASSES]), tensor(&[4, ROWS, CLASSES]));
    vec![
        tall.narrow(0, ROWS, ROWS).unwrap(),
        wide.narrow(1, 7, CLASSES).unwrap(),
        turned.t().unwrap(),
        both.narrow(0, 3, CLASSES).unwrap().t().unwrap().narrow(0, ROWS - 2, ROWS).unwrap(),
        row.broadcast_as((ROWS, CLASSES)).unwrap(),
        deep.get(2).unwrap(),
        deep.narrow(0, 3, 1).unwrap().squeeze(0).unwrap(),
        // With a graph behind it.
        Var::from_tensor(&tall).unwrap().narrow(0, 1, ROWS).unwrap().affine(0.5, 1.0).unwrap(),
    ]
}

fn views(place: &Place) {
    assert_each_recorded(&some_views(DType::F32, &place.device), &place.device);
}

fn half_and_double_precision(place: &Place) {
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        assert_each_recorded(&some_views(dtype, &place.device), &place.device);
    }
}

fn rows_that_are_not_finite(place: &Place) {
    let classes = 6;
    let mut values: Vec<f32> = (0..8 * classes).map(|at| (at as f32 * 0.7).sin()).collect();
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN];
    for (row, bad) in bad.into_iter().enumerate() {
        // In the label's place, and in another's.
        values[2 * row * classes + if row % 2 == 0 { 2 * row } else { 1 }] = bad;
    }
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(classes).signals(Signal::ALL).build().unwrap();
    let labels: Vec<i64> = (0..8).map(|row| row % classes as i64).collect();
    let on_device = Tensor::new(labels.as_slice(), &place.device).unwrap();
    let mut seen = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let logits = Tensor::from_slice(&values, (8, classes), &place.device).unwrap();
        let logits = logits.to_dtype(dtype).unwrap();
        seen.push(Seen {
            step: hook.step(),
            epoch: 0,
            ids: (0..8).collect(),
            targets: SeenTargets::Classes(labels.clone()),
            logits: Kept::of(&logits, Reading::AtTheEnd),
        });
        hook.on_step_end(&(0..8), &logits, &on_device).unwrap();
    }
    let report = hook.finish().unwrap();
    report.check().unwrap();
    assert_eq!(report.rows.non_finite, 3 * bad.len() as u64);
    assert_recorded(&fixture, seen, classes, None);
}

fn huge_and_tied(place: &Place) {
    let most = 3.0e38_f32;
    let rows = [
        [most, -most, 0.0, 1.0],
        [-most, most, -most, most],
        [1.0, 1.0, 1.0, 1.0],
        [-2.0, 5.0, 5.0, -2.0],
        [60.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 40.0],
        [0.0, -0.0, 0.0, -0.0],
        [1e-40, 0.0, -1e-40, 0.0],
    ];
    let logits = Tensor::new(&rows, &place.device).unwrap();
    // The lowest and the highest class as label of each row.
    let turned =
        Tensor::cat(&[logits.narrow(0, 1, 7).unwrap(), logits.narrow(0, 0, 1).unwrap()], 0);
    assert_each_recorded(&[logits, turned.unwrap()], &place.device);
}
