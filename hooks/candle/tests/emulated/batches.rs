//! Batches that a loop makes as fast as it can, with tensors that it drops at once.

use candle_core::{DType, Device, Tensor};
use data_diet::observe::{LogitsFormat, Phase, Signal};
use data_diet_candle::DataDietHook;

use crate::device::{Numbers, device, upload};
use crate::fixture::Fixture;

const CLASSES: usize = 5;

fn hook(fixture: &Fixture, format: LogitsFormat) -> DataDietHook {
    let builder = fixture.builder().classes(CLASSES).signals(Signal::ALL).logits(format);
    builder.ignore_index(-100).build().unwrap()
}

/// One step's data, on the host.
struct Step {
    ids: Vec<i64>,
    logits: Tensor,
    labels: Vec<i64>,
    soft: Option<Tensor>,
}

fn step(numbers: &mut Numbers, number: usize, dtype: DType) -> Step {
    let rows = 1 + numbers.below(7);
    let mut values = numbers.logits(rows * CLASSES);
    if numbers.below(20) == 0 {
        values[rows] = f32::NAN;
    }
    let logits = Tensor::from_vec(values, (rows, CLASSES), &Device::Cpu).unwrap();
    let label = |numbers: &mut Numbers| match numbers.below(CLASSES + 1) {
        CLASSES => -100,
        class => class as i64,
    };
    let soft = (number % 5 == 4).then(|| {
        let weights: Vec<f32> = (0..rows * CLASSES)
            .map(|place| if place % CLASSES == number % CLASSES { 0.6 } else { 0.1 })
            .collect();
        Tensor::from_vec(weights, (rows, CLASSES), &Device::Cpu).unwrap()
    });
    Step {
        ids: (0..rows).map(|_| (numbers.next() >> 1) as i64).collect(),
        logits: logits.to_dtype(dtype).unwrap(),
        labels: (0..rows).map(|_| label(numbers)).collect(),
        soft,
    }
}

/// Records the same steps, with everything where `place` puts it.
fn record(hook: &mut DataDietHook, steps: usize, dtype: DType, place: impl Fn(&Tensor) -> Tensor) {
    let mut numbers = Numbers(7);
    for number in 0..steps {
        let Step { ids, logits, labels, soft } = step(&mut numbers, number, dtype);
        let logits = match number % 3 {
            // A view of a larger tensor, whose memory has other rows around it.
            0 => {
                let wide = Tensor::cat(&[&logits, &logits, &logits], 0).unwrap();
                place(&wide).narrow(0, ids.len(), ids.len()).unwrap()
            }
            // Columns first.
            1 => place(&logits.t().unwrap().contiguous().unwrap()).t().unwrap(),
            _ => place(&logits),
        };
        if let Some(soft) = &soft {
            hook.on_step_end(&ids, &logits, &place(soft)).unwrap();
        } else if number % 2 == 0 {
            let ids = place(&Tensor::new(ids, &Device::Cpu).unwrap());
            let labels = place(&Tensor::new(labels, &Device::Cpu).unwrap());
            hook.on_step_end(&ids, &logits, &labels).unwrap();
        } else {
            hook.on_step_end(&ids, &logits, &labels).unwrap();
        }
        // The memory may be another tensor's before the device has come to the hook's work.
        drop(logits);
        drop(place(&Tensor::full(f32::NAN, (8, CLASSES), &Device::Cpu).unwrap()));
    }
}

fn check_same(got: &Fixture, expected: &Fixture) {
    let (got_rows, expected_rows) = (got.rows(Phase::Train), expected.rows(Phase::Train));
    assert_eq!(got_rows.len(), expected_rows.len());
    for (got, expected) in got_rows.iter().zip(&expected_rows) {
        let key = |row: &crate::fixture::Row| (row.step, row.example, row.label, row.correct);
        assert_eq!(key(got), key(expected));
        for (got, expected) in got.signals.iter().zip(&expected.signals) {
            let (got, expected) = (got.unwrap(), expected.unwrap());
            let near = (got - expected).abs() <= 1e-5 * expected.abs();
            assert!(near || got.is_nan() && expected.is_nan(), "{got}, not {expected}");
        }
    }
    let bits = |fixture: &Fixture| {
        let rows = fixture.logits(Phase::Train).into_iter();
        let bits =
            |values: Vec<f32>| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        rows.map(|row| (row.example, row.label, row.classes, bits(row.logits))).collect::<Vec<_>>()
    };
    assert_eq!(bits(got), bits(expected));
}

