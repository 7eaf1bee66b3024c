//! The logits of a batch in the form in which they are stored.

use half::f16;

use super::format::{BatchFormat, LogitsFormat};
use crate::observe::output_rows::Float;

/// One row per example, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LogitRows {
    F32(Vec<f32>),
    F16(Vec<u8>),
    Top(TopLogits),
}

/// The highest logits of each row, largest first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopLogits {
    pub(crate) k: usize,
    pub(crate) classes: Vec<i32>,
    pub(crate) values: Vec<f32>,
    pub(crate) label: Option<LabelLogits>,
}

/// What the logits say about the label, one of each per row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelLogits {
    /// The label's own logit.
    pub logit: Vec<f32>,
    /// `log sum_k exp z_k`, so that the label's probability is `exp(logit - log_sum_exp)`.
    pub log_sum_exp: Vec<f32>,
}

impl LogitRows {
    pub(super) fn with_capacity(format: &BatchFormat, rows: usize) -> Option<Self> {
        let all = rows * format.kind.outputs();
        match format.logits {
            LogitsFormat::Off => None,
            LogitsFormat::F32 => Some(Self::F32(Vec::with_capacity(all))),
            LogitsFormat::F16 => Some(Self::F16(Vec::with_capacity(all * 2))),
            LogitsFormat::TopK(k) | LogitsFormat::TopKAndLabel(k) => Some(Self::Top(TopLogits {
                k: k as usize,
                classes: Vec::with_capacity(rows * k as usize),
                values: Vec::with_capacity(rows * k as usize),
                label: matches!(format.logits, LogitsFormat::TopKAndLabel(_))
                    .then(LabelLogits::default),
            })),
        }
    }

    /// Adds a row with its label and its log-sum-exp.
    pub(super) fn push<T: Float>(&mut self, row: &[T], label: i32, log_sum_exp: f64) {
        let narrow = |z: T| z.into() as f32;
        match self {
            Self::F32(values) => values.extend(row.iter().map(|&z| narrow(z))),
            Self::F16(bytes) => {
                bytes.extend(row.iter().flat_map(|&z| f16::from_f32(narrow(z)).to_le_bytes()));
            }
            Self::Top(top) => {
                let order = highest(row, top.k);
                top.classes.extend(order.iter().map(|&class| class as i32));
                top.values.extend(order.iter().map(|&class| narrow(row[class])));
                if let Some(of_label) = &mut top.label {
                    let logit = usize::try_from(label).ok().and_then(|label| row.get(label));
                    of_label.logit.push(logit.map_or(f32::NAN, |&z| narrow(z)));
                    of_label.log_sum_exp.push(log_sum_exp as f32);
                }
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => values.len() * 4,
            Self::F16(bytes) => bytes.len(),
            Self::Top(top) => {
                top.classes.len() * 8 + top.label.as_ref().map_or(0, |label| label.logit.len() * 8)
            }
        }
    }
}

/// Returns the classes of the `k` largest logits, largest first; ties by the lower class index. NaN
/// sorts above every number, so that a row that is not finite shows its NaN among the top classes.
fn highest<T: Float>(row: &[T], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::with_capacity(k + 1);
    let is_above = |a: usize, b: usize| row[a].into().total_cmp(&row[b].into()).is_gt();
    for class in 0..row.len() {
        // The classes so far are lower, so that they win ties.
        if order.len() < k || order.last().is_some_and(|&last| is_above(class, last)) {
            let place = order.partition_point(|&other| !is_above(class, other));
            order.insert(place, class);
            order.truncate(k);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_highest_are_those_of_a_sort(
            row in prop::collection::vec(prop_oneof![8 => (-4_i8..4).prop_map(f64::from), 1 => Just(f64::NAN)], 1..30),
            k in 1_usize..8,
        ) {
            let mut expected: Vec<usize> = (0..row.len()).collect();
            expected.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
            expected.truncate(k);
            prop_assert_eq!(highest(&row, k), expected);
        }
    }
}
