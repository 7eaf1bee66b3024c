//! Batches of kinds of models other than `classes`.

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::observe::definitions::Target;
use crate::observe::output_rows::RowLayout;
use crate::observe::signal::Signal;

const MOMENT: Moment = Moment { phase: Phase::Train, step: 0, epoch: 0 };

fn columns(batch: &Batch) -> &ObservationColumns {
    match &batch.measured {
        Measured::Observations(columns) => columns,
        Measured::Grand(norms) => panic!("gradient norms: {norms:?}"),
    }
}

fn all_signals(kind: ModelKind) -> BatchFormat {
    BatchFormat { signals: kind.signals().to_vec(), ..BatchFormat::new(kind).unwrap() }
}

fn tokens(vocabulary: u32) -> BatchFormat {
    BatchFormat { ignore_index: Some(-100), ..all_signals(ModelKind::Tokens { vocabulary }) }
}

/// What a sequence should be: plain means over the tokens that count, `None` if there are none.
fn expected(
    logits: &[f32],
    vocabulary: usize,
    labels: &[i64],
) -> Option<(Vec<f64>, i32, f64, bool)> {
    let counted = logits.chunks_exact(vocabulary).zip(labels).filter(|(_, label)| **label != -100);
    let signals: Vec<ExampleSignals> = counted
        .map(|(row, &label)| ExampleSignals::compute(row, Target::Class(label as usize)))
        .collect();
    let count = signals.len() as f64;
    let mean =
        |value: &dyn Fn(&ExampleSignals) -> f64| signals.iter().map(value).sum::<f64>() / count;
    let means = Signal::ALL.map(|signal| mean(&|token| f64::from(token.get(signal))));
    let accuracy = mean(&|token| f64::from(u8::from(token.correct)));
    let correct = signals.iter().all(|token| token.correct);
    (!signals.is_empty()).then(|| (means.to_vec(), signals.len() as i32, accuracy, correct))
}

