//! Labels and ids of every type, and views.

use candle_core::DType;

use crate::arithmetic::format;
use crate::element_kind::ElementKind;
use crate::emulator::{Element, Given, Logits, observe, run};
use crate::task::Task;

const VALUES: [f32; 12] = [0.5, -1.0, 2.0, 4.0, 4.0, 1.0, -3.0, 0.0, 0.25, 9.0, -9.0, 7.0];

#[test]
fn a_view_is_read_where_it_lies() {
    // Rows are columns of memory, and every other one is skipped.
    let view = Logits { values: &VALUES, rows: 2, strides: (2, 4) };
    let copy: Vec<f32> =
        [0, 2].iter().flat_map(|row| [0, 4, 8].map(|at| VALUES[row + at])).collect();
    let copy = Logits { values: &copy, rows: 2, strides: (3, 1) };
    let labels = [2_i64, 0];
    let Some(of_view) = observe(&format(3), &view, &Given::new(&labels, 1), 4) else { return };
    assert_eq!(Some(of_view), observe(&format(3), &copy, &Given::new(&labels, 1), 4));
}

#[test]
fn soft_targets_may_be_a_view_too() {
    let logits = Logits { values: &VALUES, rows: 2, strides: (3, 1) };
    let rows = [0.5_f32, 0.25, 0.25, 0.0, 0.125, 0.875];
    let columns = [0.5_f32, 0.0, 0.25, 0.125, 0.25, 0.875];
    let view = Given { strides: (1, 2), ..Given::new(&columns, 3) };
    let Some(of_view) = observe(&format(3), &logits, &view, 2) else { return };
    assert_eq!(Some(of_view), observe(&format(3), &logits, &Given::new(&rows, 3), 2));
}

#[test]
fn labels_come_in_every_type() {
    fn with<T: Element>(labels: [T; 4]) -> Option<Vec<i64>> {
        let logits = Logits { values: &VALUES, rows: 4, strides: (3, 1) };
        observe(&format(3), &logits, &Given::new(&labels, 1), 2).map(|observed| observed.labels)
    }
    let Some(labels) = with([0_i64, 2, -100, 1 << 40]) else { return };
    assert_eq!(labels, [0, 2, -100, 1 << 40]);
    assert_eq!(with([0_u8, 2, 255, 1]).unwrap(), [0, 2, 255, 1]);
    assert_eq!(with([0_u32, 2, u32::MAX, 1]).unwrap(), [0, 2, i64::from(u32::MAX), 1]);
    assert_eq!(with([0_i16, 2, -100, 1]).unwrap(), [0, 2, -100, 1]);
    assert_eq!(with([0_i32, 2, i32::MIN, 1]).unwrap(), [0, 2, i64::from(i32::MIN), 1]);
}

#[test]
fn weights_that_are_no_distribution_are_told() {
    let logits = Logits { values: &VALUES, rows: 4, strides: (3, 1) };
    let nan = f32::NAN;
    let weights = [0.5_f32, 0.5, 0.0, 1.5, -0.5, 0.0, nan, 0.5, 0.5, -1.0, -1.0, nan];
    let Some(observed) = observe(&format(3), &logits, &Given::new(&weights, 3), 2) else { return };
    let sums = observed.target_sums.unwrap();
    assert_eq!(
        (sums[0], sums[1].is_nan(), sums[2].is_nan(), sums[3].is_nan()),
        (1.0, true, true, true)
    );
    assert!(observed.labels.iter().all(|label| (0..3).contains(label)), "{:?}", observed.labels);
}

#[test]
fn ids_on_the_device_come_along() {
    let (ids, labels) = ([7_i32, -1, 9, 12, 15, 18], [0_i64; 3]);
    let (mut out, mut status, mut out_labels) = ([0_i64; 3], [0_u8; 3], [0_i64; 3]);
    let task = Task {
        logits: VALUES.as_ptr() as u64,
        inner: 3,
        row_stride: 4,
        class_stride: 1,
        labels: labels.as_ptr() as u64,
        label_row_stride: 1,
        ids: ids.as_ptr() as u64,
        id_stride: 2,
        id_count: 3,
        status: status.as_mut_ptr() as u64,
        out_labels: out_labels.as_mut_ptr() as u64,
        out_ids: out.as_mut_ptr() as u64,
        rows: 3,
        classes: 4,
        label_kind: ElementKind::I64 as i32,
        id_kind: ElementKind::I32 as i32,
        columns: [-1; 6],
        ..Task::default()
    };
    if run(DType::F32, &task, 2).is_some() {
        assert_eq!(out, [7, 9, 15]);
    }
}
