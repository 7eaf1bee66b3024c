//! Every kind of model, in the shapes in which trainers hold outputs and targets at the loss.

use candle_core::{DType, Device, Tensor};
use data_diet::observe::{ExampleSignals, ModelKind, Phase, Signal, TargetForm};
use data_diet_candle::{
    DataDietHook, DataDietHookBuilder, ExampleIds, Labels, LogitsFormat, Result,
};

use crate::fixture::{Fixture, some_logits};

/// A row as text, so that rows with NaN compare.
fn recorded(
    build: impl Fn(DataDietHookBuilder) -> DataDietHookBuilder,
    record: impl Fn(&mut DataDietHook) -> Result<()>,
) -> Result<Vec<String>> {
    let fixture = Fixture::new();
    let mut hook = build(fixture.builder()).build()?;
    record(&mut hook)?;
    hook.finish()?.check()?;
    let mut rows = Vec::new();
    for part in fixture.run().observations(Phase::Train, 0)? {
        let part = part?;
        let correct: Vec<bool> = part.correct().collect();
        for row in 0..part.len() {
            let signals: Vec<Option<f32>> =
                Signal::ALL.iter().map(|&signal| part.signal(signal).map(|all| all[row])).collect();
            rows.push(format!(
                "{} {} {:?} {:?} {:?} {signals:?}",
                part.examples()[row],
                part.labels()[row],
                correct.get(row),
                part.tokens().map(|tokens| tokens[row]),
                part.accuracy().map(|accuracy| accuracy[row]),
            ));
        }
    }
    Ok(rows)
}

fn step<I, L>(ids: &I, logits: &Tensor, labels: &L) -> impl Fn(&mut DataDietHook) -> Result<()>
where
    I: ExampleIds + ?Sized,
    L: Labels + ?Sized,
{
    move |hook| hook.on_step_end(ids, logits, labels)
}

fn integers(values: &[i64], dims: &[usize]) -> Tensor {
    Tensor::from_slice(values, dims, &Device::Cpu).unwrap()
}

#[test]
fn tokens_in_every_shape_that_trainers_have() {
    let (batch, length, vocabulary) = (2, 3, 5);
    let flat = some_logits(batch * length, vocabulary);
    let whole = flat.reshape((batch, length, vocabulary)).unwrap();
    let labels = [1, -100, 4, 0, 2, 3];
    let tokens = |builder: DataDietHookBuilder| {
        builder.tokens(vocabulary).ignore_index(-100).signals(Signal::ALL)
    };
    let ids = [70, 71];
    let per_token = integers(&[70, 0, 70, 71, 71, 71], &[batch, length]);
    let matrix = integers(&labels, &[batch, length]);
    let list = integers(&labels, &[batch * length]);
    let turned =
        whole.permute((2, 0, 1)).unwrap().contiguous().unwrap().permute((1, 2, 0)).unwrap();
    assert!(!turned.is_contiguous());
    let wide =
        Tensor::cat(&[&whole, &whole], 2).unwrap().narrow(2, vocabulary, vocabulary).unwrap();
    let expected = recorded(tokens, step(&ids, &whole, &matrix)).unwrap();
    assert_eq!(expected.len(), 2);
    assert!(
        expected[0].starts_with("70 -1 Some(") && expected[0].contains("Some(2)"),
        "{expected:?}"
    );
    for (name, got) in [
        ("flattened", recorded(tokens, step(&ids, &flat, &list))),
        ("flattened logits", recorded(tokens, step(&ids, &flat, &matrix))),
        ("flattened labels", recorded(tokens, step(&ids, &whole, &list))),
        ("labels in a column", recorded(tokens, step(&ids, &flat, &list.unsqueeze(1).unwrap()))),
        ("labels in a slice", recorded(tokens, step(&ids, &whole, &labels))),
        ("transposed", recorded(tokens, step(&ids, &turned, &matrix))),
        ("narrowed", recorded(tokens, step(&ids, &wide, &matrix))),
        ("packed", recorded(tokens, step(&per_token, &whole, &matrix))),
        ("packed and flattened", recorded(tokens, step(&[70, 0, 70, 71, 71, 71], &flat, &list))),
    ] {
        assert_eq!(got.unwrap(), expected, "{name}");
    }
    let half = whole.to_dtype(DType::F16).unwrap();
    let widened = half.to_dtype(DType::F32).unwrap();
    let expected = recorded(tokens, step(&ids, &widened, &matrix)).unwrap();
    assert_eq!(recorded(tokens, step(&ids, &half, &matrix)).unwrap(), expected);
}

