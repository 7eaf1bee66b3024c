//! One step's examples and labels, with the signals computed for them. Validated on construction.
//!
//! A [`Batch`] is what crosses the queue to the recorder's thread. Everything that can be wrong
//! with a batch is found here, before any of it is recorded. The formulas are in
//! [`definitions`](super::definitions).

mod check;
mod device_signals;
mod format;
mod ids;
mod logits;
mod sequences;
mod targets;

pub use device_signals::{DeviceLogits, DeviceSignals};
pub use format::{BatchFormat, LogitsFormat};
pub use ids::BatchIds;
pub use logits::LabelLogits;
pub(crate) use logits::LogitRows;
pub(crate) use sequences::TokenColumns;
pub use targets::{TargetForm, Targets};

use sequences::{Sequences, TokenSignals};

use crate::error::{Error, Result};
use crate::observe::definitions::{ExampleSignals, observe};
use crate::observe::model_kind::ModelKind;
use crate::observe::output_rows::{Float, OutputRows};
use crate::observe::training_time::{Moment, Phase};

/// The rows of one step, ready to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub(crate) moment: Moment,
    pub(crate) examples: Vec<i64>,
    pub(crate) labels: Vec<i32>,
    pub(crate) measured: Measured,
    targets: Option<TargetForm>,
    non_finite: u64,
    without_tokens: u64,
}

/// The values computed for each row of a batch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Measured {
    Observations(ObservationColumns),
    /// Gradient norms.
    Grand(Vec<f32>),
}

/// The columns that outputs give.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ObservationColumns {
    /// Empty where nothing can be right.
    pub(crate) correct: Vec<bool>,
    pub(crate) tokens: Option<TokenColumns>,
    /// One column per signal of the format, in its order.
    pub(crate) signals: Vec<Vec<f32>>,
    pub(crate) logits: Option<LogitRows>,
}

/// The signals of the tokens of a batch that count.
struct HostTokens<'a> {
    format: &'a BatchFormat,
    tokens: Vec<ExampleSignals>,
}

impl TokenSignals for HostTokens<'_> {
    fn signals(&self, at: usize) -> impl Iterator<Item = f32> + '_ {
        self.format.signals.iter().map(move |&signal| self.tokens[at].get(signal))
    }

    fn is_correct(&self, at: usize) -> bool {
        self.tokens[at].correct
    }

    fn is_finite(&self, at: usize) -> bool {
        !self.tokens[at].is_broken()
    }
}

