//! Every call and every option of the hook, with tensors on the device and with the same tensors on the
//! CPU: what lies on disk afterwards is the same.

use candle_core::{DType, Device, Tensor};
use data_diet::observe::{Phase, Signal};
use data_diet_candle::{DataDietHook, DataDietHookBuilder, LogitsFormat};

use crate::expected::{assert_same_logits, assert_same_rows};
use crate::fixture::Fixture;
use crate::numbers::Numbers;
use crate::place::Place;

everywhere!(
    every_format_of_the_logits,
    few_signals_and_none,
    every_call_of_a_loop,
    a_flush_includes_what_is_still_on_the_device,
);

const ROWS: usize = 9;

/// Logits with ties, both zeros, and rows that are not finite.
fn logits(classes: usize, dtype: DType) -> Tensor {
    let mut numbers = Numbers::new(classes as u64);
    let logits = numbers.tensor(6.0, &[ROWS, classes], &Device::Cpu);
    let mut rows = logits.to_vec2::<f32>().unwrap();
    for (row, value) in [(1, f32::NAN), (2, f32::INFINITY), (3, f32::NEG_INFINITY)] {
        rows[row][row % classes] = value;
    }
    rows[4].fill(2.5);
    rows[5].fill(-0.0);
    rows[5][classes - 1] = 0.0;
    rows[6][0] = rows[6][classes - 1];
    // Beyond the largest f16, and a tie of its rounding.
    (rows[7][0], rows[7][1]) = (70000.0, 2049.0);
    Tensor::new(rows, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Lets two hooks see the same, one on the device and one on the CPU, and compares what they record.
fn assert_alike(
    place: &Place,
    what: &str,
    options: impl Fn(DataDietHookBuilder) -> DataDietHookBuilder,
    calls: impl Fn(&mut DataDietHook, &Device),
) {
    let fixtures = [place.device.clone(), Device::Cpu].map(|device| {
        let fixture = Fixture::new();
        let mut hook = options(fixture.builder()).build().unwrap();
        calls(&mut hook, &device);
        let report = hook.finish().unwrap();
        report.check().unwrap();
        (fixture, report)
    });
    let [(fixture, report), (other, expected)] = fixtures;
    assert_eq!(report.rows, expected.rows, "{what}");
    assert!(report.rows.written > 0, "{what}");
    for phase in [Phase::Train, Phase::Score] {
        assert_same_rows(&fixture.rows(phase), &other.rows(phase), what);
        assert_same_logits(&fixture.logits(phase), &other.logits(phase), what);
    }
}

fn on(device: &Device, tensor: &Tensor) -> Tensor {
    tensor.to_device(device).unwrap()
}

/// Records batches of some widths and of every dtype.
fn record_all(hook: &mut DataDietHook, device: &Device, classes: usize) {
    let labels: Vec<i64> = (0..ROWS).map(|row| (row * 5 % classes) as i64).collect();
    let labels = Tensor::new(labels, device).unwrap();
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        let logits = on(device, &logits(classes, dtype));
        hook.on_step_end(&(0..ROWS), &logits, &labels).unwrap();
    }
}

fn every_format_of_the_logits(place: &Place) {
    for classes in [2, 5, 33, 1000] {
        let top = [1, 2, classes.min(7), classes.min(100)];
        let tops = top.map(|k| LogitsFormat::TopK(k as u32));
        let others = [LogitsFormat::Off, LogitsFormat::F32, LogitsFormat::F16];
        for format in others.into_iter().chain(tops) {
            let options = |builder: DataDietHookBuilder| {
                builder.classes(classes).signals(Signal::ALL).logits(format)
            };
            let what = format!("{classes} classes, {format:?}");
            let calls = |hook: &mut DataDietHook, device: &Device| {
                record_all(hook, device, classes);
            };
            assert_alike(place, &what, options, calls);
        }
    }
}

fn few_signals_and_none(place: &Place) {
    let choices: [&[Signal]; 4] =
        [&[], &[Signal::Entropy], &[Signal::Confidence, Signal::El2n], &[Signal::Margin]];
    for signals in choices {
        let options = |builder: DataDietHookBuilder| {
            builder.classes(5).signals(signals.iter().copied()).logits(LogitsFormat::Off)
        };
        let calls = |hook: &mut DataDietHook, device: &Device| record_all(hook, device, 5);
        assert_alike(place, &format!("{signals:?}"), options, calls);
    }
}

fn every_call_of_a_loop(place: &Place) {
    const CLASSES: usize = 4;
    let options = |builder: DataDietHookBuilder| {
        builder.classes(CLASSES).signals(Signal::ALL).every(2).examples(1000)
    };
    let calls = |hook: &mut DataDietHook, device: &Device| {
        let mut numbers = Numbers::new(53);
        let mut batch = || {
            let logits = numbers.tensor(3.0, &[5, CLASSES], &Device::Cpu);
            let first = numbers.below(900) as i64;
            let ids = Tensor::arange(first, first + 5, device).unwrap();
            let soft = numbers.distributions(5, CLASSES);
            (ids, on(device, &logits), Tensor::from_vec(soft, (5, CLASSES), device).unwrap())
        };
        let labels = Tensor::new(&[0_u8, 3, 2, 1, 0], device).unwrap();
        for epoch in 0..3 {
            for _step in 0..4 {
                let (ids, logits, soft) = batch();
                hook.on_micro_batch(&ids, &logits, &soft).unwrap();
                let (ids, logits, _) = batch();
                hook.on_micro_batch(&ids, &logits, &labels).unwrap();
                let (ids, logits, soft) = batch();
                hook.on_step_end(&ids, &logits, &soft).unwrap();
            }
            hook.on_epoch_end().unwrap();
            let (ids, logits, _) = batch();
            hook.on_score_batch(&ids, &logits, &labels).unwrap();
            let norms = Tensor::new(&[0.5_f32, 2.0, 0.0, 1e-3, 7.0], device).unwrap();
            hook.on_grand_batch(&ids, &norms, &labels).unwrap();
            hook.set_step(20 * (epoch + 1)).unwrap();
        }
        assert_eq!((hook.step(), hook.epoch()), (60, 3));
    };
    assert_alike(place, "every call", options, calls);
}

fn a_flush_includes_what_is_still_on_the_device(place: &Place) {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(5).build().unwrap();
    let logits = on(&place.device, &logits(5, DType::F32));
    let labels = Tensor::zeros(ROWS, DType::I64, &place.device).unwrap();
    for calls in 1..=place.times(200, 10) as u64 {
        hook.on_step_end(&(0..ROWS), &logits, &labels).unwrap();
        let rows = calls * ROWS as u64;
        assert_eq!(hook.status().rows, rows);
        hook.flush().unwrap();
        let status = hook.status();
        assert_eq!((status.committed, status.queued_bytes), (rows, 0));
        // Minus infinity masks a class out.
        assert_eq!(status.non_finite, calls * 2);
    }
    hook.finish().unwrap().check().unwrap();
}
