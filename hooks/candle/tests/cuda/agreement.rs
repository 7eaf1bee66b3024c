//! A loop of two thousand steps is recorded as if training had waited for the device after each, and is
//! not changed by it.

use candle_core::DType;
use data_diet::observe::{Schedule, Signal};
use data_diet_candle::DataDietHook;
use data_diet_candle::weights::{NamedTensors, Params};

use crate::expected::{Reading, read};
use crate::fixture::Fixture;
use crate::place::Place;
use crate::training::{Recipe, Trainer};

everywhere!(
    hard_labels,
    soft_labels,
    hard_labels_read_after_every_step,
    a_thousand_classes,
    fifty_thousand_classes,
    training_goes_as_without_a_hook_to_the_bit,
);

const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

fn hard_labels(place: &Place) {
    for classes in [2, 10] {
        for dtype in DTYPES {
            let steps = place.times(2000, 21);
            let examples = place.times(1000, 70);
            let recipe = Recipe { classes, dtype, examples, steps, ..Recipe::PLAIN };
            recipe.assert_recorded(&place.device);
        }
    }
}

fn soft_labels(place: &Place) {
    for (classes, dtype) in [2, 10, 10].into_iter().zip(DTYPES) {
        let (steps, examples) = (place.times(2000, 21), place.times(1000, 70));
        let recipe = Recipe { classes, dtype, soft: true, steps, examples, ..Recipe::PLAIN };
        recipe.assert_recorded(&place.device);
    }
}

fn hard_labels_read_after_every_step(place: &Place) {
    let (steps, examples) = (place.times(2000, 21), place.times(1000, 70));
    let reading = Reading::EveryStep;
    Recipe { examples, steps, reading, ..Recipe::PLAIN }.assert_recorded(&place.device);
}

fn a_thousand_classes(place: &Place) {
    for (dtype, soft) in DTYPES.into_iter().zip([false, false, true]) {
        let steps = place.times(200, 5);
        let recipe = Recipe { classes: 1000, dtype, soft, steps, examples: 70, ..Recipe::PLAIN };
        recipe.assert_recorded(&place.device);
    }
}

fn fifty_thousand_classes(place: &Place) {
    for (dtype, soft) in DTYPES.into_iter().zip([true, false, false]) {
        let (steps, batch) = (place.times(20, 2), place.times(16, 3));
        let examples = batch * 2 - 1;
        let recipe =
            Recipe { classes: 50_000, dtype, soft, examples, batch, steps, ..Recipe::PLAIN };
        recipe.assert_recorded(&place.device);
    }
}

fn training_goes_as_without_a_hook_to_the_bit(place: &Place) {
    // The random numbers of a device are its own affair, so that nothing is dropped.
    let steps = place.times(500, 30);
    let recipe = Recipe { dropout: 0.0, examples: 70, steps, ..Recipe::PLAIN };
    let first = Trainer::new(recipe, &place.device);
    let begin = Params::from_varmap(&first.weights).unwrap().copy().unwrap();
    let trained = |is_recorded: bool| -> Vec<Vec<u64>> {
        let fixture = Fixture::new();
        let mut trainer = Trainer::new(recipe, &place.device);
        let params = Params::from_varmap(&trainer.weights).unwrap();
        params.load(&begin).unwrap();
        let builder = fixture.builder().classes(recipe.classes).signals(Signal::ALL);
        let builder = builder.snapshots(&trainer.weights, Schedule::every_steps(10));
        let mut hook =
            if is_recorded { builder.build().unwrap() } else { DataDietHook::disabled() };
        trainer.train(&mut hook, recipe.steps).unwrap();
        hook.finish().unwrap().check().unwrap();
        bits(&params.copy().unwrap())
    };
    let without = trained(false);
    assert_ne!(without, bits(&begin));
    if trained(false) != without {
        return place.skip("all of it", "the device does not train twice in the same way");
    }
    assert!(trained(true) == without, "the hook has changed the weights");
}

fn bits(weights: &NamedTensors) -> Vec<Vec<u64>> {
    let bits = |tensor| read(tensor).iter().map(|value| value.to_bits()).collect();
    weights.values().map(bits).collect()
}
