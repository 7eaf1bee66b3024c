//! The retry policy for disk operations that fail for a passing reason, such as a full disk: retries
//! are scheduled between messages, so a crate that sleeps in a loop would not do.
//!
//! Owns which errors are transient, how long to pause between attempts, and when to give up. Leaves to
//! the caller how to spend a pause: the recorder's thread either sleeps or keeps receiving batches.

use std::io;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A scheduled retry, with exponential backoff: the first pause is 100 ms, each later pause is twice
/// as long as the one before, up to 5 s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    at: Instant,
    pause: Duration,
}

impl Retry {
    /// Schedules the retry after a failure at `now`. `previous` is the retry that failed, or `None`
    /// for the first attempt.
    pub(crate) fn schedule(previous: Option<Self>, now: Instant) -> Self {
        let pause = previous.map_or(FIRST_PAUSE, |retry| (retry.pause * 2).min(MAX_PAUSE));
        Self { at: now + pause, pause }
    }

    /// The time of the next attempt.
    pub(crate) fn at(self) -> Instant {
        self.at
    }

    pub(crate) fn is_due(self, now: Instant) -> bool {
        now >= self.at
    }
}

/// Repeats `attempt` until it succeeds, fails for good, or the next retry would come after `deadline`.
/// Calls `wait` with the length of each pause.
///
/// # Errors
///
/// Returns the error of the last attempt.
pub(crate) fn retry_until(
    deadline: Instant,
    mut attempt: impl FnMut() -> Result<()>,
    mut wait: impl FnMut(Duration),
) -> Result<()> {
    let mut retry = None;
    loop {
        let Err(error) = attempt() else { return Ok(()) };
        let next = Retry::schedule(retry, Instant::now());
        if !is_transient(&error) || next.at > deadline {
            return Err(error);
        }
        wait(next.pause);
        retry = Some(next);
    }
}

/// Returns whether a later attempt may succeed, for example because space on the disk is freed.
pub(crate) fn is_transient(error: &Error) -> bool {
    use io::ErrorKind::{
        Interrupted, QuotaExceeded, ResourceBusy, StorageFull, TimedOut, WouldBlock,
    };
    error.io_error().is_some_and(|error| {
        matches!(
            error.kind(),
            Interrupted | QuotaExceeded | ResourceBusy | StorageFull | TimedOut | WouldBlock
        )
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn failure(kind: io::ErrorKind) -> Error {
        Error::io("append to", Path::new("log"), kind.into())
    }

    fn far_future() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    #[test]
    fn pauses_double_up_to_five_seconds() {
        let now = Instant::now();
        let mut retry = None;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let next = Retry::schedule(retry, now);
            pauses.push((next.at() - now).as_millis());
            retry = Some(next);
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn a_retry_is_due_at_its_time() {
        let now = Instant::now();
        let retry = Retry::schedule(None, now);
        assert!(!retry.is_due(now));
        assert!(!retry.is_due(now + FIRST_PAUSE / 2));
        assert!(retry.is_due(now + FIRST_PAUSE));
    }

    #[test]
    fn transient_failures_are_retried_until_success() {
        let (mut attempts, mut pauses) = (0, Vec::new());
        let attempt = || {
            attempts += 1;
            if attempts < 4 { Err(failure(io::ErrorKind::StorageFull)) } else { Ok(()) }
        };
        retry_until(far_future(), attempt, |pause| pauses.push(pause.as_millis())).unwrap();
        assert_eq!(attempts, 4);
        assert_eq!(pauses, [100, 200, 400]);
    }

    #[test]
    fn a_permanent_failure_is_returned_at_once() {
        let mut attempts = 0;
        let attempt = || {
            attempts += 1;
            Err(failure(io::ErrorKind::PermissionDenied))
        };
        let error = retry_until(far_future(), attempt, |pause| panic!("waited {pause:?}"));
        assert_eq!(error.unwrap_err().io_error().unwrap().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(attempts, 1);
    }

    #[test]
    fn a_pause_that_would_end_after_the_deadline_is_not_started() {
        // The waits of this test take no time, so only a pause of more than 4 s exceeds the deadline.
        let deadline = Instant::now() + Duration::from_secs(4);
        let mut pauses = Vec::new();
        let attempt = || Err(failure(io::ErrorKind::StorageFull));
        retry_until(deadline, attempt, |pause| pauses.push(pause.as_millis())).unwrap_err();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200]);
    }

    #[test]
    fn only_conditions_that_can_pass_are_transient() {
        use io::ErrorKind::{
            Interrupted, NotFound, Other, PermissionDenied, QuotaExceeded, ResourceBusy,
            StorageFull, TimedOut, WouldBlock,
        };
        for kind in [Interrupted, QuotaExceeded, ResourceBusy, StorageFull, TimedOut, WouldBlock] {
            assert!(is_transient(&failure(kind)), "{kind:?}");
        }
        for kind in [NotFound, Other, PermissionDenied] {
            assert!(!is_transient(&failure(kind)), "{kind:?}");
        }
        assert!(!is_transient(&Error::invalid("no operating system error")));
    }
}
