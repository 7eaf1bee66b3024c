//! Rows whose signals were computed on an accelerator instead of the host.

use super::format::{BatchFormat, LogitsFormat};
use super::ids::BatchIds;
use super::logits::{LabelLogits, LogitRows, TopLogits};
use super::sequences::{Sequences, TokenSignals};
use super::targets::TargetForm;
use super::{Batch, Measured, ObservationColumns, check};
use crate::error::{Error, Result};
use crate::observe::model_kind::ModelKind;
use crate::observe::training_time::Moment;

/// The values computed for each row of a batch of `classes`, or for each token of a batch of `tokens`,
/// on an accelerator, by the definitions of [`ExampleSignals`](crate::observe::ExampleSignals).
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceSignals {
    /// The class index of each row, unchecked. For a soft target, the most likely class; the lowest
    /// wins a tie.
    pub labels: Vec<i64>,
    /// Whether each row was classified correctly.
    pub correct: Vec<bool>,
    /// Whether each row is finite: no logit is NaN or plus infinity, and not all are minus infinity.
    pub finite: Vec<bool>,
    /// One column per signal of the format, in its order.
    pub signals: Vec<Vec<f32>>,
    /// The logits in the format's form.
    pub logits: DeviceLogits,
    /// For soft targets, the sum of each row's weights; NaN if a weight is negative or NaN.
    pub target_sums: Option<Vec<f64>>,
}

/// Logits in the form in which they are recorded, row-major.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum DeviceLogits {
    /// [`LogitsFormat::Off`].
    Off,
    /// [`LogitsFormat::F32`]: `[batch, classes]`.
    F32(Vec<f32>),
    /// [`LogitsFormat::F16`]: `[batch, classes]`, two little-endian bytes each.
    F16(Vec<u8>),
    /// [`LogitsFormat::TopK`]: `[batch, k]` each, largest first.
    TopK {
        /// The classes of the largest logits; ties by the lower class index.
        classes: Vec<i32>,
        /// Their logits.
        values: Vec<f32>,
        /// For [`LogitsFormat::TopKAndLabel`], what they say about the label.
        label: Option<LabelLogits>,
    },
}

impl Batch {
    /// Makes a batch from values computed on an accelerator.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) as for [`new`](Self::new), and for
    /// columns that do not fit the format or one another.
    pub fn from_device_signals<'a>(
        format: &BatchFormat,
        moment: Moment,
        ids: impl Into<BatchIds<'a>>,
        observed: DeviceSignals,
    ) -> Result<Self> {
        let ids = ids.into();
        let rows = observed.labels.len();
        ids.check(format, rows)?;
        check_lengths(format, rows, &observed)?;
        match &observed.target_sums {
            None => check::class_labels(format, &observed.labels)?,
            Some(sums) => {
                for (row, &sum) in sums.iter().enumerate() {
                    check::soft_target(
                        row,
                        sum,
                        sum.is_nan().then_some("a weight below 0 or NaN"),
                    )?;
                }
            }
        }
        let is_class = observed.target_sums.is_none();
        let ignored = |row: usize| is_class && format.ignores(observed.labels[row]);
        let keep = check::kept_rows(format, ids, rows, ignored)?;
        if format.kind.has_tokens() {
            let tokens = DeviceTokens { observed: &observed, counted: &keep };
            let sequences = Sequences::new(format, ids, rows, &keep, &tokens);
            return Ok(Self::of_sequences(moment, sequences));
        }
        let DeviceSignals { mut labels, mut correct, mut finite, mut signals, logits, .. } =
            observed;
        let mut logits = stored(format, logits);
        let examples = keep.iter().map(|&row| ids.of_row(row, rows)).collect();
        if keep.len() < rows {
            retain(&mut labels, &keep, 1);
            retain(&mut correct, &keep, 1);
            retain(&mut finite, &keep, 1);
            for column in &mut signals {
                retain(column, &keep, 1);
            }
            let classes = format.kind.outputs();
            match &mut logits {
                None => {}
                Some(LogitRows::F32(values)) => retain(values, &keep, classes),
                Some(LogitRows::F16(bytes)) => retain(bytes, &keep, 2 * classes),
                Some(LogitRows::Top(top)) => {
                    retain(&mut top.classes, &keep, top.k);
                    retain(&mut top.values, &keep, top.k);
                    if let Some(label) = &mut top.label {
                        retain(&mut label.logit, &keep, 1);
                        retain(&mut label.log_sum_exp, &keep, 1);
                    }
                }
            }
        }
        Ok(Self {
            moment,
            examples,
            labels: labels.into_iter().map(|label| label as i32).collect(),
            non_finite: finite.iter().filter(|&&finite| !finite).count() as u64,
            measured: Measured::Observations(ObservationColumns {
                correct,
                tokens: None,
                signals,
                logits,
            }),
            targets: Some(if is_class { TargetForm::Classes } else { TargetForm::Soft }),
            without_tokens: 0,
        })
    }
}

