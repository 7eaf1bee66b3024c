//! Error rates, losses and barriers of every kind of model, against the definitions written out.

use candle_core::{DType, Device, Tensor, Var};
use data_diet::geometry::ErrorBarrierTable;
use data_diet_candle::geometry::barrier::{
    AlphaGrid, Branch, ErrorBarrier, LabeledSet, Line, Risk,
};
use data_diet_candle::weights::{NamedTensors, Params, Weights};
use data_diet_candle::{Labels, ModelKind};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::models::{Perceptron, numbers, scatter, tensor};

const IGNORED: i64 = -100;

fn close(got: f64, expected: f64) -> Result<(), TestCaseError> {
    prop_assert!((got - expected).abs() < 1e-5 * expected.abs().max(1.0), "{got} for {expected}");
    Ok(())
}

/// The risk of a set whose inputs are the outputs, in batches, and of one batch that is all of it.
fn risks<L: Labels + ?Sized>(
    kind: ModelKind,
    outputs: &Tensor,
    labels: &L,
    batch: usize,
) -> [Risk; 2] {
    let set = LabeledSet::of_kind(kind, Some(IGNORED), outputs.clone(), labels, batch).unwrap();
    let in_batches = set.risk(|outputs| Ok(outputs.clone())).unwrap();
    assert_eq!(set.examples() as u64, in_batches.examples());
    let mut whole = Risk::of_kind(kind).ignore_index(IGNORED);
    whole.add(outputs, labels).unwrap();
    [in_batches, whole]
}

proptest! {
    #[test]
    fn a_sequence_is_wrong_by_the_share_of_its_counted_tokens(
        (examples, tokens, vocabulary) in (1_usize..8, 1_usize..6, 2_usize..7),
        ignored in prop::collection::vec(prop::bool::weighted(0.3), 8 * 6),
        (is_double, is_flat) in any::<(bool, bool)>(),
        (batch, seed) in (1_usize..9, any::<u64>()),
    ) {
        let values = numbers(seed, examples * tokens * vocabulary);
        let values: Vec<f64> = values.iter().map(|&z| f64::from((6.0 * z) as f32)).collect();
        let labels: Vec<i64> = numbers(seed ^ 1, examples * tokens)
            .iter()
            .zip(&ignored)
            .map(|(&x, &ignored)| {
                let label = ((x * 0.5 + 0.5) * vocabulary as f64) as i64 % vocabulary as i64;
                if ignored { IGNORED } else { label }
            })
            .collect();
        let (mut counted, mut error, mut loss) = (0_u64, 0.0, 0.0);
        for example in 0..examples {
            let mut here = Vec::new();
            for token in example * tokens..(example + 1) * tokens {
                let logits = &values[token * vocabulary..][..vocabulary];
                if labels[token] == IGNORED {
                    continue;
                }
                let label = labels[token] as usize;
                let sum: f64 = logits.iter().map(|z| z.exp()).sum();
                let is_right = (0..vocabulary).all(|k| logits[k] < logits[label] || k == label);
                here.push((f64::from(u8::from(!is_right)), sum.ln() - logits[label]));
            }
            if !here.is_empty() {
                counted += 1;
                error += here.iter().map(|one| one.0).sum::<f64>() / here.len() as f64;
                loss += here.iter().map(|one| one.1).sum::<f64>() / here.len() as f64;
            }
        }
        prop_assume!(counted > 0);
        let shape = (examples, tokens, vocabulary);
        let logits = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        let logits = if is_double { logits } else { logits.to_dtype(DType::F32).unwrap() };
        let labels = Tensor::from_vec(labels, (examples, tokens), &Device::Cpu).unwrap();
        let kind = ModelKind::Tokens { vocabulary: vocabulary as u32 };
        let [in_batches, mut whole] = risks(kind, &logits, &labels, batch);
        if is_flat {
            whole = Risk::of_kind(kind).ignore_index(IGNORED);
            whole.add(&logits.flatten_to(1).unwrap(), &labels).unwrap();
        }
        for risk in [in_batches, whole] {
            prop_assert_eq!((risk.examples(), risk.non_finite()), (counted, 0));
            close(risk.error(), error / counted as f64)?;
            close(risk.loss(), loss / counted as f64)?;
        }
    }

    #[test]
    fn other_kinds_have_their_own_errors_and_losses(
        (examples, outputs) in (1_usize..12, 1_usize..5),
        what in 0..4_u8,
        (batch, is_hard, seed) in (1_usize..9, any::<bool>(), any::<u64>()),
    ) {
        let outputs = if matches!(what, 0 | 3) { 1 } else { outputs };
        let values: Vec<f64> =
            numbers(seed, examples * outputs).iter().map(|&z| f64::from((4.0 * z) as f32)).collect();
        let targets: Vec<f32> = numbers(seed ^ 1, examples * outputs)
            .iter()
            .map(|&y| match (what, is_hard) {
                (2, _) => (3.0 * y) as f32,
                (_, true) => f32::from(y > 0.0),
                (_, false) => (0.5 * y + 0.5) as f32,
            })
            .collect();
        let kind = match what {
            0 => ModelKind::Binary,
            1 => ModelKind::MultiLabel { labels: outputs as u32 },
            2 => ModelKind::Regression { outputs: outputs as u32 },
            _ => ModelKind::LossOnly,
        };
        let (mut error, mut loss) = (0.0, 0.0);
        for (z, y) in values.chunks(outputs).zip(targets.chunks(outputs)) {
            let pairs = || z.iter().zip(y).map(|(&z, &y)| (z, f64::from(y)));
            let is_right = pairs().all(|(z, y)| (z > 0.0) == (y >= 0.5));
            error += f64::from(u8::from(!is_right));
            loss += match what {
                2 => pairs().map(|(z, y)| 0.5 * (z - y) * (z - y)).sum::<f64>(),
                3 => z[0],
                _ => pairs()
                    .map(|(z, y)| {
                        let p = 1.0 / (1.0 + (-z).exp());
                        -y * p.ln() - (1.0 - y) * (1.0 - p).ln()
                    })
                    .sum::<f64>(),
            };
        }
        let logits = Tensor::from_vec(values, (examples, outputs), &Device::Cpu).unwrap();
        let targets = Tensor::from_vec(targets, (examples, outputs), &Device::Cpu).unwrap();
        let all = if what == 3 {
            risks(kind, &logits, &(), batch)
        } else {
            risks(kind, &logits, &targets, batch)
        };
        for risk in all {
            prop_assert_eq!(risk.examples(), examples as u64);
            if what < 2 {
                close(risk.error(), error / examples as f64)?;
            } else {
                prop_assert!(risk.error().is_nan());
            }
            close(risk.loss(), loss / examples as f64)?;
        }
    }
}

