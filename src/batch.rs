//! One step's examples, labels and signals: validated once, then only carried.
//!
//! A [`Batch`] is the only thing that crosses the channel to the recorder's thread. Whoever makes one
//! states its [`BatchFormat`]; everything that can be wrong with a batch is found here, before
//! anything of it is recorded.

use half::f16;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::signal::{ExampleSignals, Signal, Target, argmax};
use crate::step::{Moment, Phase};

/// How far the weights of a soft target may be from summing to 1: a label-smoothed row of bf16, which
/// carries 8 bits, is within it.
const SOFT_TARGET_TOLERANCE: f64 = 0.01;

/// How the logits themselves are recorded, in a table of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LogitsFormat {
    /// Not at all.
    Off,
    /// Every logit as `f32`.
    #[default]
    F32,
    /// Every logit rounded to `f16`, as fixed-size binary of `2 * classes` little-endian bytes.
    F16,
    /// The `k` largest logits as `f32` with their class indices, largest first; the lower class index
    /// first where two are equal.
    TopK(u32),
}

/// What a run records of every batch, and what its batches have to look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchFormat {
    /// The number of classes, at least 2.
    pub classes: u32,
    /// The number of examples, if ids are row numbers below it.
    pub examples: Option<u64>,
    /// Rows with this label are not recorded.
    pub ignore_index: Option<i64>,
    /// The signals to record, in the order of [`Signal::ALL`].
    pub signals: Vec<Signal>,
    /// How to record the logits.
    pub logits: LogitsFormat,
}

impl BatchFormat {
    /// The signals that are recorded unless others are asked for.
    pub const DEFAULT_SIGNALS: [Signal; 3] = [Signal::El2n, Signal::Loss, Signal::Margin];

    /// The default format for a number of classes: EL2N, loss, margin and every logit as `f32`.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if there are fewer than 2 classes, or
    /// more than 2^24.
    pub fn new(classes: usize) -> Result<Self> {
        let format = Self {
            classes: u32::try_from(classes).unwrap_or(u32::MAX),
            examples: None,
            ignore_index: None,
            signals: Self::DEFAULT_SIGNALS.to_vec(),
            logits: LogitsFormat::default(),
        };
        format.check()?;
        Ok(format)
    }

    /// Whether the format can be recorded at all.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) names the field that is out of range.
    pub fn check(&self) -> Result<()> {
        let classes = self.classes;
        if !(2..=1 << 24).contains(&classes) {
            return Err(Error::invalid(format!("classes: expected 2..=2^24, got {classes}")));
        }
        if let LogitsFormat::TopK(k) = self.logits
            && !(1..=classes).contains(&k)
        {
            return Err(Error::invalid(format!("logits: expected top 1..={classes}, got top {k}")));
        }
        if self.examples.is_some_and(|examples| examples > i64::MAX as u64) {
            return Err(Error::invalid("examples: expected at most 2^63 - 1".to_owned()));
        }
        Ok(())
    }
}

/// The labels of a batch on the host.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// One class index per row.
    Classes(&'a [i64]),
    /// One distribution over the classes per row, row-major `[batch, classes]`.
    Soft(&'a [f32]),
}

/// The rows of one step, ready to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub(crate) moment: Moment,
    pub(crate) examples: Vec<i64>,
    pub(crate) labels: Vec<i32>,
    pub(crate) correct: Vec<bool>,
    /// One column per signal of the format, in its order.
    pub(crate) signals: Vec<Vec<f32>>,
    pub(crate) logits: Option<LogitRows>,
    pub(crate) non_finite: u64,
}

/// The logits of a batch in the form in which they are stored, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LogitRows {
    F32(Vec<f32>),
    F16(Vec<u8>),
    TopK { k: usize, classes: Vec<i32>, values: Vec<f32> },
}

