//! What no curve can be made of; and that the model's weights come back whatever happens.

use candle_core::{DType, Device, Tensor};
use data_diet_candle::Error;
use data_diet_candle::geometry::barrier::{AlphaGrid, Line, Risk, curve};
use data_diet_candle::weights::Params;

use crate::models::{Perceptron, tensor};

fn weights(params: &Params) -> Vec<Vec<f32>> {
    let copy = params.copy().unwrap();
    copy.values().map(|tensor| tensor.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

#[test]
fn grids_that_are_no_line() {
    let error = AlphaGrid::uniform(0).unwrap_err();
    assert_eq!(error.to_string(), "intervals: expected at least 1, got 0");
    let error = AlphaGrid::at(vec![0.0, 0.5]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "alpha: expected positions from 0 to 1, both included, got 0 to 0.5"
    );
    assert!(AlphaGrid::at(vec![0.0, 0.7, 0.2, 1.0]).is_err());
    for alpha in [-0.5, 1.5, f64::NAN] {
        let error = AlphaGrid::at(vec![0.0, alpha, 1.0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("alpha: expected positions between 0 and 1, got {alpha}")
        );
    }
    assert_eq!(
        AlphaGrid::at((0..=10).map(|n| f64::from(n) / 10.0).collect()).unwrap(),
        AlphaGrid::default()
    );
}

#[test]
fn logits_and_labels_that_do_not_match() {
    let logits = Tensor::new(&[[0.0_f32, 1.0], [1.0, 0.0]], &Device::Cpu).unwrap();
    let message = |logits: &Tensor, labels: &[i64]| {
        let mut risk = Risk::default();
        let error = risk.add(logits, labels).unwrap_err().to_string();
        assert_eq!(risk, Risk::default(), "a refused batch adds nothing");
        error
    };
    assert_eq!(message(&logits, &[0]), "labels: expected one for each of 2 examples, got 1");
    assert_eq!(message(&logits, &[0, 2]), "labels: expected class indices in 0..2, got 2 in row 1");
    assert_eq!(
        message(&logits, &[0, -1]),
        "labels: expected class indices in 0..2, got -1 in row 1"
    );
    let flat = logits.flatten_all().unwrap();
    assert_eq!(
        message(&flat, &[0]),
        "logits: expected [batch, classes] with at least 2 classes, got [4]"
    );
    let integers = logits.to_dtype(DType::U32).unwrap();
    assert_eq!(message(&integers, &[0, 1]), "logits: expected f32, f16, bf16 or f64, got u32");
}

#[test]
fn weights_of_another_model() {
    let model = Perceptron::new(&[3, 2], DType::F32, 1);
    let params = model.params();
    let (own, other) = (
        params.copy().unwrap(),
        Perceptron::new(&[3, 4, 2], DType::F32, 1).params().copy().unwrap(),
    );
    let before = weights(&params);
    let never = || -> Result<Risk, Error> { panic!("nothing is measured") };
    let error = curve(&params, &own, &other, never).unwrap_err().to_string();
    assert_eq!(
        error,
        "second: weights: expected those of this model, but `layer0.bias` is f32 [4], not f32 [2]; \
         `layer0.weight` is f32 [4, 3], not f32 [2, 3]; `layer1.bias` is not in the model; \
         `layer1.weight` is not in the model"
    );
    let error = curve(&params, &other, &own, never).unwrap_err().to_string();
    assert!(error.starts_with("first: weights: expected those of this model"), "{error}");
    assert_eq!(weights(&params), before);
}

#[test]
fn a_measurement_that_fails_or_changes_its_examples() {
    let model = Perceptron::new(&[3, 2], DType::F32, 1);
    let params = model.params();
    let one = params.copy().unwrap();
    let other = Perceptron::new(&[3, 2], DType::F32, 2).params().copy().unwrap();
    let before = weights(&params);
    let inputs = tensor(2, &[4, 3], DType::F32);
    let mut calls = 0;
    let error = curve(&params, &one, &other, || {
        calls += 1;
        if calls == 3 {
            return Err(Error::Argument("disk on fire".to_owned()));
        }
        let mut risk = Risk::default();
        risk.add(&model.forward(&inputs)?, &[0, 1, 0, 1])?;
        Ok(risk)
    });
    assert_eq!(error.unwrap_err().to_string(), "disk on fire");
    assert_eq!(weights(&params), before);
    let error = curve(&params, &one, &other, || Ok(Risk::default())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "measure: expected the same examples at every alpha, at least 1, got 0 at alpha 0 after 0"
    );
    let mut rows = 4;
    let error = curve(&params, &one, &other, || {
        rows -= 1;
        let mut risk = Risk::default();
        risk.add(&model.forward(&inputs.narrow(0, 0, rows)?)?, &[0; 4][..rows])?;
        Ok(risk)
    });
    assert!(error.unwrap_err().to_string().ends_with("got 2 at alpha 0.1 after 3"));
    let mut line = Line::new(&params).reestimate_batch_norm(|| candle_core::bail!("no data"));
    let error = line.curve(&one, &other, || Ok(Risk::default())).unwrap_err();
    assert!(error.to_string().contains("no data"), "{error}");
    drop(line);
    assert_eq!(weights(&params), before);
}
