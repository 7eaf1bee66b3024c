//! Columns of signals that were not recorded, computed while a row group of observations is decoded:
//! from its `loss`, or from the rows of the table `logits` that belong to it.
//!
//! The rows of `logits` are those of `observations` in the same order, in row groups of another size.
//! One of these is decoded at a time. Which column can be derived from what is in `signal_source`.

use std::ops::Range;
use std::sync::Arc;

use super::catalogue::Group;
use crate::error::{Error, Result};
use crate::observe::{ExampleSignals, LogitsFormat, ModelKind, Phase, Signal, Target};
use crate::run::{LABEL_LOGIT, LOG_SUM_EXP, RowGroup, Run, Table};

/// The probability of the label, `exp(-loss)`.
pub(super) fn confidence_of_losses(losses: &[f32]) -> Vec<f32> {
    losses.iter().map(|&loss| (-f64::from(loss)).exp() as f32).collect()
}

/// The table `logits` of one phase and rank.
pub(super) struct LogitsTable {
    /// Each row group with the number of rows before it.
    groups: Vec<(usize, Group)>,
    kind: ModelKind,
    format: LogitsFormat,
}

impl LogitsTable {
    pub(super) fn open(run: &Run, phase: Phase, rank: usize) -> Result<Self> {
        let (mut groups, mut rows) = (Vec::new(), 0);
        for part in run.open_parts(Table::Logits, phase, rank)? {
            let part = Arc::new(part);
            for (index, outline) in part.outlines().enumerate() {
                let first = rows;
                rows += outline.rows;
                groups.push((first, Group { part: Arc::clone(&part), index, outline }));
            }
        }
        let format = run.ranks().nth(rank).map_or(LogitsFormat::Off, |rank| rank.format.logits);
        Ok(Self { groups, kind: run.kind(), format })
    }

    /// Returns some rows, counted over all row groups of the rank.
    pub(super) fn rows(&self, rows: &Range<usize>) -> LogitsRows {
        let mut pieces = Vec::new();
        for (first, group) in &self.groups {
            let (start, end) = (rows.start.max(*first), rows.end.min(first + group.outline.rows));
            if start < end {
                pieces.push((group.clone(), start - first..end - first));
            }
        }
        LogitsRows { pieces, kind: self.kind, format: self.format }
    }
}

/// Rows of the table `logits` that belong to a row group of observations.
pub(super) struct LogitsRows {
    pieces: Vec<(Group, Range<usize>)>,
    kind: ModelKind,
    format: LogitsFormat,
}

impl LogitsRows {
    /// Computes columns of signals. Returns one for each of `signals`, as long as `examples`.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if the rows are not those of these steps and examples.
    pub(super) fn signals(
        &self,
        steps: &[i64],
        examples: &[i64],
        signals: &[Signal],
    ) -> Result<Vec<Vec<f32>>> {
        let mut columns = vec![Vec::with_capacity(examples.len()); signals.len()];
        let mut done = 0;
        for (group, rows) in &self.pieces {
            let path = group.part.path();
            let decoded = group.part.row_group(group.index)?;
            let decoded = decoded.ok_or_else(|| Error::corrupt(path, "a row group is missing"))?;
            let belong = |name: &str, expected: &[i64]| -> Result<bool> {
                let expected = expected.get(done..done + rows.len());
                Ok(expected.is_some() && decoded.int64(name)?.get(rows.clone()) == expected)
            };
            if !belong("step", steps)? || !belong("example", examples)? {
                return Err(Error::corrupt(path, "its rows are not those of the observations"));
            }
            let labels = decoded.int32("label")?;
            let labels = labels.get(rows.clone()).unwrap_or_default();
            let mut add = |of_row: &ExampleSignals| {
                for (column, &signal) in columns.iter_mut().zip(signals) {
                    column.push(of_row.get(signal));
                }
            };
            match self.format {
                LogitsFormat::F32 => self.of_whole_rows(&decoded, rows, labels, &mut add)?,
                LogitsFormat::TopKAndLabel(k) => {
                    of_top_rows(&decoded, rows, labels, k as usize, &mut add)?;
                }
                // Nothing is derived from other formats.
                _ => {}
            }
            done += rows.len();
        }
        if let Some((group, _)) = self.pieces.last().filter(|_| done != examples.len()) {
            let message = "the table has fewer rows than the observations; if the run is being \
                           recorded, try again";
            return Err(Error::corrupt(group.part.path(), message));
        }
        Ok(columns)
    }

    fn of_whole_rows(
        &self,
        decoded: &RowGroup,
        rows: &Range<usize>,
        labels: &[i32],
        add: &mut dyn FnMut(&ExampleSignals),
    ) -> Result<()> {
        let outputs = self.kind.outputs();
        let logits = decoded.float32_lists("logits", outputs)?;
        let logits = logits.get(rows.start * outputs..rows.end * outputs).unwrap_or_default();
        for (logits, &label) in logits.chunks_exact(outputs).zip(labels) {
            let of_row = if let (ModelKind::Binary, [logit]) = (self.kind, logits) {
                ExampleSignals::binary(*logit, label as f32)
            } else {
                // A label that is out of range gives signals that are not finite.
                let class = usize::try_from(label).unwrap_or(usize::MAX);
                ExampleSignals::compute(logits, Target::Class(class))
            };
            add(&of_row);
        }
        Ok(())
    }
}

/// Confidence and margin from the highest logits, largest first, with the label's.
fn of_top_rows(
    decoded: &RowGroup,
    rows: &Range<usize>,
    labels: &[i32],
    k: usize,
    add: &mut dyn FnMut(&ExampleSignals),
) -> Result<()> {
    let (classes, top) = (decoded.int32_lists("classes", k)?, decoded.float32_lists("logits", k)?);
    let (label_logits, sums) = (decoded.float32(LABEL_LOGIT)?, decoded.float32(LOG_SUM_EXP)?);
    for (row, &label) in rows.clone().zip(labels) {
        let of_row = row * k..(row + 1) * k;
        let (Some(classes), Some(top)) = (classes.get(of_row.clone()), top.get(of_row)) else {
            break;
        };
        let (Some(&logit), Some(&sum)) = (label_logits.get(row), sums.get(row)) else { break };
        let (logit, sum) = (f64::from(logit), f64::from(sum));
        let other = classes.iter().zip(top).find(|(class, _)| **class != label);
        let mut signals = ExampleSignals::NON_FINITE;
        // The sum of a row that is not finite is NaN.
        if !sum.is_nan() {
            signals.confidence = (logit - sum).exp() as f32;
            signals.margin = other.map_or(f32::NAN, |(_, &z)| (logit - f64::from(z)) as f32);
        }
        add(&signals);
    }
    Ok(())
}