proptest! {
    #[test]
    fn sequences_are_means_of_their_tokens_however_they_are_held(
        (batch, length, vocabulary) in (1_usize..4, 1_usize..6, 2_usize..5),
        logits in prop::collection::vec(-9.0_f32..9.0, 4 * 6 * 5),
        labels in prop::collection::vec(prop_oneof![2 => 0_i64..5, 1 => Just(-100_i64)], 4 * 6),
    ) {
        let format = tokens(vocabulary as u32);
        let logits = &logits[..batch * length * vocabulary];
        let labels: Vec<i64> = labels[..batch * length].iter().map(|&label| label.min(vocabulary as i64 - 1)).collect();
        let ids: Vec<i64> = (0..batch as i64).map(|id| 10 + id).collect();
        let targets = Targets::Classes(&labels);
        let got = Batch::new(&format, MOMENT, &ids, logits, targets).unwrap();
        let mut examples = Vec::new();
        for (at, &id) in ids.iter().enumerate() {
            let span = at * length..(at + 1) * length;
            let logits = &logits[span.start * vocabulary..span.end * vocabulary];
            let Some((means, count, accuracy, correct)) = expected(logits, vocabulary, &labels[span]) else { continue };
            let row = examples.len();
            let columns = columns(&got);
            for (column, mean) in columns.signals.iter().zip(means) {
                prop_assert!((f64::from(column[row]) - mean).abs() <= 1e-6 * mean.abs());
            }
            let sequences = columns.tokens.as_ref().unwrap();
            prop_assert_eq!((sequences.tokens[row], columns.correct[row]), (count, correct));
            prop_assert!((f64::from(sequences.accuracy[row]) - accuracy).abs() < 1e-6);
            examples.push(id);
        }
        prop_assert_eq!(&got.examples, &examples);
        prop_assert!(got.labels.iter().all(|&label| label == -1));
        prop_assert_eq!(got.without_tokens() as usize, batch - examples.len());
        // The same rows with the tokens of all sequences side by side, as in a transposed tensor.
        let mut transposed = vec![0.0; logits.len()];
        for (at, &value) in logits.iter().enumerate() {
            let (row, class) = (at / vocabulary, at % vocabulary);
            transposed[class * batch * length + row] = value;
        }
        let layout = RowLayout {
            start: 0, groups: batch, group_stride: length, inner: length, row_stride: 1, width: vocabulary,
            stride: batch * length,
        };
        let rows = OutputRows::strided(&transposed, layout).unwrap();
        let turned = Batch::from_rows(&format, MOMENT, BatchIds::Examples(&ids), rows, targets).unwrap();
        prop_assert_eq!(format!("{:?}", turned), format!("{:?}", got));
        // One id per token, of sequences that are packed into one row or into several.
        let packed: Vec<i64> = (0..batch * length).map(|token| ids[token / length]).collect();
        for row_length in [length, batch * length] {
            let ids = BatchIds::Tokens { ids: &packed, row_length };
            let packed = Batch::new(&format, MOMENT, ids, logits, targets).unwrap();
            prop_assert_eq!(format!("{:?}", packed.measured), format!("{:?}", got.measured));
            prop_assert_eq!(&packed.examples, &examples);
        }
    }

    /// A sequence of one token is an example of a classifier.
    #[test]
    fn one_token_is_a_class(logits in prop::collection::vec(-30.0_f32..30.0, 3 * 7), labels in prop::collection::vec(0_i64..7, 3)) {
        let classes = all_signals(ModelKind::Classes { classes: 7 });
        let expected = Batch::new(&classes, MOMENT, &[5, 1, 5], &logits, Targets::Classes(&labels)).unwrap();
        let got = Batch::new(&tokens(7), MOMENT, &[5, 1, 5], &logits, Targets::Classes(&labels)).unwrap();
        prop_assert_eq!(&columns(&got).signals, &columns(&expected).signals);
        prop_assert_eq!(&columns(&got).correct, &columns(&expected).correct);
        prop_assert_eq!(got.examples, expected.examples);
    }

    /// Two classes with logits (0, z), to the bit.
    #[test]
    fn binary_is_two_classes(rows in prop::collection::vec((-40.0_f32..40.0, 0_i64..2), 1..20)) {
        let binary = all_signals(ModelKind::Binary);
        let classes = all_signals(ModelKind::Classes { classes: 2 });
        let ids: Vec<i64> = (0..rows.len() as i64).collect();
        let labels: Vec<i64> = rows.iter().map(|row| row.1).collect();
        let single: Vec<f32> = rows.iter().map(|row| row.0).collect();
        let double: Vec<f32> = rows.iter().flat_map(|row| [0.0, row.0]).collect();
        let floats: Vec<f32> = labels.iter().map(|&label| label as f32).collect();
        let expected = Batch::new(&classes, MOMENT, &ids, &double, Targets::Classes(&labels)).unwrap();
        for targets in [Targets::Classes(&labels), Targets::Soft(&floats)] {
            let got = Batch::new(&binary, MOMENT, &ids, &single, targets).unwrap();
            prop_assert_eq!(&columns(&got).signals, &columns(&expected).signals);
            prop_assert_eq!((&got.labels, &columns(&got).correct), (&expected.labels, &columns(&expected).correct));
            prop_assert_eq!(got.targets(), Some(TargetForm::Classes));
        }
    }
}

#[test]
fn packed_sequences_do_not_reach_beyond_a_row_and_ignored_tokens_have_any_id() {
    let format = tokens(2);
    let logits: Vec<f32> = (0..16).map(|z| (z * z) as f32 % 5.0).collect();
    // A prompt within example 7, padding at the end of the first row, and 8 in both rows.
    let ids = [7, 99, 7, 8, 8, 8, 9, -5];
    let labels = [0, -100, 1, 1, 0, 1, 0, -100];
    let ids = BatchIds::Tokens { ids: &ids, row_length: 4 };
    let batch = Batch::new(&format, MOMENT, ids, &logits, Targets::Classes(&labels)).unwrap();
    assert_eq!(batch.examples, [7, 8, 8, 9]);
    assert_eq!(columns(&batch).tokens.as_ref().unwrap().tokens, [2, 1, 2, 1]);
}

#[test]
fn one_token_that_is_not_finite_makes_its_sequence_nan() {
    let mut logits = vec![0.5_f32; 12];
    logits[7] = f32::NAN;
    let batch =
        Batch::new(&tokens(2), MOMENT, &[3, 4], &logits, Targets::Classes(&[0; 6])).unwrap();
    assert_eq!(batch.non_finite(), 1);
    assert!(columns(&batch).signals.iter().all(|column| !column[0].is_nan() && column[1].is_nan()));
}

