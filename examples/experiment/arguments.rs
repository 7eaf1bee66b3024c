//! Words of the examples' command lines.

use super::Result;

/// The name of an option, and its value if that is joined to it: `--name=value`.
pub(crate) fn split(argument: String) -> (String, Option<String>) {
    match argument.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (argument, None),
    }
}

/// The value of an option that counts something.
pub(crate) fn number(name: &str, text: &str) -> Result<u32> {
    let number = text.parse().ok().filter(|&number| number > 0);
    Ok(number.ok_or_else(|| format!("{name}: expected a whole number above 0, got {text}"))?)
}
