//! The targets of a group of examples, checked against the kind of model, and which of them count.
//!
//! What a valid target is, [`BatchFormat::check_rows`] says, as for what is recorded. Gradient norms and
//! barriers take their targets from here.

use std::ops::Range;

use candle_core::Tensor;
use data_diet::observe::{BatchFormat, BatchIds, ModelKind, Targets};

use crate::arguments::{HostLabels, Labels};
use crate::error::{Error, Result};
use crate::output_shape::OutputShape;

/// The targets of a group of examples.
#[derive(Debug)]
pub(crate) struct KindTargets<'a> {
    /// `None` for as many classes as the logits have.
    kind: Option<ModelKind>,
    ignore_index: Option<i64>,
    labels: HostLabels<'a>,
    examples: usize,
    /// The tokens of a sequence; otherwise 1.
    rows_per_example: usize,
}

/// The targets of some rows of outputs.
pub(crate) enum RowTargets<'a> {
    /// The class of each row; `None` if it is ignored.
    Classes(Vec<Option<u32>>),
    /// As many numbers for each row as the model puts out.
    Numbers(&'a [f32]),
    /// Outputs that are losses have none.
    None,
}

impl<'a> KindTargets<'a> {
    /// Checks the labels of this many examples. Without a kind they are classes or soft targets, and
    /// class indices are checked when the logits are known.
    pub(crate) fn new(
        kind: Option<ModelKind>,
        ignore_index: Option<i64>,
        labels: HostLabels<'a>,
        examples: usize,
    ) -> Result<Self> {
        let labels = match kind {
            Some(kind) => labels.of_kind(kind),
            None => labels,
        };
        let rows_per_example = rows_per_example(kind, &labels, examples)?;
        match (kind, &labels) {
            (Some(kind), labels) => {
                let format = BatchFormat { ignore_index, ..BatchFormat::new(kind)? };
                let ids: Vec<i64> = (0..examples as i64).collect();
                let rows = examples * rows_per_example;
                format.check_rows(BatchIds::Examples(&ids), rows, labels.targets(kind)?)?;
            }
            (None, HostLabels::Soft { weights, width }) => {
                Targets::Soft(weights).check_soft(*width)?;
            }
            (None, HostLabels::Classes { width: 1, .. }) => {}
            (None, HostLabels::Classes { width, .. }) => {
                return Err(Error::Argument(format!(
                    "labels: expected class indices [batch] or soft targets [batch, classes], got \
                     integers [{examples}, {width}]"
                )));
            }
            (None, HostLabels::None) => {
                return Err(Error::Argument("labels: expected some, got none".to_owned()));
            }
        }
        Ok(Self { kind, ignore_index, labels, examples, rows_per_example })
    }

    /// As [`new`](Self::new), for as many examples as the outputs are of.
    pub(crate) fn of_outputs<L: Labels + ?Sized>(
        kind: Option<ModelKind>,
        ignore_index: Option<i64>,
        labels: &'a L,
        outputs: &Tensor,
    ) -> Result<Self> {
        let kind = kind_of(kind, outputs)?;
        let shape = OutputShape::of(kind, outputs)?;
        let is_flat = labels.as_tensor().is_none_or(|labels| labels.rank() < 2);
        let labels = labels.to_labels()?;
        let examples = match (kind, shape.tokens) {
            (ModelKind::Tokens { .. }, None) if is_flat => {
                let got = labels.rows();
                return Err(Error::Argument(format!(
                    "labels: expected [batch, tokens], from which the length of a sequence follows \
                     where logits are [batch * tokens, vocabulary], got [{got}]"
                )));
            }
            (ModelKind::Tokens { .. }, None) => labels.rows(),
            _ => outputs.dims().first().copied().unwrap_or(0),
        };
        Self::new(Some(kind), ignore_index, labels, examples)
    }

    pub(crate) fn kind(&self) -> Option<ModelKind> {
        self.kind
    }

    pub(crate) fn ignore_index(&self) -> Option<i64> {
        self.ignore_index
    }

    pub(crate) fn examples(&self) -> usize {
        self.examples
    }

    pub(crate) fn rows_per_example(&self) -> usize {
        self.rows_per_example
    }