#[test]
fn binary_logits_and_targets_with_and_without_a_column() {
    let logits = Tensor::new(&[0.3_f32, -2.0, 0.0], &Device::Cpu).unwrap();
    let column = logits.unsqueeze(1).unwrap();
    let classes: Vec<f32> = vec![0.0, 0.3, 0.0, -2.0, 0.0, 0.0];
    let classes = Tensor::from_vec(classes, (3, 2), &Device::Cpu).unwrap();
    let labels = [1_u32, 0, 1];
    let floats = Tensor::new(&[1.0_f32, 0.0, 1.0], &Device::Cpu).unwrap();
    let two = |builder: DataDietHookBuilder| builder.classes(2).signals(Signal::ALL);
    let one = |builder: DataDietHookBuilder| builder.binary().signals(Signal::ALL);
    let expected = recorded(two, step(&(0..3), &classes, &labels)).unwrap();
    for (name, got) in [
        ("[batch]", recorded(one, step(&(0..3), &logits, &labels))),
        ("[batch, 1]", recorded(one, step(&(0..3), &column, &labels))),
        ("floats", recorded(one, step(&(0..3), &logits, &floats))),
        ("float column", recorded(one, step(&(0..3), &column, &floats.unsqueeze(1).unwrap()))),
        ("float slice", recorded(one, step(&(0..3), &column, &[1.0_f32, 0.0, 1.0]))),
    ] {
        assert_eq!(got.unwrap(), expected, "{name}");
    }
}

#[test]
fn class_labels_in_a_column() {
    let three = |builder: DataDietHookBuilder| builder.classes(3);
    let logits = some_logits(2, 3);
    let expected = recorded(three, step(&[4, 9], &logits, &[2, 0])).unwrap();
    let column = integers(&[2, 0], &[2, 1]);
    assert_eq!(recorded(three, step(&[4, 9], &logits, &column)).unwrap(), expected);
}

#[test]
fn several_labels_as_floats_and_integers() {
    let logits = some_logits(2, 3);
    let labels = |builder: DataDietHookBuilder| builder.multi_label(3);
    let floats = Tensor::new(&[[1.0_f32, 0.0, 0.0], [0.0, 1.0, 1.0]], &Device::Cpu).unwrap();
    let expected = recorded(labels, step(&(0..2), &logits, &floats)).unwrap();
    let whole = floats.to_dtype(DType::U8).unwrap();
    assert_eq!(recorded(labels, step(&(0..2), &logits, &whole)).unwrap(), expected);
    let rows: Vec<Vec<f32>> = logits.to_vec2().unwrap();
    let first = ExampleSignals::multi_label(&rows[0], &[1.0, 0.0, 0.0]);
    let text =
        format!("[Some({:?}), Some({:?}), Some({:?}), None", first.el2n, first.loss, first.margin);
    assert!(expected[0].contains(&text), "{} lacks {text}", expected[0]);
    assert!(expected[0].starts_with("0 -1 Some("), "{}", expected[0]);
}

#[test]
fn predictions_of_any_shape() {
    let four = |builder: DataDietHookBuilder| builder.regression(4);
    let flat = some_logits(3, 4);
    let targets = (&flat * 0.5).unwrap();
    let expected = recorded(four, step(&(0..3), &flat, &targets)).unwrap();
    assert!(expected[0].starts_with("0 -1 None None None [Some("), "{}", expected[0]);
    let square = |tensor: &Tensor| tensor.reshape((3, 2, 2)).unwrap();
    assert_eq!(recorded(four, step(&(0..3), &square(&flat), &square(&targets))).unwrap(), expected);
    // Values of a row that are not equally far apart.
    let turned =
        square(&flat).transpose(1, 2).unwrap().contiguous().unwrap().transpose(1, 2).unwrap();
    assert_eq!(recorded(four, step(&(0..3), &turned, &square(&targets))).unwrap(), expected);
    let one = |builder: DataDietHookBuilder| builder.regression(1);
    let predictions = Tensor::new(&[1.0_f32, 3.0], &Device::Cpu).unwrap();
    let listed = recorded(one, step(&(0..2), &predictions, &[0.0_f32, 0.0])).unwrap();
    assert!(listed[1].contains("[Some(3.0), Some(4.5), None"), "{}", listed[1]);
}

#[test]
fn losses_of_any_objective() {
    let losses = Tensor::new(&[0.5_f32, 2.0], &Device::Cpu).unwrap();
    let only = |builder: DataDietHookBuilder| builder.loss_only();
    let rows = recorded(only, |hook| hook.on_loss_batch(&[3, 5], &losses)).unwrap();
    assert_eq!(rows[1], "5 -1 None None None [None, Some(2.0), None, None, None, None]");
    let column = losses.unsqueeze(1).unwrap();
    assert_eq!(recorded(only, step(&[3, 5], &column, &())).unwrap(), rows);
    let error = recorded(only, step(&[3, 5], &losses, &[0, 1])).unwrap_err().to_string();
    assert_eq!(error, "labels: expected none, which is what `loss_only` has, got class indices");
    let error = recorded(|builder| builder.classes(2), step(&[3], &some_logits(1, 2), &()));
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("labels: expected class indices or soft targets"), "{error}");
}

