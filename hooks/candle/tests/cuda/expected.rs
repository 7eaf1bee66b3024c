//! What a batch must have been recorded as: computed on the host by the core's reference, from logits
//! that a test has read back itself.

use candle_core::{DType, Device, Tensor};
use data_diet::observe::{ExampleSignals, Phase, Signal, Target};

use crate::fixture::{Fixture, LogitRow, Row};

/// How far a signal may be from the core's, relatively.
const TOLERANCE: f64 = 1e-5;
/// How far it may be absolutely: with a class as label next to nothing, since the errors of easy
/// examples have an order too; with a soft target, as much as the difference of two rounded numbers.
const LEAST: [f64; 2] = [1e-36, 1e-6];

/// When the expected values are read from the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reading {
    /// At once, which makes training wait for the device after every step.
    EveryStep,
    /// When training is over; until then they are copies on the device.
    AtTheEnd,
}

/// Values of a tensor at one moment.
#[derive(Debug)]
pub(crate) enum Kept {
    Host(Vec<f64>),
    Device(Tensor),
}

impl Kept {
    pub(crate) fn of(tensor: &Tensor, reading: Reading) -> Self {
        let tensor = tensor.detach();
        match reading {
            Reading::EveryStep => Self::Host(read(&tensor)),
            Reading::AtTheEnd => Self::Device(tensor.force_contiguous().unwrap()),
        }
    }

    pub(crate) fn into_values(self) -> Vec<f64> {
        match self {
            Self::Host(values) => values,
            Self::Device(tensor) => read(&tensor),
        }
    }
}

/// The values of a tensor in row-major order, widened on the host.
pub(crate) fn read(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.contiguous().unwrap().to_device(&Device::Cpu).unwrap();
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// One call of the hook.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) step: u64,
    pub(crate) epoch: u32,
    pub(crate) ids: Vec<i64>,
    pub(crate) targets: SeenTargets,
    pub(crate) logits: Kept,
}

#[derive(Clone, Debug)]
pub(crate) enum SeenTargets {
    Classes(Vec<i64>),
    /// `[rows, classes]`.
    Soft(Vec<f32>),
}

/// Asserts that the training rows of a run are those of these calls, in their order and no others. Rows
/// whose label is `ignored` are not expected.
pub(crate) fn assert_recorded(
    fixture: &Fixture,
    seen: Vec<Seen>,
    classes: usize,
    ignored: Option<i64>,
) {
    let (rows, logits) = (fixture.rows(Phase::Train), fixture.logits(Phase::Train));
    let mut recorded = rows.iter().zip(&logits);
    let mut expected = 0;
    for call in seen {
        expected += assert_call(&mut recorded, call, classes, ignored);
    }
    assert_eq!((rows.len(), logits.len()), (expected, expected));
}

/// Asserts that the next rows are those of this call, and returns how many they are.
pub(crate) fn assert_call<'a>(
    recorded: &mut impl Iterator<Item = (&'a Row, &'a LogitRow)>,
    call: Seen,
    classes: usize,
    ignored: Option<i64>,
) -> usize {
    let values = call.logits.into_values();
    assert_eq!(values.len(), call.ids.len() * classes, "step {}", call.step);
    let mut expected = 0;
    for (index, (&id, values)) in call.ids.iter().zip(values.chunks(classes)).enumerate() {
        let target = match &call.targets {
            SeenTargets::Classes(labels) if Some(labels[index]) == ignored => continue,
            SeenTargets::Classes(labels) => Target::Class(labels[index] as usize),
            SeenTargets::Soft(weights) => Target::Soft(&weights[index * classes..][..classes]),
        };
        let at = format!("step {}, row {index}, example {id}", call.step);
        let (row, logits) = recorded.next().unwrap_or_else(|| panic!("{at}: not recorded"));
        assert_eq!(
            (row.step, row.epoch, row.example),
            (call.step as i64, call.epoch as i32, id),
            "{at}"
        );
        assert_row(row, values, target, &at);
        assert_logits(logits, row, values, &at);
        expected += 1;
    }
    expected
}

fn assert_row(row: &Row, values: &[f64], target: Target<'_>, at: &str) {
    let (label, least) = match target {
        Target::Class(class) => (class, LEAST[0]),
        Target::Soft(weights) => (first_largest(weights), LEAST[1]),
    };
    assert_eq!(row.label, label as i32, "{at}");
    let expected = ExampleSignals::compute(values, target);
    assert_eq!(row.correct, expected.correct, "{at}");
    for (signal, got) in Signal::ALL.into_iter().zip(row.signals) {
        if let Some(got) = got {
            assert_signal(signal, got, expected.get(signal), least, at);
        }
    }
}

/// Asserts that a signal is what the core computes; `least` is how far it may be in any case.
fn assert_signal(signal: Signal, got: f32, expected: f32, least: f64, at: &str) {
    let same = got == expected || (got.is_nan() && expected.is_nan());
    let (got, expected) = (f64::from(got), f64::from(expected));
    assert!(
        same || (got - expected).abs() <= TOLERANCE * expected.abs() + least,
        "{at}: {signal} is {got}, not {expected}"
    );
}

/// Asserts that rows are those that another hook has recorded, but for the rounding of signals.
pub(crate) fn assert_same_rows(rows: &[Row], others: &[Row], what: &str) {
    assert_eq!(rows.len(), others.len(), "{what}");
    for (index, (row, other)) in rows.iter().zip(others).enumerate() {
        let at = format!("{what}, row {index}");
        let (mut got, mut expected) = (row.clone(), other.clone());
        (got.signals, expected.signals) = ([None; 6], [None; 6]);
        assert_eq!(got, expected, "{at}");
        for (signal, pair) in Signal::ALL.into_iter().zip(row.signals.iter().zip(&other.signals)) {
            match pair {
                (Some(got), Some(expected)) => {
                    assert_signal(signal, *got, *expected, LEAST[1], &at);
                }
                (got, expected) => assert_eq!(got, expected, "{at}: {signal}"),
            }
        }
    }
}

/// Asserts that logits are those that another hook has recorded, to the bit.
pub(crate) fn assert_same_logits(rows: &[LogitRow], others: &[LogitRow], what: &str) {
    assert_eq!(rows.len(), others.len(), "{what}");
    let key = |row: &LogitRow| {
        let bits = |z: &f32| if z.is_nan() { f32::NAN.to_bits() } else { z.to_bits() };
        let bits: Vec<u32> = row.logits.iter().map(bits).collect();
        (row.example, row.label, row.classes.clone(), bits)
    };
    for (index, (row, other)) in rows.iter().zip(others).enumerate() {
        assert_eq!(key(row), key(other), "{what}, row {index}");
    }
}

fn assert_logits(logits: &LogitRow, row: &Row, values: &[f64], at: &str) {
    assert_eq!((logits.example, logits.label), (row.example, row.label), "{at}");
    assert_eq!(logits.logits.len(), values.len(), "{at}");
    for (class, (got, &expected)) in logits.logits.iter().zip(values).enumerate() {
        let expected = expected as f32;
        assert!(
            got.to_bits() == expected.to_bits() || (got.is_nan() && expected.is_nan()),
            "{at}: logit {class} is {got}, not {expected}"
        );
    }
}

fn first_largest(weights: &[f32]) -> usize {
    let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    weights.iter().position(|&weight| weight == largest).unwrap()
}
