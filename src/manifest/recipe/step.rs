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
}

impl Step {
    /// Keeps the examples that the rule chooses by this score, and drops the rest.
    pub fn keep(by: impl Into<String>, rule: Rule) -> Self {
        Self { action: Action::Keep, by: by.into(), rule, classes: Classes::Ignored }
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

    /// Returns the name of its score.
    #[must_use]
    pub fn by(&self) -> &str {
        &self.by
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
    #[serde(default, skip_serializing_if = "is_ignored")]
    classes: Classes,
}

fn is_ignored(classes: &Classes) -> bool {
    *classes == Classes::Ignored
}

impl From<Step> for Written {
    fn from(step: Step) -> Self {
        let Step { action, by, rule, classes } = step;
        let (keep, drop) = match action {
            Action::Keep => (Some(rule), None),
            Action::Drop => (None, Some(rule)),
        };
        Self { keep, drop, by, classes }
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
        Ok(Self { action, by: written.by, rule, classes: written.classes })
    }
}