impl Batch {
    /// Computes and collects what a run records of one step.
    ///
    /// `logits` is row-major `[batch, classes]`; `examples` and `targets` have one entry per row.
    /// Rows whose label is the format's `ignore_index` are left out, whatever their id.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the argument, what was expected
    /// and what came: lengths that differ, a label outside `0..classes`, a soft target that is no
    /// distribution, an id that is negative or not below the declared number of examples.
    pub fn new<T: Copy + Into<f64>>(
        format: &BatchFormat,
        moment: Moment,
        examples: &[i64],
        logits: &[T],
        targets: Targets<'_>,
    ) -> Result<Self> {
        let classes = format.classes as usize;
        if examples.is_empty() {
            return Err(Error::invalid("examples: expected at least one row, got none"));
        }
        if logits.len() != examples.len().saturating_mul(classes) {
            return Err(Error::invalid(format!(
                "logits: expected {} rows of {classes} classes, one per id, got {} values",
                examples.len(),
                logits.len(),
            )));
        }
        let keep = kept_rows(format, examples, targets)?;
        let rows = keep.len();
        let mut batch = Self {
            moment,
            examples: Vec::with_capacity(rows),
            labels: Vec::with_capacity(rows),
            correct: Vec::with_capacity(rows),
            signals: format.signals.iter().map(|_| Vec::with_capacity(rows)).collect(),
            logits: LogitRows::with_capacity(format, rows),
            non_finite: 0,
        };
        for row in keep {
            let logits = &logits[row * classes..][..classes];
            let (target, label) = match targets {
                Targets::Classes(labels) => {
                    (Target::Class(labels[row] as usize), labels[row] as i32)
                }
                Targets::Soft(weights) => {
                    let weights = &weights[row * classes..][..classes];
                    (Target::Soft(weights), argmax(weights) as i32)
                }
            };
            let signals = ExampleSignals::of(logits, target);
            batch.non_finite += u64::from(signals.el2n.is_nan());
            batch.examples.push(examples[row]);
            batch.labels.push(label);
            batch.correct.push(signals.correct);
            for (column, &signal) in batch.signals.iter_mut().zip(&format.signals) {
                column.push(signals.get(signal));
            }
            if let Some(rows) = &mut batch.logits {
                rows.push(logits);
            }
        }
        Ok(batch)
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether no row is left, because each was ignored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// The rows with a non-finite logit, which are recorded with NaN signals.
    #[must_use]
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }

    /// The memory that the rows take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let row = size_of::<i64>() + size_of::<i32>() + 1 + self.signals.len() * size_of::<f32>();
        self.len() * row + self.logits.as_ref().map_or(0, LogitRows::bytes)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.moment.phase
    }
}

impl LogitRows {
    fn with_capacity(format: &BatchFormat, rows: usize) -> Option<Self> {
        let all = rows * format.classes as usize;
        match format.logits {
            LogitsFormat::Off => None,
            LogitsFormat::F32 => Some(Self::F32(Vec::with_capacity(all))),
            LogitsFormat::F16 => Some(Self::F16(Vec::with_capacity(all * 2))),
            LogitsFormat::TopK(k) => Some(Self::TopK {
                k: k as usize,
                classes: Vec::with_capacity(rows * k as usize),
                values: Vec::with_capacity(rows * k as usize),
            }),
        }
    }

