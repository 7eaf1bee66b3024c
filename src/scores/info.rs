//! Where a table of scores comes from, kept in the metadata of its file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A signal that some runs had not recorded, and that was computed from something else they had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct DerivedSignal {
    /// The signal.
    pub signal: String,
    /// What it was computed from: `loss`, `logits`, or `the highest logits`.
    pub from: String,
    /// The scores that needed it.
    pub scores: Vec<String>,
    /// The runs whose values of these scores were derived.
    pub runs: Vec<String>,
}

/// Where a table of scores comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ScoreInfo {
    /// The runs that were folded.
    pub runs: Vec<String>,
    /// What a name without a moment refers to, such as `el2n` to `el2n_score_epoch_3`.
    pub aliases: BTreeMap<String, String>,
    /// Observations left out of a mean because their value is not finite.
    pub non_finite: u64,
    /// Observations left out because another rank had the example in the same epoch: a data loader
    /// pads ranks by repeating examples.
    pub repeated: u64,
    /// Examples that some of the runs have not seen: their scores are means over fewer runs.
    pub partial: u64,
    /// Examples that have not the same label in all runs: their ids mean something else in some of them.
    pub relabeled: u64,
    /// The signals that were derived, and from what.
    pub derived: Vec<DerivedSignal>,
}
