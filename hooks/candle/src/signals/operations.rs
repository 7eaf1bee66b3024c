//! Computes the signals of a batch with candle operations, on whatever device the logits are, for
//! devices without a kernel of ours: only a few numbers per row then have to be copied to the host.
//!
//! Computes in single precision, or in double for double logits. Where that loses digits, the terms
//! are arranged as in the reference, `data_diet::observe::ExampleSignals`: the largest term of the
//! softmax is left out of the sums.

use candle_core::{D, DType, Tensor};
use data_diet::observe::{BatchFormat, DeviceLogits, DeviceSignals, PerSignal, Signal, Targets};

use crate::error::Result;
use crate::output_shape::OutputShape;
use crate::transfer::HostTensor;

/// Indices of the rows of the result that follow the signals.
const CORRECT: usize = Signal::ALL.len();
const FINITE: usize = CORRECT + 1;
const ROWS: usize = FINITE + 1;

/// The values that are computed at once: some ten tensors of this size are in memory at a time.
const VALUES_AT_ONCE: usize = 1 << 22;

/// Computes the signals of a checked batch of classes or tokens, a slice of rows at a time.
pub(crate) fn observe(
    format: &BatchFormat,
    shape: &OutputShape,
    logits: &Tensor,
    targets: Targets<'_>,
) -> Result<DeviceSignals> {
    let mut all = DeviceSignals {
        labels: Vec::new(),
        correct: Vec::new(),
        finite: Vec::new(),
        signals: vec![Vec::new(); format.signals.len()],
        logits: DeviceLogits::Off,
        target_sums: matches!(targets, Targets::Soft(_)).then(Vec::new),
    };
    let mut start = 0;
    for slice in shape.slices(logits, VALUES_AT_ONCE / shape.width.max(1))? {
        let rows = slice.dim(0)?;
        let targets = match targets {
            Targets::Classes(labels) => Targets::Classes(&labels[start..start + rows]),
            Targets::Soft(weights) => {
                Targets::Soft(&weights[start * shape.width..(start + rows) * shape.width])
            }
            Targets::None => Targets::None,
        };
        add_slice(&mut all, format, &slice, targets)?;
        start += rows;
    }
    Ok(all)
}

/// Adds the signals of logits `[rows, classes]`.
fn add_slice(
    all: &mut DeviceSignals,
    format: &BatchFormat,
    logits: &Tensor,
    targets: Targets<'_>,
) -> Result<()> {
    let rows = logits.dim(0)?;
    let classes = format.kind.outputs();
    let softmax = Softmax::new(logits)?;
    let columns = match targets {
        Targets::Soft(weights) => {
            all.labels.extend(weights.chunks_exact(classes).map(most_likely));
            let weights = Tensor::from_slice(weights, (rows, classes), logits.device())?
                .to_dtype(softmax.logits.dtype())?;
            softmax.columns(&weights.argmax(D::Minus1)?, Some(&weights))?
        }
        Targets::Classes(_) | Targets::None => {
            let labels = if let Targets::Classes(labels) = targets { labels } else { &[] };
            all.labels.extend_from_slice(labels);
            // An ignored label may not be a class.
            let class = |&label: &i64| u32::try_from(label).unwrap_or(0).min(classes as u32 - 1);
            let labels: Vec<u32> = labels.iter().map(class).collect();
            softmax.columns(&Tensor::new(labels, logits.device())?, None)?
        }
    };
    let columns = HostTensor::new(&columns)?.floats("signals")?;
    let column = |place: usize| &columns[place * rows..][..rows];
    let finite: Vec<bool> = column(FINITE).iter().map(|&flag| flag == 1.0).collect();
    let correct = column(CORRECT).iter().zip(&finite);
    all.correct.extend(correct.map(|(&flag, &finite)| flag == 1.0 && finite));
    for (signal, all) in format.signals.iter().zip(&mut all.signals) {
        let place = Signal::ALL.iter().position(|known| known == signal).unwrap_or_default();
        let values = column(place).iter().zip(&finite);
        all.extend(values.map(|(&value, &finite)| if finite { value } else { f32::NAN }));
    }
    if let Some(sums) = &mut all.target_sums {
        // They have been checked.
        sums.extend(std::iter::repeat_n(1.0, rows));
    }
    all.finite.extend(finite);
    Ok(())
}

/// Returns the class with the largest weight; the lowest wins a tie.
fn most_likely(weights: &[f32]) -> i64 {
    let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    weights.iter().position(|&weight| weight == largest).unwrap_or_default() as i64
}

