//! The last layer's share of every kind of model, against the gradients in a last layer's parameters.

use candle_core::{DType, Device, Module, Tensor};
use candle_nn::{VarBuilder, VarMap};
use data_diet_candle::ModelKind;
use data_diet_candle::gradients::{LastLayerNorms, last_layer_norms};
use data_diet_candle::nn;
use proptest::prelude::*;

use crate::kinds::mean_token_loss;
use crate::reference::{Random, close, per_example, randomize};

const IGNORED: i64 = -100;

fn head(size: usize, outputs: usize, bias: bool, seed: u64) -> (VarMap, nn::Linear) {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F64, &Device::Cpu);
    let head = if bias {
        nn::linear(size, outputs, builder)
    } else {
        nn::linear_no_bias(size, outputs, builder)
    };
    randomize(&map, seed);
    (map, head.unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn of_sequences_it_is_that_of_the_mean_token_loss(
        (batch, tokens, size, vocabulary) in (1_usize..=5, 1_usize..=9, 1_usize..=6, 2_usize..=9),
        ignored in prop::collection::vec(prop::bool::weighted(0.3), 5 * 9),
        (bias, flat_logits, flat_features, is_single) in any::<(bool, bool, bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let (map, head) = head(size, vocabulary, bias, seed);
        let features = Random(seed ^ 1).tensor(&[batch, tokens, size], DType::F64);
        let labels = Random(seed ^ 2).indices(batch * tokens, vocabulary as u32);
        let labels: Vec<i64> = labels
            .iter()
            .zip(&ignored)
            .map(|(&label, &ignored)| if ignored { IGNORED } else { label.into() })
            .collect();
        let of = |row: usize| &labels[row * tokens..][..tokens];
        let counted: Vec<usize> =
            (0..batch).filter(|&row| of(row).iter().any(|&label| label != IGNORED)).collect();
        let expected: Vec<f64> = counted
            .iter()
            .map(|&row| {
                let one = features.narrow(0, row, 1).unwrap();
                per_example(&map, &one, |h, _| mean_token_loss(&head.forward(h)?, of(row)))[0]
            })
            .collect();
        let dtype = if is_single { DType::F32 } else { DType::F64 };
        let logits = head.forward(&features).unwrap().to_dtype(dtype).unwrap();
        let flat = |tensor: &Tensor, is_flat: bool| {
            if is_flat { tensor.flatten_to(1).unwrap() } else { tensor.clone() }
        };
        let labels = Tensor::from_slice(&labels, (batch, tokens), &Device::Cpu).unwrap();
        let kind = ModelKind::Tokens { vocabulary: vocabulary as u32 };
        let norms = LastLayerNorms::of_kind(kind).ignore_index(IGNORED).bias(bias);
        let got = norms.norms(&flat(&logits, flat_logits), &flat(&features, flat_features), &labels);
        let got = got.unwrap();
        for (row, norm) in got.iter().enumerate() {
            prop_assert_eq!(norm.is_nan(), !counted.contains(&row));
        }
        let got: Vec<f32> = counted.iter().map(|&row| got[row]).collect();
        if !is_single {
            close(&got, &expected, "f64")?;
        }
        // Residuals of all tokens may cancel, which leaves less than their digits.
        for (&got, &expected) in got.iter().zip(&expected) {
            prop_assert!((f64::from(got) - expected).abs() < 1e-5, "{got} for {expected}");
        }
    }

    #[test]
    fn of_other_kinds_it_is_that_of_their_loss(
        (batch, size, outputs) in (1_usize..=5, 1_usize..=6, 1_usize..=4),
        what in 0..3_u8,
        (bias, is_vector) in any::<(bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let outputs = if what == 0 { 1 } else { outputs };
        let kind = match what {
            0 => ModelKind::Binary,
            1 => ModelKind::MultiLabel { labels: outputs as u32 },
            _ => ModelKind::Regression { outputs: outputs as u32 },
        };
        let (map, head) = head(size, outputs, bias, seed);
        let features = Random(seed ^ 1).tensor(&[batch, size], DType::F64);
        let targets = Random(seed ^ 2).tensor(&[batch, outputs], DType::F32);
        let targets = targets.affine(0.5, 0.5).unwrap();
        let wide = targets.to_dtype(DType::F64).unwrap();
        let expected = per_example(&map, &features, |h, row| {
            let (z, y) = (head.forward(h)?, wide.narrow(0, row, 1)?);
            if what == 2 {
                return (z - y)?.sqr()?.sum_all()? * 0.5;
            }
            ((z.exp()? + 1.0)?.log()? - (z * y)?)?.sum_all()
        });
        let mut logits = head.forward(&features).unwrap();
        if what == 0 && is_vector {
            logits = logits.squeeze(1).unwrap();
        }
        let norms = LastLayerNorms::of_kind(kind).bias(bias);
        close(&norms.norms(&logits, &features, &targets).unwrap(), &expected, kind.name())?;
    }
}

/// More outputs than are worked on at once: the norms are those of single examples.
#[test]
fn large_outputs_are_taken_in_slices() {
    let (batch, tokens, vocabulary, size) = (3, 6, 300_000, 2);
    let logits = Random(1).tensor(&[batch, tokens, vocabulary], DType::F32);
    let features = Random(2).tensor(&[batch, tokens, size], DType::F32);
    let labels = Random(3).indices(batch * tokens, vocabulary as u32);
    let labels = Tensor::from_vec(labels, (batch, tokens), &Device::Cpu).unwrap();
    let norms = LastLayerNorms::of_kind(ModelKind::Tokens { vocabulary: vocabulary as u32 });
    let all = norms.norms(&logits, &features, &labels).unwrap();
    for (row, &norm) in all.iter().enumerate() {
        let part = |tensor: &Tensor| tensor.narrow(0, row, 1).unwrap();
        let alone = norms.norms(&part(&logits), &part(&features), &part(&labels)).unwrap()[0];
        assert!((norm - alone).abs() < 1e-6 * alone, "{norm} {alone}");
    }
}

#[test]
fn classes_by_name_are_classes_by_shape() {
    let logits = Random(1).tensor(&[4, 3], DType::F32);
    let features = Random(2).tensor(&[4, 5], DType::F32);
    let labels = [2_i64, 0, -1, 1];
    let norms = LastLayerNorms::of_kind(ModelKind::Classes { classes: 3 }).ignore_index(-1);
    let got = norms.norms(&logits, &features, &labels).unwrap();
    let expected = last_layer_norms(&logits, &features, &[2, 0, 1, 1], true).unwrap();
    assert!(got[2].is_nan());
    assert_eq!([got[0], got[1], got[3]], [expected[0], expected[1], expected[3]]);
}

#[test]
fn refusals_name_the_argument() {
    let logits = Random(1).tensor(&[4, 3, 5], DType::F32);
    let features = Random(2).tensor(&[4, 3, 2], DType::F32);
    let labels = Tensor::zeros((4, 3), DType::U32, &Device::Cpu).unwrap();
    let norms = LastLayerNorms::of_kind(ModelKind::Tokens { vocabulary: 5 });
    let refused = |logits: &Tensor, features: &Tensor, labels: &Tensor| {
        norms.norms(logits, features, labels).unwrap_err().to_string()
    };
    let flat = logits.flatten_to(1).unwrap();
    assert_eq!(
        refused(&flat, &features, &labels.flatten_all().unwrap()),
        "labels: expected [batch, tokens], from which the length of a sequence follows where logits \
         are [batch * tokens, vocabulary], got [12]"
    );
    assert_eq!(
        refused(&logits, &features.narrow(1, 0, 2).unwrap(), &labels),
        "features: expected floats [4, 3, size], got f32 [4, 2, 2]"
    );
    assert_eq!(
        refused(&logits, &features, &labels.narrow(1, 0, 2).unwrap()),
        "logits: expected those of 4 sequences of 2 labels, got [4, 3, 5]"
    );
    let error =
        LastLayerNorms::of_kind(ModelKind::LossOnly).norms(&logits, &features, &()).unwrap_err();
    assert!(error.to_string().starts_with("kind: expected one whose loss is known"), "{error}");
}
