//! Signals: numbers that the outputs and the target of an example give at one moment of training.
//! This file has their names and formulas; [`definitions`](super::definitions) computes them.
//!
//! Logits `z` in `R^K`, `p = softmax(z)`, `y` the one-hot label or a soft target that sums to 1. Kinds
//! of models without a softmax have formulas of their own, which stand with the functions of
//! [`ExampleSignals`](super::ExampleSignals).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Lists the signals once: the enum, their column names, and [`PerSignal`] all come from here.
macro_rules! signals {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:ident),+ $(,)?) => {
        /// A per-example quantity that is recorded while training.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        #[non_exhaustive]
        pub enum Signal {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Signal {
            /// Every signal, in the order of the columns on disk.
            pub const ALL: [Self; [$(stringify!($name)),+].len()] = [$(Self::$variant),+];

            /// Returns the name of the signal's column.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($name),)+
                }
            }
        }

        /// One value for each signal.
        ///
        /// Build it as a literal in code that computes signals by other means than
        /// [`ExampleSignals`](crate::observe::ExampleSignals): a literal that lacks a signal does not compile.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct PerSignal<T> {
            $(#[doc = concat!("Of [`Signal::", stringify!($variant), "`].")] pub $name: T,)+
        }

        impl<T> PerSignal<T> {
            /// Returns the value of one signal.
            #[must_use]
            pub fn get(&self, signal: Signal) -> &T {
                match signal {
                    $(Signal::$variant => &self.$name,)+
                }
            }
        }
    };
}

signals! {
    /// `||p - y||_2`, in `[0, sqrt 2]`; high is hard. Paul et al. 2021, definition 2.5.
    El2n el2n,
    /// Cross-entropy `-sum_k y_k log p_k`, in nats; high is hard.
    Loss loss,
    /// `z_y - max over k != y of z_k`, in logits; low is hard. The margin of Toneva et al. 2018 and of
    /// AUM (Pleiss et al. 2020).
    Margin margin,
    /// `||p - y||_1`, in `[0, 2]`; high is hard.
    El1n el1n,
    /// `p_y`, in `[0, 1]`; low is hard. Swayamdipta et al. 2020.
    Confidence confidence,
    /// `-sum_k p_k log p_k`, in nats; high is uncertain.
    Entropy entropy,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Signal {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|signal| signal.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::invalid(format!("signal: expected one of {names}, got `{name}`"))
        })
    }
}