/// What does not depend on the labels. One row per example, `[batch, 1]` unless noted.
struct Softmax {
    /// `[batch, classes]`, like the next three.
    logits: Tensor,
    is_top: Tensor,
    depths: Tensor,
    terms: Tensor,
    top: Tensor,
    largest: Tensor,
    /// The sum of all terms but the largest, which is 1.
    rest: Tensor,
    total: Tensor,
    log_total: Tensor,
}

impl Softmax {
    fn new(logits: &Tensor) -> Result<Self> {
        let wide = if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let logits = logits.detach().to_dtype(wide)?.contiguous()?;
        let top = logits.argmax_keepdim(D::Minus1)?;
        let largest = logits.gather(&top, D::Minus1)?;
        let is_top = is_class(&logits, &top)?;
        let depths = logits.broadcast_sub(&largest)?;
        let terms = depths.exp()?;
        let zero = terms.zeros_like()?;
        let rest = is_top.where_cond(&zero, &terms)?.sum_keepdim(D::Minus1)?;
        let total = (&rest + 1.0)?;
        let log_total = ln_1p(&rest, &total)?;
        Ok(Self { logits, is_top, depths, terms, top, largest, rest, total, log_total })
    }

    /// Returns the signals in the order of `Signal::ALL`, then two flags: `[ROWS, batch]`.
    fn columns(&self, labels: &Tensor, weights: Option<&Tensor>) -> Result<Tensor> {
        let zero = self.terms.zeros_like()?;
        let labels = labels.unsqueeze(1)?.contiguous()?;
        let is_label = is_class(&self.logits, &labels)?;
        let label_logit = self.logits.gather(&labels, D::Minus1)?;
        let label_depth = (&label_logit - &self.largest)?;
        let label_term = label_depth.exp()?;
        let correct = labels.eq(&self.top)?;

        let lowest = (&zero - f64::INFINITY)?;
        let other = is_label.where_cond(&lowest, &self.logits)?.max_keepdim(D::Minus1)?;
        let confidence = (&label_term / &self.total)?;
        // A term that underflows to zero contributes nothing, however low its logit.
        let weighed = (&self.terms * &self.depths)?;
        let weighed = self.terms.gt(0.0)?.where_cond(&weighed, &zero)?;
        let weighed = self.is_top.where_cond(&zero, &weighed)?.sum_keepdim(D::Minus1)?;
        let entropy = (&self.log_total - (weighed / &self.total)?)?;
        let (el2n, el1n, loss) = match weights {
            None => {
                let missed = (&self.total - &label_term)?;
                let error = (correct.where_cond(&self.rest, &missed)? / &self.total)?;
                let others = is_label.where_cond(&zero, &self.terms)?;
                let others = others.broadcast_div(&self.total)?.sqr()?.sum_keepdim(D::Minus1)?;
                let el2n = (error.sqr()? + others)?.sqrt()?;
                (el2n, (error * 2.0)?, (&self.log_total - &label_depth)?)
            }
            Some(weights) => {
                let errors = (self.terms.broadcast_div(&self.total)? - weights)?;
                let terms = (weights * self.depths.broadcast_sub(&self.log_total)?.neg()?)?;
                let terms = weights.gt(0.0)?.where_cond(&terms, &zero)?;
                (
                    errors.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?,
                    errors.abs()?.sum_keepdim(D::Minus1)?,
                    terms.sum_keepdim(D::Minus1)?,
                )
            }
        };
        let margin = (label_logit - other)?;
        // Minus infinity masks a class out, but not all of them. NaN compares as false.
        let dtype = self.logits.dtype();
        let bounded = self.logits.lt(f64::INFINITY)?.to_dtype(dtype)?.min_keepdim(D::Minus1)?;
        let finite = (bounded * self.largest.gt(f64::NEG_INFINITY)?.to_dtype(dtype)?)?;
        let correct = correct.to_dtype(self.logits.dtype())?;
        let signals = PerSignal { el2n, loss, margin, el1n, confidence, entropy };
        let mut columns = vec![correct, finite];
        for signal in Signal::ALL.iter().rev() {
            columns.insert(0, signals.get(*signal).clone());
        }
        Ok(Tensor::cat(&columns, 1)?
            .t()?
            .contiguous()?
            .to_dtype(DType::F32)?
            .reshape((ROWS, ()))?)
    }
}

/// Returns a mask `[batch, classes]` of the class of each row `[batch, 1]`.
fn is_class(logits: &Tensor, class: &Tensor) -> Result<Tensor> {
    let classes = Tensor::arange(0_u32, logits.dim(1)? as u32, logits.device())?.unsqueeze(0)?;
    Ok(classes.broadcast_as(logits.shape())?.eq(&class.broadcast_as(logits.shape())?)?)
}

