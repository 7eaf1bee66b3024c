//! GraNd of every kind of model: against candle's own backward pass of one example's loss, written out.

use candle_core::{D, DType, Device, Module, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use data_diet_candle::ModelKind;
use data_diet_candle::gradients::GradientNorms;
use data_diet_candle::nn;
use proptest::prelude::*;

use crate::reference::{Random, close, per_example, randomize, relative_error};

const IGNORED: i64 = -100;

/// Tokens that depend on each other within a sequence.
pub(crate) struct Language {
    pub(crate) map: VarMap,
    embedding: nn::Embedding,
    hidden: nn::Linear,
    head: nn::Linear,
}

impl Language {
    pub(crate) fn new(vocabulary: usize, dtype: DType, seed: u64) -> Self {
        let map = VarMap::new();
        let builder = VarBuilder::from_varmap(&map, dtype, &Device::Cpu);
        let embedding = nn::embedding(vocabulary, 4, builder.pp("embedding")).unwrap();
        let hidden = nn::linear(4, 5, builder.pp("hidden")).unwrap();
        let head = nn::linear(5, vocabulary, builder.pp("head")).unwrap();
        randomize(&map, seed);
        Self { map, embedding, hidden, head }
    }

    pub(crate) fn features(&self, text: &Tensor) -> Result<Tensor> {
        let hidden = self.hidden.forward(&self.embedding.forward(text)?)?;
        hidden.broadcast_add(&hidden.mean_keepdim(1)?)?.tanh()
    }

    /// `[batch, tokens, vocabulary]`.
    pub(crate) fn forward(&self, text: &Tensor) -> Result<Tensor> {
        self.head.forward(&self.features(text)?)
    }
}

/// The mean cross-entropy of a sequence's counted tokens; `logits` are `[1, tokens, vocabulary]`.
pub(crate) fn mean_token_loss(logits: &Tensor, labels: &[i64]) -> Result<Tensor> {
    let log_p = candle_nn::ops::log_softmax(logits, D::Minus1)?.squeeze(0)?;
    let mut sum = Tensor::zeros((), log_p.dtype(), &Device::Cpu)?;
    let mut counted = 0;
    for (token, &label) in labels.iter().enumerate() {
        if label != IGNORED {
            sum = (sum - log_p.get(token)?.get(label as usize)?)?;
            counted += 1;
        }
    }
    sum / f64::from(counted)
}

fn text(batch: usize, tokens: usize, vocabulary: usize, seed: u64) -> Tensor {
    let indices = Random(seed).indices(batch * tokens, vocabulary as u32);
    Tensor::from_vec(indices, (batch, tokens), &Device::Cpu).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_sequence_has_the_gradient_of_its_mean_token_loss(
        (batch, tokens, vocabulary) in (1_usize..=20, 1_usize..=6, 2_usize..=7),
        ignored in prop::collection::vec(prop::bool::weighted(0.3), 20 * 6),
        (is_double, is_flat, is_slice, scarce) in any::<(bool, bool, bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let text = text(batch, tokens, vocabulary, seed ^ 1);
        let labels = Random(seed ^ 2).indices(batch * tokens, vocabulary as u32);
        let labels: Vec<i64> = labels
            .iter()
            .zip(&ignored)
            .map(|(&label, &ignored)| if ignored { IGNORED } else { label.into() })
            .collect();
        let wide = Language::new(vocabulary, DType::F64, seed);
        let counts = |row: usize| labels[row * tokens..][..tokens].iter().any(|&it| it != IGNORED);
        let expected = per_example(&wide.map, &text, |text, row| {
            let logits = wide.forward(text)?;
            if !counts(row) {
                return logits.sum_all();
            }
            mean_token_loss(&logits, &labels[row * tokens..][..tokens])
        });
        let dtype = if is_double { DType::F64 } else { DType::F32 };
        let model = Language::new(vocabulary, dtype, seed);
        let forward = |text: &Tensor| {
            let logits = model.forward(text)?;
            if is_flat { logits.flatten_to(1) } else { Ok(logits) }
        };
        let mut norms = GradientNorms::new(&model.map).unwrap().ignore_index(IGNORED);
        if scarce {
            norms = norms.max_bytes(8192);
        }
        let kind = ModelKind::Tokens { vocabulary: vocabulary as u32 };
        let got = if is_slice {
            norms.of_kind(kind, &text, &labels, forward)
        } else {
            let labels = Tensor::from_slice(&labels, (batch, tokens), &Device::Cpu).unwrap();
            norms.of_kind(kind, &text, &labels, forward)
        };
        let got = got.unwrap();
        prop_assert!(got.report.is_batched(), "{}", got.report);
        let counted: Vec<usize> = (0..batch).filter(|&row| counts(row)).collect();
        prop_assert_eq!((got.report.ignored, got.report.non_finite), (batch - counted.len(), 0));
        for row in 0..batch {
            prop_assert_eq!(got.values[row].is_nan(), !counts(row));
        }
        let of_counted: Vec<f32> = counted.iter().map(|&row| got.values[row]).collect();
        let expected: Vec<f64> = counted.iter().map(|&row| expected[row]).collect();
        close(&of_counted, &expected, "tokens")?;
    }

    #[test]
    fn sigmoids_and_squares_have_the_gradient_of_their_loss(
        (batch, outputs) in (1_usize..=20, 1_usize..=5),
        what in 0..3_u8,
        (is_double, is_hard, is_column) in any::<(bool, bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let outputs = if what == 0 { 1 } else { outputs };
        let (kind, is_squared) = match what {
            0 => (ModelKind::Binary, false),
            1 => (ModelKind::MultiLabel { labels: outputs as u32 }, false),
            _ => (ModelKind::Regression { outputs: outputs as u32 }, true),
        };
        let inputs = Random(seed ^ 1).tensor(&[batch, 6], DType::F32);
        let targets = Random(seed ^ 2).tensor(&[batch, outputs], DType::F32);
        let targets = if is_squared {
            (targets * 3.0).unwrap()
        } else if is_hard {
            targets.gt(0.0).unwrap().to_dtype(DType::F32).unwrap()
        } else {
            targets.affine(0.5, 0.5).unwrap()
        };
        let wide_targets = targets.to_dtype(DType::F64).unwrap();
        let loss = |z: &Tensor, row: usize| {
            let y = wide_targets.narrow(0, row, 1)?;
            if is_squared {
                return (z - y)?.sqr()?.sum_all()? * 0.5;
            }
            // -y log p - (1 - y) log(1 - p), of logits that are small here.
            ((z.exp()? + 1.0)?.log()? - (z * y)?)?.sum_all()
        };
        let model = |dtype: DType| {
            let map = VarMap::new();
            let builder = VarBuilder::from_varmap(&map, dtype, &Device::Cpu);
            let hidden = nn::linear(6, 5, builder.pp("hidden")).unwrap();
            let output = nn::linear(5, outputs, builder.pp("output")).unwrap();
            randomize(&map, seed);
            (map, move |x: &Tensor| output.forward(&hidden.forward(x)?.tanh()?))
        };
        let (map, forward) = model(DType::F64);
        let expected = per_example(&map, &inputs.to_dtype(DType::F64).unwrap(), |x, row| {
            loss(&forward(x)?, row)
        });
        let dtype = if is_double { DType::F64 } else { DType::F32 };
        let (map, forward) = model(dtype);
        let is_vector = what == 0 && !is_column;
        let forward = |x: &Tensor| {
            let z = forward(x)?;
            if is_vector { z.squeeze(1) } else { Ok(z) }
        };
        let inputs = inputs.to_dtype(dtype).unwrap();
        let mut norms = GradientNorms::new(&map).unwrap();
        let got = norms.of_kind(kind, &inputs, &targets, forward).unwrap();
        prop_assert!(got.report.is_batched(), "{}", got.report);
        if is_double {
            close(&got.values, &expected, kind.name())?;
        }
        // A target between 0 and 1 that an output happens to be close to leaves fewer digits in f32.
        for (&got, &expected) in got.values.iter().zip(&expected) {
            let difference = (f64::from(got) - expected).abs();
            prop_assert!(difference < 1e-5 * expected + 1e-5, "{got} for {expected}");
        }
        if is_hard && !is_squared {
            let whole = targets.to_dtype(DType::U32).unwrap();
            let same = norms.of_kind(kind, &inputs, &whole, forward).unwrap();
            prop_assert_eq!(same.values, got.values);
        }
    }
}

/// One logit and two classes, of which the first has the logit 0, are the same function.
#[test]
fn binary_is_two_classes() {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F64, &Device::Cpu);
    let layer = nn::linear(3, 1, builder).unwrap();
    randomize(&map, 1);
    let inputs = Random(2).tensor(&[9, 3], DType::F64);
    let labels = Random(3).indices(9, 2);
    let mut norms = GradientNorms::new(&map).unwrap();
    let one = norms.of_kind(ModelKind::Binary, &inputs, &labels, |x| layer.forward(x)).unwrap();
    let two = norms.cross_entropy(&inputs, &labels, |x| {
        let z = layer.forward(x)?;
        Tensor::cat(&[z.zeros_like()?, z], 1)
    });
    let two: Vec<f64> = two.unwrap().values.iter().map(|&norm| norm.into()).collect();
    assert!(relative_error(&one.values, &two) < 1e-6);
}

/// Sequences of one token are examples of classes.
#[test]
fn one_token_is_a_class() {
    let model = Language::new(6, DType::F32, 1);
    let text = text(11, 1, 6, 2);
    let labels = Random(3).indices(11, 6);
    let mut norms = GradientNorms::new(&model.map).unwrap();
    let kind = ModelKind::Tokens { vocabulary: 6 };
    let sequences = norms.of_kind(kind, &text, &labels, |x| model.forward(x)).unwrap();
    let classes = norms.cross_entropy(&text, &labels, |x| model.forward(x)?.squeeze(1)).unwrap();
    assert_eq!(sequences.values, classes.values);
    let kind = ModelKind::Classes { classes: 6 };
    let same = norms.of_kind(kind, &text, &labels, |x| model.forward(x)?.squeeze(1)).unwrap();
    assert_eq!(same.values, classes.values);
}

/// Differences of the loss itself, which knows no gradient.
#[test]
fn a_mean_token_loss_changes_by_its_gradient() {
    let model = Language::new(4, DType::F64, 5);
    let text = text(2, 3, 4, 6);
    let labels = [[1_i64, IGNORED, 3], [0, 2, 2]];
    let step = 1e-5;
    let expected: Vec<f64> = (0..2)
        .map(|row| {
            let loss = || {
                let logits = model.forward(&text.narrow(0, row, 1).unwrap()).unwrap();
                mean_token_loss(&logits, &labels[row]).unwrap().to_scalar::<f64>().unwrap()
            };
            let mut squares = 0.0;
            for (_, var) in crate::reference::named(&model.map) {
                let values: Vec<f64> = var.flatten_all().unwrap().to_vec1().unwrap();
                for place in 0..values.len() {
                    let moved = |by: f64| {
                        let mut values = values.clone();
                        values[place] += by;
                        var.set(&Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap())
                            .unwrap();
                        loss()
                    };
                    let slope = (moved(step) - moved(-step)) / (2.0 * step);
                    moved(0.0);
                    squares += slope * slope;
                }
            }
            squares.sqrt()
        })
        .collect();
    let mut norms = GradientNorms::new(&model.map).unwrap().ignore_index(IGNORED);
    let labels = Tensor::new(&labels, &Device::Cpu).unwrap();
    let kind = ModelKind::Tokens { vocabulary: 4 };
    let got = norms.of_kind(kind, &text, &labels, |text| model.forward(text)).unwrap();
    assert!(relative_error(&got.values, &expected) < 1e-6, "{:?} {expected:?}", got.values);
}

/// Where `sigmoid(z)` is 1 - 1e-9, `sigmoid(z) - 1` computed as a difference of f32 is 0.
#[test]
fn a_label_all_but_learned_keeps_its_digits() {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let layer = nn::linear(1, 2, builder).unwrap();
    for var in map.all_vars() {
        var.set(&var.zeros_like().unwrap()).unwrap();
    }
    let mut map = map;
    map.set_one("bias", Tensor::new(&[20.0_f32, -21.0], &Device::Cpu).unwrap()).unwrap();
    let inputs = Tensor::new(&[[2.0_f32]], &Device::Cpu).unwrap();
    let targets = Tensor::new(&[[1.0_f32, 0.0]], &Device::Cpu).unwrap();
    let mut norms = GradientNorms::new(&map).unwrap();
    let kind = ModelKind::MultiLabel { labels: 2 };
    let got = norms.of_kind(kind, &inputs, &targets, |x| layer.forward(x)).unwrap();
    let missed = [20.0_f64, 21.0].map(|z| 1.0 / (1.0 + z.exp()));
    let expected = missed[0].hypot(missed[1]) * 5.0_f64.sqrt();
    assert!((f64::from(got.values[0]) - expected).abs() < 1e-6 * expected, "{:?}", got.values);
}

#[test]
fn what_is_ignored_may_be_anything() {
    let model = Language::new(5, DType::F32, 1);
    let text = text(3, 4, 5, 2);
    let labels = [[1_i64, 4, IGNORED, IGNORED], [0, 2, 2, IGNORED], [IGNORED, 3, 1, IGNORED]];
    let labels = Tensor::new(&labels, &Device::Cpu).unwrap();
    let kind = ModelKind::Tokens { vocabulary: 5 };
    let norms = GradientNorms::new(&model.map).unwrap().ignore_index(IGNORED);
    let expected = norms.clone().of_kind(kind, &text, &labels, |text| model.forward(text)).unwrap();
    // The last token has logits that are not finite.
    let nothing = Tensor::new(&[0.0_f32, 0.0, 0.0, f32::NAN], &Device::Cpu).unwrap();
    let got = norms.clone().of_kind(kind, &text, &labels, |text| {
        model.forward(text)?.broadcast_add(&nothing.reshape((4, 1))?)
    });
    let got = got.unwrap();
    assert_eq!((got.values, got.report.non_finite), (expected.values, 0));

    // A whole batch, and examples that are no sequences.
    let none = Tensor::full(IGNORED, (3, 4), &Device::Cpu).unwrap();
    let got = norms.clone().of_kind(kind, &text, &none, |text| model.forward(text)).unwrap();
    assert!(got.values.iter().all(|norm| norm.is_nan()));
    assert_eq!((got.report.ignored, got.report.non_finite), (3, 0));
    assert!(got.report.to_string().ends_with("; 3 examples are ignored"), "{}", got.report);
    let last = |text: &Tensor| model.forward(text)?.narrow(1, 3, 1)?.squeeze(1);
    let all = norms.clone().cross_entropy(&text, &[1_i64, 2, 0], last).unwrap();
    let some = norms.clone().cross_entropy(&text, &[1, IGNORED, 0], last).unwrap();
    assert_eq!(some.values[0], all.values[0]);
    assert_eq!(some.values[2], all.values[2]);
    assert!(some.values[1].is_nan() && some.report.ignored == 1);
}

#[test]
fn what_a_kind_does_not_have_is_refused_by_name() {
    let model = Language::new(5, DType::F32, 1);
    let text = text(4, 3, 5, 2);
    let norms = || GradientNorms::new(&model.map).unwrap().ignore_index(IGNORED);
    let tokens = ModelKind::Tokens { vocabulary: 5 };
    let refused = |kind: ModelKind, labels: &Tensor| {
        let got = norms().of_kind(kind, &text, labels, |text| match kind {
            ModelKind::Tokens { .. } => model.forward(text),
            _ => model.forward(text)?.mean(1),
        });
        got.unwrap_err().to_string()
    };
    let whole =
        |values: Vec<i64>, shape: &[usize]| Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    let float = |value: f32, shape: &[usize]| Tensor::full(value, shape, &Device::Cpu).unwrap();
    assert_eq!(
        refused(tokens, &whole(vec![0; 4], &[4])),
        "forward: logits: expected those of 4 sequences of 1 labels, got [4, 3, 5]"
    );
    assert_eq!(
        refused(tokens, &whole(vec![0; 12], &[3, 4])),
        "labels: expected one for each of 4 examples, got 3"
    );
    assert_eq!(
        refused(tokens, &whole(vec![0; 13], &[13])),
        "labels: expected one for each token of 4 sequences of the same length, got 13"
    );
    let mut labels = vec![0; 12];
    labels[7] = 5;
    assert_eq!(
        refused(tokens, &whole(labels, &[4, 3])),
        "labels: expected class indices in 0..5, got 5 in row 7"
    );
    assert!(refused(tokens, &float(0.0, &[4, 3])).starts_with("labels: expected "));
    let narrow = ModelKind::Tokens { vocabulary: 4 };
    assert!(
        refused(narrow, &whole(vec![0; 12], &[4, 3]))
            .starts_with("forward: logits: expected [batch, tokens, 4] or [batch * tokens, 4]")
    );
    let multi = ModelKind::MultiLabel { labels: 5 };
    assert_eq!(
        refused(multi, &float(1.5, &[4, 5])),
        "labels: expected targets in 0 to 1, got 1.5 in row 0"
    );
    assert!(
        refused(multi, &float(0.5, &[4, 4])).starts_with("labels: expected targets [batch, 5]")
    );
    assert!(refused(multi, &float(0.5, &[3, 5])).contains("one for each of 4 examples, got 3"));
    let regression = ModelKind::Regression { outputs: 5 };
    assert!(refused(regression, &float(f32::NAN, &[4, 5])).contains("finite targets, got NaN"));
    assert!(refused(regression, &whole(vec![0; 4], &[4])).contains("a number per output"));
    assert!(refused(ModelKind::Binary, &whole(vec![2; 4], &[4])).contains("in 0..2, got 2"));
    assert!(refused(ModelKind::Binary, &float(-0.5, &[4])).contains("in 0 to 1, got -0.5"));
    assert_eq!(
        refused(ModelKind::LossOnly, &float(0.5, &[4])),
        "kind: expected one whose loss is known, got `loss_only`: use `GradientNorms::custom_loss`"
    );
    let none = norms().of_kind(multi, &text, &(), |text| model.forward(text));
    assert!(none.unwrap_err().to_string().contains("`multi_label` has, got none"));
}
