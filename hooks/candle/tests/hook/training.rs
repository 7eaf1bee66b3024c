//! What the hook must not do to the training that it watches.

use std::sync::{Arc, Weak};

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, loss::cross_entropy};
use data_diet::observe::{Phase, Signal};
use data_diet_candle::DataDietHook;

use crate::fixture::{Fixture, some_logits};
use crate::reference::{assert_row, one_hot};

const FEATURES: usize = 6;
const HIDDEN: usize = 16;
const CLASSES: usize = 3;
const BATCH: usize = 8;

/// Trains a small network for some steps and returns its weights, bit by bit.
fn weights_after_training(mut hook: Option<DataDietHook>) -> Vec<u32> {
    let (first, second) = (some_logits(FEATURES, HIDDEN), some_logits(HIDDEN, CLASSES));
    let first = Var::from_tensor(&(first * 0.1).unwrap()).unwrap();
    let second = Var::from_tensor(&(second * 0.1).unwrap()).unwrap();
    let parameters = ParamsAdamW { lr: 0.01, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(vec![first.clone(), second.clone()], parameters).unwrap();
    let inputs = some_logits(BATCH * 5, FEATURES);
    for step in 0..40 {
        let start = step % 5 * BATCH;
        let batch = inputs.narrow(0, start, BATCH).unwrap();
        let labels: Vec<u32> = (start..start + BATCH).map(|row| (row % CLASSES) as u32).collect();
        let labels = Tensor::new(labels, &Device::Cpu).unwrap();
        let logits = batch.matmul(&first).unwrap().relu().unwrap().matmul(&second).unwrap();
        optimizer.backward_step(&cross_entropy(&logits, &labels).unwrap()).unwrap();
        if let Some(hook) = &mut hook {
            hook.on_step_end(&(start..start + BATCH), &logits, &labels).unwrap();
            if step % 5 == 4 {
                hook.on_epoch_end().unwrap();
                let all = inputs.matmul(&first).unwrap().relu().unwrap().matmul(&second).unwrap();
                let labels: Vec<usize> = (0..BATCH * 5).map(|row| row % CLASSES).collect();
                hook.on_score_batch(&(0..BATCH * 5), &all, &labels).unwrap();
            }
        }
    }
    if let Some(hook) = hook {
        hook.finish().unwrap().check().unwrap();
    }
    let values = [first, second].map(|var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    values.concat().iter().map(|value| value.to_bits()).collect()
}

#[test]
fn weights_are_the_same_with_and_without_bit_for_bit() {
    let fixture = Fixture::new();
    let without = weights_after_training(None);
    let builder = fixture.builder().classes(CLASSES).signals(Signal::ALL).flush_rows(1);
    let with = weights_after_training(Some(builder.build().unwrap()));
    assert_eq!(without, with);
    assert_eq!(fixture.rows(Phase::Train).len(), 40 * BATCH);
    assert_eq!(fixture.rows(Phase::Score).len(), 8 * 5 * BATCH);
    assert_eq!(without, weights_after_training(Some(DataDietHook::disabled())));
    // Otherwise equality would show nothing.
    let untrained = some_logits(FEATURES, HIDDEN).flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_ne!(without[0], (untrained[0] * 0.1).to_bits());
}

/// The identity, as an operation of the graph that carries something whose life can be watched.
struct Watched(#[expect(dead_code, reason = "held for its life alone")] Arc<()>);

impl CustomOp1 for Watched {
    fn name(&self) -> &'static str {
        "watched"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (from, to) = layout.contiguous_offsets().unwrap();
        let values = storage.as_slice::<f32>()?[from..to].to_vec();
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(gradient.clone()))
    }
}

/// A tensor with a graph behind it, and a witness that lives as long as the graph.
fn with_graph(var: &Var) -> (Tensor, Weak<()>) {
    let token = Arc::new(());
    let witness = Arc::downgrade(&token);
    let tensor = var.as_tensor().apply_op1(Watched(token)).unwrap();
    // A view on top, so that what the hook gets is not the operation's own result.
    (tensor.narrow(0, 0, 4).unwrap(), witness)
}

#[test]
fn the_graph_is_free_once_the_loop_drops_it() {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    let var = Var::from_tensor(&some_logits(6, 3)).unwrap();
    let target = (Tensor::ones((6, 3), DType::F32, &Device::Cpu).unwrap() / 3.0).unwrap();
    let (logits, logits_graph) = with_graph(&var);
    let (targets, targets_graph) = with_graph(&Var::from_tensor(&target).unwrap());
    assert!(logits_graph.upgrade().is_some() && targets_graph.upgrade().is_some());
    hook.on_step_end(&(0..4), &logits, &targets).unwrap();
    hook.on_score_batch(&(0..4), &logits, &[0, 1, 2, 0]).unwrap();
    hook.on_micro_batch(&(0..4), &logits, &[0, 1, 2, 0]).unwrap();
    // The gradient still flows after the hook has looked.
    assert!(logits.sum_all().unwrap().backward().unwrap().get(&var).is_some());
    drop((logits, targets));
    assert!(logits_graph.upgrade().is_none(), "the hook keeps the logits' graph alive");
    assert!(targets_graph.upgrade().is_none(), "the hook keeps the targets' graph alive");
    hook.finish().unwrap().check().unwrap();
}

#[test]
fn what_is_recorded_is_a_copy() {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(3).signals(Signal::ALL).build().unwrap();
    let before = some_logits(4, 3);
    let labels = [2_u8, 0, 1, 1];
    let logits = Var::from_tensor(&before).unwrap();
    let classes = Var::from_tensor(&Tensor::new(&labels, &Device::Cpu).unwrap()).unwrap();
    let ids = Var::from_tensor(&Tensor::new(&[5_i64, 6, 7, 8], &Device::Cpu).unwrap()).unwrap();
    hook.on_step_end(ids.as_tensor(), &logits, classes.as_tensor()).unwrap();
    // The optimizer overwrites the storage in place while the rows still wait in memory.
    logits.set(&Tensor::zeros((4, 3), DType::F32, &Device::Cpu).unwrap()).unwrap();
    classes.set(&classes.zeros_like().unwrap()).unwrap();
    ids.set(&ids.zeros_like().unwrap()).unwrap();
    hook.finish().unwrap().check().unwrap();
    let expected = before.to_vec2::<f32>().unwrap();
    let rows = fixture.rows(Phase::Train);
    assert_eq!(rows.iter().map(|row| row.example).collect::<Vec<_>>(), [5, 6, 7, 8]);
    for (index, row) in rows.iter().enumerate() {
        let logits: Vec<f64> = expected[index].iter().map(|&z| f64::from(z)).collect();
        assert_row(row, &logits, &one_hot(labels[index].into(), 3));
        assert_eq!(fixture.logits(Phase::Train)[index].logits, expected[index]);
    }
}