/// `ln(1 + x)` for `x >= 0` without losing a small `x`, given `1 + x` as it is rounded: the
/// rounding affects numerator and denominator of `x * ln(1 + x) / ((1 + x) - 1)` alike (Kahan).
fn ln_1p(x: &Tensor, one_plus_x: &Tensor) -> Result<Tensor> {
    let rounded = (one_plus_x - 1.0)?;
    let quotient = ((x * one_plus_x.log()?)? / &rounded)?;
    Ok(rounded.eq(&x.zeros_like()?)?.where_cond(x, &quotient)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use data_diet::observe::{ExampleSignals, LogitsFormat, Target};
    use proptest::prelude::*;

    use super::*;

    fn observed(format: &BatchFormat, logits: &Tensor, targets: Targets<'_>) -> DeviceSignals {
        let shape = OutputShape::of(format.kind, logits).unwrap();
        observe(format, &shape, logits, targets).unwrap()
    }

    fn check(logits: &Tensor, values: &[f64], targets: Targets<'_>) {
        let (rows, classes) = logits.dims2().unwrap();
        let format = BatchFormat {
            signals: Signal::ALL.to_vec(),
            logits: LogitsFormat::Off,
            ..BatchFormat::classes(classes).unwrap()
        };
        let observed = observed(&format, logits, targets);
        for row in 0..rows {
            let target = match targets {
                Targets::Classes(labels) => Target::Class(labels[row] as usize),
                Targets::Soft(weights) => Target::Soft(&weights[row * classes..][..classes]),
                Targets::None => Target::Soft(&[]),
            };
            let logits = &values[row * classes..][..classes];
            let expected = ExampleSignals::compute(logits, target);
            assert_eq!(observed.correct[row], expected.correct, "{logits:?}");
            assert_eq!(observed.finite[row], !expected.loss.is_nan(), "{logits:?}");
            for (column, signal) in observed.signals.iter().zip(Signal::ALL) {
                let (got, expected) = (column[row], expected.get(signal));
                let near =
                    (got - expected).abs() <= 1e-5 * expected.abs() + 1e-7 || got == expected;
                assert!(
                    near || got.is_nan() && expected.is_nan(),
                    "{signal} {got}, not {expected}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference(
            (classes, values, labels, parts) in (2_usize..12, 1_usize..5).prop_flat_map(|(k, rows)| (
                Just(k),
                prop::collection::vec(
                    prop_oneof![
                        20 => -12.0_f32..12.0,
                        8 => (-2_i8..2).prop_map(f32::from),
                        1 => prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 90.0]),
                    ],
                    k * rows,
                ),
                prop::collection::vec(0..k as i64, rows),
                prop::collection::vec(1_u8..5, k * rows),
            )),
        ) {
            let logits = Tensor::from_slice(&values, (labels.len(), classes), &Device::Cpu).unwrap();
            let values: Vec<f64> = values.iter().copied().map(f64::from).collect();
            check(&logits, &values, Targets::Classes(&labels));
            let weights: Vec<f32> = parts
                .chunks_exact(classes)
                .flat_map(|parts| {
                    let sum: f32 = parts.iter().copied().map(f32::from).sum();
                    parts.iter().map(move |&part| f32::from(part) / sum)
                })
                .collect();
            check(&logits, &values, Targets::Soft(&weights));
            check(&logits.to_dtype(DType::F64).unwrap(), &values, Targets::Classes(&labels));
        }
    }

    #[test]
    fn tiny_losses_keep_their_order() {
        let values: Vec<f64> = [18.0, 0.0, 25.0, 0.0, 40.0, 0.0, 80.0, 0.0].to_vec();
        let logits = Tensor::from_slice(&values, (4, 2), &Device::Cpu).unwrap();
        let logits = logits.to_dtype(DType::F32).unwrap();
        let format = BatchFormat { logits: LogitsFormat::Off, ..BatchFormat::classes(2).unwrap() };
        let observed = observed(&format, &logits, Targets::Classes(&[0; 4]));
        let loss = &observed.signals[1];
        for (row, logits) in values.chunks_exact(2).enumerate() {
            let expected = ExampleSignals::compute(logits, Target::Class(0)).loss;
            assert!(
                (loss[row] - expected).abs() <= 1e-5 * expected,
                "{} and {expected}",
                loss[row]
            );
        }
    }
}
