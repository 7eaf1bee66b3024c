//! Kinds of models: what the outputs and targets of a batch are, and which signals they have.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::signal::Signal;
use crate::error::{Error, Result};

/// What a model learns: how its outputs and targets are laid out, and so which signals are recorded.
///
/// | kind | outputs | targets | signals |
/// |---|---|---|---|
/// | `classes` | logits `[batch, classes]` | class indices `[batch]`, or distributions of that shape | all |
/// | `tokens` | logits `[batch, tokens, vocabulary]` | class indices `[batch, tokens]` | all, each the mean over the counted tokens of a sequence |
/// | `multi_label` | logits `[batch, labels]` | 0 to 1, of that shape | `el2n`, `loss`, `margin` |
/// | `binary` | logits `[batch]` | 0 or 1, or a probability, `[batch]` | those of two classes with logits (0, z) |
/// | `regression` | predictions `[batch, outputs]` | numbers of that shape | `el2n`, `loss` |
/// | `loss_only` | losses `[batch]` | none | `loss` |
///
/// `loss` is that of one example: a sum over labels, or half a sum of squares over outputs. A trainer's loss
/// is often a mean: with candle's, `loss / labels` is its binary cross-entropy, `2 loss / outputs` its mean
/// squared error, and of sequences it weighs each by its column `tokens`.
///
/// The definitions of the signals are in [`ExampleSignals`](crate::observe::ExampleSignals).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "KindFields", try_from = "KindFields")]
#[non_exhaustive]
pub enum ModelKind {
    /// One label out of several classes, by softmax.
    Classes {
        /// The number of classes, at least 2.
        classes: u32,
    },
    /// A label for each token of a sequence, by softmax: language models. The example is the
    /// sequence.
    Tokens {
        /// The number of tokens that there are, at least 2.
        vocabulary: u32,
    },
    /// Any number of labels at once, by a sigmoid each.
    MultiLabel {
        /// The number of labels.
        labels: u32,
    },
    /// One of two classes, by a sigmoid of one logit.
    Binary,
    /// Numbers, by squared error.
    Regression {
        /// The number of outputs of one example.
        outputs: u32,
    },
    /// Any other objective, of which only the loss of each example is known.
    LossOnly,
}

/// The kind as it stands in `run.json`. Before there were kinds, the number of outputs was `classes`.
#[derive(Serialize, Deserialize)]
struct KindFields {
    #[serde(default)]
    kind: KindName,
    #[serde(alias = "classes")]
    outputs: u32,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindName {
    #[default]
    Classes,
    Tokens,
    MultiLabel,
    Binary,
    Regression,
    LossOnly,
}

impl From<ModelKind> for KindFields {
    fn from(kind: ModelKind) -> Self {
        let name = match kind {
            ModelKind::Classes { .. } => KindName::Classes,
            ModelKind::Tokens { .. } => KindName::Tokens,
            ModelKind::MultiLabel { .. } => KindName::MultiLabel,
            ModelKind::Binary => KindName::Binary,
            ModelKind::Regression { .. } => KindName::Regression,
            ModelKind::LossOnly => KindName::LossOnly,
        };
        Self { kind: name, outputs: kind.outputs() as u32 }
    }
}

impl TryFrom<KindFields> for ModelKind {
    type Error = Error;

    fn try_from(fields: KindFields) -> Result<Self> {
        let KindFields { kind, outputs } = fields;
        let kind = match kind {
            KindName::Classes => Self::Classes { classes: outputs },
            KindName::Tokens => Self::Tokens { vocabulary: outputs },
            KindName::MultiLabel => Self::MultiLabel { labels: outputs },
            KindName::Binary => Self::Binary,
            KindName::Regression => Self::Regression { outputs },
            KindName::LossOnly => Self::LossOnly,
        };
        kind.check().map(|()| kind)
    }
}

impl ModelKind {
    /// The most outputs that a kind may have.
    pub const MAX_OUTPUTS: u32 = 1 << 24;

