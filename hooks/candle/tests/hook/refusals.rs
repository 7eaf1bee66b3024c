//! Batches that do not fit: the error names the argument, what was expected and what came, and
//! nothing of the batch is recorded.

use candle_core::{DType, Device, Tensor};
use data_diet::observe::Phase;
use data_diet::run::RunStatus;
use data_diet_candle::{DataDietHook, Result};

use crate::fixture::{Fixture, some_logits};

/// Puts a bad batch between two good ones, and returns its error's message.
fn refused(bad: impl Fn(&mut DataDietHook) -> Result<()>) -> String {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(3).examples(10).ignore_index(-100).build().unwrap();
    let good = some_logits(2, 3);
    hook.on_step_end(&[0, 1], &good, &[0, 1]).unwrap();
    let error = bad(&mut hook).expect_err("the batch does not fit");
    assert_eq!(hook.step(), 2, "the optimizer has made its update");
    hook.on_step_end(&[2, 3], &good, &[1, 2]).unwrap();
    assert!(hook.status().failure.is_none());
    let report = hook.finish().unwrap();
    assert_eq!((report.status, report.rows.written), (RunStatus::Finished, 4));
    assert_eq!(fixture.steps_and_examples(), [(0, 0), (0, 1), (2, 2), (2, 3)]);
    let logits: Vec<i64> = fixture.logits(Phase::Train).iter().map(|row| row.example).collect();
    assert_eq!(logits, [0, 1, 2, 3]);
    // The error survives the way through a loop that returns candle's results.
    let message = error.to_string();
    let wrapped = candle_core::Error::from(error).to_string();
    assert!(wrapped.contains(&message), "{wrapped} lacks {message}");
    message
}

fn zeros(dims: &[usize], dtype: DType) -> Tensor {
    Tensor::zeros(dims, dtype, &Device::Cpu).unwrap()
}

#[test]
fn lengths_that_differ() {
    let message = refused(|hook| hook.on_step_end(&[0, 1, 2], &some_logits(2, 3), &[0, 1]));
    assert_eq!(message, "ids: expected 2, one per row of logits, got 3");
    let message = refused(|hook| hook.on_step_end(&[0, 1], &some_logits(2, 3), &[0, 1, 2]));
    assert_eq!(message, "labels: expected 2, one per id, got 3");
    let labels = Tensor::new(&[0_u32], &Device::Cpu).unwrap();
    let message = refused(|hook| hook.on_step_end(&[0, 1], &some_logits(2, 3), &labels));
    assert_eq!(message, "labels: expected 2, one per id, got 1");
    let soft = (zeros(&[3, 3], DType::F32) + 1.0 / 3.0).unwrap();
    let message = refused(|hook| hook.on_step_end(&[0, 1], &some_logits(2, 3), &soft));
    assert_eq!(message, "labels: expected soft targets [2, 3], got 9 values");
}

#[test]
fn logits_of_another_rank_or_class_count() {
    for (dims, got) in [
        (&[6_usize][..], "[6]"),
        (&[2, 1, 3], "[2, 1, 3]; for a label per token, build the hook with `.tokens(3)`"),
        (&[], "[]"),
        (&[2, 4], "[2, 4]"),
        (&[2, 2], "[2, 2]"),
        (&[3, 2], "[3, 2]"),
    ] {
        let logits = zeros(dims, DType::F32);
        let message = refused(|hook| hook.on_step_end(&[0, 1], &logits, &[0, 1]));
        let expected = "logits: expected [batch, 3], a column per class, got ";
        assert_eq!(message, format!("{expected}{got}"));
    }
}

#[test]
fn integer_logits() {
    for (dtype, name) in [(DType::I64, "i64"), (DType::U32, "u32"), (DType::U8, "u8")] {
        let logits = zeros(&[2, 3], dtype);
        let message = refused(|hook| hook.on_step_end(&[0, 1], &logits, &[0, 1]));
        assert_eq!(message, format!("logits: expected f32, f16, bf16 or f64, got {name}"));
    }
}

#[test]
fn an_empty_batch_records_nothing_and_is_no_error() {
    let none: [u32; 0] = [];
    let empty = zeros(&[0, 3], DType::F32);
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    hook.on_step_end(&none, &empty, &none).unwrap();
    hook.on_step_end(&zeros(&[0], DType::I64), &empty, &zeros(&[0], DType::U32)).unwrap();
    hook.on_grand_batch(&none, &zeros(&[0], DType::F32), &none).unwrap();
    assert_eq!((hook.step(), hook.finish().unwrap().rows.written), (2, 0));
    let message = refused(|hook| hook.on_step_end(&none, &some_logits(2, 3), &none));
    assert_eq!(message, "ids: expected 2, one per row of logits, got 0");
    let message = refused(|hook| hook.on_step_end(&[0, 1], &zeros(&[0, 3], DType::F32), &[0, 1]));
    assert_eq!(message, "ids: expected 0, one per row of logits, got 2");
}

