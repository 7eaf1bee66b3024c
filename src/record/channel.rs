//! The channel to the recorder's thread. Does not wake that thread for every message.
//!
//! Waking a thread costs more than recording a small batch. When the queue has run empty, the
//! receiver therefore waits a moment before it blocks, and then takes everything that has arrived
//! at once. A sender in a hurry (a flush, a queue that fills up) wakes it with a nudge.

use std::time::{Duration, Instant};

use crossbeam_channel::{
    Receiver, RecvTimeoutError, SendError, Sender, TryRecvError, TrySendError, bounded,
};

/// How long messages may pile up: long compared with a wake-up, short compared with any flush
/// interval.
const COALESCE_DELAY: Duration = Duration::from_millis(5);

pub(super) fn channel<T>(messages: usize) -> (MessageSender<T>, MessageReceiver<T>) {
    let (sender, receiver) = bounded(messages);
    let (wake, wake_signal) = bounded(1);
    (MessageSender { sender, wake }, MessageReceiver { receiver, wake_signal, coalesces: false })
}

/// The sending end. Dropping it closes the channel.
#[derive(Debug)]
pub(super) struct MessageSender<T> {
    sender: Sender<T>,
    wake: Sender<()>,
}

impl<T> MessageSender<T> {
    pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.sender.try_send(message)
    }

    /// Sends a message that somebody waits for, and wakes the receiver.
    pub(super) fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.wake();
        self.sender.send(message)?;
        self.wake();
        Ok(())
    }

    /// Wakes the receiver.
    pub(super) fn wake(&self) {
        // A pending nudge serves as well, and a receiver that is gone needs none.
        let _ = self.wake.try_send(());
    }
}

/// The receiving end.
#[derive(Debug)]
pub(super) struct MessageReceiver<T> {
    receiver: Receiver<T>,
    wake_signal: Receiver<()>,
    /// Whether messages came since the last wait.
    coalesces: bool,
}

impl<T> MessageReceiver<T> {
    /// Waits for the next message until `due`.
    pub(super) fn recv(&mut self, due: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let mut received = self.receiver.try_recv();
        if matches!(received, Err(TryRecvError::Empty)) && self.coalesces {
            self.coalesces = false;
            let until = Instant::now() + COALESCE_DELAY;
            // A nudge, a closed channel or the end of the pause: look again.
            let _ = self.wake_signal.recv_deadline(due.map_or(until, |due| due.min(until)));
            received = self.receiver.try_recv();
        }
        let received = match (received, due) {
            (Ok(message), _) => Ok(message),
            (Err(TryRecvError::Disconnected), _) => Err(RecvTimeoutError::Disconnected),
            (Err(TryRecvError::Empty), Some(due)) => self.receiver.recv_deadline(due),
            (Err(TryRecvError::Empty), None) => {
                self.receiver.recv().map_err(|_gone| RecvTimeoutError::Disconnected)
            }
        };
        self.coalesces |= received.is_ok();
        received
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn messages_come_in_order_and_the_end_comes_last() {
        let (outbox, mut inbox) = channel(4);
        thread::scope(|scope| {
            scope.spawn(move || {
                for message in 0..1000 {
                    if message % 3 == 0 {
                        outbox.send(message).unwrap();
                    } else if let Err(TrySendError::Full(message)) = outbox.try_send(message) {
                        outbox.send(message).unwrap();
                    }
                }
            });
            for expected in 0..1000 {
                assert_eq!(inbox.recv(None), Ok(expected));
            }
            assert_eq!(inbox.recv(None), Err(RecvTimeoutError::Disconnected));
        });
    }

    #[test]
    fn a_wait_ends_when_it_is_due() {
        let (outbox, mut inbox) = channel(4);
        let due = Some(Instant::now() + Duration::from_millis(1));
        assert_eq!(inbox.recv(due), Err(RecvTimeoutError::Timeout));
        outbox.send(1).unwrap();
        assert_eq!(inbox.recv(due), Ok(1), "what is there is not late");
        assert_eq!(inbox.recv(due), Err(RecvTimeoutError::Timeout));
    }

    #[test]
    fn a_receiver_that_is_gone_is_told_of() {
        let (outbox, inbox) = channel(1);
        drop(inbox);
        outbox.wake();
        assert!(outbox.send(1).is_err());
    }
}