#[test]
fn what_is_not_finite_counts_once_for_each_sequence() {
    let logits = [[[0.0_f32, 1.0], [f32::NAN, 0.0]], [[0.0, 1.0], [2.0, 0.0]]];
    let logits = Tensor::new(&logits, &Device::Cpu).unwrap();
    let labels = Tensor::new(&[[1_i64, 0], [1, 0]], &Device::Cpu).unwrap();
    let kind = ModelKind::Tokens { vocabulary: 2 };
    let mut risk = Risk::of_kind(kind);
    risk.add(&logits, &labels).unwrap();
    assert_eq!((risk.examples(), risk.non_finite(), risk.error()), (2, 1, 0.25));
    assert!(risk.loss().is_nan());
    // Where it is ignored, it does not matter.
    let labels = Tensor::new(&[[1_i64, IGNORED], [1, 0]], &Device::Cpu).unwrap();
    let mut risk = Risk::of_kind(kind).ignore_index(IGNORED);
    risk.add(&logits, &labels).unwrap();
    assert_eq!((risk.examples(), risk.non_finite(), risk.error()), (2, 0, 0.0));
    assert!(risk.loss().is_finite());
}

/// Predicts `a b x`.
struct Product {
    a: Var,
    b: Var,
}

impl Product {
    fn weights(a: f64, b: f64) -> NamedTensors {
        let tensor = |value| Tensor::new(&[value], &Device::Cpu).unwrap();
        NamedTensors::from([("a".to_owned(), tensor(a)), ("b".to_owned(), tensor(b))])
    }
}

/// Between (1, 1) and (-2, -2) the prediction for 1 is (3 alpha - 2)^2.
#[test]
fn the_barrier_of_a_regression_is_that_of_its_loss() {
    let one = || Var::new(&[1.0_f64], &Device::Cpu).unwrap();
    let model = Product { a: one(), b: one() };
    let named = [("a".to_owned(), model.a.clone()), ("b".to_owned(), model.b.clone())];
    let params = Params::new(named).unwrap();
    let inputs = Tensor::new(&[[1.0_f64]], &Device::Cpu).unwrap();
    let kind = ModelKind::Regression { outputs: 1 };
    let set = LabeledSet::of_kind(kind, None, inputs, &[4.0_f32], 8).unwrap();
    let loss = |alpha: f64| 0.5 * ((3.0 * alpha - 2.0).powi(2) - 4.0).powi(2);
    let rise = |alpha: f64| loss(alpha) - alpha * loss(1.0);
    let top = (0..=100_000).map(|place| rise(f64::from(place) / 1e5)).fold(0.0, f64::max);
    let mut heights = Vec::new();
    for times in 0..12 {
        let grid = AlphaGrid::uniform(2).unwrap().refined(times);
        let curve = Line::new(&params).grid(grid).curve(
            &Product::weights(1.0, 1.0),
            &Product::weights(-2.0, -2.0),
            || set.risk(|x| x.broadcast_mul(&model.a)?.broadcast_mul(&model.b)),
        );
        let curve = curve.unwrap();
        assert!(!curve.has_errors());
        for point in curve.points() {
            assert!((point.loss - loss(point.alpha)).abs() < 1e-5, "{point:?}");
        }
        heights.push(curve.risks().by_chord().height);
    }
    assert!(heights.is_sorted() && heights[0] < top - 0.01, "{heights:?} {top}");
    assert!((heights[11] - top).abs() < 1e-4, "{heights:?} {top}");
}

