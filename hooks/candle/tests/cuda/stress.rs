//! The shortest steps and the slowest recorder: memory that is freed, used again and overwritten while
//! what was in it is still on its way.

use candle_core::{DType, Device, Tensor, Var};
use data_diet::observe::{Phase, Signal};
use data_diet::run::RunStatus;
use data_diet_candle::{DataDietHook, DataDietHookBuilder, LogitsFormat, WhenFull};

use crate::expected::{Kept, Reading, Seen, SeenTargets, assert_call, assert_recorded};
use crate::fixture::{Fixture, LogitRow, Row};
use crate::numbers::Numbers;
use crate::place::Place;

everywhere!(
    as_if_training_had_waited,
    whole_batches_are_dropped_and_the_others_are_right,
    hooks_dropped_in_the_middle,
    many_hooks_come_and_go,
    tensors_overwritten_in_place,
    long_transfers_of_memory_that_is_used_again,
);

const CLASSES: usize = 3;

/// A recorder that has to write after every batch, with room for hardly one.
fn slow(fixture: &Fixture) -> DataDietHookBuilder {
    let builder = fixture.builder().classes(CLASSES).signals(Signal::ALL);
    builder.queue_bytes(256).flush_rows(1)
}

/// Steps without mathematics to speak of: logits and labels are made of the step by a few elementwise
/// kernels, so that they are the same in every run, and freed right after the hook has seen them.
struct Tiny {
    device: Device,
    base: Tensor,
    numbers: Numbers,
    /// Whether the device is waited for before and after every call of the hook.
    waits: bool,
    /// Garbage that is still held, so that memory comes back in another order than it was taken.
    garbage: Vec<Tensor>,
}

impl Tiny {
    fn new(device: &Device, waits: bool) -> Self {
        let mut numbers = Numbers::new(17);
        let base = numbers.tensor(3.0, &[8, CLASSES], device);
        Self { device: device.clone(), base, numbers, waits, garbage: Vec::new() }
    }

    fn step(&mut self, hook: &mut DataDietHook) -> Seen {
        let step = hook.step();
        let rows = 2 + self.numbers.below(7);
        let base = self.base.narrow(0, 8 - rows, rows).unwrap();
        let logits = base.affine(1.0 - step as f64 / 1e4, (step % 97) as f64 / 10.0).unwrap();
        let logits = (logits.sqr().unwrap() * 0.25).unwrap();
        let first = self.numbers.below(1 << 40) as i64;
        let ids: Vec<i64> = (first..first + rows as i64).collect();
        let labels: Vec<i64> = (0..rows).map(|_| self.numbers.below(CLASSES) as i64).collect();
        let seen = Seen {
            step,
            epoch: hook.epoch(),
            ids: ids.clone(),
            targets: SeenTargets::Classes(labels.clone()),
            logits: Kept::of(&logits, Reading::AtTheEnd),
        };
        let ids = Tensor::new(ids, &self.device).unwrap();
        let labels = Tensor::new(labels, &self.device).unwrap().to_dtype(DType::U32).unwrap();
        self.wait();
        hook.on_step_end(&ids, &logits, &labels).unwrap();
        self.wait();
        drop((ids, logits, labels));
        self.litter(rows);
        if step % 50 == 49 {
            hook.on_epoch_end().unwrap();
        }
        seen
    }

    fn steps(&mut self, hook: &mut DataDietHook, steps: usize) -> Vec<Seen> {
        (0..steps).map(|_| self.step(hook)).collect()
    }

    /// Takes memory of the sizes that were just freed and writes into it.
    fn litter(&mut self, rows: usize) {
        let device = &self.device;
        for _ in 0..3 {
            let values = Tensor::full(-7e7_f32, (rows, CLASSES), device).unwrap();
            self.garbage.push(values.affine(-1.0, 1.0).unwrap());
            self.garbage.push(Tensor::full(1_u32, rows, device).unwrap());
            self.garbage.push(Tensor::full(-1_i64, rows, device).unwrap());
        }
        while self.garbage.len() > 24 {
            let place = self.numbers.below(self.garbage.len());
            self.garbage.swap_remove(place);
        }
    }

    fn wait(&self) {
        if self.waits {
            self.device.synchronize().unwrap();
        }
    }
}

/// Everything that a run of tiny steps has recorded.
fn recorded(place: &Place, waits: bool, steps: usize) -> (Vec<Row>, Vec<LogitRow>) {
    let fixture = Fixture::new();
    let mut hook = slow(&fixture).build().unwrap();
    let seen = Tiny::new(&place.device, waits).steps(&mut hook, steps);
    hook.finish().unwrap().check().unwrap();
    assert_recorded(&fixture, seen, CLASSES, None);
    (fixture.rows(Phase::Train), fixture.logits(Phase::Train))
}

fn as_if_training_had_waited(place: &Place) {
    let steps = place.times(3000, 60);
    let (rows, logits) = recorded(place, false, steps);
    let (expected_rows, expected_logits) = recorded(place, true, steps);
    assert_eq!(rows.len(), expected_rows.len());
    for (at, (row, expected)) in rows.iter().zip(&expected_rows).enumerate() {
        assert_eq!(row, expected, "row {at}");
        assert_eq!(logits[at], expected_logits[at], "row {at}");
    }
}

