//! Bounds the queue in bytes: a counting semaphore that the training thread enters.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Admits batches while fewer than `limit` bytes are inside. A batch larger than the limit enters
/// when nothing else is inside, so that every batch can pass.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    limit: usize,
    inside: Mutex<usize>,
    left: Condvar,
}

impl ByteBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, inside: Mutex::new(0), left: Condvar::new() }
    }

    /// Enters if there is room now.
    pub(crate) fn try_enter(&self, bytes: usize) -> bool {
        let mut inside = self.lock();
        let has_room = *inside == 0 || inside.saturating_add(bytes) <= self.limit;
        if has_room {
            *inside += bytes;
        }
        has_room
    }

    /// Waits until there is room, and returns how long it waited.
    pub(crate) fn enter(&self, bytes: usize) -> Duration {
        if self.try_enter(bytes) {
            return Duration::ZERO;
        }
        let since = Instant::now();
        let full = |inside: &mut usize| *inside != 0 && inside.saturating_add(bytes) > self.limit;
        let waited = self.left.wait_while(self.lock(), full);
        *waited.unwrap_or_else(PoisonError::into_inner) += bytes;
        since.elapsed()
    }

    pub(crate) fn leave(&self, bytes: usize) {
        *self.lock() -= bytes;
        self.left.notify_one();
    }

    /// Returns whether the receiver should hurry.
    pub(crate) fn is_half_full(&self) -> bool {
        self.inside() > self.limit / 2
    }

    pub(crate) fn inside(&self) -> usize {
        *self.lock()
    }

    /// Nothing panics while it holds the lock, and the count is never half-changed.
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_up_to_its_limit_and_one_giant_alone() {
        let gate = ByteBudget::new(10);
        assert!(gate.try_enter(4) && gate.try_enter(6));
        assert!(!gate.try_enter(1));
        gate.leave(6);
        assert!(!gate.try_enter(11));
        gate.leave(4);
        assert!(gate.try_enter(1000), "a batch above the limit goes alone");
        assert!(!gate.try_enter(1));
        assert_eq!(gate.inside(), 1000);
    }

    #[test]
    fn waiting_ends_when_room_is_made() {
        let gate = ByteBudget::new(1);
        assert_eq!(gate.enter(1), Duration::ZERO);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| gate.enter(1));
            gate.leave(1);
            waiter.join().unwrap();
        });
        assert_eq!(gate.inside(), 1);
    }
}
