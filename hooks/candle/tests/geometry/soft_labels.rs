//! Sets with soft labels, and sets that do not fit into one forward pass.

use std::cell::RefCell;

use candle_core::{DType, Device, Tensor};
use data_diet::geometry::ErrorBarrierTable;
use data_diet_candle::geometry::barrier::{Branch, ErrorBarrier, LabeledSet, Line, Risk, curve};
use data_diet_candle::weights::{Params, Weights};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::models::{Perceptron, scatter, tensor};

fn model() -> Perceptron {
    Perceptron::new(&[3, 4, 3], DType::F32, 1)
}

fn soft(rows: &[[f32; 3]]) -> Tensor {
    Tensor::from_vec(rows.concat(), (rows.len(), 3), &Device::Cpu).unwrap()
}

/// Cross-entropy as it stands in every book.
fn cross_entropy(logits: &[f64], target: &[f64]) -> f64 {
    let total: f64 = logits.iter().map(|z| z.exp()).sum();
    logits.iter().zip(target).map(|(z, y)| -y * (z.exp() / total).ln()).sum()
}

fn argmax(values: &[f64]) -> usize {
    (0..values.len()).rev().max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap()
}

proptest! {
    #[test]
    fn the_loss_is_cross_entropy_and_the_label_the_largest_weight(
        rows in prop::collection::vec((prop::array::uniform3(-8.0..8.0_f64), prop::array::uniform3(1..100_u8)), 1..30),
        batch in 1..40_usize,
    ) {
        let logits: Vec<f64> = rows.iter().flat_map(|row| row.0).collect();
        let targets: Vec<f32> = rows
            .iter()
            .flat_map(|row| {
                let sum: f32 = row.1.iter().map(|&weight| f32::from(weight)).sum();
                row.1.map(|weight| f32::from(weight) / sum)
            })
            .collect();
        let tensor = |values: &[f64]| Tensor::from_vec(values.to_vec(), (rows.len(), 3), &Device::Cpu);
        let labels = Tensor::from_vec(targets.clone(), (rows.len(), 3), &Device::Cpu).unwrap();
        // The inputs are the logits.
        let set = LabeledSet::new(tensor(&logits).unwrap(), &labels, batch).unwrap();
        let risk = set.risk(|inputs| Ok(inputs.clone())).unwrap();
        let (mut loss, mut wrong) = (0.0, 0);
        for (logits, target) in logits.chunks(3).zip(targets.chunks(3)) {
            let target: Vec<f64> = target.iter().map(|&weight| weight.into()).collect();
            loss += cross_entropy(logits, &target);
            wrong += usize::from(argmax(logits) != argmax(&target));
        }
        prop_assert_eq!(risk.examples(), rows.len() as u64);
        prop_assert_eq!(risk.error(), wrong as f64 / rows.len() as f64);
        let loss = loss / rows.len() as f64;
        prop_assert!((risk.loss() - loss).abs() < 1e-5 * loss.max(1.0), "{} {loss}", risk.loss());
    }
}

#[test]
fn barriers_with_one_hot_targets_are_those_of_classes() {
    let (directory, model) = (TempDir::new().unwrap(), model());
    let params = model.params();
    let inputs = || tensor(60, &[10, 3], DType::F32);
    let labels: Vec<u32> = (0..10).map(|row| row % 3).collect();
    let hot: Vec<[f32; 3]> =
        labels.iter().map(|&label| [0, 1, 2].map(|class| f32::from(class == label))).collect();
    // Smoothed, every label is the same and every loss another.
    let smooth: Vec<[f32; 3]> = hot.iter().map(|row| row.map(|y| 0.9 * y + 0.1 / 3.0)).collect();
    let mut barrier = ErrorBarrier::new(Line::new(&params))
        .set("classes", inputs(), &labels, 4)
        .and_then(|barrier| barrier.set("hot", inputs(), &soft(&hot), 4))
        .and_then(|barrier| barrier.set("smooth", inputs(), &soft(&smooth), 3))
        .and_then(|barrier| barrier.set("one", inputs().narrow(0, 0, 1)?, &labels[..1], 3))
        .unwrap();
    let branch = |run: u64| {
        let other = self::model();
        scatter(&other.variables, 100 + run);
        let tensors = other.params().copy().unwrap();
        Branch::new(format!("child-{run}"), vec![Ok(Weights { step: 5, epoch: 1, tensors })])
    };
    let mut table = ErrorBarrierTable::open(directory.path()).unwrap();
    let forward = |inputs: &Tensor| model.forward(inputs);
    barrier.run(None, vec![branch(0), branch(1)], forward, &mut table, |_| {}).unwrap();
    let [classes, hot, smooth, one] = table.rows() else { panic!("{:?}", table.rows()) };
    assert_eq!((classes.examples, one.examples), (10, 1));
    let points = classes.curve.points().iter().zip(hot.curve.points());
    for ((classes, hot), smooth) in points.zip(smooth.curve.points()) {
        assert_eq!((classes.error, hot.error), (smooth.error, smooth.error));
        assert!((classes.loss - hot.loss).abs() < 1e-6);
        assert!((classes.loss - smooth.loss).abs() > 1e-4);
    }
}

