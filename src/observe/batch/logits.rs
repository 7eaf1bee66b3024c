//! The logits of a batch in the form in which they are stored.

use half::f16;

use super::format::{BatchFormat, LogitsFormat};

/// One row per example, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LogitRows {
    F32(Vec<f32>),
    F16(Vec<u8>),
    TopK { k: usize, classes: Vec<i32>, values: Vec<f32> },
}

impl LogitRows {
    pub(super) fn with_capacity(format: &BatchFormat, rows: usize) -> Option<Self> {
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

    pub(super) fn push<T: Copy + Into<f64>>(&mut self, row: &[T]) {
        let narrow = |z: T| z.into() as f32;
        match self {
            Self::F32(values) => values.extend(row.iter().map(|&z| narrow(z))),
            Self::F16(bytes) => {
                bytes.extend(row.iter().flat_map(|&z| f16::from_f32(narrow(z)).to_le_bytes()));
            }
            Self::TopK { k, classes, values } => {
                let mut order: Vec<usize> = (0..row.len()).collect();
                // NaN sorts above every number, so that a non-finite row shows its NaN among the
                // top classes.
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

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => values.len() * 4,
            Self::F16(bytes) => bytes.len(),
            Self::TopK { classes, .. } => classes.len() * 8,
        }
    }
}
