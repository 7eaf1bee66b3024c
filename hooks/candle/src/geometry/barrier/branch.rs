//! One run's snapshots in order of time: a side of every pair that is measured.

use std::fmt;

use crate::error::Result;
use crate::weights::Weights;

/// The snapshots of one run, in order of time.
pub struct Branch<'a> {
    pub(super) run: String,
    pub(super) snapshots: Box<dyn Iterator<Item = Result<Weights>> + 'a>,
}

impl<'a> Branch<'a> {
    /// Makes a branch from a run's name and its snapshots, which are loaded one at a time.
    pub fn new<I>(run: impl Into<String>, snapshots: I) -> Self
    where
        I: IntoIterator<Item = Result<Weights>>,
        I::IntoIter: 'a,
    {
        Self { run: run.into(), snapshots: Box::new(snapshots.into_iter()) }
    }
}

impl fmt::Debug for Branch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch").field("run", &self.run).finish_non_exhaustive()
    }
}

/// The steps of a run, for an error message.
pub(super) fn describe_steps(run: &str, steps: &[u64]) -> String {
    let steps: Vec<String> = steps.iter().map(u64::to_string).collect();
    match steps.as_slice() {
        [] => format!("`{run}` has none"),
        steps => format!("`{run}` has {}", steps.join(", ")),
    }
}
