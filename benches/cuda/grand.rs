//! Gradient norms per second: a batch at once, and one example after the other.

use std::time::{Duration, Instant};

use data_diet_candle::gradients::{ExampleNorms, GradientNorms};
use serde::Serialize;

use crate::measure::median;
use crate::network::{Network, Sizes};

/// Repetitions, whatever the time they take and at most.
const ROUNDS: (usize, usize) = (3, 31);

#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    network: &'static str,
    batch: usize,
    batch_per_second: f64,
    one_by_one_per_second: f64,
}

pub(crate) fn heading() {
    println!("Gradient norms, examples per second, medians of repetitions in turn.\n");
    println!("| network | a batch at once | one by one | ratio |");
    println!("|---|--:|--:|--:|");
}

pub(crate) fn measure(network: &Network, sizes: Sizes) -> Measured {
    let norms = GradientNorms::new(&network.weights).unwrap();
    let mut ways = [norms.clone(), norms.per_example()];
    let mut taken = [Vec::new(), Vec::new()];
    // The first time kernels are loaded, and some examples are looked at alone.
    for way in &mut ways {
        run(network, way);
    }
    let (began, enough) = (Instant::now(), Duration::from_secs_f64(sizes.seconds / 3.0));
    while taken[0].len() < ROUNDS.0 || (taken[0].len() < ROUNDS.1 && began.elapsed() < enough) {
        for (way, taken) in ways.iter_mut().zip(&mut taken) {
            let since = Instant::now();
            run(network, way);
            taken.push(since.elapsed().as_secs_f64());
        }
    }
    let per_second = |taken: &[f64]| network.batch() as f64 / median(taken.iter().copied());
    let measured = Measured {
        network: network.name,
        batch: network.batch(),
        batch_per_second: per_second(&taken[0]),
        one_by_one_per_second: per_second(&taken[1]),
    };
    println!(
        "| {}, batch {} | {:.0} | {:.0} | {:.1} |",
        measured.network,
        measured.batch,
        measured.batch_per_second,
        measured.one_by_one_per_second,
        measured.batch_per_second / measured.one_by_one_per_second
    );
    measured
}

/// The norms are on the host afterwards, so nothing is left for the device to do.
fn run(network: &Network, norms: &mut GradientNorms) -> ExampleNorms {
    let forward = |inputs: &_| network.forward(inputs, false);
    norms.cross_entropy(&network.inputs, &network.labels, forward).unwrap()
}
