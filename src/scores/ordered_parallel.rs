//! Runs work on several threads and returns the results in order, with a bound on the number of
//! results that wait: that bounds the memory of a fold. The calling thread works too.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// How far the work may run ahead of the consumer, beyond one task for each thread.
const LOOKAHEAD: usize = 2;

/// Runs `work` on each task on up to `threads` threads, including the caller's, and passes `take`
/// an iterator of the results in the order of the tasks. At most `threads` and two results wait.
pub(super) fn in_order<T: Sync, R: Send, O>(
    threads: usize,
    tasks: &[T],
    work: impl Fn(&T) -> R + Sync,
    take: impl FnOnce(&mut dyn FnMut() -> Option<R>) -> O,
) -> O {
    let line = Line {
        state: Mutex::new(State { started: 0, taken: 0, done: BTreeMap::new(), over: false }),
        changed: Condvar::new(),
        tasks: tasks.len(),
        window: threads + LOOKAHEAD,
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(tasks.len()) {
            scope.spawn(|| {
                let _end = EndOnPanic(&line);
                line.help(&|task| work(&tasks[task]));
            });
        }
        // Also if the consumer stops early.
        let _end = End(&line);
        take(&mut || line.next(&|task| work(&tasks[task])))
    })
}

struct Line<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
    tasks: usize,
    window: usize,
}

struct State<R> {
    started: usize,
    taken: usize,
    done: BTreeMap<usize, R>,
    over: bool,
}

impl<R> Line<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_start(&self, state: &State<R>) -> bool {
        state.started < self.tasks && state.started < state.taken + self.window
    }

    /// Runs the next task, with the lock released meanwhile.
    fn work<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<R>>,
        work: &dyn Fn(usize) -> R,
    ) -> MutexGuard<'a, State<R>> {
        let task = state.started;
        state.started += 1;
        drop(state);
        let result = work(task);
        let mut state = self.lock();
        state.done.insert(task, result);
        self.changed.notify_all();
        state
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<R>>) -> MutexGuard<'a, State<R>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until there is nothing left to start.
    fn help(&self, work: &dyn Fn(usize) -> R) {
        let mut state = self.lock();
        while !state.over && state.started < self.tasks {
            state = if self.may_start(&state) { self.work(state, work) } else { self.wait(state) };
        }
    }

    /// Returns the next result; works while it is not ready.
    fn next(&self, work: &dyn Fn(usize) -> R) -> Option<R> {
        let mut state = self.lock();
        loop {
            let next = state.taken;
            if let Some(result) = state.done.remove(&next) {
                state.taken += 1;
                self.changed.notify_all();
                return Some(result);
            }
            if next == self.tasks || state.over {
                return None;
            }
            state = if self.may_start(&state) { self.work(state, work) } else { self.wait(state) };
        }
    }
}

/// Stops the helper threads.
struct End<'a, R>(&'a Line<R>);

impl<R> Drop for End<'_, R> {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.changed.notify_all();
    }
}

/// A helper that panics leaves a gap, which the consumer must not wait for.
struct EndOnPanic<'a, R>(&'a Line<R>);

impl<R> Drop for EndOnPanic<'_, R> {
    fn drop(&mut self) {
        if thread::panicking() {
            drop(End(self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_tasks() {
        let tasks: Vec<usize> = (0..200).collect();
        for threads in [1, 2, 5, 300] {
            // Uneven work, so that later tasks overtake earlier ones.
            let work = |&task: &usize| {
                let busy =
                    (0..task * 7919 % 5000).fold(0, |a: usize, b| std::hint::black_box(a ^ b));
                task + busy - busy
            };
            let got = in_order(threads, &tasks, work, |next| {
                let mut got = Vec::new();
                while let Some(result) = next() {
                    got.push(result);
                }
                got
            });
            assert_eq!(got, tasks);
        }
    }

    #[test]
    fn whoever_stops_early_does_not_wait_for_the_rest() {
        let tasks: Vec<usize> = (0..1000).collect();
        let started = Mutex::new(0);
        let work = |&task: &usize| {
            *started.lock().unwrap() += 1;
            task
        };
        assert_eq!(in_order(3, &tasks, work, |next| next()), Some(0));
        assert!(*started.lock().unwrap() <= 1 + 3 + LOOKAHEAD);
        assert_eq!(in_order(3, &Vec::<usize>::new(), work, |next| next()), None);
    }

    #[test]
    fn a_panic_reaches_the_taker() {
        let tasks: Vec<usize> = (0..50).collect();
        let caught = std::panic::catch_unwind(|| {
            in_order(
                2,
                &tasks,
                |&task| assert!(task != 20, "broken"),
                |next| while next().is_some() {},
            );
        });
        assert!(caught.is_err());
    }
}
