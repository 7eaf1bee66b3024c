//! The format of a run's batches: the kind of model, the signals, and how logits are recorded.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::observe::model_kind::ModelKind;
use crate::observe::signal::Signal;

/// How the logits themselves are recorded. They have a table of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LogitsFormat {
    /// Logits are not recorded.
    Off,
    /// Every logit as `f32`: 4 bytes each.
    #[default]
    F32,
    /// Every logit rounded to `f16`, as fixed-size binary of `2 * classes` little-endian bytes.
    F16,
    /// The `k` largest logits as `f32` with their class indices, largest first; ties by the lower
    /// class index. 8 bytes each. Only of `classes`.
    TopK(u32),
    /// As [`TopK`](Self::TopK), and beside them the label's logit and the log-sum-exp of all logits,
    /// `label_logit` and `log_sum_exp`: 8 bytes more, from which confidence and margin follow exactly.
    TopKAndLabel(u32),
}

impl LogitsFormat {
    /// The most outputs whose logits are recorded whole by default.
    pub const MAX_WHOLE_BY_DEFAULT: usize = 128;
    /// How many of the highest logits of more classes are recorded by default.
    pub const DEFAULT_TOP: u32 = 8;

    /// Returns what is recorded of this kind of model unless something else is asked for: every logit
    /// up to 128 classes or labels; of more classes the eight highest, the label's and the
    /// log-sum-exp; otherwise nothing.
    #[must_use]
    pub fn default_of(kind: ModelKind) -> Self {
        let is_narrow = kind.outputs() <= Self::MAX_WHOLE_BY_DEFAULT;
        match kind {
            ModelKind::Classes { .. } if !is_narrow => Self::TopKAndLabel(Self::DEFAULT_TOP),
            ModelKind::Classes { .. } | ModelKind::Binary => Self::F32,
            ModelKind::MultiLabel { .. } if is_narrow => Self::F32,
            _ => Self::Off,
        }
    }

    /// Returns whether every logit is recorded.
    #[must_use]
    pub fn is_whole(self) -> bool {
        matches!(self, Self::F32 | Self::F16)
    }

    /// Returns how many of the highest logits are recorded, if not all.
    #[must_use]
    pub fn top(self) -> Option<u32> {
        match self {
            Self::TopK(k) | Self::TopKAndLabel(k) => Some(k),
            _ => None,
        }
    }
}

/// The format of a run's batches: what they must look like and what is recorded of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchFormat {
    /// What the model learns, and how many outputs it has.
    #[serde(flatten)]
    pub kind: ModelKind,
    /// The number of examples, if ids are row numbers below it; `None` for arbitrary ids.
    pub examples: Option<u64>,
    /// Rows, or tokens, with this label are not recorded.
    pub ignore_index: Option<i64>,
    /// The signals to record, in the order of [`Signal::ALL`].
    pub signals: Vec<Signal>,
    /// How to record the logits.
    pub logits: LogitsFormat,
}

impl BatchFormat {
    /// The signals that are recorded by default, of those that the kind of model has.
    pub const DEFAULT_SIGNALS: [Signal; 3] = [Signal::El2n, Signal::Loss, Signal::Margin];
    /// The signals that are recorded beside them by default where logits are not recorded whole, since
    /// they could not be computed later.
    pub const DEFAULT_SIGNALS_WITHOUT_LOGITS: [Signal; 2] = [Signal::Confidence, Signal::Entropy];

    /// Returns the default format for a kind of model.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for too few or too many outputs.
    pub fn new(kind: ModelKind) -> Result<Self> {
        let logits = LogitsFormat::default_of(kind);
        let signals = Self::default_signals(kind, logits);
        let format = Self { kind, examples: None, ignore_index: None, signals, logits };
        format.check()?;
        Ok(format)
    }

    /// Returns the default format for a number of classes.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for fewer than 2 or more than 2^24
    /// classes.
    pub fn classes(classes: usize) -> Result<Self> {
        Self::new(ModelKind::Classes { classes: u32::try_from(classes).unwrap_or(u32::MAX) })
    }

    /// Returns the signals that are recorded by default, where logits are recorded in this form.
    #[must_use]
    pub fn default_signals(kind: ModelKind, logits: LogitsFormat) -> Vec<Signal> {
        let is_wanted = |signal: &Signal| {
            let instead = Self::DEFAULT_SIGNALS_WITHOUT_LOGITS.contains(signal);
            Self::DEFAULT_SIGNALS.contains(signal) || (instead && !logits.is_whole())
        };
        kind.signals().iter().copied().filter(is_wanted).collect()
    }

    /// Returns whether rows with this class index are left out.
    pub(crate) fn ignores(&self, label: i64) -> bool {
        self.ignore_index == Some(label)
    }