#[test]
fn labels_outside_the_classes() {
    let message = refused(|hook| hook.on_step_end(&[0, 1], &some_logits(2, 3), &[0, 3]));
    assert_eq!(message, "labels: expected class indices in 0..3, got 3 in row 1");
    let message = refused(|hook| hook.on_step_end(&[0, 1], &some_logits(2, 3), &[-1, 0]));
    assert_eq!(message, "labels: expected class indices in 0..3, got -1 in row 0");
    let labels = Tensor::new(&[0_u8, 255], &Device::Cpu).unwrap();
    let message = refused(|hook| hook.on_step_end(&[0, 1], &some_logits(2, 3), &labels));
    assert_eq!(message, "labels: expected class indices in 0..3, got 255 in row 1");
    let message = refused(|hook| hook.on_step_end(&[0, 1], &some_logits(2, 3), &[u64::MAX, 0]));
    assert_eq!(message, "labels: expected class indices, got 18446744073709551615");
}

#[test]
fn labels_of_another_shape_or_type() {
    for (labels, expected) in [
        (zeros(&[2, 3], DType::I64), "labels: expected class indices [batch], got integers [2, 3]"),
        (
            zeros(&[2], DType::F32),
            "labels: expected class indices [batch] or soft targets [batch, 3], got floats [2]",
        ),
        (
            zeros(&[2, 4], DType::F32),
            "labels: expected class indices [batch] or soft targets [batch, 3], got floats [2, 4]",
        ),
        (
            zeros(&[], DType::I64),
            "labels: expected class indices [batch] or numbers [batch, outputs], got i64 []",
        ),
    ] {
        let message = refused(|hook| hook.on_step_end(&[0, 1], &some_logits(2, 3), &labels));
        assert_eq!(message, expected);
    }
}

#[test]
fn soft_targets_that_are_no_distribution() {
    for (row, sum) in [
        ([0.5_f32, 0.25, 0.5], "got a sum of 1.25 in row 1"),
        ([0.0; 3], "got a sum of 0 in row 1"),
        ([f32::NAN, 0.5, 0.5], "got a sum of NaN in row 1"),
        // Raw logits in place of probabilities: the sum can happen to be 1.
        ([2.0, -1.5, 0.5], "got -1.5 in row 1"),
    ] {
        let soft = Tensor::new(&[[0.25, 0.25, 0.5], row], &Device::Cpu).unwrap();
        let message = refused(|hook| hook.on_step_end(&[0, 1], &some_logits(2, 3), &soft));
        assert!(message.starts_with("labels: expected soft targets that are >= 0 and sum to 1"));
        assert!(message.contains(sum), "{message} lacks {sum}");
    }
}

#[test]
fn ids_outside_the_declared_examples_and_ids_of_another_type() {
    let message = refused(|hook| hook.on_step_end(&[0, 10], &some_logits(2, 3), &[0, 1]));
    assert_eq!(message, "ids: expected example ids in 0..10, got 10 in row 1");
    let message = refused(|hook| hook.on_step_end(&[-1, 0], &some_logits(2, 3), &[0, 1]));
    assert_eq!(message, "ids: expected example ids in 0..10, got -1 in row 0");
    let floats = zeros(&[2], DType::F32);
    let message = refused(|hook| hook.on_step_end(&floats, &some_logits(2, 3), &[0, 1]));
    assert_eq!(message, "ids: expected an integer tensor, got f32");
    let cube = zeros(&[2, 1, 1], DType::I64);
    let message = refused(|hook| hook.on_step_end(&cube, &some_logits(2, 3), &[0, 1]));
    let expected =
        "ids: expected a tensor [batch], or [batch, tokens] of packed sequences, got [2, 1, 1]";
    assert_eq!(message, expected);
    let matrix = zeros(&[2, 2], DType::I64);
    let message = refused(|hook| hook.on_step_end(&matrix, &some_logits(2, 3), &[0, 1]));
    assert_eq!(message, "ids: expected 2, one per row of logits, got 4");
}

#[test]
fn micro_batches_and_score_batches_are_checked_alike() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    let logits = some_logits(2, 3);
    let micro = hook.on_micro_batch(&[0, 1], &logits, &[0, 3]).unwrap_err();
    let score = hook.on_score_batch(&[0, 1], &logits, &[0, 3]).unwrap_err();
    assert_eq!(micro.to_string(), score.to_string());
    assert_eq!(hook.step(), 0);
    assert_eq!(hook.finish().unwrap().rows.written, 0);
    assert!(fixture.rows(Phase::Train).is_empty() && fixture.rows(Phase::Score).is_empty());
}