impl Batch {
    /// Computes the signals of one step from the model's outputs.
    ///
    /// `outputs` is row-major, `[batch, outputs]` as [`ModelKind`] says; for `tokens`, `[batch, tokens,
    /// vocabulary]`. `ids` has one entry per example. Rows whose label is the format's `ignore_index`
    /// are left out, whatever their id; so are such tokens of a sequence, and a sequence of which no
    /// token is left. A batch without rows is empty and no error.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the argument, what was
    /// expected and what came, if lengths differ, a label is outside `0..classes`, a soft target is
    /// not a distribution, a target is outside 0 to 1 or not finite, or an id is negative or not below
    /// the declared number of examples.
    pub fn new<'a, T: Float>(
        format: &BatchFormat,
        moment: Moment,
        ids: impl Into<BatchIds<'a>>,
        outputs: &[T],
        targets: Targets<'_>,
    ) -> Result<Self> {
        let outputs = OutputRows::contiguous(outputs, format.kind.outputs())?;
        Self::from_rows(format, moment, ids.into(), outputs, targets)
    }

    /// As [`new`](Self::new), from outputs that need not be contiguous. They are not copied.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn from_rows<T: Float>(
        format: &BatchFormat,
        moment: Moment,
        ids: BatchIds<'_>,
        outputs: OutputRows<'_, T>,
        targets: Targets<'_>,
    ) -> Result<Self> {
        let (rows, width) = (outputs.len(), format.kind.outputs());
        if outputs.width() != width {
            let got = outputs.width();
            return Err(Error::invalid(format!(
                "logits: expected rows of {width}, got rows of {got}"
            )));
        }
        let keep = check::checked_rows(format, ids, rows, targets)?;
        let form = targets.form(format);
        if format.kind.has_tokens() {
            let tokens = outputs.map(&keep, |row, logits| {
                ExampleSignals::compute(logits, targets.of_softmax(row, width))
            });
            let tokens = HostTokens { format, tokens };
            let sequences = Sequences::new(format, ids, rows, &keep, &tokens);
            return Ok(Self::of_sequences(moment, sequences));
        }
        let computed = outputs.map(&keep, |row, outputs| match format.kind {
            ModelKind::Classes { .. } | ModelKind::Tokens { .. } => {
                let observed = observe(outputs, targets.of_softmax(row, width));
                (observed.signals, observed.log_sum_exp)
            }
            kind => (signals_of_row(kind, row, outputs, targets), f64::NAN),
        });
        let labels: Vec<i32> = keep.iter().map(|&row| targets.label(format, row)).collect();
        let mut logits = LogitRows::with_capacity(format, keep.len());
        if let Some(logits) = &mut logits {
            let mut of_row = labels.iter().zip(&computed);
            for stretch in keep.chunk_by(|a, b| a + 1 == *b) {
                let (Some(&first), Some(&last)) = (stretch.first(), stretch.last()) else {
                    continue;
                };
                outputs.visit(first..last + 1, |_row, values| {
                    if let Some((&label, &(_, log_sum_exp))) = of_row.next() {
                        logits.push(values, label, log_sum_exp);
                    }
                });
            }
        }
        let signals = || computed.iter().map(|(signals, _)| signals);
        let column = |&signal| signals().map(|signals| signals.get(signal)).collect();
        let columns = ObservationColumns {
            correct: if format.kind.has_correct() {
                signals().map(|signals| signals.correct).collect()
            } else {
                Vec::new()
            },
            tokens: None,
            signals: format.signals.iter().map(column).collect(),
            logits,
        };
        Ok(Self {
            moment,
            examples: keep.iter().map(|&row| ids.of_row(row, rows)).collect(),
            non_finite: signals().filter(|signals| signals.is_broken()).count() as u64,
            labels,
            measured: Measured::Observations(columns),
            targets: form,
            without_tokens: 0,
        })
    }

    fn of_sequences(moment: Moment, sequences: Sequences) -> Self {
        Self {
            moment,
            labels: vec![-1; sequences.examples.len()],
            examples: sequences.examples,
            measured: Measured::Observations(sequences.columns),
            targets: Some(TargetForm::Classes),
            non_finite: sequences.non_finite,
            without_tokens: sequences.without_tokens,
        }
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
        if norms.len() != rows {
            let got = norms.len();
            return Err(Error::invalid(format!("norms: expected {rows}, one per id, got {got}")));
        }
        let ids = BatchIds::Examples(examples);
        let keep = if format.kind.has_class() {
            check::checked_rows(format, ids, rows, targets)?
        } else {
            check::kept_rows(format, ids, rows, |_row| false)?
        };
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
            labels: keep.iter().map(|&row| targets.label(format, row)).collect(),
            non_finite: norms.iter().filter(|norm| norm.is_nan()).count() as u64,
            measured: Measured::Grand(norms),
            targets: None,
            without_tokens: 0,
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

    /// Returns the number of sequences that are left out because none of their tokens counts.
    #[must_use]
    pub fn without_tokens(&self) -> u64 {
        self.without_tokens
    }

    /// Returns the form of the targets, where examples or tokens have a class; not of gradient norms.
    #[must_use]
    pub fn targets(&self) -> Option<TargetForm> {
        self.targets
    }

    /// Returns the size of the rows in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let keys = size_of::<i64>() + size_of::<i32>();
        let (row, logits) = match &self.measured {
            Measured::Observations(columns) => {
                (columns.bytes_per_row(), columns.logits.as_ref().map_or(0, LogitRows::bytes))
            }
            Measured::Grand(_) => (size_of::<f32>(), 0),
        };
        self.len() * (keys + row) + logits
    }

    pub(crate) fn phase(&self) -> Phase {
        self.moment.phase
    }
}

impl ObservationColumns {
    fn bytes_per_row(&self) -> usize {
        let tokens = if self.tokens.is_some() { 8 } else { 0 };
        usize::from(!self.correct.is_empty()) + tokens + self.signals.len() * size_of::<f32>()
    }
}

