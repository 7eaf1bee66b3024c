//! What the options of a hook change about what is recorded.

use candle_core::{Device, Tensor};
use data_diet::ErrorKind;
use data_diet::observe::{ModelKind, Phase, Signal};
use data_diet::run::RunStatus;
use data_diet_candle::{DataDietHook, Error, LogitsFormat};

use crate::fixture::{Fixture, some_logits};

/// Records one batch of two examples at the hook's present step.
fn record(hook: &mut DataDietHook) {
    hook.on_step_end(&[0, 1], &some_logits(2, 3), &[0, 1]).unwrap();
}

fn steps(fixture: &Fixture) -> Vec<i64> {
    let mut steps: Vec<i64> = fixture.rows(Phase::Train).iter().map(|row| row.step).collect();
    steps.dedup();
    steps
}

#[test]
fn every_records_multiples_of_its_steps_and_all_of_the_score_phase() {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(3).every(3).build().unwrap();
    for _ in 0..8 {
        record(&mut hook);
        hook.on_score_batch(&[0, 1], &some_logits(2, 3), &[0, 1]).unwrap();
    }
    assert_eq!(hook.status().rows, 2 * (3 + 8));
    hook.finish().unwrap().check().unwrap();
    assert_eq!(steps(&fixture), [0, 3, 6]);
    assert_eq!(fixture.rows(Phase::Score).len(), 16);
}

#[test]
fn a_disabled_hook_keeps_time_and_nothing_else() {
    let mut hook = DataDietHook::disabled();
    assert!(!hook.is_enabled());
    record(&mut hook);
    // It does not even look at its arguments.
    hook.on_step_end(&[0_u64; 0], &some_logits(1, 2), &[-7]).unwrap();
    hook.on_micro_batch(&[0], &some_logits(1, 2), &[0]).unwrap();
    hook.on_score_batch(&[0], &some_logits(1, 2), &[0]).unwrap();
    hook.on_epoch_end().unwrap();
    hook.flush().unwrap();
    assert_eq!((hook.step(), hook.epoch()), (2, 1));
    assert_eq!(hook.status().rows, 0);
    assert_eq!(hook.finish().unwrap().to_string(), "nothing recorded: the hook is disabled");
}

#[test]
fn loops_that_count_their_own_steps_and_epochs() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    hook.set_step(10).unwrap();
    hook.set_epoch(2).unwrap();
    record(&mut hook);
    hook.set_step(20).unwrap();
    record(&mut hook);
    hook.set_epoch(3).unwrap();
    record(&mut hook);
    assert_eq!((hook.step(), hook.epoch()), (22, 3));
    let error = hook.set_step(21).unwrap_err();
    assert!(error.to_string().starts_with("step: expected 22 or later"), "{error}");
    let error = hook.set_epoch(2).unwrap_err();
    assert!(error.to_string().starts_with("epoch: expected 3 or later"), "{error}");
    hook.finish().unwrap().check().unwrap();
    let times: Vec<_> =
        fixture.rows(Phase::Train).iter().map(|row| (row.step, row.epoch)).collect();
    assert_eq!(times, [(10, 2), (10, 2), (20, 2), (20, 2), (21, 3), (21, 3)]);
}

#[test]
fn micro_batches_belong_to_the_step_of_their_update() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    for update in 0..2_i64 {
        for micro in 0..3 {
            let ids = [update * 10 + micro];
            let logits = some_logits(1, 3);
            match micro {
                2 => hook.on_step_end(&ids, &logits, &[0]).unwrap(),
                _ => hook.on_micro_batch(&ids, &logits, &[0]).unwrap(),
            }
        }
    }
    hook.finish().unwrap().check().unwrap();
    let expected = [(0, 0), (0, 1), (0, 2), (1, 10), (1, 11), (1, 12)];
    assert_eq!(fixture.steps_and_examples(), expected);
}

