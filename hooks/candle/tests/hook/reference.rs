//! The signals once more, by the plain softmax and nothing clever, for logits of moderate size.

use data_diet::observe::Signal;

use crate::fixture::Row;

/// `[el2n, loss, margin, el1n, confidence, entropy]` and whether the example is classified correctly.
pub(crate) fn signals(logits: &[f64], target: &[f64]) -> ([f64; 6], bool) {
    let exponentials: Vec<f64> = logits.iter().map(|z| z.exp()).collect();
    let total: f64 = exponentials.iter().sum();
    let p: Vec<f64> = exponentials.iter().map(|e| e / total).collect();
    let label = first_largest(target);
    let errors = p.iter().zip(target).map(|(p, y)| p - y);
    let others = (0..logits.len()).filter(|&class| class != label).map(|class| logits[class]);
    let signals = [
        errors.clone().map(|error| error * error).sum::<f64>().sqrt(),
        -p.iter().zip(target).map(|(p, y)| y * p.ln()).sum::<f64>(),
        logits[label] - others.fold(f64::NEG_INFINITY, f64::max),
        errors.map(f64::abs).sum(),
        p[label],
        -p.iter().map(|p| p * p.ln()).sum::<f64>(),
    ];
    (signals, first_largest(logits) == label)
}

pub(crate) fn one_hot(label: usize, classes: usize) -> Vec<f64> {
    (0..classes).map(|class| if class == label { 1.0 } else { 0.0 }).collect()
}

/// Asserts that a recorded row holds the signals of these logits.
pub(crate) fn assert_row(row: &Row, logits: &[f64], target: &[f64]) {
    let (expected, correct) = signals(logits, target);
    assert_eq!(row.label as usize, first_largest(target));
    assert_eq!(row.correct, correct, "{logits:?} against {target:?}");
    for ((signal, expected), got) in Signal::ALL.into_iter().zip(expected).zip(row.signals) {
        let Some(got) = got else { continue };
        let tolerance = 2e-7 * expected.abs() + 1e-12;
        assert!(
            (f64::from(got) - expected).abs() <= tolerance,
            "{signal}: {got} is not {expected} for {logits:?} against {target:?}"
        );
    }
}

fn first_largest(values: &[f64]) -> usize {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter().position(|&value| value == largest).unwrap()
}