#[test]
fn a_loop_on_the_device_records_what_it_records_on_the_host() {
    let Some(device) = device("a_loop_on_the_device_records_what_it_records_on_the_host") else {
        return;
    };
    let cases = [
        (DType::F32, LogitsFormat::F32),
        (DType::F16, LogitsFormat::F16),
        (DType::BF16, LogitsFormat::TopK(2)),
        (DType::F64, LogitsFormat::Off),
    ];
    for (dtype, format) in cases {
        let (here, there) = (Fixture::new(), Fixture::new());
        let mut on_host = hook(&here, format);
        record(&mut on_host, 300, dtype, Tensor::clone);
        let mut on_device = hook(&there, format);
        record(&mut on_device, 300, dtype, |tensor| upload(tensor, &device));
        let (on_host, on_device) = (on_host.finish().unwrap(), on_device.finish().unwrap());
        on_device.check().unwrap();
        assert_eq!(on_device.rows, on_host.rows);
        check_same(&there, &here);
    }
}

#[test]
fn threads_and_streams_of_every_kind_work() {
    let Some(device) = device("threads_and_streams_of_every_kind_work") else { return };
    let expected = Fixture::new();
    let mut on_host = hook(&expected, LogitsFormat::F32);
    record(&mut on_host, 60, DType::F32, Tensor::clone);
    on_host.finish().unwrap().check().unwrap();

    // Built here, used by a thread with a stream of its own, ended by a third.
    let fixture = Fixture::new();
    let mut moved = hook(&fixture, LogitsFormat::F32);
    let training = std::thread::spawn(move || {
        record(&mut moved, 60, DType::F32, |tensor| upload(tensor, &device));
        moved
    });
    let moved = training.join().unwrap();
    std::thread::spawn(|| moved.finish().unwrap().check().unwrap()).join().unwrap();
    check_same(&fixture, &expected);

    // A stream that all threads share.
    let fixture = Fixture::new();
    let device = Device::new_cuda_with_stream(0).unwrap();
    let mut shared = hook(&fixture, LogitsFormat::F32);
    record(&mut shared, 60, DType::F32, |tensor| upload(tensor, &device));
    shared.finish().unwrap().check().unwrap();
    check_same(&fixture, &expected);
}

#[test]
fn the_context_keeps_track_of_no_more_than_before() {
    let Some(device) = device("the_context_keeps_track_of_no_more_than_before") else { return };
    let fixture = Fixture::new();
    let mut hook = hook(&fixture, LogitsFormat::F32);
    record(&mut hook, 3, DType::F32, |tensor| upload(tensor, &device));
    let stream = device.as_cuda_device().unwrap().cuda_stream();
    assert!(!stream.context().is_in_multi_stream_mode());
    assert!(!stream.context().is_managing_stream_synchronization());
    hook.finish().unwrap().check().unwrap();
}

#[test]
fn what_was_handed_over_survives_a_hook_that_is_dropped() {
    let Some(device) = device("what_was_handed_over_survives_a_hook_that_is_dropped") else {
        return;
    };
    let fixture = Fixture::new();
    let mut hook = hook(&fixture, LogitsFormat::F32);
    record(&mut hook, 40, DType::F32, |tensor| upload(tensor, &device));
    let handed_over = hook.status().rows;
    drop(hook);
    let written = fixture.rows(Phase::Train).len() as u64;
    // Ignored rows are known only when they have arrived.
    assert!(written > 0 && written <= handed_over, "{written} of {handed_over}");
    let expected = Fixture::new();
    let mut on_host = self::hook(&expected, LogitsFormat::F32);
    record(&mut on_host, 40, DType::F32, Tensor::clone);
    on_host.finish().unwrap().check().unwrap();
    check_same(&fixture, &expected);
}