#[test]
fn resuming_records_every_step_exactly_once() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    for _ in 0..2 {
        (0..5).for_each(|_| record(&mut hook));
        hook.on_epoch_end().unwrap();
    }
    // Training dies at step 10; its last checkpoint was saved at step 7, in epoch 1.
    drop(hook);
    let mut hook = fixture.builder().classes(3).resume_at(7, 1).build().unwrap();
    assert_eq!((hook.step(), hook.epoch()), (7, 1));
    (0..3).for_each(|_| record(&mut hook));
    hook.on_epoch_end().unwrap();
    record(&mut hook);
    let report = hook.finish().unwrap();
    assert_eq!((report.status, report.rows.written), (RunStatus::Finished, 22));
    let rows = fixture.rows(Phase::Train);
    assert_eq!(rows.len(), 22);
    assert_eq!(steps(&fixture), (0..11).collect::<Vec<_>>());
    let epochs: Vec<i32> = rows.iter().step_by(2).map(|row| row.epoch).collect();
    assert_eq!(epochs, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2]);
    assert_eq!(fixture.logits(Phase::Train).len(), 22);
}

#[test]
fn overwriting_leaves_nothing_of_the_earlier_run() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    (0..5).for_each(|_| record(&mut hook));
    hook.finish().unwrap().check().unwrap();
    let mut hook = fixture.builder().classes(4).overwrite().build().unwrap();
    hook.on_step_end(&[9], &some_logits(1, 4), &[3]).unwrap();
    hook.finish().unwrap().check().unwrap();
    assert_eq!(fixture.steps_and_examples(), [(0, 9)]);
    assert_eq!(fixture.logits(Phase::Train).len(), 1);
    assert_eq!(fixture.run().kind(), ModelKind::Classes { classes: 4 });
}

#[test]
fn logits_off() {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(3).logits(LogitsFormat::Off).build().unwrap();
    record(&mut hook);
    hook.finish().unwrap().check().unwrap();
    assert_eq!(fixture.rows(Phase::Train).len(), 2);
    assert!(!fixture.path().join("logits").exists());
}

#[test]
fn logits_as_f16_are_rounded_to_nearest() {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(3).logits(LogitsFormat::F16).build().unwrap();
    // 1/3 is no f16; 1e6 is beyond the largest; 2049 lies between 2048 and 2050 and goes to even.
    let logits = Tensor::new(&[[1.0_f32 / 3.0, 1e6, 2049.0]], &Device::Cpu).unwrap();
    hook.on_step_end(&[5], &logits, &[1]).unwrap();
    hook.finish().unwrap().check().unwrap();
    let rows = fixture.logits(Phase::Train);
    assert_eq!(rows[0].logits, [0.333_251_95, f32::INFINITY, 2048.0]);
    assert_eq!((rows[0].example, rows[0].label), (5, 1));
}

#[test]
fn the_top_logits_come_with_their_classes_largest_first() {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(5).logits(LogitsFormat::TopK(2)).build().unwrap();
    let logits = [[0.0_f32, 3.0, -1.0, 3.0, 1.0], [9.0, 1.0, 2.0, 3.0, 4.0]];
    let logits = Tensor::new(&logits, &Device::Cpu).unwrap();
    hook.on_step_end(&[5, 6], &logits, &[0, 1]).unwrap();
    hook.finish().unwrap().check().unwrap();
    let rows = fixture.logits(Phase::Train);
    assert_eq!(
        (rows[0].classes.as_slice(), rows[0].logits.as_slice()),
        (&[1, 3][..], &[3.0, 3.0][..])
    );
    assert_eq!(
        (rows[1].classes.as_slice(), rows[1].logits.as_slice()),
        (&[0, 4][..], &[9.0, 4.0][..])
    );
}

