//! Logits as views of larger tensors, and values that training does not hope for.

use candle_core::{DType, Device, Tensor, Var};
use data_diet::observe::Signal;

use crate::expected::{Kept, Reading, Seen, SeenTargets, assert_recorded};
use crate::fixture::Fixture;
use crate::numbers::Numbers;
use crate::place::Place;

everywhere!(views, half_and_double_precision, rows_that_are_not_finite, huge_and_tied);

const ROWS: usize = 37;
const CLASSES: usize = 10;

/// Records tensors of logits, one per step, and compares what lies on disk with the same tensors on the
/// CPU. The labels count up. Returns the number of rows that were not finite.
fn assert_each_recorded(place: &Place, make: impl Fn(&Device) -> Vec<Tensor>) -> u64 {
    let (all, on_the_cpu) = (make(&place.device), make(&Device::Cpu));
    let (rows, classes) = all[0].dims2().unwrap();
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(classes).signals(Signal::ALL).build().unwrap();
    let labels: Vec<i64> = (0..rows).map(|row| (row % classes) as i64).collect();
    let on_device = Tensor::new(labels.as_slice(), &place.device).unwrap();
    let mut seen = Vec::new();
    for (logits, expected) in all.iter().zip(&on_the_cpu) {
        seen.push(Seen {
            step: hook.step(),
            epoch: 0,
            ids: (0..rows as i64).collect(),
            targets: SeenTargets::Classes(labels.clone()),
            logits: Kept::of(expected, Reading::EveryStep),
        });
        hook.on_step_end(&(0..rows), logits, &on_device).unwrap();
    }
    let report = hook.finish().unwrap();
    report.check().unwrap();
    assert_recorded(&fixture, seen, classes, None);
    report.rows.non_finite
}

/// Tensors `[ROWS, CLASSES]` that share the memory of others, in many ways.
fn some_views(dtype: DType, device: &Device) -> Vec<Tensor> {
    let mut numbers = Numbers::new(5);
    let mut tensor = |shape: &[usize]| {
        let values = numbers.tensor(8.0, shape, &Device::Cpu).to_dtype(dtype).unwrap();
        values.to_device(device).unwrap()
    };
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
        Var::from_tensor(&tall).unwrap().narrow(0, 1, ROWS).unwrap(),
    ]
}

fn views(place: &Place) {
    assert_each_recorded(place, |device| some_views(DType::F32, device));
}

fn half_and_double_precision(place: &Place) {
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        assert_each_recorded(place, |device| some_views(dtype, device));
    }
}

fn rows_that_are_not_finite(place: &Place) {
    const DTYPES: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];
    let classes = 6;
    let mut values: Vec<f32> = (0..8 * classes).map(|at| (at as f32 * 0.7).sin()).collect();
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN];
    for (row, bad) in bad.into_iter().enumerate() {
        // In the label's place, and in another's.
        let class = if row % 2 == 0 { 2 * row } else { 1 };
        values[2 * row * classes + class] = bad;
    }
    let values = Tensor::from_vec(values, (8, classes), &Device::Cpu).unwrap();
    let non_finite = assert_each_recorded(place, |device| {
        DTYPES.map(|dtype| values.to_dtype(dtype).unwrap().to_device(device).unwrap()).into()
    });
    // Minus infinity masks a class out.
    assert_eq!(non_finite, (DTYPES.len() * (bad.len() - 1)) as u64);
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
    // The lowest and the highest class as label of each row.
    let mut turned = rows;
    turned.rotate_left(1);
    let non_finite = assert_each_recorded(place, |device| {
        [rows, turned].map(|rows| Tensor::new(&rows, device).unwrap()).into()
    });
    assert_eq!(non_finite, 0);
}
