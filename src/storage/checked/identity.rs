//! The table that a file belongs to, and the version of its schema.

use std::path::Path;

use parquet::file::metadata::{KeyValue, ParquetMetaData};

use crate::error::{Error, Result};

const TABLE_KEY: &str = "data_diet.table";
const VERSION_KEY: &str = "data_diet.schema_version";

/// A table's name, and the newest known version of its schema.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) table: &'static str,
    pub(crate) version: u32,
}

impl Identity {
    /// Returns the footer's entries.
    pub(crate) fn entries(self) -> [KeyValue; 2] {
        [
            KeyValue::new(TABLE_KEY.to_owned(), self.table.to_owned()),
            KeyValue::new(VERSION_KEY.to_owned(), self.version.to_string()),
        ]
    }

    /// Checks that a footer belongs to this table.
    pub(super) fn check(self, path: &Path, metadata: &ParquetMetaData) -> Result<()> {
        let Self { table, version: newest } = self;
        match value(metadata, TABLE_KEY) {
            Some(name) if name == table => {}
            Some(name) => {
                let what = format!("expected the table `{table}`, got `{name}`");
                return Err(Error::unsupported_format(path, what));
            }
            None => return Err(Error::unsupported_format(path, "is not a table of data-diet")),
        }
        match value(metadata, VERSION_KEY).and_then(|version| version.parse::<u32>().ok()) {
            Some(version) if version <= newest => Ok(()),
            version => Err(Error::unsupported_format(
                path,
                format!("has schema version {version:?}, this crate knows up to {newest}"),
            )),
        }
    }
}

/// Returns one entry of a footer.
pub(super) fn value<'a>(metadata: &'a ParquetMetaData, key: &str) -> Option<&'a str> {
    let entries = metadata.file_metadata().key_value_metadata();
    let entry = entries.into_iter().flatten().find(|entry| entry.key == key);
    entry.and_then(|entry| entry.value.as_deref())
}
