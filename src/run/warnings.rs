//! What a run's metadata says that a person should know, though every file is sound.

use serde::{Deserialize, Serialize};

use super::metadata::RunMetadata;

/// How many examples of a run had a class as label, and how many of them another one later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelCounts {
    /// Examples with a class as label, since the run began or was last resumed.
    pub examples: u64,
    /// Examples whose label changed.
    pub changed: u64,
}

impl LabelCounts {
    /// Returns what a changed label means, and what to do; `None` if no label changed.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let Self { examples, changed } = *self;
        (changed > 0).then(|| {
            format!(
                "{changed} of {examples} examples changed their label: an id must belong to an example, \
                 not to its position in a batch or an epoch, or scores are noise; with a shuffled \
                 loader, pass the shuffled indices as ids, and give examples of another set ids of \
                 their own"
            )
        })
    }
}

impl RunMetadata {
    /// Returns everything about this rank that a person should know, in whole sentences.
    #[must_use]
    pub fn all_warnings(&self) -> Vec<String> {
        self.labels.warning().into_iter().chain(self.warnings.iter().cloned()).collect()
    }
}