    /// Returns the bytes that one row takes in memory and, before compression, on disk, in all tables
    /// together: 25 for its keys and `correct`, 4 for each signal, and its logits, which repeat the
    /// keys.
    #[must_use]
    pub fn bytes_per_row(&self) -> usize {
        const KEYS: usize = 24;
        let outputs = self.kind.outputs();
        let logits = match self.logits {
            LogitsFormat::Off => 0,
            LogitsFormat::F32 => KEYS + 4 * outputs,
            LogitsFormat::F16 => KEYS + 2 * outputs,
            LogitsFormat::TopK(k) => KEYS + 8 * k as usize,
            LogitsFormat::TopKAndLabel(k) => KEYS + 8 * k as usize + 8,
        };
        let tokens = if self.kind.has_tokens() { 8 } else { 0 };
        KEYS + usize::from(self.kind.has_correct()) + 4 * self.signals.len() + tokens + logits
    }

    /// Checks the format.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) names the field that is out of range.
    pub fn check(&self) -> Result<()> {
        self.kind.check()?;
        let (name, outputs) = (self.kind.name(), self.kind.outputs());
        if let Some(signal) = self.signals.iter().find(|it| !self.kind.signals().contains(it)) {
            let has: Vec<&str> = self.kind.signals().iter().map(|signal| signal.name()).collect();
            return Err(Error::invalid(format!(
                "signals: expected some of {}, which is what `{name}` has, got {signal}",
                has.join(", ")
            )));
        }
        let allowed = match self.kind {
            ModelKind::Classes { .. } => true,
            ModelKind::Tokens { .. } | ModelKind::LossOnly => self.logits == LogitsFormat::Off,
            _ => self.logits.top().is_none(),
        };
        if !allowed {
            let got = self.logits;
            return Err(Error::invalid(format!("logits: `{name}` cannot record them as {got:?}")));
        }
        if let Some(k) = self.logits.top()
            && !(1..=outputs).contains(&(k as usize))
        {
            return Err(Error::invalid(format!(
                "logits: expected the top 1 to {outputs}, got the top {k}"
            )));
        }
        if self.examples.is_some_and(|examples| examples > i64::MAX as u64) {
            return Err(Error::invalid("examples: expected at most 2^63 - 1".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_computed_later_is_recorded_by_default() {
        let names = |format: &BatchFormat| {
            format.signals.iter().map(|signal| signal.name()).collect::<Vec<_>>()
        };
        let whole = BatchFormat::classes(128).unwrap();
        assert_eq!(
            (whole.logits, names(&whole)),
            (LogitsFormat::F32, vec!["el2n", "loss", "margin"])
        );
        let many = BatchFormat::classes(129).unwrap();
        let all = vec!["el2n", "loss", "margin", "confidence", "entropy"];
        assert_eq!((many.logits, names(&many)), (LogitsFormat::TopKAndLabel(8), all.clone()));
        let tokens = BatchFormat::new(ModelKind::Tokens { vocabulary: 100 }).unwrap();
        assert_eq!((tokens.logits, names(&tokens)), (LogitsFormat::Off, all));
        let labels = BatchFormat::new(ModelKind::MultiLabel { labels: 500 }).unwrap();
        assert_eq!(
            (labels.logits, names(&labels)),
            (LogitsFormat::Off, vec!["el2n", "loss", "margin"])
        );
        let loss = BatchFormat::new(ModelKind::LossOnly).unwrap();
        assert_eq!((loss.logits, names(&loss)), (LogitsFormat::Off, vec!["loss"]));
    }

    #[test]
    fn what_a_kind_does_not_have_is_refused_by_name() {
        let refused = |kind: ModelKind, change: &dyn Fn(&mut BatchFormat)| {
            let mut format = BatchFormat::new(kind).unwrap();
            change(&mut format);
            format.check().unwrap_err().to_string()
        };
        let regression = ModelKind::Regression { outputs: 3 };
        assert_eq!(
            refused(regression, &|format| format.signals.push(Signal::Entropy)),
            "signals: expected some of el2n, loss, which is what `regression` has, got entropy"
        );
        let tokens = ModelKind::Tokens { vocabulary: 10 };
        assert_eq!(
            refused(tokens, &|format| format.logits = LogitsFormat::F32),
            "logits: `tokens` cannot record them as F32"
        );
        for top in [LogitsFormat::TopK(1), LogitsFormat::TopKAndLabel(1)] {
            let message = refused(ModelKind::Binary, &|format| format.logits = top);
            assert!(message.starts_with("logits: `binary` cannot"), "{message}");
        }
        let classes = ModelKind::Classes { classes: 2 };
        let message = refused(classes, &|format| format.logits = LogitsFormat::TopKAndLabel(3));
        assert!(message.contains("the top 1 to 2, got the top 3"), "{message}");
    }

    #[test]
    fn bytes_of_a_row_are_those_of_its_columns() {
        // 24 + 1 + 3 * 4, and 24 + 40.
        assert_eq!(BatchFormat::classes(10).unwrap().bytes_per_row(), 101);
        // 24 + 1 + 5 * 4, and 24 + 72.
        assert_eq!(BatchFormat::classes(1000).unwrap().bytes_per_row(), 141);
        let regression = BatchFormat::new(ModelKind::Regression { outputs: 7 }).unwrap();
        assert_eq!(regression.bytes_per_row(), 32);
    }
}
