//! One step's examples and labels, with the signals computed for them. Validated on construction.
//!
//! A [`Batch`] is what crosses the queue to the recorder's thread. Everything that can be wrong
//! with a batch is found here, before any of it is recorded.

mod check;
mod device_signals;
mod format;
mod logits;
mod targets;

pub use device_signals::{DeviceLogits, DeviceSignals};
pub use format::{BatchFormat, LogitsFormat};
pub(crate) use logits::LogitRows;
pub use targets::Targets;

use crate::error::{Error, Result};
use crate::observe::signal::{ExampleSignals, Target};
use crate::observe::training_time::{Moment, Phase};

/// The rows of one step, ready to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub(crate) moment: Moment,
    pub(crate) examples: Vec<i64>,
    pub(crate) labels: Vec<i32>,
    pub(crate) measured: Measured,
    non_finite: u64,
}

/// The values computed for each row of a batch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Measured {
    Observations(ObservationColumns),
    /// Gradient norms.
    Grand(Vec<f32>),
}

/// The columns that logits give.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ObservationColumns {
    pub(crate) correct: Vec<bool>,
    /// One column per signal of the format, in its order.
    pub(crate) signals: Vec<Vec<f32>>,
    pub(crate) logits: Option<LogitRows>,
}

impl Batch {
    /// Computes the signals of one step from its logits.
    ///
    /// `logits` is row-major `[batch, classes]`; `examples` and `targets` have one entry per row.
    /// Rows whose label is the format's `ignore_index` are left out, whatever their id.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the argument, what was
    /// expected and what came, if lengths differ, a label is outside `0..classes`, a soft target is
    /// not a distribution, or an id is negative or not below the declared number of examples.
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
        let keep = check::checked_rows(format, examples, targets)?;
        let rows = keep.len();
        let mut columns = ObservationColumns {
            correct: Vec::with_capacity(rows),
            signals: format.signals.iter().map(|_| Vec::with_capacity(rows)).collect(),
            logits: LogitRows::with_capacity(format, rows),
        };
        let mut non_finite = 0;
        for &row in &keep {
            let logits = &logits[row * classes..][..classes];
            let target = match targets {
                Targets::Classes(labels) => Target::Class(labels[row] as usize),
                Targets::Soft(weights) => Target::Soft(&weights[row * classes..][..classes]),
            };
            let signals = ExampleSignals::compute(logits, target);
            non_finite += u64::from(signals.el2n.is_nan());
            columns.correct.push(signals.correct);
            for (column, &signal) in columns.signals.iter_mut().zip(&format.signals) {
                column.push(signals.get(signal));
            }
            if let Some(rows) = &mut columns.logits {
                rows.push(logits);
            }
        }
        Ok(Self {
            moment,
            examples: keep.iter().map(|&row| examples[row]).collect(),
            labels: keep.iter().map(|&row| targets.label(row, classes)).collect(),
            measured: Measured::Observations(columns),
            non_finite,
        })
    }

    /// Makes a batch of gradient norms: `GraNd`, the L2 norm of the gradient of one example's loss
    /// in all trainable parameters (Paul et al. 2021, definition 2.1).
    ///
    /// `norms` has one entry per row, not negative. NaN or infinity marks a gradient that was not
    /// finite and is recorded as NaN. The moment's phase is ignored: gradient norms are taken with
    /// the weights held still. Rows whose label is the format's `ignore_index` are left out.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) as for [`new`](Self::new), and for a
    /// negative norm.
    pub fn grand(
        format: &BatchFormat,
        moment: Moment,
        examples: &[i64],
        norms: &[f32],
        targets: Targets<'_>,
    ) -> Result<Self> {
        let rows = examples.len();
        if rows == 0 {
            return Err(Error::invalid("examples: expected at least one row, got none"));
        }
        if norms.len() != rows {
            let got = norms.len();
            return Err(Error::invalid(format!("norms: expected {rows}, one per id, got {got}")));
        }
        let keep = check::checked_rows(format, examples, targets)?;
        if let Some(&row) = keep.iter().find(|&&row| norms[row] < 0.0) {
            let got = norms[row];
            return Err(Error::invalid(format!(
                "norms: expected numbers of at least 0, got {got} in row {row}"
            )));
        }
        let finite = |norm: f32| if norm.is_finite() { norm } else { f32::NAN };
        let norms: Vec<f32> = keep.iter().map(|&row| finite(norms[row])).collect();
        Ok(Self {
            moment: Moment { phase: Phase::Score, ..moment },
            examples: keep.iter().map(|&row| examples[row]).collect(),
            labels: keep.iter().map(|&row| targets.label(row, format.classes as usize)).collect(),
            non_finite: norms.iter().filter(|norm| norm.is_nan()).count() as u64,
            measured: Measured::Grand(norms),
        })
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Returns whether there are no rows, because all were ignored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// Returns the number of rows with a non-finite logit or gradient, which are recorded as NaN.
    #[must_use]
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }

    /// Returns the size of the rows in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let keys = size_of::<i64>() + size_of::<i32>();
        let (row, logits) = match &self.measured {
            Measured::Observations(columns) => (
                1 + columns.signals.len() * size_of::<f32>(),
                columns.logits.as_ref().map_or(0, LogitRows::bytes),
            ),
            Measured::Grand(_) => (size_of::<f32>(), 0),
        };
        self.len() * (keys + row) + logits
    }

    pub(crate) fn phase(&self) -> Phase {
        self.moment.phase
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Moment = Moment { phase: Phase::Train, step: 0, epoch: 0 };

    fn observations(batch: Batch) -> ObservationColumns {
        match batch.measured {
            Measured::Observations(columns) => columns,
            Measured::Grand(norms) => panic!("gradient norms: {norms:?}"),
        }
    }

    fn refused(format: &BatchFormat, ids: &[i64], logits: &[f32], targets: Targets<'_>) -> String {
        let error = Batch::new(format, MOMENT, ids, logits, targets).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::InvalidArgument);
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
        assert!(top.check().unwrap_err().to_string().contains("the top 1 to 2, got the top 3"));
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
        assert_eq!((&batch.examples, &batch.labels), (&vec![2, 0], &vec![1, 0]));
        assert_eq!(batch.non_finite(), 0);
        let columns = observations(batch);
        assert_eq!(columns.correct, [true, false]);
        assert_eq!(columns.logits, Some(LogitRows::F32(vec![0.0, 1.0, 2.0, 3.0])));
    }

    #[test]
    fn top_k_is_ordered_and_breaks_ties_by_class() {
        let mut format = BatchFormat::new(5).unwrap();
        format.logits = LogitsFormat::TopK(3);
        let logits = [1.0_f32, 4.0, 4.0, -1.0, 2.0];
        let batch = Batch::new(&format, MOMENT, &[0], &logits, Targets::Classes(&[0])).unwrap();
        let expected =
            LogitRows::TopK { k: 3, classes: vec![1, 2, 4], values: vec![4.0, 4.0, 2.0] };
        assert_eq!(observations(batch).logits, Some(expected));
    }

    #[test]
    fn gradient_norms_are_checked_like_logits() {
        let format = BatchFormat { ignore_index: Some(-1), ..BatchFormat::new(2).unwrap() };
        let grand = |ids: &[i64], norms: &[f32], labels: &[i64]| {
            Batch::grand(&format, MOMENT, ids, norms, Targets::Classes(labels))
        };
        let batch = grand(&[5, 6, 7, 8], &[0.5, f32::INFINITY, -1.0, 0.0], &[1, 0, -1, 1]).unwrap();
        assert_eq!((&batch.examples, &batch.labels), (&vec![5, 6, 8], &vec![1, 0, 1]));
        assert_eq!((batch.non_finite(), batch.phase()), (1, Phase::Score));
        let Measured::Grand(norms) = &batch.measured else { panic!("{batch:?}") };
        assert!(norms[0] == 0.5 && norms[1].is_nan() && norms[2] == 0.0, "{norms:?}");
        for (ids, norms, labels, expected) in [
            (vec![], vec![], vec![], "examples: expected at least one row"),
            (vec![1], vec![0.0, 1.0], vec![0], "norms: expected 1, one per id, got 2"),
            (vec![1, 2], vec![0.0, -0.5], vec![0, 1], "at least 0, got -0.5 in row 1"),
            (vec![1], vec![0.0], vec![2], "labels: expected class indices in 0..2"),
            (vec![-1], vec![0.0], vec![0], "got -1 in row 0"),
        ] {
            let message = grand(&ids, &norms, &labels).unwrap_err().to_string();
            assert!(message.contains(expected), "{message} lacks {expected}");
        }
    }
}