#[test]
fn several_labels_and_numbers_have_the_signals_of_their_definitions() {
    let labels = ModelKind::MultiLabel { labels: 2 };
    let targets = [1.0, 0.0, 0.3, 1.0];
    let logits = [2.0_f32, 1.0, -1.0, 0.5];
    let batch = Batch::new(&all_signals(labels), MOMENT, &[1, 2], &logits, Targets::Soft(&targets))
        .unwrap();
    for row in 0..2 {
        let expected =
            ExampleSignals::multi_label(&logits[2 * row..][..2], &targets[2 * row..][..2]);
        let got: Vec<f32> = columns(&batch).signals.iter().map(|column| column[row]).collect();
        assert_eq!(got, [expected.el2n, expected.loss, expected.margin]);
        assert_eq!(columns(&batch).correct[row], expected.correct);
    }
    assert_eq!((batch.labels.clone(), batch.targets()), (vec![-1, -1], None));
    let numbers = ModelKind::Regression { outputs: 2 };
    let batch =
        Batch::new(&all_signals(numbers), MOMENT, &[1, 2], &logits, Targets::Soft(&targets))
            .unwrap();
    let expected = ExampleSignals::regression(&logits[2..], &targets[2..]);
    assert_eq!(columns(&batch).signals[0][1], expected.el2n);
    assert_eq!((columns(&batch).correct.len(), columns(&batch).signals.len()), (0, 2));
    let losses = BatchFormat::new(ModelKind::LossOnly).unwrap();
    let batch =
        Batch::new(&losses, MOMENT, &[1, 2], &[0.25_f32, f32::INFINITY], Targets::None).unwrap();
    assert!(columns(&batch).signals[0][0] == 0.25 && columns(&batch).signals[0][1].is_nan());
    assert_eq!((batch.non_finite(), batch.len()), (1, 2));
}

#[test]
fn every_kind_refuses_what_it_does_not_have() {
    let regression = ModelKind::Regression { outputs: 1 };
    let (multi_label, binary) = (ModelKind::MultiLabel { labels: 1 }, ModelKind::Binary);
    let (token, loss) = (ModelKind::Tokens { vocabulary: 2 }, ModelKind::LossOnly);
    let (classes, soft) = (Targets::Classes(&[1]), Targets::Soft(&[1.5]));
    for (kind, targets, expected) in [
        (binary, Targets::Classes(&[2]), "labels: expected class indices in 0..2, got 2 in row 0"),
        (binary, soft, "labels: expected targets in 0 to 1, got 1.5 in row 0"),
        (multi_label, soft, "labels: expected targets in 0 to 1, got 1.5 in row 0"),
        (multi_label, Targets::Soft(&[f32::NAN]), "labels: expected targets in 0 to 1, got NaN"),
        (multi_label, Targets::Soft(&[1.0; 2]), "labels: expected targets [1, 1], got 2 values"),
        (
            multi_label,
            classes,
            "expected a number in 0 to 1 per label, which is what `multi_label` has",
        ),
        (regression, Targets::Soft(&[f32::INFINITY]), "labels: expected finite targets, got inf"),
        (regression, classes, "expected a number per output, which is what `regression` has"),
        (loss, classes, "labels: expected none, which is what `loss_only` has, got class indices"),
        (binary, Targets::None, "expected 0 and 1, or probabilities, which is what `binary` has"),
        (token, soft, "expected a class index per token, which is what `tokens` has, got numbers"),
    ] {
        let outputs = vec![0.5_f32; kind.outputs()];
        let format = BatchFormat::new(kind).unwrap();
        let error = Batch::new(&format, MOMENT, &[0], &outputs, targets).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(expected), "{error} lacks {expected}");
    }
}

#[test]
fn ids_that_fit_no_sequence_are_refused() {
    let (format, logits) = (tokens(2), [0.0_f32; 12]);
    let labels = Targets::Classes(&[0; 6]);
    let refused = |ids: BatchIds<'_>| {
        Batch::new(&format, MOMENT, ids, &logits, labels).unwrap_err().to_string()
    };
    let message = refused(BatchIds::Examples(&[0; 4]));
    assert_eq!(message, "ids: expected one for each of equally long sequences, got 4 for 6 tokens");
    assert!(refused(BatchIds::Examples(&[])).contains("got 0 for 6 tokens"));
    let message = refused(BatchIds::Tokens { ids: &[0; 5], row_length: 3 });
    assert_eq!(message, "ids: expected 6, one per token in rows of 3, got 5");
    let classes = BatchFormat::classes(2).unwrap();
    let per_token = BatchIds::Tokens { ids: &[0; 6], row_length: 3 };
    let error = Batch::new(&classes, MOMENT, per_token, &logits, labels).unwrap_err();
    assert!(
        error.to_string().contains("which is what `classes` has, got one per token"),
        "{error}"
    );
    let error = Batch::new(&format, MOMENT, &[1, -2], &logits, labels).unwrap_err();
    assert!(error.to_string().ends_with("got -2 in row 1"), "{error}");
}