    /// Returns whether an example, or a token of it, counts.
    pub(crate) fn counts(&self, example: usize) -> bool {
        let rows = example * self.rows_per_example..(example + 1) * self.rows_per_example;
        match &self.labels {
            HostLabels::Classes { labels, .. } => {
                labels[rows].iter().any(|&label| self.ignore_index != Some(label))
            }
            HostLabels::Soft { .. } | HostLabels::None => true,
        }
    }

    /// Checks that these are the outputs of this many examples. Returns the kind of model, and where the
    /// rows of the outputs are.
    pub(crate) fn shape(
        &self,
        outputs: &Tensor,
        examples: usize,
    ) -> Result<(ModelKind, OutputShape)> {
        let kind = kind_of(self.kind, outputs)?;
        let shape = OutputShape::of(kind, outputs)?;
        let per_example = self.rows_per_example;
        let is_of_sequences = shape.tokens.is_none_or(|tokens| tokens == per_example);
        if shape.rows() != examples * per_example || !is_of_sequences {
            let what = if kind.has_tokens() {
                format!("{examples} sequences of {per_example} labels")
            } else {
                format!("{examples} examples")
            };
            let got = outputs.dims();
            return Err(Error::Argument(format!("logits: expected those of {what}, got {got:?}")));
        }
        Ok((kind, shape))
    }

    /// Returns the targets of each row of some examples, whose outputs have this kind.
    pub(crate) fn rows(&self, kind: ModelKind, examples: Range<usize>) -> Result<RowTargets<'_>> {
        // Checked, unless the number of classes is known only now.
        self.labels.targets(kind)?;
        let width = kind.outputs();
        let rows = examples.start * self.rows_per_example..examples.end * self.rows_per_example;
        match &self.labels {
            HostLabels::Classes { labels, .. } => {
                // One logit tells two classes apart.
                let classes = width.max(2);
                let class = |(row, &label): (usize, &i64)| {
                    if self.ignore_index == Some(label) {
                        return Ok(None);
                    }
                    match u32::try_from(label).ok().filter(|&class| (class as usize) < classes) {
                        Some(class) => Ok(Some(class)),
                        None => Err(Error::Argument(format!(
                            "labels: expected class indices in 0..{classes}, got {label} in row {}",
                            rows.start + row
                        ))),
                    }
                };
                let classes = labels[rows.clone()].iter().enumerate().map(class);
                Ok(RowTargets::Classes(classes.collect::<Result<_>>()?))
            }
            HostLabels::Soft { weights, .. } => {
                Ok(RowTargets::Numbers(&weights[rows.start * width..rows.end * width]))
            }
            HostLabels::None => Ok(RowTargets::None),
        }
    }
}

/// Returns the kind; without one, as many classes as there are columns.
fn kind_of(kind: Option<ModelKind>, outputs: &Tensor) -> Result<ModelKind> {
    match (kind, outputs.dims()) {
        (Some(kind), _) => Ok(kind),
        (None, &[_, classes]) if classes >= 2 => Ok(ModelKind::Classes { classes: classes as u32 }),
        (None, got) => Err(Error::Argument(format!(
            "logits: expected [batch, classes] with at least 2 classes, got {got:?}"
        ))),
    }
}

/// Checks the number of labels, and returns how many an example has.
fn rows_per_example(
    kind: Option<ModelKind>,
    labels: &HostLabels<'_>,
    examples: usize,
) -> Result<usize> {
    let has_tokens = kind.is_some_and(ModelKind::has_tokens);
    let rows = match labels {
        HostLabels::None => return Ok(1),
        HostLabels::Classes { labels, width: 1 } if has_tokens => {
            if labels.is_empty() && examples == 0 {
                return Ok(1);
            }
            if examples > 0 && !labels.is_empty() && labels.len().is_multiple_of(examples) {
                return Ok(labels.len() / examples);
            }
            let got = labels.len();
            return Err(Error::Argument(format!(
                "labels: expected one for each token of {examples} sequences of the same length, got \
                 {got}"
            )));
        }
        labels => labels.rows(),
    };
    if rows != examples {
        return Err(Error::Argument(format!(
            "labels: expected one for each of {examples} examples, got {rows}"
        )));
    }
    Ok(match labels {
        HostLabels::Classes { width, .. } if has_tokens => *width,
        _ => 1,
    })
}
