//! One step of a recipe, and its form in a file.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::selection::{Action, Classes, Rule};

/// One step of a [`Recipe`](crate::manifest::recipe::Recipe): keeps or drops the examples that a
/// rule chooses by a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Step {
    pub(super) action: Action,
    pub(super) by: String,
    pub(super) rule: Rule,
    pub(super) classes: Classes,
    pub(super) prediction_mean: Option<String>,
}

impl Step {
    /// Keeps the examples that the rule chooses by this score, and drops the rest.
    pub fn keep(by: impl Into<String>, rule: Rule) -> Self {
        let (by, classes) = (by.into(), Classes::Ignored);
        Self { action: Action::Keep, by, rule, classes, prediction_mean: None }
    }

    /// Drops the examples that the rule chooses by this score.
    pub fn drop(by: impl Into<String>, rule: Rule) -> Self {
        Self { action: Action::Drop, ..Self::keep(by, rule) }
    }

    /// Sets how classes are treated. A step that drops examples cannot have a floor.
    #[must_use]
    pub fn classes(self, classes: Classes) -> Self {
        Self { classes, ..self }
    }

    /// Names the score that is each example's prediction mean, which [`Rule::Beta`] needs:
    /// `cartography_confidence`, or `confidence` over the epochs of a shorter training.
    ///
    /// # Examples
    ///
    /// ```
    /// use data_diet::{Amount, Rule};
    /// use data_diet::manifest::recipe::Step;
    ///
    /// // A tenth of the examples, as in the DUAL paper.
    /// let rule = Rule::Beta { amount: Amount::Fraction(0.1), c_d: 4.0, seed: 0 };
    /// let step = Step::keep("dual", rule).prediction_mean("cartography_confidence");
    /// ```
    #[must_use]
    pub fn prediction_mean(self, score: impl Into<String>) -> Self {
        Self { prediction_mean: Some(score.into()), ..self }
    }

    /// Returns the name of its score.
    #[must_use]
    pub fn by(&self) -> &str {
        &self.by
    }

    /// Returns the names of the scores that it needs.
    pub(super) fn scores(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.by()).chain(self.prediction_mean.as_deref())
    }

    /// Returns its rule.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Returns whether it drops what the rule chooses.
    #[must_use]
    pub fn drops(&self) -> bool {
        self.action == Action::Drop
    }

    pub(super) fn validate(&self) -> Result<()> {
        self.rule.validate()?;
        self.classes.validate(self.rule)?;
        let is_beta = matches!(self.rule, Rule::Beta { .. });
        if is_beta && self.drops() {
            return Err(Error::invalid("beta: expected a step that keeps, got one that drops"));
        }
        if is_beta != self.prediction_mean.is_some() {
            return Err(Error::invalid(if is_beta {
                "prediction mean: expected the name of a score beside the rule beta, got none"
            } else {
                "prediction mean: expected it with the rule beta only, got another rule"
            }));
        }
        if self.drops() && matches!(self.classes, Classes::AtLeast(_)) {
            let message = "class floor: expected a step that keeps, got one that drops";
            return Err(Error::invalid(message));
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let does = if self.drops() { "drop" } else { "keep" };
        write!(f, "{does} {} by `{}`", self.rule.name(), self.by)
    }
}

/// A step in a file: the rule is the value of `keep` or `drop`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<Rule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drop: Option<Rule>,
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prediction_mean: Option<String>,
    #[serde(default, skip_serializing_if = "is_ignored")]
    classes: Classes,
}

fn is_ignored(classes: &Classes) -> bool {
    *classes == Classes::Ignored
}

impl From<Step> for Written {
    fn from(step: Step) -> Self {
        let Step { action, by, rule, classes, prediction_mean } = step;
        let (keep, drop) = match action {
            Action::Keep => (Some(rule), None),
            Action::Drop => (None, Some(rule)),
        };
        Self { keep, drop, by, prediction_mean, classes }
    }
}

impl TryFrom<Written> for Step {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, &'static str> {
        let (action, rule) = match (written.keep, written.drop) {
            (Some(rule), None) => (Action::Keep, rule),
            (None, Some(rule)) => (Action::Drop, rule),
            _ => return Err("a step has either `keep` or `drop`"),
        };
        let Written { by, classes, prediction_mean, .. } = written;
        Ok(Self { action, by, rule, classes, prediction_mean })
    }
}
