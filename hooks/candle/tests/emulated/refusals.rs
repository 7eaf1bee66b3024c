//! What is wrong with a batch whose labels are on the device is found when they have arrived.

use candle_core::{Device, Tensor};
use data_diet::ErrorKind;
use data_diet::observe::Phase;
use data_diet_candle::{Error, Result};

use crate::device::{device, upload};
use crate::fixture::{Fixture, some_logits};

#[test]
fn a_wrong_label_on_the_device_costs_its_batch_and_is_named_later() {
    let Some(device) = device("a_wrong_label_on_the_device_costs_its_batch_and_is_named_later")
    else {
        return;
    };
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    let logits = upload(&some_logits(2, 3), &device);
    let labels = |labels: &[i64]| upload(&Tensor::new(labels, &Device::Cpu).unwrap(), &device);
    hook.on_step_end(&[1, 2], &logits, &labels(&[0, 2])).unwrap();
    hook.on_step_end(&[3, 4], &logits, &labels(&[0, 3])).unwrap();
    let told = hook.flush().unwrap_err().to_string();
    assert_eq!(
        told,
        "train batch at step 1: labels: expected class indices in 0..3, got 3 in row 1"
    );
    hook.on_step_end(&[5, 6], &logits, &labels(&[1, 1])).unwrap();
    // Negative ids likewise, and weights that do not sum to 1.
    let ids = upload(&Tensor::new(&[7_i64, -8], &Device::Cpu).unwrap(), &device);
    hook.on_step_end(&ids, &logits, &[1, 1]).unwrap();
    let told = hook.flush().unwrap_err().to_string();
    assert_eq!(
        told,
        "train batch at step 3: ids: expected example ids in 0..2^63, got -8 in row 1"
    );
    let weights = upload(&some_logits(2, 3), &device);
    hook.on_step_end(&[1, 2], &logits, &weights).unwrap();
    let told = hook.flush().unwrap_err().to_string();
    assert!(told.contains("step 4: labels: expected soft targets"), "{told}");
    let report = hook.finish().unwrap();
    report.check().unwrap();
    assert_eq!((report.rows.written, report.rows.lost), (4, 6));
    let steps: Vec<i64> = fixture.rows(Phase::Train).iter().map(|row| row.step).collect();
    assert_eq!(steps, [0, 0, 2, 2]);
}

#[test]
fn what_can_be_seen_at_once_is_refused_at_once() {
    let Some(device) = device("what_can_be_seen_at_once_is_refused_at_once") else { return };
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    let place = |tensor: &Tensor| upload(tensor, &device);
    let logits = place(&some_logits(2, 3));
    let refused = |result: Result<()>| match result.unwrap_err() {
        Error::Record(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            error.to_string()
        }
        error => error.to_string(),
    };
    let message = refused(hook.on_step_end(&[1, 2], &logits, &[0, 3]));
    assert_eq!(message, "labels: expected class indices in 0..3, got 3 in row 1");
    let message = refused(hook.on_step_end(&[1, 2, 3], &logits, &[0, 1, 2]));
    assert!(message.starts_with("logits: expected [3, 3]"), "{message}");
    let three = place(&Tensor::new(&[0_i64, 1, 2], &Device::Cpu).unwrap());
    let message = refused(hook.on_step_end(&[1, 2], &logits, &three));
    assert_eq!(message, "labels: expected 2, one per id, got 3");
    let message = refused(hook.on_step_end(&three, &logits, &[0, 1]));
    assert!(message.starts_with("logits: expected [3, 3]"), "{message}");
    let message = refused(hook.on_step_end(&[1, 2], &logits, &place(&some_logits(2, 4))));
    assert_eq!(message, "labels: expected soft targets [2, 3], got [2, 4]");
    let flat = place(&Tensor::new(&[0.5_f32, 0.5], &Device::Cpu).unwrap());
    let message = refused(hook.on_step_end(&[1, 2], &logits, &flat));
    assert!(message.starts_with("labels: expected class indices [batch] or soft"), "{message}");
    let message = refused(hook.on_step_end(&flat, &logits, &[0, 1]));
    assert!(message.starts_with("ids: expected an integer tensor"), "{message}");
    let whole = place(&Tensor::new(&[[1_u32, 2, 3], [4, 5, 6]], &Device::Cpu).unwrap());
    let message = refused(hook.on_step_end(&[1, 2], &whole, &[0, 1]));
    assert_eq!(message, "logits: expected f32, f16, bf16 or f64, got u32");
    let report = hook.finish().unwrap();
    assert_eq!((report.rows.written, report.rows.lost), (0, 0));
}
