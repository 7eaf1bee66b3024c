//! What the recorder does when its queue is full, and when rows cannot be written.

/// What happens when the recorder cannot keep up and its queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Training waits, nothing is lost, and the waiting time is counted.
    #[default]
    Wait,
    /// The batch is dropped, and counted with its step in `run.json`.
    Drop,
}

/// What happens when rows cannot be written and retrying does not help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Recording stops and training goes on. The failure and the number of lost rows are in the
    /// status, in the report and in `run.json`.
    #[default]
    Degrade,
    /// The next call of the hook returns the failure, so that training can stop.
    Fail,
}