    /// Returns the name in `run.json` and in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classes { .. } => "classes",
            Self::Tokens { .. } => "tokens",
            Self::MultiLabel { .. } => "multi_label",
            Self::Binary => "binary",
            Self::Regression { .. } => "regression",
            Self::LossOnly => "loss_only",
        }
    }

    /// Returns how many numbers the model puts out for one example, or for one token of it.
    #[must_use]
    pub fn outputs(self) -> usize {
        match self {
            Self::Classes { classes } => classes as usize,
            Self::Tokens { vocabulary } => vocabulary as usize,
            Self::MultiLabel { labels } => labels as usize,
            Self::Regression { outputs } => outputs as usize,
            Self::Binary | Self::LossOnly => 1,
        }
    }

    /// Returns the signals that can be recorded, in the order of [`Signal::ALL`].
    #[must_use]
    pub fn signals(self) -> &'static [Signal] {
        match self {
            Self::Classes { .. } | Self::Tokens { .. } | Self::Binary => &Signal::ALL,
            Self::MultiLabel { .. } => &[Signal::El2n, Signal::Loss, Signal::Margin],
            Self::Regression { .. } => &[Signal::El2n, Signal::Loss],
            Self::LossOnly => &[Signal::Loss],
        }
    }

    /// Returns whether an answer can be right or wrong, so that there are forgetting events and a
    /// column `correct`.
    #[must_use]
    pub fn has_correct(self) -> bool {
        !matches!(self, Self::Regression { .. } | Self::LossOnly)
    }

    /// Returns whether an example has one class, which stands in the column `label`. Elsewhere that
    /// is -1.
    #[must_use]
    pub fn has_class(self) -> bool {
        matches!(self, Self::Classes { .. } | Self::Binary)
    }

    /// Returns whether an example is a sequence, with a row of outputs for each of its tokens.
    #[must_use]
    pub fn has_tokens(self) -> bool {
        matches!(self, Self::Tokens { .. })
    }

    /// Checks the number of outputs.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming what there are too few or too
    /// many of.
    pub fn check(self) -> Result<()> {
        let (what, least) = match self {
            Self::Classes { .. } => ("classes", 2),
            Self::Tokens { .. } => ("vocabulary", 2),
            Self::MultiLabel { .. } => ("labels", 1),
            Self::Regression { .. } => ("outputs", 1),
            Self::Binary | Self::LossOnly => return Ok(()),
        };
        let got = self.outputs();
        if (least..=Self::MAX_OUTPUTS as usize).contains(&got) {
            return Ok(());
        }
        Err(Error::invalid(format!("{what}: expected between {least} and 2^24, got {got}")))
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Classes { classes } => write!(f, "{classes} classes"),
            Self::Tokens { vocabulary } => write!(f, "tokens (vocabulary {vocabulary})"),
            Self::MultiLabel { labels } => write!(f, "{labels} labels"),
            Self::Binary => f.write_str("binary"),
            Self::Regression { outputs } => write!(f, "regression ({outputs})"),
            Self::LossOnly => f.write_str("loss only"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Format {
        #[serde(flatten)]
        kind: ModelKind,
        examples: Option<u64>,
    }

    #[test]
    fn kinds_stand_in_json_as_a_word_and_a_number() {
        let kinds = [
            (ModelKind::Classes { classes: 10 }, r#"{"kind":"classes","outputs":10"#),
            (ModelKind::Tokens { vocabulary: 32_000 }, r#"{"kind":"tokens","outputs":32000"#),
            (ModelKind::MultiLabel { labels: 20 }, r#"{"kind":"multi_label","outputs":20"#),
            (ModelKind::Binary, r#"{"kind":"binary","outputs":1"#),
            (ModelKind::Regression { outputs: 4 }, r#"{"kind":"regression","outputs":4"#),
            (ModelKind::LossOnly, r#"{"kind":"loss_only","outputs":1"#),
        ];
        for (kind, start) in kinds {
            let format = Format { kind, examples: Some(3) };
            let text = serde_json::to_string(&format).unwrap();
            assert_eq!(text, format!(r#"{start},"examples":3}}"#));
            assert_eq!(serde_json::from_str::<Format>(&text).unwrap(), format);
        }
    }

    #[test]
    fn a_run_from_before_there_were_kinds_has_classes() {
        let old: Format = serde_json::from_str(r#"{"classes":7,"examples":null}"#).unwrap();
        assert_eq!(old, Format { kind: ModelKind::Classes { classes: 7 }, examples: None });
        for broken in [r#"{"examples":null}"#, r#"{"classes":1,"examples":null}"#] {
            assert!(serde_json::from_str::<Format>(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn numbers_of_outputs_are_checked_by_name() {
        let message = |kind: ModelKind| kind.check().unwrap_err().to_string();
        let kind = ModelKind::Classes { classes: 1 };
        assert_eq!(message(kind), "classes: expected between 2 and 2^24, got 1");
        let kind = ModelKind::Tokens { vocabulary: u32::MAX };
        assert_eq!(message(kind), "vocabulary: expected between 2 and 2^24, got 4294967295");
        let kind = ModelKind::MultiLabel { labels: 0 };
        assert_eq!(message(kind), "labels: expected between 1 and 2^24, got 0");
        let kind = ModelKind::Regression { outputs: 0 };
        assert_eq!(message(kind), "outputs: expected between 1 and 2^24, got 0");
    }
}
