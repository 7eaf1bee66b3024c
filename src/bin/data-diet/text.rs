//! Text for people: aligned tables, numbers with separators, lines on standard error.

use std::fmt::{Display, Write as _};
use std::io::{self, Write};

/// Writes rows under a header; columns after the first are right-aligned.
pub(crate) fn table(
    output: &mut dyn Write,
    heading: &[&str],
    rows: &[Vec<String>],
) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (column, (cell, &width)) in cells.zip(&widths).enumerate() {
            match column {
                0 => write!(text, "{cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            }
            .map_err(io::Error::other)?;
        }
        writeln!(output, "{}", text.trim_end())
    };
    line(&mut heading.iter().copied())?;
    rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
}

/// Writes a line to standard error. A closed standard error is ignored: it must not make a command
/// fail.
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A number and what it counts: `1 row`, `2 rows`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(number))
}

pub(crate) fn count(value: u64) -> String {
    indicatif::HumanCount(value).to_string()
}

pub(crate) fn bytes(value: u64) -> String {
    indicatif::BinaryBytes(value).to_string()
}
