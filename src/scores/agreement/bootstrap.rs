//! Bootstrap resamples of examples, measured on several threads. The result depends on the seed
//! only; no statistics crate draws resamples as multiplicities, which lets a measure rank the
//! examples once instead of sorting every resample.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use super::Bootstrap;
use crate::selection::SplitMix64;

/// Measures resamples of `examples`, each passed as multiplicities, and returns the results in
/// order. Every thread has a workspace of its own, made by `start`.
pub(super) fn resample<M: Send, W>(
    examples: usize,
    bootstrap: &Bootstrap,
    threads: usize,
    start: impl Fn() -> W + Sync,
    measure: impl Fn(&[u32], &mut W) -> M + Sync,
    progress: &mut dyn FnMut(u64),
) -> Vec<M> {
    let resamples = bootstrap.resamples;
    let threads = match threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let next = AtomicUsize::new(0);
    let work = &|sender: mpsc::Sender<(usize, M)>| {
        let mut workspace = start();
        let mut weights = vec![0; examples];
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= resamples {
                return;
            }
            draw(&mut weights, bootstrap.seed, number as u64);
            if sender.send((number, measure(&weights, &mut workspace))).is_err() {
                return;
            }
        }
    };
    let mut measures: Vec<(usize, M)> = Vec::with_capacity(resamples);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..threads.min(resamples) {
            let sender = sender.clone();
            scope.spawn(move || work(sender));
        }
        drop(sender);
        for measured in receiver {
            measures.push(measured);
            progress(1);
        }
    });
    measures.sort_unstable_by_key(|&(number, _)| number);
    measures.into_iter().map(|(_, measures)| measures).collect()
}

/// Draws as many examples as there are, with replacement, and counts how often each was drawn.
fn draw(weights: &mut [u32], seed: u64, number: u64) {
    // A generator of its own for each resample, far from those of its neighbors.
    let stream = SplitMix64::new(seed).next() ^ number;
    let mut random = SplitMix64::new(SplitMix64::new(stream).next());
    weights.fill(0);
    let count = weights.len() as u64;
    for _ in 0..count {
        weights[below(&mut random, count) as usize] += 1;
    }
}

/// Returns a uniform value in `0..bound` like `SplitMix64::below`, but by multiplication with a
/// rare rejection (Lemire 2019): the division would take most of the time of drawing.
fn below(random: &mut SplitMix64, bound: u64) -> u64 {
    let wide = |value: u64| u128::from(value) * u128::from(bound);
    let mut product = wide(random.next());
    if (product as u64) < bound {
        let rejected = bound.wrapping_neg() % bound;
        while (product as u64) < rejected {
            product = wide(random.next());
        }
    }
    (product >> 64) as u64
}

/// Returns the middle `level` of some values: quantiles by linear interpolation between order
/// statistics (type 7 of Hyndman and Fan 1996). NaN is left out; without values both ends are NaN.
pub(super) fn percentile_interval(mut values: Vec<f64>, level: f64) -> (f64, f64) {
    values.retain(|value| !value.is_nan());
    values.sort_unstable_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return (f64::NAN, f64::NAN) };
    let quantile = |share: f64| {
        let place = share * last as f64;
        let below = (place.floor() as usize).min(last);
        let above = (below + 1).min(last);
        values[below] + (values[above] - values[below]) * (place - below as f64)
    };
    let tail = (1.0 - level) / 2.0;
    (quantile(tail), quantile(1.0 - tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(examples: usize, seed: u64, threads: usize, resamples: usize) -> Vec<Vec<u32>> {
        let bootstrap = Bootstrap { resamples, seed, ..Bootstrap::default() };
        let keep = |weights: &[u32], (): &mut ()| weights.to_vec();
        resample(examples, &bootstrap, threads, || (), keep, &mut |_| {})
    }

    #[test]
    fn resamples_depend_on_the_seed_alone() {
        let one = drawn(50, 7, 1, 40);
        for threads in [2, 3, 64] {
            assert_eq!(drawn(50, 7, threads, 40), one);
        }
        // The first resamples do not depend on how many follow.
        assert_eq!(drawn(50, 7, 2, 5), one[..5]);
        assert_ne!(drawn(50, 8, 1, 40), one);
        let mut distinct = one.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 40);
        assert!(one.iter().all(|weights| weights.iter().sum::<u32>() == 50));
    }

    #[test]
    fn every_example_is_drawn_once_on_average() {
        let resamples = drawn(20, 1, 2, 5000);
        for example in 0..20 {
            let times = resamples.iter().map(|weights| weights[example]).sum::<u32>();
            // Binomial(100000, 1/20): mean 5000, standard deviation 69; six of those on either side.
            assert!((4586..5414).contains(&times), "{example}: {times}");
        }
        // A share (1 - 1/n)^n is not drawn in a resample.
        let missing: usize = resamples.iter().flatten().filter(|&&weight| weight == 0).count();
        let share = missing as f64 / 100_000.0;
        assert!((share - 0.95_f64.powi(20)).abs() < 0.01, "{share}");
    }

    #[test]
    fn quantiles_interpolate_between_order_statistics() {
        // numpy.quantile([1, 2, 4, 8, 16], [0.1, 0.9]) == [1.4, 12.8]
        let (low, high) = percentile_interval(vec![16.0, 2.0, f64::NAN, 8.0, 1.0, 4.0], 0.8);
        assert!((low - 1.4).abs() < 1e-12 && (high - 12.8).abs() < 1e-12, "{low} {high}");
        assert_eq!(percentile_interval(vec![3.0], 0.95), (3.0, 3.0));
        let (low, high) = percentile_interval(vec![f64::NAN], 0.95);
        assert!(low.is_nan() && high.is_nan());
    }

    #[test]
    fn progress_counts_every_resample() {
        let mut done = 0;
        let bootstrap = Bootstrap { resamples: 33, ..Bootstrap::default() };
        resample(4, &bootstrap, 0, || (), |_, ()| (), &mut |more| done += more);
        assert_eq!(done, 33);
    }
}
