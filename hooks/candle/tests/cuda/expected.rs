//! What a batch must have been recorded as: computed on the host by the core's reference, from logits
//! that a test has read back itself.

use candle_core::{DType, Device, Tensor};
use data_diet::{ExampleSignals, Phase, Signal, Target};

use crate::fixture::{Fixture, LogitRow, Row};

/// How far a signal may be from the core's, relatively.
const TOLERANCE: f64 = 1e-5;
/// How far it may be absolutely: with a class as label next to nothing, since the errors of easy
/// examples have an order too; with a soft target, as much as the difference of two rounded numbers.
const LEAST: [f64; 2] = [1e-12, 1e-6];

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
    let expected = ExampleSignals::of(values, target);
    assert_eq!(row.correct, expected.correct, "{at}");
    for (signal, got) in Signal::ALL.into_iter().zip(row.signals) {
        let Some(got) = got else { continue };
        let (got, expected) = (f64::from(got), f64::from(expected.get(signal)));
        let same = got == expected || (got.is_nan() && expected.is_nan());
        assert!(
            same || (got - expected).abs() <= TOLERANCE * expected.abs() + least,
            "{at}: {signal} is {got}, not {expected}"
        );
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
