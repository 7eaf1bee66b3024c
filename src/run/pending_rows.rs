//! Collects batches and turns them into one record batch per table and phase.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Int32Array,
    Int64Array,
};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::schema::{LABEL_LOGIT, Table};
use crate::error::{Error, Result};
use crate::observe::{
    Batch, BatchFormat, LabelLogits, LogitRows, Measured, ObservationColumns, Phase, TokenColumns,
};

/// The rows of one table and phase.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) table: Table,
    pub(crate) phase: Phase,
    pub(crate) rows: RecordBatch,
}

/// Batches that have arrived and are not yet in a frame of the log.
#[derive(Debug)]
pub(crate) struct PendingRows {
    format: BatchFormat,
    batches: Vec<Batch>,
    rows: u64,
    bytes: usize,
}

impl PendingRows {
    pub(crate) fn new(format: BatchFormat) -> Self {
        Self { format, batches: Vec::new(), rows: 0, bytes: 0 }
    }

    pub(crate) fn push(&mut self, batch: Batch) {
        self.rows += batch.len() as u64;
        self.bytes += batch.bytes();
        self.batches.push(batch);
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.format.clone());
    }

    /// Returns the pending rows as one section per table and phase, in their order of arrival.
    pub(crate) fn sections(&self) -> Result<Vec<Section>> {
        let mut sections = Vec::new();
        for (table, phase) in Table::streams() {
            let Some(schema) = table.schema(&self.format) else { continue };
            let of_phase = self.batches.iter().filter(|batch| batch.phase() == phase);
            let of_table = of_phase.filter(|batch| match batch.measured {
                Measured::Observations(_) => table != Table::Grand,
                Measured::Grand(_) => table == Table::Grand,
            });
            let batches: Vec<&Batch> = of_table.filter(|batch| !batch.is_empty()).collect();
            if batches.is_empty() {
                continue;
            }
            let mut columns = key_columns(&batches);
            match table {
                Table::Observations => add_observations(&mut columns, &self.format, &batches),
                Table::Logits => add_logits(&mut columns, &batches, &schema)?,
                // Snapshots do not go through the log.
                Table::Snapshots => continue,
                Table::Grand => columns.push(Arc::new(Float32Array::from(concat(&batches, norms)))),
            }
            let rows = RecordBatch::try_new(schema, columns).map_err(unbuildable)?;
            sections.push(Section { table, phase, rows });
        }
        Ok(sections)
    }
}

fn norms(batch: &Batch) -> &[f32] {
    match &batch.measured {
        Measured::Grand(norms) => norms,
        Measured::Observations(_) => &[],
    }
}

fn observed<'a>(batches: &[&'a Batch]) -> Vec<&'a ObservationColumns> {
    let columns = |batch: &&'a Batch| match &batch.measured {
        Measured::Observations(columns) => Some(columns),
        Measured::Grand(_) => None,
    };
    batches.iter().filter_map(columns).collect()
}

/// In the order of the schema.
fn add_observations(columns: &mut Vec<ArrayRef>, format: &BatchFormat, batches: &[&Batch]) {
    let observed = observed(batches);
    if format.kind.has_correct() {
        let correct = observed.iter().flat_map(|columns| columns.correct.iter().copied());
        columns.push(Arc::new(correct.map(Some).collect::<BooleanArray>()));
    }
    if format.kind.has_tokens() {
        let sequences: Vec<&TokenColumns> =
            observed.iter().filter_map(|columns| columns.tokens.as_ref()).collect();
        let tokens: Vec<&[i32]> = sequences.iter().map(|columns| &*columns.tokens).collect();
        let accuracy: Vec<&[f32]> = sequences.iter().map(|columns| &*columns.accuracy).collect();
        columns.push(Arc::new(Int32Array::from(tokens.concat())));
        columns.push(Arc::new(Float32Array::from(accuracy.concat())));
    }
    let signals = observed.first().map_or(0, |columns| columns.signals.len());
    for signal in 0..signals {
        let values: Vec<&[f32]> =
            observed.iter().map(|columns| &*columns.signals[signal]).collect();
        columns.push(Arc::new(Float32Array::from(values.concat())));
    }
}

fn add_logits(columns: &mut Vec<ArrayRef>, batches: &[&Batch], schema: &SchemaRef) -> Result<()> {
    let (mut floats, mut classes, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    let mut label = LabelLogits::default();
    for rows in observed(batches).into_iter().filter_map(|columns| columns.logits.as_ref()) {
        match rows {
            LogitRows::F32(values) => floats.extend_from_slice(values),
            LogitRows::F16(values) => bytes.extend_from_slice(values),
            LogitRows::Top(top) => {
                classes.extend_from_slice(&top.classes);
                floats.extend_from_slice(&top.values);
                if let Some(of_label) = &top.label {
                    label.logit.extend_from_slice(&of_label.logit);
                    label.log_sum_exp.extend_from_slice(&of_label.log_sum_exp);
                }
            }
        }
    }
    let keys = columns.len();
    for field in &schema.fields()[keys..] {
        let column: ArrayRef = match field.data_type() {
            DataType::FixedSizeBinary(width) => {
                let values = Buffer::from_vec(std::mem::take(&mut bytes));
                Arc::new(FixedSizeBinaryArray::try_new(*width, values, None).map_err(unbuildable)?)
            }
            DataType::FixedSizeList(item, length) => {
                let values: ArrayRef = if item.data_type() == &DataType::Int32 {
                    Arc::new(Int32Array::from(std::mem::take(&mut classes)))
                } else {
                    Arc::new(Float32Array::from(std::mem::take(&mut floats)))
                };
                let list = FixedSizeListArray::try_new(Arc::clone(item), *length, values, None);
                Arc::new(list.map_err(unbuildable)?)
            }
            DataType::Float32 => Arc::new(Float32Array::from(match field.name().as_str() {
                LABEL_LOGIT => std::mem::take(&mut label.logit),
                _ => std::mem::take(&mut label.log_sum_exp),
            })),
            other => return Err(unbuildable(format!("a logits column of type {other}"))),
        };
        columns.push(column);
    }
    Ok(())
}

/// `step`, `epoch`, `example`, `label`.
fn key_columns(batches: &[&Batch]) -> Vec<ArrayRef> {
    let repeat = |batch: &&Batch| std::iter::repeat_n(batch.moment, batch.len());
    let steps: Vec<i64> = batches.iter().flat_map(repeat).map(|now| now.step as i64).collect();
    let epochs: Vec<i32> = batches.iter().flat_map(repeat).map(|now| now.epoch as i32).collect();
    vec![
        Arc::new(Int64Array::from(steps)),
        Arc::new(Int32Array::from(epochs)),
        Arc::new(Int64Array::from(concat(batches, |batch| batch.examples.as_slice()))),
        Arc::new(Int32Array::from(concat(batches, |batch| batch.labels.as_slice()))),
    ]
}

fn concat<'a, T: Copy + 'a>(
    batches: &[&'a Batch],
    column: impl Fn(&'a Batch) -> &'a [T],
) -> Vec<T> {
    let mut values = Vec::with_capacity(batches.iter().map(|batch| batch.len()).sum());
    for batch in batches {
        values.extend_from_slice(column(batch));
    }
    values
}

/// Batches have been validated, so this is a bug in this crate.
fn unbuildable(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("batch: cannot be converted to columns: {what}"))
}