#[test]
fn more_top_logits_than_classes_are_refused() {
    for k in [0, 4] {
        let fixture = Fixture::new();
        let builder = fixture.builder().classes(3).logits(LogitsFormat::TopK(k));
        let error = builder.build().unwrap_err();
        assert_eq!(error.to_string(), format!("logits: expected the top 1 to 3, got the top {k}"));
        assert!(!fixture.path().exists(), "a refused run leaves nothing behind");
    }
}

#[test]
fn only_the_chosen_signals_are_recorded_in_one_order() {
    let fixture = Fixture::new();
    let chosen = [Signal::Entropy, Signal::Margin, Signal::Entropy];
    let mut hook = fixture.builder().classes(3).signals(chosen).build().unwrap();
    record(&mut hook);
    hook.finish().unwrap().check().unwrap();
    let recorded = fixture.rows(Phase::Train)[0].signals.map(|signal| signal.is_some());
    assert_eq!(recorded, [false, false, true, false, false, true]);
    let run = fixture.run();
    let metadata = run.ranks().next().unwrap();
    assert_eq!(metadata.format.signals, [Signal::Margin, Signal::Entropy]);
}

#[test]
fn no_signals_at_all_still_record_correctness() {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(3).signals([]).build().unwrap();
    record(&mut hook);
    hook.finish().unwrap().check().unwrap();
    let rows = fixture.rows(Phase::Train);
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].signals, [None; 6]);
}

#[test]
fn flushed_rows_are_counted_as_committed() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    record(&mut hook);
    assert_eq!(hook.status().rows, 2);
    hook.flush().unwrap();
    let status = hook.status();
    assert_eq!((status.rows, status.committed, status.queued_bytes), (2, 2, 0));
    assert_eq!((status.dropped, status.lost, status.retries), (0, 0, 0));
    let nan = Tensor::new(&[[f32::NAN, 0.0, 0.0]], &Device::Cpu).unwrap();
    hook.on_step_end(&[0], &nan, &[0]).unwrap();
    hook.flush().unwrap();
    assert_eq!((hook.status().committed, hook.status().non_finite), (3, 1));
    assert_eq!(hook.status().to_string(), "3 rows, 3 committed, 1 non-finite");
    hook.finish().unwrap().check().unwrap();
}

#[test]
fn the_report_says_where_the_rows_are_and_how_many() {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(3).seed(42).build().unwrap();
    record(&mut hook);
    let report = hook.finish().unwrap();
    let path = fixture.path();
    let expected = format!(
        "run `seed-0` finished: 2 rows in {}, 73 bytes a row before compression",
        path.display()
    );
    assert_eq!(report.to_string(), expected);
    assert_eq!((report.status, report.rank, report.rows.lost), (RunStatus::Finished, 0, 0));
    assert!(report.check().is_ok());
    let run = fixture.run();
    let metadata = run.ranks().next().unwrap();
    assert_eq!(metadata.seed, Some(42));
    let hook = metadata.recorded_by.as_deref().unwrap();
    assert!(hook.starts_with("data-diet-candle "), "{hook}");
}

#[test]
fn ranks_record_beside_each_other() {
    let fixture = Fixture::new();
    let mut hooks: Vec<DataDietHook> =
        (0..3).map(|rank| fixture.builder().classes(3).rank(rank).build().unwrap()).collect();
    for (rank, hook) in hooks.iter_mut().enumerate() {
        hook.on_step_end(&[rank * 10], &some_logits(1, 3), &[0]).unwrap();
    }
    let busy = fixture.builder().classes(3).rank(1).build().unwrap_err();
    let Error::Record(busy) = busy else { panic!("{busy:?}") };
    assert_eq!(busy.kind(), ErrorKind::Busy);
    for hook in hooks {
        hook.finish().unwrap().check().unwrap();
    }
    let run = fixture.run();
    assert_eq!(run.ranks().map(|metadata| metadata.rank).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(fixture.steps_and_examples(), [(0, 0), (0, 10), (0, 20)]);
}