/// The signals of a row of a kind of model without a softmax, or with one logit.
fn signals_of_row<T: Float>(
    kind: ModelKind,
    row: usize,
    outputs: &[T],
    targets: Targets<'_>,
) -> ExampleSignals {
    let numbers = || targets.numbers(row, outputs.len());
    match (kind, outputs, targets) {
        (ModelKind::Binary, &[logit], Targets::Classes(labels)) => {
            ExampleSignals::binary(logit, labels[row] as f32)
        }
        (ModelKind::Binary, &[logit], Targets::Soft(targets)) => {
            ExampleSignals::binary(logit, targets[row])
        }
        (ModelKind::MultiLabel { .. }, ..) => ExampleSignals::multi_label(outputs, numbers()),
        (ModelKind::Regression { .. }, ..) => ExampleSignals::regression(outputs, numbers()),
        (ModelKind::LossOnly, &[loss], _) => ExampleSignals::of_loss(loss.into()),
        // Checked before: the outputs have the format's width, and the targets its form.
        _ => ExampleSignals::NON_FINITE,
    }
}

#[cfg(test)]
mod kind_tests;
#[cfg(test)]
mod tests {
    use super::logits::TopLogits;
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
        let format = BatchFormat { examples: Some(10), ..BatchFormat::classes(2).unwrap() };
        let logits = [0.0; 4];
        let cases = [
            (vec![0], logits.to_vec(), vec![0], "ids: expected 2, one per row of logits, got 1"),
            (vec![0], logits[..3].to_vec(), vec![0], "logits: expected rows of 2 values, got 3"),
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
        assert!(BatchFormat::classes(1).is_err());
        let top = BatchFormat { logits: LogitsFormat::TopK(3), ..format };
        assert!(top.check().unwrap_err().to_string().contains("the top 1 to 2, got the top 3"));
    }

    #[test]
    fn ignored_rows_leave_no_trace() {
        let format = BatchFormat {
            ignore_index: Some(-100),
            examples: Some(3),
            ..BatchFormat::classes(2).unwrap()
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
        let mut format = BatchFormat::classes(5).unwrap();
        format.logits = LogitsFormat::TopK(3);
        let logits = [1.0_f32, 4.0, 4.0, -1.0, 2.0];
        let batch = Batch::new(&format, MOMENT, &[0], &logits, Targets::Classes(&[0])).unwrap();
        let expected =
            TopLogits { k: 3, classes: vec![1, 2, 4], values: vec![4.0, 4.0, 2.0], label: None };
        assert_eq!(observations(batch).logits, Some(LogitRows::Top(expected.clone())));
        format.logits = LogitsFormat::TopKAndLabel(3);
        let batch = Batch::new(&format, MOMENT, &[0], &logits, Targets::Classes(&[3])).unwrap();
        let log_sum_exp = logits.iter().map(|&z| f64::from(z).exp()).sum::<f64>().ln() as f32;
        let label = LabelLogits { logit: vec![-1.0], log_sum_exp: vec![log_sum_exp] };
        let expected = TopLogits { label: Some(label), ..expected };
        assert_eq!(observations(batch).logits, Some(LogitRows::Top(expected)));
    }

    #[test]
    fn an_empty_batch_is_no_error() {
        let format = BatchFormat::classes(2).unwrap();
        let none: [f32; 0] = [];
        let batch = Batch::new(&format, MOMENT, &[], &none, Targets::Classes(&[])).unwrap();
        assert!(batch.is_empty() && batch.bytes() == 0);
        assert!(Batch::grand(&format, MOMENT, &[], &[], Targets::Classes(&[])).unwrap().is_empty());
    }

    #[test]
    fn gradient_norms_are_checked_like_logits() {
        let format = BatchFormat { ignore_index: Some(-1), ..BatchFormat::classes(2).unwrap() };
        let grand = |ids: &[i64], norms: &[f32], labels: &[i64]| {
            Batch::grand(&format, MOMENT, ids, norms, Targets::Classes(labels))
        };
        let batch = grand(&[5, 6, 7, 8], &[0.5, f32::INFINITY, -1.0, 0.0], &[1, 0, -1, 1]).unwrap();
        assert_eq!((&batch.examples, &batch.labels), (&vec![5, 6, 8], &vec![1, 0, 1]));
        assert_eq!((batch.non_finite(), batch.phase()), (1, Phase::Score));
        let Measured::Grand(norms) = &batch.measured else { panic!("{batch:?}") };
        assert!(norms[0] == 0.5 && norms[1].is_nan() && norms[2] == 0.0, "{norms:?}");
        for (ids, norms, labels, expected) in [
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