#[test]
fn what_stands_in_run_json() {
    let metadata = |build: &dyn Fn(DataDietHookBuilder) -> DataDietHookBuilder,
                    record: &dyn Fn(&mut DataDietHook) -> Result<()>| {
        let fixture = Fixture::new();
        let mut hook = build(fixture.builder()).build().unwrap();
        record(&mut hook).unwrap();
        hook.finish().unwrap().check().unwrap();
        let run = fixture.run();
        (run.kind(), run.targets(), run.ranks().next().unwrap().clone())
    };
    let logits = some_logits(1, 3);
    let soft = Tensor::new(&[[0.5_f32, 0.25, 0.25]], &Device::Cpu).unwrap();
    let classes = ModelKind::Classes { classes: 3 };
    let hard = |hook: &mut DataDietHook| hook.on_step_end(&[0], &logits, &[0]);
    let smooth = |hook: &mut DataDietHook| hook.on_step_end(&[0], &logits, &soft);
    let (kind, targets, _) = metadata(&|builder| builder.classes(3), &hard);
    assert_eq!((kind, targets), (classes, Some(TargetForm::Classes)));
    let (_, targets, _) = metadata(&|builder| builder.classes(3), &smooth);
    assert_eq!(targets, Some(TargetForm::Soft));
    let both = |hook: &mut DataDietHook| hard(hook).and_then(|()| smooth(hook));
    let (_, targets, _) = metadata(&|builder| builder.classes(3), &both);
    assert_eq!(targets, Some(TargetForm::Mixed));
    let ignored = |hook: &mut DataDietHook| {
        hook.on_step_end(&[0], &some_logits(2, 3), &[7, 7])?;
        hook.on_step_end(&[4, 5], &some_logits(4, 3), &integers(&[7, 7, 0, 7], &[2, 2]))
    };
    let (kind, targets, run) = metadata(&|builder| builder.tokens(3).ignore_index(7), &ignored);
    assert_eq!((kind, targets), (ModelKind::Tokens { vocabulary: 3 }, Some(TargetForm::Classes)));
    assert_eq!((run.rows.written, run.rows.without_tokens), (1, 2));
}

#[test]
fn runs_of_one_experiment_are_of_one_kind() {
    let fixture = Fixture::new();
    fixture.hook().finish().unwrap().check().unwrap();
    let other = |build: &dyn Fn(DataDietHookBuilder) -> DataDietHookBuilder| {
        build(DataDietHook::builder(fixture.path(), "seed-1")).build().unwrap_err().to_string()
    };
    for (message, got) in [
        (other(&|builder| builder.classes(4)), "got 4 classes"),
        (other(&|builder| builder.tokens(3)), "got tokens (vocabulary 3)"),
        (other(&|builder| builder.binary()), "got binary"),
    ] {
        assert!(
            message.starts_with("run `seed-1`: expected 3 classes, as run `seed-0` of"),
            "{message}"
        );
        assert!(message.contains(got), "{message} lacks {got}");
    }
    let refused = fixture.path().join("_runs").join("seed-1");
    assert!(!refused.exists(), "nothing is left of a run that is refused");
    let same = DataDietHook::builder(fixture.path(), "seed-1").classes(3).build().unwrap();
    same.finish().unwrap().check().unwrap();
    // The only run may start over as another kind.
    let alone = Fixture::new();
    alone.hook().finish().unwrap().check().unwrap();
    alone.builder().binary().overwrite().build().unwrap().finish().unwrap().check().unwrap();
}

#[test]
fn the_highest_logits_come_with_those_of_the_label() {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(200).build().unwrap();
    let logits = some_logits(3, 200);
    hook.on_step_end(&(0..3), &logits, &[5, 199, 100]).unwrap();
    hook.finish().unwrap().check().unwrap();
    let run = fixture.run();
    let format = &run.ranks().next().unwrap().format;
    assert_eq!(format.logits, LogitsFormat::TopKAndLabel(8));
    assert!(
        format.signals.contains(&Signal::Confidence) && format.signals.contains(&Signal::Entropy)
    );
    let rows = fixture.logits(Phase::Train);
    let values: Vec<Vec<f32>> = logits.to_vec2().unwrap();
    assert_eq!(rows[0].classes.len(), 8);
    let largest = values[0].iter().copied().fold(f32::NEG_INFINITY, f32::max);
    assert_eq!(rows[0].logits[0], largest);
    let columns = fixture.columns_of_logits(Phase::Train, &["label_logit", "log_sum_exp"]);
    for (row, label) in [5, 199, 100].into_iter().enumerate() {
        assert_eq!(columns[0][row], values[row][label]);
        let sum: f64 = values[row].iter().map(|&z| f64::from(z).exp()).sum();
        assert!((f64::from(columns[1][row]) - sum.ln()).abs() < 1e-6 * sum.ln());
    }
}
