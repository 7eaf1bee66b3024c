//! What is refused, and in which words.

use candle_core::{DType, Device, Module, ModuleT, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use data_diet_candle::gradients::GradientNorms;
use data_diet_candle::nn;

use crate::reference::{Random, named, randomize};

struct Model {
    map: VarMap,
    hidden: nn::Linear,
    norm: nn::BatchNorm,
    output: nn::Linear,
}

impl Model {
    fn new() -> Self {
        let map = VarMap::new();
        let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let hidden = nn::linear(6, 5, builder.pp("hidden")).unwrap();
        let norm = nn::batch_norm(5, 1e-3, builder.pp("norm")).unwrap();
        let output = nn::linear(5, 3, builder.pp("output")).unwrap();
        randomize(&map, 1);
        Self { map, hidden, norm, output }
    }

    fn forward(&self, x: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        self.output.forward(&self.norm.forward_t(&self.hidden.forward(x)?, train)?.tanh()?)
    }

    fn norms(&self) -> GradientNorms {
        GradientNorms::new(&self.map).unwrap()
    }
}

fn inputs() -> Tensor {
    Random(2).tensor(&[4, 6], DType::F32)
}

const LABELS: [u32; 4] = [0, 2, 1, 0];

#[track_caller]
fn refused<T: std::fmt::Debug>(result: data_diet_candle::Result<T>, parts: &[&str]) {
    let error = result.unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "no {part:?} in {error:?}");
    }
}

#[test]
fn parameters_are_needed_and_each_once() {
    refused(GradientNorms::new(&VarMap::new()), &["parameters: ", "at least one"]);
    let var = Var::zeros(2, DType::F32, &Device::Cpu).unwrap();
    let other = Var::zeros(2, DType::F32, &Device::Cpu).unwrap();
    let twice = [("a", var.clone()), ("b", var.clone())];
    refused(GradientNorms::with_parameters(twice), &["parameters: ", "a and b"]);
    let twice = [("a", var), ("a", other)];
    refused(GradientNorms::with_parameters(twice), &["parameters: ", "a and a"]);
}

#[test]
fn labels_fit_the_inputs_and_the_logits() {
    let model = Model::new();
    let forward = |x: &Tensor| model.forward(x, false);
    let mut norms = model.norms();
    refused(norms.cross_entropy(&inputs(), &LABELS[..3], forward), &["labels: ", "4", "3"]);
    refused(
        norms.cross_entropy(&inputs(), &[0, 2, 3, 0], forward),
        &["labels: expected class indices in 0..3, got 3 in row 2"],
    );
    refused(norms.cross_entropy(&inputs(), &[0, 2, -1, 0], forward), &["got -1 in row 2"]);
    let soft = |values: [[f32; 3]; 4]| Tensor::new(&values, &Device::Cpu).unwrap();
    let even = [1.0 / 3.0; 3];
    let heavy = soft([even, [0.5, 0.5, 0.5], even, even]);
    refused(norms.cross_entropy(&inputs(), &heavy, forward), &["labels: ", "1.5 in row 1"]);
    let negative = soft([even, even, [-0.5, 0.5, 1.0], even]);
    refused(norms.cross_entropy(&inputs(), &negative, forward), &["got -0.5 in row 2"]);
    let nan = soft([even, even, even, [f32::NAN, 0.5, 0.5]]);
    refused(norms.cross_entropy(&inputs(), &nan, forward), &["NaN in row 3"]);
    let narrow = Tensor::full(0.5_f32, (4, 2), &Device::Cpu).unwrap();
    refused(
        norms.cross_entropy(&inputs(), &narrow, forward),
        &["labels: expected class indices [batch] or soft targets [batch, 3], got "],
    );
    let none = Tensor::zeros((0, 6), DType::F32, &Device::Cpu).unwrap();
    refused(norms.cross_entropy(&none, &[0_u32; 0], forward), &["inputs: ", "at least one"]);
    let pair = (inputs(), inputs().narrow(0, 0, 3).unwrap());
    refused(norms.cross_entropy(&pair, &LABELS, |(x, _)| forward(x)), &["inputs: ", "[4, 3]"]);
}

#[test]
fn training_mode_is_refused_and_nothing_is_changed() {
    let model = Model::new();
    let before: Vec<Vec<f32>> = values(&model.map);
    refused(
        model.norms().cross_entropy(&inputs(), &LABELS, |x| model.forward(x, true)),
        &["forward: expected evaluation mode", "BatchNorm"],
    );
    assert_eq!(values(&model.map), before);
    let dropout = nn::Dropout::new(0.5);
    refused(
        model.norms().cross_entropy(&inputs(), &LABELS, |x| {
            model.forward(&dropout.forward(x, true)?, false)
        }),
        &["forward: expected evaluation mode", "Dropout"],
    );
    // Outside, both still train.
    model.forward(&inputs(), true).unwrap();
    assert_ne!(values(&model.map), before);
    dropout.forward(&inputs(), true).unwrap();
}

