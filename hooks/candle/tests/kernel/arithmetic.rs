//! Signals against the core's definitions.

use data_diet::observe::{
    BatchFormat, DeviceSignals, ExampleSignals, Float, LogitsFormat, Signal, Target,
};
use half::{bf16, f16};
use proptest::prelude::*;

use crate::emulator::{Element, Given, Logits, observe};

pub(crate) fn format(classes: usize) -> BatchFormat {
    BatchFormat {
        signals: Signal::ALL.to_vec(),
        logits: LogitsFormat::Off,
        ..BatchFormat::classes(classes).unwrap()
    }
}

/// Whether a row of signals is the reference's, to 1e-5 of its own size.
fn check(observed: &DeviceSignals, row: usize, expected: &ExampleSignals) {
    for (column, signal) in observed.signals.iter().zip(Signal::ALL) {
        let (got, expected) = (f64::from(column[row]), f64::from(expected.get(signal)));
        if expected.is_nan() || expected.is_infinite() {
            assert_eq!(got.to_bits(), expected.to_bits(), "{signal} in row {row}: {got}");
            continue;
        }
        // The margin of two large logits has their rounding, which its own size does not tell.
        let tolerance = 1e-5 * expected.abs() + 1e-37;
        assert!(
            (got - expected).abs() <= tolerance,
            "{signal} in row {row}: {got}, not {expected}"
        );
    }
    assert_eq!(observed.correct[row], expected.correct, "row {row}");
}

fn hard<T: Element + Float>(values: &[T], classes: usize, labels: &[i64], threads: i32) {
    let logits = Logits { values, rows: labels.len(), strides: (classes, 1) };
    let Some(observed) = observe(&format(classes), &logits, &Given::new(labels, 1), threads) else {
        return;
    };
    assert_eq!(observed.labels, labels);
    for (row, (values, &label)) in values.chunks_exact(classes).zip(labels).enumerate() {
        let class = usize::try_from(label).unwrap_or(usize::MAX);
        check(&observed, row, &ExampleSignals::compute(values, Target::Class(class)));
        let bounded = values.iter().all(|&z| z.into() < f64::INFINITY);
        let is_finite = bounded && values.iter().any(|&z| z.into().is_finite());
        assert_eq!(observed.finite[row], is_finite, "row {row}");
    }
}

fn soft<T: Element + Float, W: Element + Into<f64>>(
    values: &[T],
    classes: usize,
    weights: &[W],
    threads: i32,
) {
    let logits = Logits { values, rows: values.len() / classes, strides: (classes, 1) };
    let labels = Given::new(weights, classes);
    let Some(observed) = observe(&format(classes), &logits, &labels, threads) else { return };
    for (row, values) in values.chunks_exact(classes).enumerate() {
        let weights: Vec<f32> = weights[row * classes..][..classes]
            .iter()
            .map(|&weight| weight.into() as f32)
            .collect();
        check(&observed, row, &ExampleSignals::compute(values, Target::Soft(&weights)));
        let sum: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        let got = observed.target_sums.as_ref().unwrap()[row];
        assert!((got - sum).abs() < 1e-9, "row {row}: {got}, not {sum}");
    }
}

/// Logits of every size, ties among them, and here and there one that is not finite.
fn logit() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => -8.0..8.0,
        2 => (-3_i32..3).prop_map(f64::from),
        2 => -120.0..120.0,
        1 => prop::sample::select(vec![3.0e4, -3.0e4, 0.0, -0.0, 6.0e-8, 1.0e-300]),
    ]
}

fn odd_logit() -> impl Strategy<Value = f64> {
    prop_oneof![40 => logit(), 1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY])]
}

