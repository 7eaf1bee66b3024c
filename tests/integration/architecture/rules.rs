//! Which room may import which, and what no room may do.

use std::fmt;

/// The rooms of a crate from the ground up, each with those that it may import.
pub(crate) struct Crate {
    rooms: &'static [(&'static str, &'static [&'static str])],
    /// Whether it may name the training framework.
    has_framework: bool,
}

pub(crate) const CORE: Crate = Crate {
    rooms: &[
        ("error", &[]),
        ("observe", &["error"]),
        ("storage", &["error"]),
        ("selection", &["error"]),
        ("run", &["error", "observe", "storage"]),
        ("record", &["error", "observe", "storage", "run"]),
        ("scores", &["error", "observe", "storage", "selection", "run"]),
        ("geometry", &["error", "observe", "storage", "run"]),
        ("manifest", &["error", "storage", "selection", "scores"]),
        ("verify", &["error", "storage", "run", "scores", "geometry"]),
    ],
    has_framework: false,
};

pub(crate) const HOOK: Crate = Crate {
    rooms: &[
        ("error", &[]),
        ("transfer", &["error"]),
        ("output_shape", &["error", "transfer"]),
        ("arguments", &["error", "transfer", "output_shape"]),
        ("kind_targets", &["error", "output_shape", "arguments"]),
        ("signals", &["error", "transfer", "output_shape", "arguments"]),
        ("weights", &["error", "transfer"]),
        ("gradients", &["error", "transfer", "arguments", "kind_targets"]),
        ("nn", &["error", "gradients"]),
        ("ntk", &["error", "transfer", "weights", "gradients"]),
        ("geometry", &["error", "transfer", "arguments", "kind_targets", "weights", "ntk"]),
        ("selection", &["error"]),
        ("shuffled", &["error"]),
        ("hook", &["error", "transfer", "output_shape", "arguments", "signals", "weights"]),
    ],
    has_framework: true,
};

/// What a path breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A room imports only the rooms that are listed for it.
    Direction,
    /// The core knows no training framework.
    NoFramework,
    /// The crate has no second name, behind which a path could hide.
    NoAlias,
    /// A library does not end the process and reads no environment variable.
    NoProcess,
    /// The hook leaves Arrow, files and threads to the core.
    NoFiles,
    /// The hook takes no optimizer, so that it cannot alter training.
    NoOptimizer,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direction => "this room may not import that one",
            Self::NoFramework => "the core knows no training framework",
            Self::NoAlias => "the crate may not be imported under another name",
            Self::NoProcess => "a library does not end the process or read its environment",
            Self::NoFiles => "the hook leaves Arrow, files and threads to the core",
            Self::NoOptimizer => "the hook takes no optimizer",
        })
    }
}

impl Crate {
    pub(crate) fn rooms(&self) -> impl Iterator<Item = &'static str> {
        self.rooms.iter().map(|&(room, _)| room)
    }

    pub(crate) fn knows(&self, room: &str) -> bool {
        self.rooms().any(|known| known == room)
    }

    pub(crate) fn allows(&self, room: &str, other: &str) -> bool {
        self.rooms.iter().any(|&(name, imports)| name == room && imports.contains(&other))
    }

    /// The rule that a path breaks, in a file of a room; the crate's root is none.
    pub(crate) fn broken_by(&self, room: Option<&str>, path: &[String]) -> Option<Rule> {
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        match segments[..] {
            ["crate", "as" | "self"] => Some(Rule::NoAlias),
            ["crate", other, ..] if self.knows(other) => {
                let is_allowed = room.is_none_or(|room| room == other || self.allows(room, other));
                (!is_allowed).then_some(Rule::Direction)
            }
            [first, ..] if first.starts_with("candle_") && !self.has_framework => {
                Some(Rule::NoFramework)
            }
            ["std", "process", "exit" | "abort", ..] | ["std", "env", ..] => Some(Rule::NoProcess),
            ["arrow" | "parquet", ..] | ["std", "fs" | "thread", ..] if room == Some("hook") => {
                Some(Rule::NoFiles)
            }
            ["candle_nn", "Optimizer" | "optim" | "AdamW" | "SGD", ..] if room == Some("hook") => {
                Some(Rule::NoOptimizer)
            }
            _ => None,
        }
    }
}
