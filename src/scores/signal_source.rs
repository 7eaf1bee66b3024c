//! Where the values of a signal come from in one rank of a run: its own column, or what it follows
//! from exactly. A signal that neither gives is missing, and this says why.
//!
//! | from | signals | exact where |
//! |---|---|---|
//! | `loss` | `confidence` = exp(-`loss`) | all targets were classes |
//! | whole logits as `f32` | `margin`, `confidence`, `entropy` | always: these take a soft target's likeliest class, which is the column `label` |
//! | whole logits as `f32` | `el2n`, `el1n`, `loss` | all targets were classes |
//! | the highest logits with the label's and the log-sum-exp | `confidence`, and `margin` of two or more | always |
//!
//! Logits as `f16` are rounded, so nothing follows from them exactly. `derived_columns` computes the
//! values.

use crate::observe::{LogitsFormat, Signal, TargetForm};
use crate::run::RunMetadata;

/// What the values of a signal are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalSource {
    /// Its column of the table.
    Recorded,
    /// The column `loss`.
    Loss,
    /// Every logit, and the label.
    Logits,
    /// The highest logits, the label's and the log-sum-exp.
    TopLogits,
}

impl SignalSource {
    /// Returns where a rank has a signal. `assume_classes` decides where the form of the targets is
    /// unknown.
    pub(super) fn of(rank: &RunMetadata, signal: Signal, assume_classes: bool) -> Option<Self> {
        let format = &rank.format;
        if format.signals.contains(&signal) {
            return Some(Self::Recorded);
        }
        // Sequences record means over tokens, and other kinds have no class or do not keep their
        // targets.
        if !format.kind.has_class() {
            return None;
        }
        let of_classes = rank.targets.map_or(assume_classes, |form| form == TargetForm::Classes);
        if signal == Signal::Confidence && of_classes && format.signals.contains(&Signal::Loss) {
            return Some(Self::Loss);
        }
        match (format.logits, signal) {
            (LogitsFormat::F32, _) if of_classes || !needs_class_targets(signal) => {
                Some(Self::Logits)
            }
            (LogitsFormat::TopKAndLabel(_), Signal::Confidence) => Some(Self::TopLogits),
            // If the label's logit is the highest, the margin is to the second.
            (LogitsFormat::TopKAndLabel(k), Signal::Margin) if k >= 2 => Some(Self::TopLogits),
            _ => None,
        }
    }

    /// Returns whether the table `logits` has to be read.
    pub(super) fn is_of_logits(self) -> bool {
        matches!(self, Self::Logits | Self::TopLogits)
    }

    /// Returns what a derived signal is computed from; `None` for a recorded one.
    pub(super) fn derived_from(self) -> Option<&'static str> {
        match self {
            Self::Recorded => None,
            Self::Loss => Some("loss"),
            Self::Logits => Some("logits"),
            Self::TopLogits => Some("the highest logits"),
        }
    }
}

/// Whether a signal of a soft target depends on more than its likeliest class.
fn needs_class_targets(signal: Signal) -> bool {
    !matches!(signal, Signal::Margin | Signal::Confidence | Signal::Entropy)
}

/// Says what would have had to be recorded for a signal.
pub(super) fn requirement(signal: Signal) -> String {
    let instead = match signal {
        Signal::Confidence => "or `loss` of class labels, or every logit as f32",
        signal if needs_class_targets(signal) => "or every logit as f32, of class labels",
        _ => "or every logit as f32",
    };
    format!("needed: the signal `{signal}` switched on, {instead}")
}

/// Says why a rank neither has a signal nor what it follows from.
pub(super) fn why_missing(rank: &RunMetadata, signal: Signal) -> String {
    let (format, kind) = (&rank.format, rank.format.kind);
    if !kind.signals().contains(&signal) {
        return format!("no `{signal}` for {kind}");
    }
    if rank.targets.is_none() && SignalSource::of(rank, signal, true).is_some() {
        return "targets unknown, derived if they are assumed to be classes".to_owned();
    }
    if !kind.has_class() {
        return format!("`{signal}` not switched on");
    }
    match format.logits {
        LogitsFormat::Off => "no logits".to_owned(),
        LogitsFormat::F16 => "logits rounded to f16".to_owned(),
        LogitsFormat::F32 => "soft targets".to_owned(),
        LogitsFormat::TopK(k) | LogitsFormat::TopKAndLabel(k) => {
            format!("only the {k} highest logits")
        }
    }
}