#[test]
fn no_batch_is_larger_than_asked_for_and_none_is_left_out() {
    let inputs = Tensor::arange(0_f32, 30.0, &Device::Cpu).unwrap().reshape((10, 3)).unwrap();
    let labels = Tensor::full(0.25_f32, (10, 4), &Device::Cpu).unwrap();
    for (batch, expected) in [(1, vec![1; 10]), (4, vec![4, 4, 2]), (10, vec![10]), (99, vec![10])]
    {
        let set = LabeledSet::new(inputs.clone(), &labels, batch).unwrap();
        let seen = RefCell::new((Vec::new(), Vec::new()));
        let risk = set.risk(|inputs| {
            let (sizes, values) = &mut *seen.borrow_mut();
            sizes.push(inputs.dim(0)?);
            values.extend(inputs.flatten_all()?.to_vec1::<f32>()?);
            Tensor::zeros((inputs.dim(0)?, 4), DType::F32, &Device::Cpu)
        });
        // Uniform targets and logits: ln 4, and the lowest class wins both ties.
        let risk = risk.unwrap();
        assert_eq!((risk.examples(), risk.error()), (10, 0.0));
        assert!((risk.loss() - 4_f64.ln()).abs() < 1e-6);
        let (sizes, values) = seen.into_inner();
        assert_eq!(sizes, expected);
        assert_eq!(values, inputs.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    }
}

#[test]
fn soft_labels_that_are_none_are_refused_by_row() {
    let inputs = || tensor(1, &[2, 3], DType::F32);
    let refused = |rows: &[[f32; 3]]| {
        let error = LabeledSet::new(inputs(), &soft(rows), 1).unwrap_err().to_string();
        let mut risk = Risk::default();
        let same = risk.add(&inputs(), &soft(rows)).unwrap_err().to_string();
        assert_eq!((error.clone(), risk), (same, Risk::default()));
        error
    };
    let good = [0.2, 0.3, 0.5];
    let what = "labels: expected soft targets that are >= 0 and sum to 1, got";
    assert_eq!(refused(&[good, [0.5, 0.6, -0.1]]), format!("{what} -0.1 in row 1"));
    assert_eq!(refused(&[[0.5, 0.5, 0.5], good]), format!("{what} a sum of 1.5 in row 0"));
    assert_eq!(refused(&[good, [f32::NAN, 0.5, 0.5]]), format!("{what} a sum of NaN in row 1"));

    let message = |labels: Tensor| LabeledSet::new(inputs(), &labels, 1).unwrap_err().to_string();
    assert_eq!(message(soft(&[good; 3])), "labels: expected one for each of 2 examples, got 3");
    let wrong = Tensor::zeros((2, 3), DType::U32, &Device::Cpu).unwrap();
    assert!(message(wrong).starts_with("labels: expected class indices [batch] or soft targets"));
    // Of another number of classes than the model has.
    let model = Perceptron::new(&[3, 2], DType::F32, 1);
    let params: Params = model.params();
    let set = LabeledSet::new(inputs(), &soft(&[good; 2]), 2).unwrap();
    let weights = params.copy().unwrap();
    let error = curve(&params, &weights, &weights, || set.risk(|x| model.forward(x))).unwrap_err();
    let what = "labels: expected class indices [batch] or soft targets [batch, 2], got";
    assert!(error.to_string().starts_with(what), "{error}");
}