    fn push<T: Copy + Into<f64>>(&mut self, row: &[T]) {
        let narrow = |z: T| z.into() as f32;
        match self {
            Self::F32(values) => values.extend(row.iter().map(|&z| narrow(z))),
            Self::F16(bytes) => {
                bytes.extend(row.iter().flat_map(|&z| f16::from_f32(narrow(z)).to_le_bytes()));
            }
            Self::TopK { k, classes, values } => {
                let mut order: Vec<usize> = (0..row.len()).collect();
                // NaN sorts above every number, so that a broken row shows what broke it.
                let by_value = |&a: &usize, &b: &usize| {
                    row[b].into().total_cmp(&row[a].into()).then(a.cmp(&b))
                };
                if *k < order.len() {
                    order.select_nth_unstable_by(*k - 1, by_value);
                    order.truncate(*k);
                }
                order.sort_unstable_by(by_value);
                classes.extend(order.iter().map(|&class| class as i32));
                values.extend(order.iter().map(|&class| narrow(row[class])));
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => values.len() * 4,
            Self::F16(bytes) => bytes.len(),
            Self::TopK { classes, .. } => classes.len() * 8,
        }
    }
}

/// The rows to record, after everything about ids and labels has been checked.
fn kept_rows(format: &BatchFormat, examples: &[i64], targets: Targets<'_>) -> Result<Vec<usize>> {
    let classes = format.classes as usize;
    let expected = examples.len();
    let ignored = |row: usize| match targets {
        Targets::Classes(labels) => format.ignore_index == Some(labels[row]),
        Targets::Soft(_) => false,
    };
    match targets {
        Targets::Classes(labels) => {
            if labels.len() != expected {
                let got = labels.len();
                return Err(Error::invalid(format!(
                    "labels: expected {expected}, one per id, got {got}"
                )));
            }
            let outside = |label: i64| label < 0 || label >= classes as i64;
            if let Some(row) = (0..expected).find(|&row| outside(labels[row]) && !ignored(row)) {
                let label = labels[row];
                return Err(Error::invalid(format!(
                    "labels: expected class indices in 0..{classes}, got {label} in row {row}"
                )));
            }
        }
        Targets::Soft(weights) => {
            if weights.len() != expected * classes {
                let got = weights.len();
                return Err(Error::invalid(format!(
                    "labels: expected soft targets [{expected}, {classes}], got {got} values"
                )));
            }
            for (row, weights) in weights.chunks_exact(classes).enumerate() {
                let sum: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
                let got = match weights.iter().find(|&&weight| weight < 0.0) {
                    Some(negative) => format!("{negative}"),
                    None if (sum - 1.0).abs() <= SOFT_TARGET_TOLERANCE => continue,
                    None => format!("a sum of {sum}"),
                };
                return Err(Error::invalid(format!(
                    "labels: expected soft targets that are >= 0 and sum to 1, got {got} in row \
                     {row}"
                )));
            }
        }
    }
    let limit = format.examples.unwrap_or(i64::MAX as u64 + 1);
    let keep: Vec<usize> = (0..expected).filter(|&row| !ignored(row)).collect();
    for &row in &keep {
        let example = examples[row];
        if u64::try_from(example).is_ok_and(|example| example < limit) {
            continue;
        }
        let declared = format.examples.map_or("2^63".to_owned(), |examples| examples.to_string());
        return Err(Error::invalid(format!(
            "ids: expected example ids in 0..{declared}, got {example} in row {row}"
        )));
    }
    Ok(keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Moment = Moment { phase: Phase::Train, step: 0, epoch: 0 };

    fn refused(format: &BatchFormat, ids: &[i64], logits: &[f32], targets: Targets<'_>) -> String {
        let error = Batch::new(format, MOMENT, ids, logits, targets).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument);
        error.to_string()
    }

    #[test]
    fn every_refusal_names_argument_expectation_and_what_came() {
        let format = BatchFormat { examples: Some(10), ..BatchFormat::new(2).unwrap() };
        let logits = [0.0; 4];
        let cases = [
            (vec![], vec![], vec![], "examples: expected at least one row, got none"),
            (vec![0], logits.to_vec(), vec![0], "logits: expected 1 rows of 2 classes"),
            (vec![0, 1], logits.to_vec(), vec![0], "labels: expected 2, one per id, got 1"),
            (vec![0, 1], logits.to_vec(), vec![0, 2], "in 0..2, got 2 in row 1"),
            (vec![0, 1], logits.to_vec(), vec![-1, 0], "in 0..2, got -1 in row 0"),
            (vec![0, 10], logits.to_vec(), vec![0, 0], "in 0..10, got 10 in row 1"),
            (vec![-3, 1], logits.to_vec(), vec![0, 0], "in 0..10, got -3 in row 0"),
        ];
        for (ids, logits, labels, expected) in cases {
            let message = refused(&format, &ids, &logits, Targets::Classes(&labels));
            assert!(message.contains(expected), "{message} lacks {expected}");
        }
        for soft in [[0.5, 0.6], [1.5, -0.5], [f32::NAN, 1.0]] {
            let message = refused(&format, &[0], &[0.0; 2], Targets::Soft(&soft));
            assert!(message.starts_with("labels: expected soft targets"), "{message}");
        }
        assert!(BatchFormat::new(1).is_err());
        let top = BatchFormat { logits: LogitsFormat::TopK(3), ..format };
        assert!(top.check().unwrap_err().to_string().contains("top 1..=2"));
    }

    #[test]
    fn ignored_rows_leave_no_trace() {
        let format = BatchFormat {
            ignore_index: Some(-100),
            examples: Some(3),
            ..BatchFormat::new(2).unwrap()
        };
        let logits = [0.0_f32, 1.0, f32::NAN, 0.0, 2.0, 3.0];
        // A padded row may carry any id.
        let batch =
            Batch::new(&format, MOMENT, &[2, 999, 0], &logits, Targets::Classes(&[1, -100, 0]))
                .unwrap();
        assert_eq!((batch.examples, batch.labels), (vec![2, 0], vec![1, 0]));
        assert_eq!((batch.correct, batch.non_finite), (vec![true, false], 0));
        assert_eq!(batch.logits, Some(LogitRows::F32(vec![0.0, 1.0, 2.0, 3.0])));
    }

    #[test]
    fn top_k_is_ordered_and_breaks_ties_by_class() {
        let mut format = BatchFormat::new(5).unwrap();
        format.logits = LogitsFormat::TopK(3);
        let logits = [1.0_f32, 4.0, 4.0, -1.0, 2.0];
        let batch = Batch::new(&format, MOMENT, &[0], &logits, Targets::Classes(&[0])).unwrap();
        let expected =
            LogitRows::TopK { k: 3, classes: vec![1, 2, 4], values: vec![4.0, 4.0, 2.0] };
        assert_eq!(batch.logits, Some(expected));
    }
}
