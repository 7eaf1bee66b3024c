//! The columns of delimited text: their names, the key, and the columns that are added.

use super::super::Manifest;
use super::super::row_filter::RowFilter;
use crate::error::{Error, ErrorKind, Result};

/// The columns of a file, by name; numbered from 0 if there is no header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Columns {
    names: Vec<String>,
}

impl Columns {
    pub(in super::super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// Refuses columns that differ from these.
    pub(super) fn check(&self, found: &Self, row_filter: &RowFilter<'_>) -> Result<()> {
        if found == self {
            return Ok(());
        }
        let (expected, found) = (self.names.join(", "), found.names.join(", "));
        Err(row_filter.bad_manifest(
            ErrorKind::Manifest,
            format!("expected the columns of the first file, {expected}; got {found}"),
        ))
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

/// What the first record says.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) columns: Columns,
    /// The index and the name of the key column.
    pub(super) key: Option<(usize, String)>,
}

impl Header {
    pub(super) fn new<'f>(
        manifest: &Manifest,
        first: impl Iterator<Item = &'f [u8]>,
        row_filter: &RowFilter<'_>,
    ) -> Result<Self> {
        let names: Vec<String> = if manifest.header {
            first.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
        } else {
            first.enumerate().map(|(column, _)| column.to_string()).collect()
        };
        let key = find_key(manifest, &names, row_filter)?;
        Ok(Self { columns: Columns { names }, key })
    }
}

fn find_key(
    manifest: &Manifest,
    names: &[String],
    row_filter: &RowFilter<'_>,
) -> Result<Option<(usize, String)>> {
    let Some(name) = &manifest.key else { return Ok(None) };
    let mut places = (0..names.len()).filter(|&column| &names[column] == name);
    match (places.next(), places.next()) {
        (Some(column), None) => Ok(Some((column, name.clone()))),
        (None, _) => Err(row_filter.no_column(name, names.iter().map(String::as_str))),
        (Some(_), Some(_)) => Err(row_filter.bad_manifest(
            ErrorKind::Manifest,
            format!("two columns have the key's name `{name}`"),
        )),
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
