//! The header of delimited text: the names of its columns, the key, and the columns that are added.

use super::super::Manifest;
use super::super::row_filter::RowFilter;
use crate::error::{Error, Result};

/// What the first record says.
#[derive(Debug)]
pub(super) struct Header {
    /// Numbers from 0 if there is no header.
    pub(super) names: Vec<String>,
    /// The index and the name of the key column.
    pub(super) key: Option<(usize, String)>,
}

impl Header {
    pub(super) fn new<'f>(
        manifest: &Manifest,
        delimiter: u8,
        first: impl Iterator<Item = &'f [u8]>,
        row_filter: &RowFilter<'_>,
    ) -> Result<Self> {
        let mut is_utf8 = true;
        let name = |(column, name): (usize, &[u8])| {
            if manifest.header {
                is_utf8 &= str::from_utf8(name).is_ok();
                String::from_utf8_lossy(name).into_owned()
            } else {
                column.to_string()
            }
        };
        let names: Vec<String> = first.enumerate().map(name).collect();
        let Some(key) = &manifest.key else { return Ok(Self { names, key: None }) };
        let mut places = (0..names.len()).filter(|&column| &names[column] == key);
        match (places.next(), places.next()) {
            (Some(column), None) => Ok(Self { key: Some((column, key.clone())), names }),
            (Some(_), Some(_)) => Err(row_filter.two_key_columns(key)),
            (None, _) => {
                let hint = hint(&names, is_utf8, delimiter);
                Err(row_filter.no_column(key, names.iter().map(String::as_str), &hint))
            }
        }
    }

    /// Returns whether a record of so many fields has these columns. A delimiter too many at the
    /// end of a line, of records or of the header, is no column.
    pub(super) fn fits(&self, fields: usize, ends_empty: bool, adds_columns: bool) -> bool {
        let columns = self.names.len();
        let trailing = ends_empty && fields == columns + 1;
        let trailing_in_header =
            fields + 1 == columns && self.names.last().is_some_and(String::is_empty);
        fields == columns || (trailing || trailing_in_header) && !adds_columns
    }

    /// Refuses to add a column that exists.
    pub(super) fn refuse<'n>(
        &self,
        mut added: impl Iterator<Item = &'n str>,
        row_filter: &RowFilter<'_>,
    ) -> Result<()> {
        match added.find(|name| self.names.iter().any(|it| it == name)) {
            Some(name) => Err(row_filter.has_column(name)),
            None => Ok(()),
        }
    }
}

/// Returns why the key may not be among these names, and what to do.
fn hint(names: &[String], is_utf8: bool, delimiter: u8) -> String {
    let first = names.first().map_or("", String::as_str);
    if first.to_ascii_lowercase().starts_with("sep=") {
        return "; the first line is an instruction to a spreadsheet, not a header: remove it"
            .to_owned();
    }
    if first.starts_with('#') {
        return "; the first line seems to be a comment, not a header: remove it".to_owned();
    }
    if !is_utf8 {
        return "; the names are not UTF-8: convert the file, for example by \
                `iconv -f latin1 -t utf-8`"
            .to_owned();
    }
    let other = [b',', b'\t', b';', b'|'].into_iter().filter(|&other| other != delimiter);
    let count = |other: u8| first.bytes().filter(|&byte| byte == other).count();
    match other.max_by_key(|&other| count(other)).filter(|&other| count(other) > 0) {
        Some(other) if names.len() == 1 => {
            let shown = if other == b'\t' {
                "a tab".to_owned()
            } else {
                format!("`{}`", char::from(other))
            };
            format!("; the columns seem to be separated by {shown}: set `delimiter`")
        }
        _ => String::new(),
    }
}

/// Returns the names to append to the header.
pub(super) fn header_line<'n>(
    names: impl Iterator<Item = &'n str>,
    delimiter: u8,
    quotes: bool,
) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    for name in names {
        line.push(delimiter);
        let special = |byte: &u8| [delimiter, b'"', b'\r', b'\n'].contains(byte);
        match (name.bytes().any(|byte| special(&byte)), quotes) {
            (false, _) => line.extend_from_slice(name.as_bytes()),
            (true, true) => {
                line.extend_from_slice(format!("\"{}\"", name.replace('"', "\"\"")).as_bytes());
            }
            (true, false) => {
                return Err(Error::invalid(format!(
                    "score: the name `{name}` needs quotes, which are switched off"
                )));
            }
        }
    }
    Ok(line)
}
