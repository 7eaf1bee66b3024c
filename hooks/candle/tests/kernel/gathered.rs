//! Outputs without a softmax, which the kernel only gathers, and rows in groups.

use half::f16;

use crate::element_kind::ElementKind;
use crate::emulator::{Element, run};
use crate::task::Task;

/// Outputs, targets, class indices and ids.
type Gathered = (Vec<f64>, Vec<f32>, Vec<i64>, Vec<i64>);

/// Gathers `rows` rows in groups of two, `columns` values each.
fn gathered<T: Element, L: Element>(
    values: &[T],
    strides: (i64, i64, i64),
    rows: usize,
    columns: usize,
    labels: &[L],
    label_columns: usize,
) -> Option<Gathered> {
    let mut outputs = vec![0.5_f64; rows * columns];
    let mut targets = vec![0.5_f32; rows * label_columns];
    let (mut classes, mut out_ids) = (vec![-7_i64; rows], vec![-7_i64; rows]);
    let ids: Vec<u32> = (0..rows as u32).map(|row| 100 + row).collect();
    let task = Task {
        logits: values.as_ptr() as u64,
        group_stride: strides.0,
        inner: 2,
        row_stride: strides.1,
        class_stride: strides.2,
        labels: labels.as_ptr() as u64,
        label_row_stride: label_columns.max(1) as i64,
        label_class_stride: 1,
        label_kind: ElementKind::of(L::DTYPE)? as i32,
        ids: ids.as_ptr() as u64,
        id_stride: 1,
        id_count: rows as i64,
        id_kind: ElementKind::U32 as i32,
        out_ids: out_ids.as_mut_ptr() as u64,
        out_labels: if label_columns == 0 { classes.as_mut_ptr() as u64 } else { 0 },
        outputs: outputs.as_mut_ptr() as u64,
        targets: targets.as_mut_ptr() as u64,
        rows: rows as i64,
        classes: columns as i32,
        label_columns: label_columns as i32,
        columns: [-1; 6],
        ..Task::default()
    };
    run(T::DTYPE, &task, 2)?;
    Some((outputs, targets, classes, out_ids))
}

#[test]
fn outputs_of_every_float_and_targets_of_every_type_come_exactly() {
    // Four rows of three: two groups of two, transposed within a group, with a gap between groups.
    let value = |at: usize| (at * at) as f64 / 7.0 - 3.0;
    let doubles: Vec<f64> = (0..20).map(value).collect();
    let strides = (10, 1, 2);
    let expected: Vec<f64> = (0..4)
        .flat_map(|row| (0..3).map(move |column| value(row / 2 * 10 + row % 2 + column * 2)))
        .collect();
    let floats: Vec<f32> = (0..12).map(|at| at as f32 / 11.0).collect();
    let Some((outputs, targets, _, ids)) = gathered(&doubles, strides, 4, 3, &floats, 3) else {
        return;
    };
    assert_eq!((outputs, targets, ids), (expected, floats, vec![100, 101, 102, 103]));

    let halves: Vec<f16> = doubles.iter().map(|&value| f16::from_f64(value)).collect();
    let whole: Vec<u8> = (0..12).map(|at| at % 2).collect();
    let (outputs, targets, ..) = gathered(&halves, strides, 4, 3, &whole, 3).unwrap();
    let expected: Vec<f64> = (0..4)
        .flat_map(|row| (0..3).map(move |column| row / 2 * 10 + row % 2 + column * 2))
        .map(|at: usize| halves[at].to_f64())
        .collect();
    assert_eq!(outputs, expected);
    assert_eq!(targets, whole.iter().map(|&label| f32::from(label)).collect::<Vec<_>>());

    // Class indices of a binary model stay integers.
    let singles = [0.25_f32, -1.0, 3.0, f32::NEG_INFINITY];
    let (outputs, _, classes, _) =
        gathered(&singles, (2, 1, 1), 4, 1, &[1_i64, 0, -100, 1 << 40], 0).unwrap();
    assert_eq!(outputs, [0.25, -1.0, 3.0, f64::NEG_INFINITY]);
    assert_eq!(classes, [1, 0, -100, 1 << 40]);
}
