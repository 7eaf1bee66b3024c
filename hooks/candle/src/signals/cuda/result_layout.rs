//! The layout of a batch's results in their buffer.

use data_diet::observe::{BatchFormat, DeviceLogits, DeviceSignals, LogitsFormat};

use super::kernel_arguments::{CORRECT, FINITE, Task, columns};

/// The offset of each of a batch's columns in the buffer, each a multiple of 8. Columns that the
/// batch does not have are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResultLayout {
    labels: Section,
    ids: Section,
    target_sums: Section,
    signals: Section,
    logits: Section,
    top_values: Section,
    top_classes: Section,
    status: Section,
    pub(super) bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Section {
    start: usize,
    length: usize,
}

impl ResultLayout {
    /// `has_ids` and `has_weights` say whether ids, or soft targets, are on the device.
    pub(super) fn new(format: &BatchFormat, rows: usize, has_ids: bool, has_weights: bool) -> Self {
        let mut bytes = 0;
        let mut section = |length: usize| {
            let section = Section { start: bytes, length };
            bytes += length.next_multiple_of(8);
            section
        };
        let classes = format.classes as usize;
        let (logits, top) = match format.logits {
            LogitsFormat::F32 => (rows * classes * 4, 0),
            LogitsFormat::F16 => (rows * classes * 2, 0),
            LogitsFormat::TopK(k) => (0, rows * k as usize * 4),
            _ => (0, 0),
        };
        Self {
            labels: section(rows * 8),
            ids: section(if has_ids { rows * 8 } else { 0 }),
            target_sums: section(if has_weights { rows * 8 } else { 0 }),
            signals: section(rows * format.signals.len() * 4),
            logits: section(logits),
            top_values: section(top),
            top_classes: section(top),
            status: section(rows),
            bytes,
        }
    }

    /// Returns a task that writes to this layout; its inputs are not set yet.
    pub(super) fn task(&self, format: &BatchFormat, rows: usize, device: u64) -> Task {
        let at = |section: Section| {
            if section.length == 0 { 0 } else { device + section.start as u64 }
        };
        let logits = |wanted: LogitsFormat| {
            if format.logits == wanted { at(self.logits) } else { 0 }
        };
        Task {
            logits: 0,
            row_stride: 0,
            class_stride: 0,
            labels: 0,
            label_row_stride: 0,
            label_class_stride: 0,
            ids: 0,
            id_stride: 0,
            signals: at(self.signals),
            status: at(self.status),
            out_labels: at(self.labels),
            out_ids: at(self.ids),
            target_sums: at(self.target_sums),
            logits_f32: logits(LogitsFormat::F32),
            logits_f16: logits(LogitsFormat::F16),
            top_values: at(self.top_values),
            top_classes: at(self.top_classes),
            rows: rows as i64,
            classes: format.classes as i32,
            label_kind: 0,
            id_kind: 0,
            top_k: if let LogitsFormat::TopK(k) = format.logits { k as i32 } else { 0 },
            columns: columns(&format.signals),
        }
    }

    /// Returns the ids of the batch, if they were on the device.
    pub(super) fn ids(&self, bytes: &[u8]) -> Vec<i64> {
        read(bytes, self.ids, i64::from_le_bytes)
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
                LogitsFormat::TopK(_) => DeviceLogits::TopK {
                    classes: read(bytes, self.top_classes, i32::from_le_bytes),
                    values: read(bytes, self.top_values, f32::from_le_bytes),
                },
                _ => DeviceLogits::Off,
            },
            target_sums: (self.target_sums.length > 0).then_some(sums),
        }
    }
}

/// Reads the elements of a section, each of `N` little-endian bytes.
fn read<T, const N: usize>(bytes: &[u8], section: Section, element: fn([u8; N]) -> T) -> Vec<T> {
    let bytes = &bytes[section.start..][..section.length];
    bytes.as_chunks::<N>().0.iter().map(|&bytes| element(bytes)).collect()
}
