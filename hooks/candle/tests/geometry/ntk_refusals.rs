//! What no kernel can be made of, and that the message says which argument is to blame.

use candle_core::{DType, Device, Tensor, Var};
use data_diet_candle::ntk::{Gram, GramOptions, gram};
use data_diet_candle::weights::Params;

use crate::models::{Convolutional, Perceptron, tensor};

fn model() -> Perceptron {
    Perceptron::new(&[3, 4, 2], DType::F32, 1)
}

fn refusal(
    model: &Perceptron,
    forward: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
) -> String {
    let inputs = tensor(2, &[3, 3], DType::F32);
    gram(&model.params(), &inputs, forward).unwrap_err().to_string()
}

#[test]
fn inputs_of_too_few_examples() {
    let model = model();
    for (examples, shape) in [(0, "[0, 3]"), (1, "[1, 3]")] {
        let inputs = Tensor::zeros((examples, 3), DType::F32, &Device::Cpu).unwrap();
        let error = gram(&model.params(), &inputs, |x| model.forward(x)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "inputs: expected a tensor [examples, ...] of at least 2 examples, got {shape}"
            )
        );
    }
    let scalar = Tensor::new(1.0_f32, &Device::Cpu).unwrap();
    let error = gram(&model.params(), &scalar, |x| model.forward(x)).unwrap_err();
    assert!(error.to_string().ends_with("got []"), "{error}");
}

#[test]
fn a_forward_pass_that_ignores_its_input() {
    let model = model();
    let all = tensor(2, &[3, 3], DType::F32);
    let error = refusal(&model, |_| model.forward(&all));
    assert_eq!(error, "forward: expected logits [2, classes] for 2 examples, got [3, 2]");
    let error = refusal(&model, |x| model.forward(x)?.sum_all());
    assert_eq!(error, "forward: expected logits [2, classes] for 2 examples, got []");
    // One that ignores how many examples there are only later on.
    let mut calls = 0;
    let error = refusal(&model, |x| {
        calls += 1;
        model.forward(if calls > 2 { &all } else { x })
    });
    assert_eq!(error, "forward: expected logits [1, 2] for example 0, got [3, 2]");
}

#[test]
fn logits_that_depend_on_no_parameter() {
    let model = model();
    let error = refusal(&model, |x| x.narrow(1, 0, 2));
    assert!(error.starts_with("forward: expected logits that depend on the parameters"), "{error}");
    let error = refusal(&model, |x| Ok(model.forward(x)?.detach()));
    assert!(error.starts_with("forward: expected logits that depend on the parameters"), "{error}");
    let frozen = Params::new([("w".to_owned(), Var::zeros(2, DType::U32, &Device::Cpu).unwrap())]);
    let error = gram(&frozen.unwrap(), &tensor(2, &[3, 3], DType::F32), |x| model.forward(x));
    assert_eq!(error.unwrap_err().to_string(), "params: `w` is u32, expected floats");
}

#[test]
fn logits_that_depend_on_the_batch() {
    let model = Convolutional::new(3);
    let params = model.params();
    let before = params.copy().unwrap()["norm.running_mean"].to_vec1::<f32>().unwrap();
    let inputs = tensor(4, &[3, 2, 6, 6], DType::F32);
    let error = gram(&params, &inputs, |x| model.forward_t(x, true)).unwrap_err();
    let error = error.to_string();
    assert!(
        error.starts_with("forward: expected the model in evaluation mode, but logit"),
        "{error}"
    );
    let after = params.copy().unwrap()["norm.running_mean"].to_vec1::<f32>().unwrap();
    assert_eq!(before, after, "what training mode has done is undone");
}

#[test]
fn numbers_that_are_not_finite() {
    let model = model();
    let error = refusal(&model, |x| model.forward(x)? / 0.0);
    assert!(error.starts_with("forward: expected finite logits, got "), "{error}");
    // Finite logits with a gradient that is not: the slope of a root at zero.
    let w = Var::zeros((3, 2), DType::F32, &Device::Cpu).unwrap();
    let params = Params::new([("w".to_owned(), w.clone())]).unwrap();
    let forward = |x: &Tensor| x.matmul(&w)?.sqr()?.sqrt();
    let error = gram(&params, &tensor(2, &[3, 3], DType::F32), forward).unwrap_err().to_string();
    assert_eq!(
        error,
        "forward: expected finite gradients, got NaN as the square of that of logit 0 of example 0"
    );
    // Gradients whose squares are beyond f32.
    let error = refusal(&model, |x| model.forward(x)? * 1e30);
    assert!(error.starts_with("forward: expected finite gradients, got "), "{error}");
}

#[test]
fn memory_for_less_than_two_gradients() {
    let model = model();
    let inputs = tensor(2, &[3, 3], DType::F32);
    let options = GramOptions::default().max_bytes(207);
    let error = options.gram(&model.params(), &inputs, |x| model.forward(x)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "max_bytes: expected at least 208, two gradients of this model, got 207"
    );
}

#[test]
fn kernels_of_other_groups() {
    let model = model();
    let of = |examples| -> Gram {
        let inputs = tensor(2, &[examples, 3], DType::F32);
        gram(&model.params(), &inputs, |x| model.forward(x)).unwrap()
    };
    let error = of(2).distance(&of(3)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "other: expected a kernel of 2 examples and 2 classes, got 3 and 2"
    );
    let dead = gram(&model.params(), &tensor(2, &[2, 3], DType::F32), |x| {
        (model.forward(x)? - 1e3)?.relu()
    });
    let error = of(2).distance(&dead.unwrap()).unwrap_err();
    assert!(error.to_string().contains("expected a matrix other than zero"), "{error}");
}
