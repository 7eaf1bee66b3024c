//! From what a hook has recorded to training on what a selection keeps.

use candle_core::{DType, Device, Tensor};
use candle_nn::{Linear, Module, Optimizer, SGD, VarBuilder, VarMap, linear, loss::cross_entropy};
use data_diet::observe::Phase;
use data_diet::selection::Selection;
use data_diet::{Amount, Experiment, Rule, ScoreOptions, ScoreTable};
use data_diet_candle::selection::kept_indices;
use data_diet_candle::{DataDietHook, Error};

use crate::fixture::{Fixture, some_logits};

const ROWS: usize = 24;

fn network() -> (Linear, SGD) {
    let weights = VarMap::new();
    let device = Device::Cpu;
    let model = linear(5, 3, VarBuilder::from_varmap(&weights, DType::F32, &device)).unwrap();
    (model, SGD::new(weights.all_vars(), 0.5).unwrap())
}

#[test]
fn training_goes_on_with_what_is_kept() {
    let fixture = Fixture::new();
    let images = some_logits(ROWS, 5);
    let labels: Vec<u32> = (0..ROWS as u32).map(|row| row % 3).collect();
    let labels = Tensor::new(labels, &Device::Cpu).unwrap();
    let (model, _) = network();
    let mut hook = fixture.hook();
    hook.on_score_batch(&(0..ROWS), &model.forward(&images).unwrap(), &labels).unwrap();
    hook.finish().unwrap().check().unwrap();

    let experiment = Experiment::open(fixture.path()).unwrap();
    let scores = ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap();
    let column = scores.column("el2n").unwrap();
    let by_id = column.scores().to_vec();
    let selection = column.select(Rule::Highest(Amount::Count(9))).unwrap();
    let kept = kept_indices(&selection, &Device::Cpu).unwrap();
    assert_eq!((kept.dims(), kept.dtype()), (&[9][..], DType::U32));
    let indices = kept.to_vec1::<u32>().unwrap();
    let lowest = indices.iter().map(|&row| by_id[row as usize]).fold(f64::INFINITY, f64::min);
    assert_eq!(by_id.iter().filter(|&&score| score >= lowest).count(), 9, "the highest nine");

    let (few, few_labels) =
        (images.index_select(&kept, 0).unwrap(), labels.index_select(&kept, 0).unwrap());
    let (all, some) = (images.to_vec2::<f32>().unwrap(), few.to_vec2::<f32>().unwrap());
    for (row, &index) in some.iter().zip(&indices) {
        assert_eq!(row, &all[index as usize]);
    }
    let (model, mut optimizer) = network();
    let mut hook = DataDietHook::builder(fixture.path(), "pruned").classes(3).build().unwrap();
    let ids: Vec<i64> = selection.examples().collect();
    let loss = |model: &Linear| cross_entropy(&model.forward(&few).unwrap(), &few_labels).unwrap();
    let before = loss(&model).to_scalar::<f32>().unwrap();
    for _ in 0..20 {
        let logits = model.forward(&few).unwrap();
        optimizer.backward_step(&cross_entropy(&logits, &few_labels).unwrap()).unwrap();
        hook.on_step_end(&ids, &logits, &few_labels).unwrap();
    }
    hook.finish().unwrap().check().unwrap();
    assert!(loss(&model).to_scalar::<f32>().unwrap() < before);
    let run = Experiment::open(fixture.path()).unwrap().run("pruned").unwrap();
    assert_eq!(run.rows(Phase::Train).unwrap(), 20 * 9);
}

#[test]
fn ids_that_are_no_row_numbers_are_refused() {
    let selection = Selection::from_examples([3, 1 << 33]).unwrap();
    let error = kept_indices(&selection, &Device::Cpu).unwrap_err();
    assert!(matches!(error, Error::Record(_)), "{error}");
    assert!(error.to_string().contains("got 8589934592"), "{error}");
}