fn values(map: &VarMap) -> Vec<Vec<f32>> {
    let values = |var: &Var| var.flatten_all().unwrap().to_vec1().unwrap();
    named(map).iter().map(|(_, var)| values(var)).collect()
}

#[test]
fn an_example_that_depends_on_its_batch_is_noticed() {
    let model = Model::new();
    // The mean over the batch goes into every row: no layer can see that.
    let mixed = |x: &Tensor| {
        let hidden = model.hidden.forward(x)?;
        let hidden = hidden.broadcast_sub(&hidden.mean_keepdim(0)?)?;
        model.output.forward(&model.norm.forward_t(&hidden, false)?.tanh()?)
    };
    refused(
        model.norms().cross_entropy(&inputs(), &LABELS, mixed),
        &["forward: expected an example's gradient not to depend on its batch", "row 3"],
    );
    // Randomness likewise.
    let random = |x: &Tensor| model.forward(&candle_nn::ops::dropout(x, 0.5)?, false);
    refused(model.norms().cross_entropy(&inputs(), &LABELS, random), &["depend on its batch"]);
    // Unless nobody looks.
    let unchecked = model.norms().check(0).cross_entropy(&inputs(), &LABELS, mixed).unwrap();
    assert_eq!(unchecked.report.checked, 0);
}

/// Positions first and batch second, with as many of the one as of the other: the layer cannot know.
#[test]
fn a_batch_in_another_dimension_is_noticed() {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let layer = nn::linear(6, 5, builder.pp("layer")).unwrap();
    let output = nn::linear(5, 3, builder.pp("output")).unwrap();
    randomize(&map, 3);
    let forward = |x: &Tensor| {
        let positions_first = x.transpose(0, 1)?.contiguous()?;
        output.forward(&layer.forward(&positions_first)?.tanh()?.sum(0)?)
    };
    let mut norms = GradientNorms::new(&map).unwrap();
    let inputs = |batch: usize| Random(4).tensor(&[batch, 4, 6], DType::F32);
    // Three examples of four positions: seen to be no batch, and taken one by one.
    let got = norms.cross_entropy(&inputs(3), &LABELS[..3], forward).unwrap();
    assert_eq!((got.report.per_example.len(), got.report.checked), (2, 2));
    let got = norms.cross_entropy(&inputs(3), &LABELS[..3], forward).unwrap();
    assert_eq!(got.report.checked, 0);
    // Four of four: it looks like a batch, and is looked at, although the one before was fine.
    refused(norms.cross_entropy(&inputs(4), &LABELS, forward), &["depend on its batch"]);
}

#[test]
fn parameters_that_no_gradient_reaches_are_named() {
    let model = Model::new();
    let unused = nn::linear(6, 5, VarBuilder::from_varmap(&model.map, DType::F32, &Device::Cpu));
    unused.unwrap();
    let forward = |x: &Tensor| model.forward(x, false);
    refused(
        model.norms().cross_entropy(&inputs(), &LABELS, forward),
        &["got no gradient for bias, weight:"],
    );
    // The running statistics are not among them.
    let mut norms = model.norms().allow_unused();
    let got = norms.cross_entropy(&inputs(), &LABELS, forward).unwrap();
    assert_eq!(got.report.unused, ["bias", "weight"]);
    assert_eq!(got.report.batched, 6);
    assert!(got.report.to_string().ends_with("; no gradient reaches bias, weight"));

    // A forward pass that ignores the layers, and one that ignores its input.
    let constant = Tensor::zeros((4, 3), DType::F32, &Device::Cpu).unwrap();
    refused(
        model.norms().cross_entropy(&inputs(), &LABELS, |_| Ok(constant.clone())),
        &["got no gradient for bias, hidden.bias, hidden.weight"],
    );
    let got = norms.cross_entropy(&inputs(), &LABELS, |_| Ok(constant.clone())).unwrap();
    assert_eq!(got.values, [0.0; 4]);

    // candle-nn's fused softmax has no backward pass, and says nothing.
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let [query, value] = ["query", "value"].map(|name| nn::linear(6, 3, builder.pp(name)).unwrap());
    randomize(&map, 5);
    let attend =
        |x: &Tensor| candle_nn::ops::softmax_last_dim(&query.forward(x)?)? * value.forward(x)?;
    let mut norms = GradientNorms::new(&map).unwrap();
    refused(
        norms.cross_entropy(&inputs(), &LABELS, attend),
        &["got no gradient for query.bias, query.weight:"],
    );
}