/// The tokens of a batch that count.
struct DeviceTokens<'a> {
    observed: &'a DeviceSignals,
    counted: &'a [usize],
}

impl TokenSignals for DeviceTokens<'_> {
    fn signals(&self, at: usize) -> impl Iterator<Item = f32> + '_ {
        let row = self.counted[at];
        self.observed.signals.iter().map(move |column| column[row])
    }

    fn is_correct(&self, at: usize) -> bool {
        self.observed.correct[self.counted[at]]
    }

    fn is_finite(&self, at: usize) -> bool {
        self.observed.finite[self.counted[at]]
    }
}

fn check_lengths(format: &BatchFormat, rows: usize, observed: &DeviceSignals) -> Result<()> {
    if !matches!(format.kind, ModelKind::Classes { .. } | ModelKind::Tokens { .. }) {
        return Err(Error::invalid(format!(
            "signals: expected those of classes or tokens, which a device computes, got `{}`",
            format.kind.name()
        )));
    }
    let same = |what: &str, got: usize, expected: usize| {
        if got == expected {
            return Ok(());
        }
        Err(Error::invalid(format!("{what}: expected {expected}, got {got}")))
    };
    same("correct", observed.correct.len(), rows)?;
    same("finite", observed.finite.len(), rows)?;
    if let Some(sums) = &observed.target_sums {
        same("target_sums", sums.len(), rows)?;
    }
    same("signals", observed.signals.len(), format.signals.len())?;
    for (column, signal) in observed.signals.iter().zip(&format.signals) {
        same(signal.name(), column.len(), rows)?;
    }
    let all = rows * format.kind.outputs();
    match (&observed.logits, format.logits) {
        (DeviceLogits::Off, LogitsFormat::Off) => Ok(()),
        (DeviceLogits::F32(values), LogitsFormat::F32) => same("logits", values.len(), all),
        (DeviceLogits::F16(bytes), LogitsFormat::F16) => same("logits", bytes.len(), 2 * all),
        (
            DeviceLogits::TopK { classes, values, label },
            LogitsFormat::TopK(k) | LogitsFormat::TopKAndLabel(k),
        ) => {
            let of_label =
                if matches!(format.logits, LogitsFormat::TopKAndLabel(_)) { rows } else { 0 };
            let label = label.as_ref();
            same("logits", values.len(), rows * k as usize)?;
            same("logits' classes", classes.len(), rows * k as usize)?;
            same("label_logit", label.map_or(0, |label| label.logit.len()), of_label)?;
            same("log_sum_exp", label.map_or(0, |label| label.log_sum_exp.len()), of_label)
        }
        (_, expected) => {
            Err(Error::invalid(format!("logits: expected {expected:?}, got another format")))
        }
    }
}

fn stored(format: &BatchFormat, logits: DeviceLogits) -> Option<LogitRows> {
    match logits {
        DeviceLogits::Off => None,
        DeviceLogits::F32(values) => Some(LogitRows::F32(values)),
        DeviceLogits::F16(bytes) => Some(LogitRows::F16(bytes)),
        DeviceLogits::TopK { classes, values, label } => {
            let k = format.logits.top()? as usize;
            Some(LogitRows::Top(TopLogits { k, classes, values, label }))
        }
    }
}

