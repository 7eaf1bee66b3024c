//! A loop of two thousand steps is recorded as if training had waited for the device after each.

use candle_core::DType;

use crate::expected::Reading;
use crate::place::Place;
use crate::training::Recipe;

everywhere!(
    hard_labels,
    soft_labels,
    hard_labels_read_after_every_step,
    a_thousand_classes,
    fifty_thousand_classes,
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