fn threads() -> impl Strategy<Value = i32> {
    prop::sample::select(vec![1, 2, 8, 32])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn class_indices(
        (classes, logits, labels) in (2_usize..70, 1_usize..4).prop_flat_map(|(classes, rows)| (
            Just(classes),
            prop::collection::vec(odd_logit(), classes * rows),
            prop::collection::vec(-2..classes as i64 + 2, rows),
        )),
        threads in threads(),
    ) {
        hard(&logits, classes, &labels, threads);
        let narrow: Vec<f32> = logits.iter().map(|&z| z as f32).collect();
        hard(&narrow, classes, &labels, threads);
        let narrow: Vec<f16> = logits.iter().map(|&z| f16::from_f64(z)).collect();
        hard(&narrow, classes, &labels, threads);
        let narrow: Vec<bf16> = logits.iter().map(|&z| bf16::from_f64(z)).collect();
        hard(&narrow, classes, &labels, threads);
    }

    #[test]
    fn soft_targets(
        (classes, logits, parts) in (2_usize..50, 1_usize..4).prop_flat_map(|(classes, rows)| (
            Just(classes),
            prop::collection::vec(logit(), classes * rows),
            prop::collection::vec(prop_oneof![Just(0_u32), 1_u32..9], classes * rows),
        )),
        threads in threads(),
    ) {
        let weights: Vec<f64> = parts
            .chunks_exact(classes)
            .flat_map(|parts| {
                let sum: u32 = parts.iter().sum();
                parts.iter().map(move |&part| f64::from(part) / f64::from(sum.max(1)))
            })
            .collect();
        soft(&logits, classes, &weights, threads);
        let (narrow, single): (Vec<f32>, Vec<f32>) =
            (logits.iter().map(|&z| z as f32).collect(), weights.iter().map(|&w| w as f32).collect());
        soft(&narrow, classes, &single, threads);
        let half: Vec<f16> = weights.iter().map(|&w| f16::from_f64(w)).collect();
        soft(&narrow, classes, &half, threads);
        let brain: Vec<bf16> = weights.iter().map(|&w| bf16::from_f64(w)).collect();
        soft(&narrow, classes, &brain, threads);
    }
}

#[test]
fn many_classes_in_every_order() {
    const CLASSES: usize = 50_000;
    let rising: Vec<f32> = (0..CLASSES).map(|class| class as f32 * 2e-5).collect();
    let falling: Vec<f32> = rising.iter().rev().copied().collect();
    let steep: Vec<f32> = (0..CLASSES).map(|class| class as f32 * 0.01 - 250.0).collect();
    let scattered: Vec<f32> = (0..CLASSES as u64)
        .map(|class| (class.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 * 1e-6)
        .collect();
    for values in [rising, falling, steep, scattered] {
        for label in [0, 17, CLASSES as i64 - 1] {
            hard(&values, CLASSES, &[label], 256);
        }
        let weights = vec![1.0_f32 / CLASSES as f32; CLASSES];
        soft(&values, CLASSES, &weights, 64);
    }
}

#[test]
fn tiny_errors_keep_their_precision() {
    for depth in [20.0_f32, 40.0, 60.0, 80.0] {
        hard(&[depth, 0.0, -3.0], 3, &[0], 32);
        hard(&[f64::from(depth) * 5.0, 0.0, -3.0], 3, &[0], 32);
        hard(&[depth, 0.0, -3.0], 3, &[1], 32);
    }
}

#[test]
fn huge_logits_do_not_overflow() {
    for threads in [1, 32] {
        hard(&[3.4e38_f32, -3.4e38, 0.0], 3, &[1], threads);
        hard(&[1.7e308_f64, -1.7e308, 0.0], 3, &[0], threads);
        hard(&[1.7e308_f64, -1.7e308, 0.0], 3, &[1], threads);
    }
}

#[test]
fn the_lowest_index_wins_a_tie_wherever_its_thread_is() {
    for threads in [1, 4, 32] {
        let mut values = vec![0.0_f32; 40];
        for (first, second) in [(3, 36), (7, 8), (0, 39), (31, 32)] {
            values.fill(0.0);
            (values[first], values[second]) = (5.0, 5.0);
            hard(&values, 40, &[first as i64], threads);
            hard(&values, 40, &[second as i64], threads);
        }
    }
}