/// Moves the rows to keep, of `width` values each, to the front and drops the others.
fn retain<T: Copy>(values: &mut Vec<T>, keep: &[usize], width: usize) {
    for (to, &from) in keep.iter().enumerate() {
        values.copy_within(from * width..(from + 1) * width, to * width);
    }
    values.truncate(keep.len() * width);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::batch::Targets;
    use crate::observe::definitions::{ExampleSignals, Target, argmax};
    use crate::observe::signal::Signal;
    use crate::observe::training_time::Phase;

    const MOMENT: Moment = Moment { phase: Phase::Train, step: 3, epoch: 1 };

    /// What an accelerator would compute, from the reference implementation.
    fn computed(format: &BatchFormat, logits: &[f32], targets: Targets<'_>) -> DeviceSignals {
        let classes = format.kind.outputs();
        let soft = |row: usize, weights: &[f32]| weights[row * classes..][..classes].to_vec();
        let rows: Vec<&[f32]> = logits.chunks_exact(classes).collect();
        let signals: Vec<ExampleSignals> = rows
            .iter()
            .enumerate()
            .map(|(row, logits)| match targets {
                Targets::Classes(labels) => {
                    let class = usize::try_from(labels[row]).unwrap_or(usize::MAX);
                    ExampleSignals::compute(logits, Target::Class(class))
                }
                Targets::Soft(weights) => {
                    ExampleSignals::compute(logits, Target::Soft(&soft(row, weights)))
                }
                Targets::None => ExampleSignals::NON_FINITE,
            })
            .collect();
        let mut kept = LogitRows::with_capacity(format, rows.len());
        for row in &rows {
            if let Some(kept) = &mut kept {
                kept.push(row, 0, f64::NAN);
            }
        }
        DeviceSignals {
            labels: match targets {
                Targets::Classes(labels) => labels.to_vec(),
                Targets::Soft(weights) => {
                    weights.chunks_exact(classes).map(|row| argmax(row) as i64).collect()
                }
                Targets::None => Vec::new(),
            },
            correct: signals.iter().map(|signals| signals.correct).collect(),
            finite: rows.iter().map(|row| row.iter().all(|z| z.is_finite())).collect(),
            signals: format
                .signals
                .iter()
                .map(|&signal| signals.iter().map(|signals| signals.get(signal)).collect())
                .collect(),
            logits: match kept {
                None => DeviceLogits::Off,
                Some(LogitRows::F32(values)) => DeviceLogits::F32(values),
                Some(LogitRows::F16(bytes)) => DeviceLogits::F16(bytes),
                Some(LogitRows::Top(TopLogits { classes, values, label, .. })) => {
                    DeviceLogits::TopK { classes, values, label }
                }
            },
            target_sums: match targets {
                Targets::Classes(_) | Targets::None => None,
                Targets::Soft(weights) => Some(
                    weights
                        .chunks_exact(classes)
                        .map(|row| {
                            if row.iter().any(|&weight| weight < 0.0) {
                                f64::NAN
                            } else {
                                row.iter().map(|&weight| f64::from(weight)).sum()
                            }
                        })
                        .collect(),
                ),
            },
        }
    }

    proptest! {
        /// A batch is the same, or refused in the same way, wherever its signals were computed.
        #[test]
        fn rows_from_elsewhere_make_the_same_batch(
            rows in prop::collection::vec(
                (
                    prop_oneof![20 => 0_i64..12, 1 => -2_i64..14],
                    prop_oneof![20 => 0_i64..3, 1 => -1_i64..4],
                    prop::array::uniform3(-9.0_f32..9.0),
                    prop::bool::weighted(0.1),
                ),
                0..6,
            ),
            ignore in prop::option::of(-1_i64..3),
            form in 0_usize..4,
            soft in any::<bool>(),
        ) {
            let format = BatchFormat {
                examples: Some(12),
                ignore_index: ignore,
                signals: Signal::ALL.to_vec(),
                logits: [LogitsFormat::Off, LogitsFormat::F32, LogitsFormat::F16, LogitsFormat::TopK(2)]
                    [form],
                ..BatchFormat::classes(3).unwrap()
            };
            let ids: Vec<i64> = rows.iter().map(|row| row.0).collect();
            let labels: Vec<i64> = rows.iter().map(|row| row.1).collect();
            let logits: Vec<f32> = rows
                .iter()
                .flat_map(|row| [row.2[0], row.2[1], if row.3 { f32::INFINITY } else { row.2[2] }])
                .collect();
            let weights: Vec<f32> = labels
                .iter()
                .flat_map(|&label| [0.5, 0.25, if label < 0 { -0.25 } else { 0.25 }])
                .collect();
            let targets = if soft { Targets::Soft(&weights) } else { Targets::Classes(&labels) };
            let here = Batch::new(&format, MOMENT, &ids, &logits, targets);
            let there = Batch::from_device_signals(&format, MOMENT, &ids, computed(&format, &logits, targets));
            match (here, there) {
                (Ok(here), Ok(there)) => prop_assert_eq!(format!("{here:?}"), format!("{there:?}")),
                (Err(here), Err(there)) if soft => {
                    prop_assert!(there.to_string().starts_with(&here.to_string()[..30]));
                }
                (Err(here), Err(there)) => prop_assert_eq!(here.to_string(), there.to_string()),
                (here, there) => prop_assert!(false, "{here:?} here, {there:?} there"),
            }
        }
    }

    #[test]
    fn columns_that_do_not_fit_are_refused_by_name() {
        let format = BatchFormat::classes(2).unwrap();
        let logits = [0.0, 1.0, 2.0, 3.0];
        let whole = || computed(&format, &logits, Targets::Classes(&[0, 1]));
        let message = |ids: &[i64], observed| {
            Batch::from_device_signals(&format, MOMENT, ids, observed).unwrap_err().to_string()
        };
        let expected = "ids: expected 2, one per row of logits, got 3";
        assert_eq!(message(&[1, 2, 3], whole()), expected);
        let cut = DeviceSignals { correct: vec![true], ..whole() };
        assert_eq!(message(&[1, 2], cut), "correct: expected 2, got 1");
        let cut = DeviceSignals { signals: whole().signals[..2].to_vec(), ..whole() };
        assert_eq!(message(&[1, 2], cut), "signals: expected 3, got 2");
        let mut cut = whole();
        cut.signals[1].pop();
        assert_eq!(message(&[1, 2], cut), "loss: expected 2, got 1");
        let cut = DeviceSignals { logits: DeviceLogits::F32(vec![0.0; 3]), ..whole() };
        assert_eq!(message(&[1, 2], cut), "logits: expected 4, got 3");
        let other = DeviceSignals { logits: DeviceLogits::Off, ..whole() };
        assert_eq!(message(&[1, 2], other), "logits: expected F32, got another format");
    }
}