fn whole_batches_are_dropped_and_the_others_are_right(place: &Place) {
    let fixture = Fixture::new();
    let mut hook = slow(&fixture).when_full(WhenFull::Drop).build().unwrap();
    let steps = place.times(3000, 200);
    let seen = Tiny::new(&place.device, false).steps(&mut hook, steps);
    let report = hook.finish().unwrap();
    report.check().unwrap();
    let all: usize = seen.iter().map(|call| call.ids.len()).sum();
    assert_eq!((report.rows.written + report.rows.dropped) as usize, all);
    let (rows, logits) = (fixture.rows(Phase::Train), fixture.logits(Phase::Train));
    assert_eq!(report.rows.written as usize, rows.len());
    let mut rest = rows.iter().zip(&logits).peekable();
    for call in seen {
        if rest.peek().is_some_and(|(row, _)| row.step as u64 == call.step) {
            assert_call(&mut rest, call, CLASSES, None);
        }
    }
    assert!(rest.next().is_none(), "a row of no step");
}

fn hooks_dropped_in_the_middle(place: &Place) {
    let fixture = Fixture::new();
    let mut tiny = Tiny::new(&place.device, false);
    let mut seen = Vec::new();
    for _ in 0..place.times(20, 3) {
        let (step, epoch) = seen.last().map_or((0, 0), |call: &Seen| (call.step + 1, call.epoch));
        let resumed = slow(&fixture).resume_at(step, epoch + u32::from(step > 0 && step % 50 == 0));
        let mut hook = resumed.build().unwrap();
        let steps = 25 + tiny.numbers.below(50);
        seen.extend(tiny.steps(&mut hook, steps));
        // Neither flushed nor finished: what was handed over is recorded all the same.
        drop(hook);
        tiny.litter(5);
    }
    assert_recorded(&fixture, seen, CLASSES, None);
    let run = fixture.run();
    assert!(run.ranks().all(|metadata| metadata.status != RunStatus::Finished));
}

fn many_hooks_come_and_go(place: &Place) {
    let mut tiny = Tiny::new(&place.device, false);
    for round in 0..place.times(40, 4) {
        let fixture = Fixture::new();
        let mut hook = slow(&fixture).build().unwrap();
        let seen = tiny.steps(&mut hook, round % 4);
        hook.finish().unwrap().check().unwrap();
        assert_recorded(&fixture, seen, CLASSES, None);
    }
}

fn tensors_overwritten_in_place(place: &Place) {
    let fixture = Fixture::new();
    let mut hook = slow(&fixture).build().unwrap();
    let mut numbers = Numbers::new(23);
    let (rows, device) = (6, &place.device);
    let zeros = |shape: &[usize], dtype| Var::zeros(shape, dtype, device).unwrap();
    let logits = zeros(&[rows, CLASSES], DType::F32);
    let (labels, ids) = (zeros(&[rows], DType::U32), zeros(&[rows], DType::I64));
    let mut seen = Vec::new();
    for step in 0..place.times(2000, 40) {
        let values = numbers.tensor(4.0, &[rows, CLASSES], device);
        let classes: Vec<i64> = (0..rows).map(|_| numbers.below(CLASSES) as i64).collect();
        let examples: Vec<i64> = (0..rows as i64).map(|row| row + step as i64 * 8).collect();
        logits.set(&values).unwrap();
        let new = Tensor::new(classes.as_slice(), device).unwrap();
        labels.set(&new.to_dtype(DType::U32).unwrap()).unwrap();
        ids.set(&Tensor::new(examples.as_slice(), device).unwrap()).unwrap();
        seen.push(Seen {
            step: hook.step(),
            epoch: 0,
            ids: examples,
            targets: SeenTargets::Classes(classes),
            logits: Kept::Device(values),
        });
        hook.on_step_end(ids.as_tensor(), &logits, labels.as_tensor()).unwrap();
        for variable in [&logits, &labels, &ids] {
            variable.set(&variable.zeros_like().unwrap()).unwrap();
        }
    }
    hook.finish().unwrap().check().unwrap();
    assert_recorded(&fixture, seen, CLASSES, None);
}

/// Logits of many megabytes, whose memory is asked for again as soon as the hook has returned.
fn long_transfers_of_memory_that_is_used_again(place: &Place) {
    let (rows, classes) = (place.times(128, 4), place.times(50_000, 300));
    let fixture = Fixture::new();
    let builder = fixture.builder().classes(classes).signals(Signal::ALL);
    let builder = builder.logits(LogitsFormat::F32);
    let mut hook = builder.queue_bytes(1 << 20).build().unwrap();
    let device = &place.device;
    let base = Numbers::new(29).tensor(5.0, &[rows, classes], device);
    let labels: Vec<i64> = (0..rows as i64).collect();
    let mut seen = Vec::new();
    for step in 0..place.times(6, 3) {
        let logits = base.affine(1.0, step as f64).unwrap();
        seen.push(Seen {
            step: hook.step(),
            epoch: 0,
            ids: labels.clone(),
            targets: SeenTargets::Classes(labels.clone()),
            logits: Kept::of(&logits, Reading::AtTheEnd),
        });
        hook.on_step_end(&(0..rows), &logits, &labels).unwrap();
        drop(logits);
        for value in [1e9_f32, -1e9] {
            Tensor::full(value, (rows, classes), device).unwrap().affine(2.0, 1.0).unwrap();
        }
    }
    hook.finish().unwrap().check().unwrap();
    assert_recorded(&fixture, seen, classes, None);
}
