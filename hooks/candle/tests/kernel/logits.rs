//! The logits themselves, to the bit.

use data_diet::observe::{BatchFormat, DeviceLogits, LogitsFormat};
use half::{bf16, f16};
use proptest::prelude::*;

use crate::emulator::{Element, Given, Logits, observe};

fn recorded<T: Element>(
    values: &[T],
    classes: usize,
    format: LogitsFormat,
) -> Option<DeviceLogits> {
    let format = BatchFormat { logits: format, ..BatchFormat::classes(classes).unwrap() };
    let rows = values.len() / classes;
    let labels = Given::new(&vec![0_i64; rows], 1);
    let logits = Logits { values, rows, strides: (classes, 1) };
    observe(&format, &logits, &labels, 16).map(|observed| observed.logits)
}

/// A quiet NaN stays as it is, and a signalling one becomes quiet, as conversions make it.
fn quiet(value: f32) -> u32 {
    value.to_bits() | if value.is_nan() { 0x40_0000 } else { 0 }
}

fn singles<T: Element>(values: &[T]) -> Option<Vec<u32>> {
    match recorded(values, values.len(), LogitsFormat::F32)? {
        DeviceLogits::F32(values) => Some(values.iter().map(|value| value.to_bits()).collect()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_half_is_widened_exactly() {
    let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    let Some(widened) = singles(&all) else { return };
    let expected: Vec<u32> = all.iter().map(|&half| quiet(half.to_f32())).collect();
    assert_eq!(widened, expected);
    let all: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
    let expected: Vec<u32> = all.iter().map(|&brain| quiet(brain.to_f32())).collect();
    assert_eq!(singles(&all).unwrap(), expected);
}

/// Bits of singles that are hard to round: around every half and every middle between two.
fn corners() -> Vec<f32> {
    let halves = (0..=u16::MAX).map(f16::from_bits).filter(|half| !half.is_nan());
    halves
        .flat_map(|half| {
            let bits = half.to_f32().to_bits();
            [0, 1, 0xfff, 0x1000, 0x1001, 0x1fff]
                .map(|more| f32::from_bits(bits.wrapping_add(more)))
        })
        .collect()
}

fn check_halves(values: &[f32]) {
    let Some(recorded) = recorded(values, values.len(), LogitsFormat::F16) else { return };
    let DeviceLogits::F16(bytes) = recorded else { panic!("{recorded:?}") };
    for (&value, half) in values.iter().zip(bytes.chunks_exact(2)) {
        let got = u16::from_le_bytes([half[0], half[1]]);
        assert_eq!(got, f16::from_f32(value).to_bits(), "{value:e} is {:#x}", value.to_bits());
    }
}

#[test]
fn singles_are_rounded_to_halves_like_on_the_host() {
    check_halves(&corners());
    let tiny: Vec<f32> =
        (0..4096_u32).map(|bits| f32::from_bits(0x3300_0000 + bits * 4096)).collect();
    check_halves(&tiny);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_bits_are_recorded(bits in prop::collection::vec(any::<u32>(), 2..200)) {
        let values: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
        if let Some(got) = singles(&values) {
            prop_assert_eq!(got, values.iter().map(|&value| quiet(value)).collect::<Vec<_>>());
        }
        check_halves(&values);
        let doubles: Vec<f64> = bits.iter().map(|&bits| f64::from_bits(u64::from(bits) << 32 | 0x1234_5678)).collect();
        if let Some(got) = singles(&doubles) {
            let expected: Vec<u32> = doubles.iter().map(|&value| quiet(value as f32)).collect();
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn the_largest_come_first(
        values in prop::collection::vec(
            prop_oneof![
                3 => (-4_i8..4).prop_map(f32::from),
                1 => prop::sample::select(vec![f32::NAN, -f32::NAN, f32::INFINITY, 0.0, -0.0]),
            ],
            2..60,
        ),
        most in 1_usize..8,
    ) {
        let k = most.min(values.len());
        let Some(got) = recorded(&values, values.len(), LogitsFormat::TopK(k as u32)) else { return Ok(()) };
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        order.truncate(k);
        let DeviceLogits::TopK { classes, values: top, .. } = got else { panic!("{got:?}") };
        prop_assert_eq!(classes, order.iter().map(|&class| class as i32).collect::<Vec<_>>());
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let expected: Vec<f32> = order.iter().map(|&class| values[class]).collect();
        prop_assert_eq!(bits(&top), bits(&expected));
    }
}

proptest! {
    #[test]
    fn the_label_and_the_log_sum_exp_come_with_the_highest(
        values in prop::collection::vec(
            prop_oneof![9 => -30.0_f32..30.0, 1 => prop::sample::select(vec![f32::NEG_INFINITY, f32::NAN])],
            4..40,
        ),
        label in 0_usize..4,
        threads in prop::sample::select(vec![1, 2, 8]),
    ) {
        let format = BatchFormat {
            logits: LogitsFormat::TopKAndLabel(2),
            ..BatchFormat::classes(values.len()).unwrap()
        };
        let logits = Logits { values: &values, rows: 1, strides: (values.len(), 1) };
        let labels = [label as i64];
        let Some(got) = observe(&format, &logits, &Given::new(&labels, 1), threads) else { return Ok(()) };
        let DeviceLogits::TopK { label: Some(got), .. } = got.logits else { panic!("{got:?}") };
        prop_assert_eq!(got.logit[0].to_bits(), values[label].to_bits());
        let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = values.iter().map(|&z| f64::from(z - largest).exp()).sum();
        let expected = f64::from(largest) + sum.ln();
        if values.iter().any(|z| z.is_nan()) || !largest.is_finite() {
            prop_assert!(got.log_sum_exp[0].is_nan());
        } else {
            let error = (f64::from(got.log_sum_exp[0]) - expected).abs();
            prop_assert!(error <= 2e-6 * expected.abs().max(1.0), "{} {}", got.log_sum_exp[0], expected);
        }
    }
}
