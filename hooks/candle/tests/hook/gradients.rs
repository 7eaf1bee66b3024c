//! Gradient norms beside the rows of training.

use candle_core::{DType, Device, Tensor};
use data_diet::Experiment;
use data_diet::observe::Phase;
use data_diet_candle::DataDietHook;

use crate::fixture::{Fixture, some_logits};

fn norms(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

#[test]
fn gradient_norms_are_recorded_at_the_present_step_and_change_no_clock() {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(3).every(2).build().unwrap();
    for _ in 0..3 {
        hook.on_step_end(&[0, 1], &some_logits(2, 3), &[0, 1]).unwrap();
        let double = norms(&[1.5, 0.25]).to_dtype(DType::F64).unwrap();
        hook.on_grand_batch(&[1, 0], &double, &[1, 0]).unwrap();
        hook.on_grand_batch(&[2], &[0.5_f32], &[1]).unwrap();
        hook.on_grand_batch(&[3], &vec![0.5_f32], &[1]).unwrap();
    }
    assert_eq!(hook.step(), 3);
    let report = hook.finish().unwrap();
    report.check().unwrap();
    // Steps 0 and 2 of the training rows, and every gradient norm.
    assert_eq!(report.rows.written, 2 * 2 + 3 * 4);
    assert_eq!(fixture.rows(Phase::Train).len(), 4);
    let verification = Experiment::open(fixture.path()).unwrap().verify(|_| {}).unwrap();
    assert!(verification.findings.is_empty(), "{:?}", verification.findings);
}

#[test]
fn refused_norms_name_the_argument_and_record_nothing() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    let soft = Tensor::new(&[[0.5_f32, 0.5, 0.0]], &Device::Cpu).unwrap();
    hook.on_grand_batch(&[3], &norms(&[2.0]), &soft).unwrap();
    let mut refused = |ids: &[i64], norms: &Tensor, labels: &[i64], expected: &str| {
        let error = hook.on_grand_batch(ids, norms, labels).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} lacks {expected}");
    };
    refused(&[0, 1], &norms(&[1.0]), &[0, 1], "norms: expected 2, one per id, got 1");
    refused(
        &[0],
        &some_logits(1, 1),
        &[0],
        "norms: expected a float tensor [batch], got f32 [1, 1]",
    );
    refused(&[0], &Tensor::new(&[1_u32], &Device::Cpu).unwrap(), &[0], "got u32 [1]");
    refused(&[0], &norms(&[-1.0]), &[0], "norms: expected numbers of at least 0");
    refused(&[0], &norms(&[1.0]), &[3], "labels: expected class indices in 0..3");
    refused(&[-1], &norms(&[1.0]), &[0], "ids: expected example ids");
    assert_eq!(hook.finish().unwrap().rows.written, 1);
    let mut disabled = DataDietHook::disabled();
    disabled.on_grand_batch(&[0], &norms(&[-1.0]), &[0]).unwrap();
}
