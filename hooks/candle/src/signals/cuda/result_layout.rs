//! The layout of a batch's results in their buffer.

use data_diet::observe::{
    BatchFormat, DeviceLogits, DeviceSignals, LabelLogits, LogitsFormat, ModelKind,
};

use super::kernel_arguments::{CORRECT, FINITE, Task, columns};

/// What a batch has on the device, which decides which columns it brings to the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeviceShape {
    /// Examples, or tokens.
    pub(super) rows: usize,
    /// The ids that are on the device.
    pub(super) ids: usize,
    /// Whether soft targets of classes are on the device.
    pub(super) has_weights: bool,
    /// The targets of a row that are gathered, for kinds without a softmax; 0 for class indices.
    pub(super) label_columns: usize,
}

/// The offset of each of a batch's columns in the buffer, each a multiple of 8. Columns that the
/// batch does not have are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResultLayout {
    labels: Section,
    ids: Section,
    target_sums: Section,
    outputs: Section,
    targets: Section,
    signals: Section,
    logits: Section,
    top_values: Section,
    top_classes: Section,
    label_logits: Section,
    log_sum_exps: Section,
    status: Section,
    pub(super) bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Section {
    start: usize,
    length: usize,
}

impl ResultLayout {
    pub(super) fn new(format: &BatchFormat, shape: DeviceShape) -> Self {
        let mut bytes = 0;
        let mut section = |length: usize| {
            let section = Section { start: bytes, length };
            bytes += length.next_multiple_of(8);
            section
        };
        let DeviceShape { rows, ids, has_weights, label_columns } = shape;
        let classes = format.kind.outputs();
        let is_gathered = !has_softmax(format.kind);
        let of_signals = if is_gathered { 0 } else { rows };
        let logits = if is_gathered { LogitsFormat::Off } else { format.logits };
        let whole = match logits {
            LogitsFormat::F32 => rows * classes * 4,
            LogitsFormat::F16 => rows * classes * 2,
            _ => 0,
        };
        let top = logits.top().map_or(0, |k| rows * k as usize * 4);
        let label = if matches!(logits, LogitsFormat::TopKAndLabel(_)) { rows * 4 } else { 0 };
        Self {
            labels: section(if label_columns == 0 { rows * 8 } else { 0 }),
            ids: section(ids * 8),
            target_sums: section(if has_weights { rows * 8 } else { 0 }),
            outputs: section(if is_gathered { rows * classes * 8 } else { 0 }),
            targets: section(rows * label_columns * 4),
            signals: section(of_signals * format.signals.len() * 4),
            logits: section(whole),
            top_values: section(top),
            top_classes: section(top),
            label_logits: section(label),
            log_sum_exps: section(label),
            status: section(of_signals),
            bytes,
        }
    }

    /// Returns a task that writes to this layout; its inputs are not set yet.
    pub(super) fn task(&self, format: &BatchFormat, shape: DeviceShape, device: u64) -> Task {
        let at = |section: Section| {
            if section.length == 0 { 0 } else { device + section.start as u64 }
        };
        let logits = |wanted: LogitsFormat| {
            if format.logits == wanted { at(self.logits) } else { 0 }
        };
        Task {
            logits: 0,
            group_stride: 0,
            inner: shape.rows as i64,
            row_stride: 0,
            class_stride: 0,
            labels: 0,
            label_row_stride: 0,
            label_class_stride: 0,
            ids: 0,
            id_stride: 0,
            id_count: shape.ids as i64,
            signals: at(self.signals),
            status: at(self.status),
            out_labels: at(self.labels),
            out_ids: at(self.ids),
            target_sums: at(self.target_sums),
            logits_f32: logits(LogitsFormat::F32),
            logits_f16: logits(LogitsFormat::F16),
            top_values: at(self.top_values),
            top_classes: at(self.top_classes),
            label_logits: at(self.label_logits),
            log_sum_exps: at(self.log_sum_exps),
            outputs: at(self.outputs),
            targets: at(self.targets),
            rows: shape.rows as i64,
            classes: format.kind.outputs() as i32,
            label_kind: 0,
            id_kind: 0,
            top_k: format.logits.top().unwrap_or(0) as i32,
            label_columns: shape.label_columns as i32,
            columns: columns(&format.signals),
        }
    }

    /// Returns the ids of the batch, if they were on the device.
    pub(super) fn ids(&self, bytes: &[u8]) -> Vec<i64> {
        read(bytes, self.ids, i64::from_le_bytes)
    }

    /// Returns the class indices of a batch that was gathered.
    pub(super) fn labels(&self, bytes: &[u8]) -> Vec<i64> {
        read(bytes, self.labels, i64::from_le_bytes)
    }

    /// Returns the outputs of a batch that was gathered.
    pub(super) fn outputs(&self, bytes: &[u8]) -> Vec<f64> {
        read(bytes, self.outputs, f64::from_le_bytes)
    }

    /// Returns the targets of a batch that was gathered, unless they are class indices.
    pub(super) fn targets(&self, bytes: &[u8]) -> Vec<f32> {
        read(bytes, self.targets, f32::from_le_bytes)
    }

    pub(super) fn observed(
        &self,
        format: &BatchFormat,
        rows: usize,
        bytes: &[u8],
    ) -> DeviceSignals {
        let status: Vec<u8> = read(bytes, self.status, |[status]| status);
        let signals: Vec<f32> = read(bytes, self.signals, f32::from_le_bytes);
        let sums = read(bytes, self.target_sums, f64::from_le_bytes);
        let label = || LabelLogits {
            logit: read(bytes, self.label_logits, f32::from_le_bytes),
            log_sum_exp: read(bytes, self.log_sum_exps, f32::from_le_bytes),
        };
        DeviceSignals {
            labels: read(bytes, self.labels, i64::from_le_bytes),
            correct: status.iter().map(|status| status & CORRECT != 0).collect(),
            finite: status.iter().map(|status| status & FINITE != 0).collect(),
            signals: signals.chunks_exact(rows).map(<[f32]>::to_vec).collect(),
            logits: match format.logits {
                LogitsFormat::F32 => {
                    DeviceLogits::F32(read(bytes, self.logits, f32::from_le_bytes))
                }
                LogitsFormat::F16 => DeviceLogits::F16(read(bytes, self.logits, |[byte]| byte)),
                LogitsFormat::TopK(_) | LogitsFormat::TopKAndLabel(_) => DeviceLogits::TopK {
                    classes: read(bytes, self.top_classes, i32::from_le_bytes),
                    values: read(bytes, self.top_values, f32::from_le_bytes),
                    label: (self.label_logits.length > 0).then(label),
                },
                _ => DeviceLogits::Off,
            },
            target_sums: (self.target_sums.length > 0).then_some(sums),
        }
    }
}

/// Returns whether the kernel computes the signals of this kind of model; otherwise it gathers the
/// outputs, which are few, and the host computes.
pub(super) fn has_softmax(kind: ModelKind) -> bool {
    matches!(kind, ModelKind::Classes { .. } | ModelKind::Tokens { .. })
}

/// Reads the elements of a section, each of `N` little-endian bytes.
fn read<T, const N: usize>(bytes: &[u8], section: Section, element: fn([u8; N]) -> T) -> Vec<T> {
    let bytes = &bytes[section.start..][..section.length];
    bytes.as_chunks::<N>().0.iter().map(|&bytes| element(bytes)).collect()
}
