//! Every form in which a loop may hold its ids and labels.

use candle_core::{DType, Device, Tensor};
use data_diet::observe::{Phase, Signal};
use data_diet_candle::{ExampleIds, Labels, Result};

use crate::fixture::{Fixture, Row, some_logits};
use crate::reference::assert_row;

/// What is recorded of one batch of three classes.
fn recorded<I, L>(rows: usize, ids: &I, labels: &L) -> Result<Vec<Row>>
where
    I: ExampleIds + ?Sized,
    L: Labels + ?Sized,
{
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(3).signals(Signal::ALL).build()?;
    hook.on_step_end(ids, &some_logits(rows, 3), labels)?;
    hook.finish()?.check()?;
    Ok(fixture.rows(Phase::Train))
}

fn ids<I: ExampleIds + ?Sized>(rows: usize, ids: &I) -> Vec<i64> {
    let rows = recorded(rows, ids, &vec![0_u32; rows]).unwrap();
    rows.iter().map(|row| row.example).collect()
}

fn labels<L: Labels + ?Sized>(labels: &L) -> Vec<i32> {
    let rows = recorded(3, &(0..3), labels).unwrap();
    rows.iter().map(|row| row.label).collect()
}

fn tensor(dtype: DType) -> Tensor {
    Tensor::new(&[2_u32, 0, 1], &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

const INTEGERS: [DType; 5] = [DType::U8, DType::U32, DType::I16, DType::I32, DType::I64];

#[test]
fn ids_as_slices_vectors_and_arrays_of_every_integer() {
    assert_eq!(ids(3, &[2_u8, 0, 1]), [2, 0, 1]);
    assert_eq!(ids(3, &[2_u16, 0, 1]), [2, 0, 1]);
    assert_eq!(ids(3, &[2_u32, 0, 1][..]), [2, 0, 1]);
    assert_eq!(ids(3, &vec![2_u64, 0, 1]), [2, 0, 1]);
    assert_eq!(ids(3, &&vec![2_usize, 0, 1]), [2, 0, 1]);
    assert_eq!(ids(3, &[2_i16, 0, 1]), [2, 0, 1]);
    assert_eq!(ids(3, &[2, 0, 1]), [2, 0, 1]);
    assert_eq!(ids(3, [2_i64, 0, 1].as_slice()), [2, 0, 1]);
}

#[test]
fn ids_as_ranges() {
    assert_eq!(ids(3, &(4..7)), [4, 5, 6]);
    assert_eq!(ids(3, &(4_u32..7)), [4, 5, 6]);
    assert_eq!(ids(3, &(4_u64..=6)), [4, 5, 6]);
    assert_eq!(ids(3, &(4_usize..7)), [4, 5, 6]);
    assert_eq!(ids(3, &(4_i64..=6)), [4, 5, 6]);
}

#[test]
fn ids_as_tensors_of_every_integer_and_as_views() {
    for dtype in INTEGERS {
        assert_eq!(ids(3, &tensor(dtype)), [2, 0, 1], "{dtype:?}");
    }
    let all = Tensor::arange(0_i64, 12, &Device::Cpu).unwrap();
    assert_eq!(ids(3, &all.narrow(0, 7, 3).unwrap()), [7, 8, 9]);
    let column = all.reshape((4, 3)).unwrap().narrow(1, 1, 1).unwrap().squeeze(1).unwrap();
    assert_eq!(ids(4, &column), [1, 4, 7, 10]);
    let repeated = all.narrow(0, 5, 1).unwrap().broadcast_as(3).unwrap();
    assert_eq!(ids(3, &repeated), [5, 5, 5]);
}

#[test]
fn ids_up_to_the_largest() {
    let largest = i64::MAX;
    assert_eq!(ids(2, &[largest as u64, 1 << 40]), [largest, 1 << 40]);
    assert_eq!(ids(1, &Tensor::new(&[largest], &Device::Cpu).unwrap()), [largest]);
    assert_eq!(ids(2, &(largest - 1..=largest)), [largest - 1, largest]);
    assert_eq!(ids(1, &[u32::MAX]), [i64::from(u32::MAX)]);
}

#[test]
fn ids_beyond_the_largest_are_refused_with_the_number_that_came() {
    let message = |error: data_diet_candle::Error| error.to_string();
    let expected = "ids: expected example ids in 0..2^63, got 9223372036854775808";
    let beyond = 1_u64 << 63;
    assert_eq!(message(recorded(1, &[beyond], &[0]).unwrap_err()), expected);
    assert_eq!(message(recorded(1, &(beyond..=beyond), &[0]).unwrap_err()), expected);
    let error = recorded(1, &[u64::MAX], &[0]).unwrap_err();
    assert!(message(error).ends_with("got 18446744073709551615"));
}

#[test]
fn labels_as_slices_vectors_and_arrays_of_every_integer() {
    assert_eq!(labels(&[2_u8, 0, 1]), [2, 0, 1]);
    assert_eq!(labels(&[2_u16, 0, 1]), [2, 0, 1]);
    assert_eq!(labels(&[2_u32, 0, 1][..]), [2, 0, 1]);
    assert_eq!(labels(&vec![2_u64, 0, 1]), [2, 0, 1]);
    assert_eq!(labels(&&[2_usize, 0, 1]), [2, 0, 1]);
    assert_eq!(labels(&[2_i8, 0, 1]), [2, 0, 1]);
    assert_eq!(labels(&[2, 0, 1]), [2, 0, 1]);
    assert_eq!(labels([2_i64, 0, 1].as_slice()), [2, 0, 1]);
}

#[test]
fn labels_as_tensors_of_every_integer_and_as_views() {
    for dtype in INTEGERS {
        assert_eq!(labels(&tensor(dtype)), [2, 0, 1], "{dtype:?}");
    }
    let pairs = Tensor::new(&[[0_u8, 2], [1, 0], [2, 1]], &Device::Cpu).unwrap();
    assert_eq!(labels(&pairs.narrow(1, 1, 1).unwrap().squeeze(1).unwrap()), [2, 0, 1]);
}

#[test]
fn soft_targets_of_every_float() {
    let weights = [[0.5_f64, 0.25, 0.25], [0.0, 0.125, 0.875], [0.375, 0.375, 0.25]];
    let logits = some_logits(3, 3).to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        let soft = Tensor::new(&weights, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        // The same targets as a view that is not contiguous.
        let view = soft.t().unwrap().contiguous().unwrap().t().unwrap();
        for soft in [soft, view] {
            let rows = recorded(3, &(0..3), &soft).unwrap();
            for ((row, logits), target) in rows.iter().zip(&logits).zip(&weights) {
                assert_row(row, logits, target);
            }
            // Class 0 wins the tie of the last row.
            assert_eq!(rows.iter().map(|row| row.label).collect::<Vec<_>>(), [0, 2, 0]);
        }
    }
}

#[test]
fn label_smoothing_in_bf16_is_a_distribution() {
    let smooth = |label: usize| -> Vec<f32> {
        (0..10).map(|class| if class == label { 0.91 } else { 0.01 }).collect()
    };
    let weights = [smooth(3), smooth(0)].concat();
    let soft = Tensor::from_vec(weights, (2, 10), &Device::Cpu).unwrap();
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(10).build().unwrap();
    let soft = soft.to_dtype(DType::BF16).unwrap();
    hook.on_step_end(&[1, 2], &some_logits(2, 10), &soft).unwrap();
    hook.finish().unwrap().check().unwrap();
    let labels: Vec<i32> = fixture.rows(Phase::Train).iter().map(|row| row.label).collect();
    assert_eq!(labels, [3, 0]);
}

#[test]
fn rows_with_the_ignored_label_are_not_recorded() {
    let fixture = Fixture::new();
    let builder = fixture.builder().classes(3).examples(10).ignore_index(-100);
    let mut hook = builder.build().unwrap();
    // What is ignored may carry any id and any logits.
    let ids = [3_i64, -1, 4, 1 << 50];
    let labels = Tensor::new(&[1_i64, -100, 2, -100], &Device::Cpu).unwrap();
    hook.on_step_end(&ids, &some_logits(4, 3), &labels).unwrap();
    hook.on_step_end(&[5], &some_logits(1, 3), &[-100]).unwrap();
    assert_eq!(hook.step(), 2);
    let report = hook.finish().unwrap();
    assert_eq!(report.rows.written, 2);
    assert_eq!(fixture.steps_and_examples(), [(0, 3), (0, 4)]);
    let all = some_logits(4, 3).to_vec2::<f32>().unwrap();
    let recorded: Vec<_> = fixture.logits(Phase::Train).into_iter().map(|row| row.logits).collect();
    assert_eq!(recorded, [all[0].clone(), all[2].clone()]);
}