#[test]
fn tables_hold_the_loss_where_there_is_no_error_rate() {
    let directory = TempDir::new().unwrap();
    let model = Perceptron::new(&[3, 4, 2], DType::F32, 1);
    let params = model.params();
    let inputs = || tensor(60, &[6, 3], DType::F32);
    let targets = tensor(61, &[6, 2], DType::F32);
    let classes = ModelKind::MultiLabel { labels: 2 };
    let hot = targets.gt(0.0).unwrap().to_dtype(DType::U32).unwrap();
    let numbers = ModelKind::Regression { outputs: 2 };
    let of = |kind, labels: &Tensor| LabeledSet::of_kind(kind, None, inputs(), labels, 4);
    let mut barrier = ErrorBarrier::new(Line::new(&params))
        .labeled_set("labels", of(classes, &hot).unwrap())
        .and_then(|barrier| barrier.labeled_set("numbers", of(numbers, &targets)?))
        .unwrap();
    let branch = |run: u64| {
        let other = Perceptron::new(&[3, 4, 2], DType::F32, 1);
        scatter(&other.variables, 100 + run);
        let tensors = other.params().copy().unwrap();
        Branch::new(format!("child-{run}"), vec![Ok(Weights { step: 5, epoch: 1, tensors })])
    };
    let mut table = ErrorBarrierTable::open(directory.path()).unwrap();
    let forward = |inputs: &Tensor| model.forward(inputs);
    barrier.run(None, vec![branch(0), branch(1)], forward, &mut table, |_| {}).unwrap();
    let again = ErrorBarrierTable::open(directory.path()).unwrap();
    let [labels, numbers] = again.rows() else { panic!("{:?}", again.rows()) };
    assert!(labels.curve.has_errors() && !numbers.curve.has_errors());
    for (one, other) in again.rows().iter().zip(table.rows()) {
        let losses = |row: &data_diet::geometry::ErrorBarrierRow| row.curve.losses();
        assert_eq!(losses(one), losses(other));
    }
    let means = again.means();
    let of = |set: &str| means.iter().find(|mean| mean.set == set).unwrap();
    assert!(of("labels").error_by_chord >= 0.0);
    assert!(of("numbers").error_by_chord.is_nan() && of("numbers").loss_by_chord >= 0.0);
    assert_eq!(of("numbers").loss_by_chord, numbers.curve.risks().by_chord().height);
    let twice = barrier.labeled_set("labels", LabeledSet::new(inputs(), &[0; 6], 4).unwrap());
    assert_eq!(twice.unwrap_err().to_string(), "set: two groups are named `labels`");
}

#[test]
fn refusals_name_the_argument() {
    let inputs = tensor(1, &[4, 3], DType::F32);
    let set = |kind, labels: &Tensor| {
        LabeledSet::of_kind(kind, Some(IGNORED), inputs.clone(), labels, 2).unwrap_err().to_string()
    };
    let whole = |value: i64, shape: &[usize]| Tensor::full(value, shape, &Device::Cpu).unwrap();
    let float = |value: f32, shape: &[usize]| Tensor::full(value, shape, &Device::Cpu).unwrap();
    let tokens = ModelKind::Tokens { vocabulary: 5 };
    assert_eq!(
        set(tokens, &whole(IGNORED, &[4, 2])),
        "labels: expected at least one that is not ignored"
    );
    assert_eq!(
        set(tokens, &whole(7, &[4, 2])),
        "labels: expected class indices in 0..5, got 7 in row 0"
    );
    assert_eq!(
        set(tokens, &whole(0, &[2, 4])),
        "labels: expected one for each of 4 examples, got 2"
    );
    let multi = ModelKind::MultiLabel { labels: 3 };
    assert_eq!(
        set(multi, &float(-1.0, &[4, 3])),
        "labels: expected targets in 0 to 1, got -1 in row 0"
    );
    assert!(set(ModelKind::Binary, &float(2.0, &[4])).contains("in 0 to 1, got 2"));
    let regression = ModelKind::Regression { outputs: 3 };
    assert!(set(regression, &whole(0, &[4])).contains("which is what `regression` has"));
    assert!(set(ModelKind::LossOnly, &float(0.0, &[4, 1])).contains("`loss_only` has, got"));

    let mut risk = Risk::of_kind(tokens);
    let logits = tensor(1, &[4, 2, 5], DType::F32);
    let error = risk.add(&logits, &whole(0, &[4, 3])).unwrap_err().to_string();
    assert_eq!(error, "logits: expected those of 4 sequences of 3 labels, got [4, 2, 5]");
    let flat = logits.flatten_to(1).unwrap();
    let error = risk.add(&flat, &whole(0, &[8])).unwrap_err().to_string();
    assert!(error.starts_with("labels: expected [batch, tokens], from which"), "{error}");
    let error = risk.add(&tensor(1, &[4, 2, 6], DType::F32), &whole(0, &[4, 2])).unwrap_err();
    assert!(error.to_string().starts_with("logits: expected [batch, tokens, 5]"), "{error}");
    assert_eq!(risk, Risk::of_kind(tokens));
}
