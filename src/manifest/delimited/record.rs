//! The bytes of a record: its line end, and its fields as they are written.

use std::borrow::Cow;

use super::super::pipeline::Output;
use crate::error::Result;

/// How a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnd {
    None,
    LineFeed,
    CarriageReturn,
    Both,
}

impl LineEnd {
    pub(super) fn of(line: &[u8]) -> Self {
        match line {
            [.., b'\r', b'\n'] => Self::Both,
            [.., b'\n'] => Self::LineFeed,
            [.., b'\r'] => Self::CarriageReturn,
            _ => Self::None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::LineFeed => "LF",
            Self::CarriageReturn => "CR",
            Self::Both => "CR LF",
        }
    }
}

/// Copies a record with more columns at its end.
pub(super) fn push_with(raw: &[u8], more: &[u8], output: &mut Output<'_>) -> Result<()> {
    let end = match raw {
        [.., b'\r', b'\n'] => 2,
        [.., b'\r' | b'\n'] => 1,
        _ => 0,
    };
    let (content, end) = raw.split_at(raw.len() - end);
    output.push(content)?;
    output.push(more)?;
    output.push(end)
}

/// Returns a field without the quotes around it, and with doubled quotes inside it halved.
pub(super) fn unquoted(field: &[u8], quotes: bool) -> Cow<'_, [u8]> {
    match field {
        [b'"', within @ .., b'"'] if quotes => {
            if memchr::memchr(b'"', within).is_none() {
                return Cow::Borrowed(within);
            }
            let mut text = Vec::with_capacity(within.len());
            let mut rest = within;
            while let Some(quote) = memchr::memchr(b'"', rest) {
                text.extend_from_slice(&rest[..=quote]);
                rest = rest.get(quote + 2..).unwrap_or_default();
            }
            text.extend_from_slice(rest);
            Cow::Owned(text)
        }
        _ => Cow::Borrowed(field),
    }
}

/// Returns a record without its line end.
pub(super) fn trimmed_end(raw: &[u8]) -> &[u8] {
    let end = raw.iter().rev().take_while(|byte| b"\r\n".contains(byte)).count();
    &raw[..raw.len() - end]
}
