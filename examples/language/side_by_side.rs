//! Trainings that do not depend on each other, on as many threads as there are processors. A network
//! as small as this one keeps one processor busy, not two.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use candle_core::Device;

use super::Result;

/// How many threads may use a device. On a GPU a tensor that one thread has made is not yet there
/// for another.
pub(crate) fn workers(device: &Device) -> usize {
    if device.is_cpu() { thread::available_parallelism().map_or(1, usize::from) } else { 1 }
}

/// The results in the order of the jobs, or the error of the first job that has failed.
pub(crate) fn run<J: Sync, T: Send>(
    workers: usize,
    jobs: &[J],
    work: impl Fn(&J) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    if workers <= 1 || jobs.len() <= 1 {
        return jobs.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(number) else { return done };
            done.push((number, work(job)));
        }
    };
    let mut results = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.min(jobs.len())).map(|_| scope.spawn(worker)).collect();
        let done = threads.into_iter().map(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => resume_unwind(panic),
        });
        done.flatten().collect::<Vec<_>>()
    });
    results.sort_by_key(|&(number, _)| number);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let jobs: Vec<u64> = (0..50).collect();
        for workers in [1, 3, 80] {
            let squares = run(workers, &jobs, |job| Ok(job * job)).unwrap();
            assert!(squares.iter().copied().eq(jobs.iter().map(|job| job * job)));
            let failing = |job: &u64| {
                if job % 20 == 7 { Err(format!("job {job}").into()) } else { Ok(()) }
            };
            assert_eq!(run(workers, &jobs, failing).unwrap_err().to_string(), "job 7");
        }
    }
}
