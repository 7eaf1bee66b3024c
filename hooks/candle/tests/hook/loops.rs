//! Whole loops as users write them, in the two kinds of functions that they write them in.

use std::error::Error as StdError;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use candle_nn::{Optimizer, SGD, loss::cross_entropy};
use data_diet::observe::Phase;
use data_diet::run::RunStatus;
use data_diet_candle::{DataDietHook, DataDietHookBuilder, Error};

use crate::fixture::{Fixture, RUN, some_logits};

struct Batch {
    ids: Vec<u32>,
    inputs: Tensor,
    labels: Tensor,
}

fn batches() -> Vec<Batch> {
    let batch = |start: u32| Batch {
        ids: (start..start + 4).collect(),
        inputs: some_logits(4, 6),
        labels: Tensor::new(&[0_u32, 1, 2, 0], &Device::Cpu).unwrap(),
    };
    [0, 4, 8].map(batch).into()
}

fn in_candles_result(experiment: &Path, classes: usize) -> candle_core::Result<()> {
    let weights = Var::from_tensor(&some_logits(6, 3))?;
    let mut optimizer = SGD::new(vec![weights.clone()], 0.1)?;
    let mut hook = DataDietHook::builder(experiment, RUN).classes(classes).build()?;
    for _epoch in 0..2 {
        for batch in batches() {
            let logits = batch.inputs.matmul(&weights)?;
            optimizer.backward_step(&cross_entropy(&logits, &batch.labels)?)?;
            hook.on_step_end(&batch.ids, &logits, &batch.labels)?;
        }
        hook.on_epoch_end()?;
    }
    let run = hook.finish()?;
    assert_eq!(run.status, RunStatus::Finished);
    Ok(())
}

fn in_boxed_errors(
    experiment: &Path,
    classes: usize,
) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let weights = Var::from_tensor(&some_logits(6, 3))?;
    let mut hook = DataDietHook::builder(experiment, RUN).classes(classes).build()?;
    for _epoch in 0..2 {
        for batch in &batches() {
            let Batch { ids, inputs, labels } = batch;
            // Through references and slices, as loops that destructure hold them.
            hook.on_step_end(ids, &inputs.matmul(&weights)?, labels)?;
        }
        hook.on_epoch_end()?;
    }
    hook.finish()?.check()?;
    Ok(())
}

#[test]
fn five_lines_record_a_loop() {
    for train in [
        |path: &Path| in_candles_result(path, 3).unwrap(),
        |path: &Path| in_boxed_errors(path, 3).unwrap(),
    ] {
        let fixture = Fixture::new();
        train(&fixture.path());
        let rows = fixture.rows(Phase::Train);
        let ids: Vec<i64> = rows.iter().map(|row| row.example).collect();
        assert_eq!(ids, (0..12).chain(0..12).collect::<Vec<_>>());
        let times: Vec<_> = rows.iter().step_by(4).map(|row| (row.step, row.epoch)).collect();
        assert_eq!(times, [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)]);
    }
}

#[test]
fn a_mistake_ends_the_loop_with_its_message() {
    let expected = "logits: expected [batch, 10], a column per class, got [4, 3]";
    let candles = in_candles_result(&Fixture::new().path(), 10).unwrap_err();
    assert!(candles.to_string().contains(expected), "{candles}");
    let boxed = in_boxed_errors(&Fixture::new().path(), 10).unwrap_err();
    assert_eq!(boxed.to_string(), expected);
    assert!(boxed.downcast_ref::<Error>().is_some_and(|error| matches!(error, Error::Argument(_))));
}

#[test]
fn errors_of_every_kind_pass_through_candles() {
    let fixture = Fixture::new();
    fixture.hook().finish().unwrap().check().unwrap();
    let exists = fixture.builder().classes(3).build().unwrap_err();
    let message = exists.to_string();
    assert!(candle_core::Error::from(exists).to_string().contains(&message));
    // candle's own error comes out as it went in, not wrapped once more.
    let refused = || Tensor::new(&[1.0], &Device::Cpu).unwrap().reshape(2).unwrap_err();
    let through = candle_core::Error::from(Error::from(refused()));
    assert_eq!(std::mem::discriminant(&through), std::mem::discriminant(&refused()));
}

#[test]
fn ids_and_labels_of_many_types_need_no_annotation() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    let logits = &some_logits(2, 3);
    let slice: &[u32] = &[0, 1];
    let start = 0_usize;
    hook.on_step_end(&[0, 1], logits, &[0, 1]).unwrap();
    hook.on_step_end(slice, logits, slice).unwrap();
    hook.on_step_end(&slice, logits, &slice).unwrap();
    hook.on_step_end(&vec![0_u64, 1], logits, &vec![1_usize, 0]).unwrap();
    hook.on_step_end(&(start..start + 2), logits, &[1_u8, 0]).unwrap();
    hook.on_step_end(&(0..2), logits, &[1_i64, 0]).unwrap();
    let report = hook.finish().unwrap();
    assert_eq!(report.rows.written, 12);
}

#[test]
fn hooks_can_be_moved_to_another_thread_and_shown() {
    fn is_send<T: Send + 'static>() {}
    fn is_sync<T: Sync>() {}
    is_send::<DataDietHook>();
    is_send::<DataDietHookBuilder>();
    is_send::<Error>();
    is_sync::<Error>();
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    hook.on_step_end(&[0], &some_logits(1, 3), &[0]).unwrap();
    let shown = format!("{hook:?}");
    assert!(shown.starts_with("DataDietHook { enabled: true"), "{shown}");
    assert!(shown.contains("step: 1") && shown.contains("rows: 1"), "{shown}");
    hook.finish().unwrap().check().unwrap();
    assert!(format!("{:?}", fixture.builder().classes(3)).starts_with("DataDietHookBuilder"));
}