#[test]
fn logits_have_a_row_per_example() {
    let model = Model::new();
    let forward = |x: &Tensor| model.forward(x, false);
    let mut norms = model.norms();
    refused(
        norms.cross_entropy(&inputs(), &LABELS, |x| forward(x)?.narrow(0, 0, 3)),
        &["forward: logits: expected those of 4 examples, got [3, 3]"],
    );
    refused(
        norms.cross_entropy(&inputs(), &LABELS, |x| forward(x)?.unsqueeze(2)),
        &["forward: logits: expected [batch, classes] with at least 2 classes, got [4, 3, 1]"],
    );
    refused(
        norms.cross_entropy(&inputs(), &LABELS, |x| forward(x)?.to_dtype(DType::I64)),
        &["logits: expected f32"],
    );
    refused(
        norms.cross_entropy(&inputs(), &LABELS, |_| candle_core::bail!("out of order")),
        &["out of order"],
    );
    let targets = Tensor::zeros((4, 3), DType::F32, &Device::Cpu).unwrap();
    refused(
        norms.custom_loss(&inputs(), &targets, forward, |logits, targets| {
            (logits - targets)?.sqr()?.mean_all()
        }),
        &["loss: expected a loss for each of 4 examples, [4], got []"],
    );
    refused(
        norms.custom_loss(&inputs(), &targets.narrow(0, 0, 2).unwrap(), forward, |z, _| z.sum(1)),
        &["targets: ", "4", "2"],
    );
    // After all that, the tapes are off: the layers run as ever.
    assert!(forward(&inputs()).unwrap().track_op());
    assert!(norms.cross_entropy(&inputs(), &LABELS, forward).is_ok());
}

#[test]
fn an_example_that_is_not_finite_is_nan_and_alone_in_that() {
    let model = Model::new();
    let forward = |x: &Tensor| model.forward(x, false);
    let mut norms = model.norms();
    let expected = norms.cross_entropy(&inputs(), &LABELS, forward).unwrap();
    assert_eq!((expected.report.non_finite, expected.report.checked), (0, 2));
    for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
        let row = Tensor::full(bad, (1, 6), &Device::Cpu).unwrap();
        let rows = inputs();
        let spoilt =
            Tensor::cat(&[&rows.narrow(0, 0, 1).unwrap(), &row, &rows.narrow(0, 2, 2).unwrap()], 0);
        let spoilt = spoilt.unwrap();
        for mut norms in [model.norms(), model.norms().per_example()] {
            let got = norms.cross_entropy(&spoilt, &LABELS, forward).unwrap();
            assert!(got.values[1].is_nan(), "{bad}: {:?}", got.values);
            assert_eq!(got.report.non_finite, 1);
            for row in [0, 2, 3] {
                let (got, expected) = (got.values[row], expected.values[row]);
                assert!((got - expected).abs() < 1e-6 * expected, "{got} for {expected}");
            }
        }
    }
}

#[test]
fn memory_is_bounded_and_too_little_of_it_refused() {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let conv = nn::conv2d(2, 3, 3, nn::Conv2dConfig::default(), builder.pp("conv")).unwrap();
    randomize(&map, 6);
    let images = Random(7).tensor(&[4, 2, 6, 6], DType::F32);
    let forward = |x: &Tensor| conv.forward(x)?.tanh()?.flatten_from(2)?.sum(2);
    let norms = |bytes: usize| {
        GradientNorms::new(&map).unwrap().max_bytes(bytes).cross_entropy(&images, &LABELS, forward)
    };
    let all = norms(GradientNorms::DEFAULT_MAX_BYTES).unwrap().values;
    let error = norms(100).unwrap_err().to_string();
    let needed = error.split(' ').find_map(|word| word.trim_end_matches(',').parse().ok());
    let needed: usize = needed.unwrap();
    assert!(error.contains("max_bytes: ") && error.contains("conv.weight"), "{error}");
    // One after the other, which is to say in other products of matrices.
    for (got, expected) in norms(needed).unwrap().values.iter().zip(&all) {
        assert!((got - expected).abs() < 1e-6 * expected);
    }
    refused(norms(needed - 1), &[&needed.to_string(), &(needed - 1).to_string()]);
}

#[test]
fn a_forward_pass_that_panics_leaves_no_tape_running() {
    let model = Model::new();
    let panicking = std::panic::AssertUnwindSafe(|| {
        model.norms().cross_entropy(&inputs(), &LABELS, |x: &Tensor| {
            model.forward(x, false)?;
            panic!("out of order");
        })
    });
    assert!(std::panic::catch_unwind(panicking).is_err());
    // Training mode is refused on a tape only.
    model.forward(&inputs(), true).unwrap();
}

/// Norms asked for within a forward pass: each tape sees its own layers.
#[test]
fn tapes_nest() {
    let model = Model::new();
    let forward = |x: &Tensor| model.forward(x, false);
    let expected = model.norms().cross_entropy(&inputs(), &LABELS, forward).unwrap();
    let inner = std::cell::RefCell::new(Vec::new());
    let outer = model.norms().check(0).cross_entropy(&inputs(), &LABELS, |x| {
        let hidden = model.hidden.forward(x)?;
        let norms = model.norms().cross_entropy(&inputs(), &LABELS, forward)?;
        inner.borrow_mut().push(norms.values);
        model.output.forward(&model.norm.forward_t(&hidden, false)?.tanh()?)
    });
    assert_eq!(outer.unwrap().values, expected.values);
    assert_eq!(*inner.borrow(), [expected.values]);
}
