//! Threads, streams and devices in every combination that training code has.
//!
//! candle's usual CUDA device works on the stream of whichever thread calls: a tensor that goes to
//! another thread has to be waited for first, here as anywhere in candle. A device with a stream of its
//! own needs no such care.

use std::sync::mpsc::sync_channel;
use std::thread;

use candle_core::{Device, Tensor};
use data_diet::observe::{Phase, Signal};
use data_diet_candle::DataDietHook;

use crate::expected::{Kept, Reading, Seen, SeenTargets, assert_recorded};
use crate::fixture::Fixture;
use crate::numbers::Numbers;
use crate::place::Place;
use crate::training::{Recipe, Trainer};

everywhere!(
    every_kind_of_stream,
    training_in_another_thread_than_the_hook_was_made_in,
    logits_made_in_another_thread,
    a_hook_that_goes_from_thread_to_thread,
    several_trainings_at_once,
    several_devices,
);

fn recipe(place: &Place, steps: usize) -> Recipe {
    Recipe { examples: 70, steps: place.times(steps, 7), ..Recipe::PLAIN }
}

fn hook(fixture: &Fixture, recipe: &Recipe, rank: u32) -> DataDietHook {
    let builder = fixture.builder().classes(recipe.classes).signals(Signal::ALL);
    builder.rank(rank).build().unwrap()
}

/// Trains a network in a thread of its own, from its making to the last step.
fn train_in_a_thread(
    device: &Device,
    recipe: Recipe,
    mut hook: DataDietHook,
) -> (DataDietHook, Vec<Seen>) {
    let device = device.clone();
    let trained = thread::spawn(move || {
        let mut trainer = Trainer::new(recipe, &device);
        let seen = trainer.train(&mut hook, recipe.steps).unwrap();
        // The copies of what is expected are on this thread's stream, and are read in another.
        device.synchronize().unwrap();
        (hook, seen)
    });
    trained.join().unwrap()
}

fn every_kind_of_stream(place: &Place) {
    for (_stream, place) in place.streams() {
        for reading in [Reading::AtTheEnd, Reading::EveryStep] {
            Recipe { reading, ..recipe(&place, 500) }.assert_recorded(&place.device);
        }
    }
}

fn training_in_another_thread_than_the_hook_was_made_in(place: &Place) {
    for (stream, place) in place.streams() {
        let (fixture, recipe) = (Fixture::new(), recipe(&place, 500));
        let hook = hook(&fixture, &recipe, 0);
        let (hook, seen) = train_in_a_thread(&place.device, recipe, hook);
        hook.finish().unwrap().check().unwrap_or_else(|error| panic!("{stream}: {error}"));
        assert_recorded(&fixture, seen, recipe.classes, None);
    }
}

fn logits_made_in_another_thread(place: &Place) {
    const ROWS: usize = 5;
    const CLASSES: usize = 4;
    for (stream, place) in place.streams() {
        let fixture = Fixture::new();
        let mut hook = fixture.builder().classes(CLASSES).signals(Signal::ALL).build().unwrap();
        let (send, receive) = sync_channel::<(Tensor, Tensor)>(4);
        let (device, steps) = (place.device.clone(), place.times(500, 10));
        let waits = stream != "a stream";
        let maker = thread::spawn(move || {
            let base = Numbers::new(31).tensor(3.0, &[ROWS, CLASSES], &device);
            let labels = Tensor::new(&[0_u32, 1, 2, 3, 0], &device).unwrap();
            for step in 0..steps {
                let logits = base.affine(1.0, step as f64 / 8.0).unwrap().sqr().unwrap();
                let labels = labels.copy().unwrap();
                if waits {
                    device.synchronize().unwrap();
                }
                send.send((logits, labels)).unwrap();
            }
        });
        let mut seen = Vec::new();
        for (logits, labels) in receive {
            seen.push(Seen {
                step: hook.step(),
                epoch: 0,
                ids: (0..ROWS as i64).collect(),
                targets: SeenTargets::Classes(vec![0, 1, 2, 3, 0]),
                logits: Kept::of(&logits, Reading::AtTheEnd),
            });
            hook.on_step_end(&(0..ROWS), &logits, &labels).unwrap();
        }
        maker.join().unwrap();
        hook.finish().unwrap().check().unwrap();
        assert_eq!(seen.len(), steps, "{stream}");
        assert_recorded(&fixture, seen, CLASSES, None);
    }
}

fn a_hook_that_goes_from_thread_to_thread(place: &Place) {
    for (_stream, place) in place.streams() {
        let (fixture, recipe) = (Fixture::new(), recipe(&place, 100));
        let mut hook = hook(&fixture, &recipe, 0);
        let mut seen = Vec::new();
        for _thread in 0..4 {
            let more;
            (hook, more) = train_in_a_thread(&place.device, recipe, hook);
            seen.extend(more);
        }
        hook.finish().unwrap().check().unwrap();
        assert_recorded(&fixture, seen, recipe.classes, None);
    }
}

fn several_trainings_at_once(place: &Place) {
    // One device handle for all, and one each: both are seen.
    let again = || if place.device.is_cuda() { Device::new_cuda(0).unwrap() } else { Device::Cpu };
    let devices = [place.device.clone(), place.device.clone(), again(), again()];
    let recipe = recipe(place, 500);
    let trainings: Vec<_> = devices.into_iter().map(|device| train_alone(device, recipe)).collect();
    for training in trainings {
        training.join().unwrap();
    }
}

fn train_alone(device: Device, recipe: Recipe) -> thread::JoinHandle<()> {
    thread::spawn(move || recipe.assert_recorded(&device))
}

fn several_devices(place: &Place) {
    let devices = place.devices();
    if devices.len() < 2 {
        return place.skip("all of it", "there is one device");
    }
    let (fixture, recipe) = (Fixture::new(), recipe(place, 300));
    // One rank of the run on each device, as in distributed training.
    let ranks: Vec<_> = (0..)
        .zip(devices.clone())
        .map(|(rank, device)| {
            let mut hook = hook(&fixture, &recipe, rank);
            thread::spawn(move || {
                let mut trainer = Trainer::new(recipe, &device);
                trainer.train(&mut hook, recipe.steps).unwrap();
                hook.finish().unwrap().rows.written
            })
        })
        .collect();
    let written: u64 = ranks.into_iter().map(|rank| rank.join().unwrap()).sum();
    assert_eq!(fixture.rows(Phase::Train).len() as u64, written);
    // And one hook that sees logits of all of them in turn.
    let (fixture, mut numbers) = (Fixture::new(), Numbers::new(37));
    let mut hook = hook(&fixture, &recipe, 0);
    let mut seen = Vec::new();
    for step in 0..recipe.steps {
        let device = &devices[step % devices.len()];
        let logits = numbers.tensor(4.0, &[3, recipe.classes], device);
        let labels = Tensor::new(&[0_u32, 1, 2], device).unwrap();
        seen.push(Seen {
            step: hook.step(),
            epoch: 0,
            ids: vec![5, 6, 7],
            targets: SeenTargets::Classes(vec![0, 1, 2]),
            logits: Kept::of(&logits, Reading::AtTheEnd),
        });
        hook.on_step_end(&[5, 6, 7], &logits, &labels).unwrap();
    }
    hook.finish().unwrap().check().unwrap();
    assert_recorded(&fixture, seen, recipe.classes, None);
}
