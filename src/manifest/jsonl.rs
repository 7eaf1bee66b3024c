//! JSON Lines: one object per line, copied byte for byte.

use std::fmt;
use std::io::Write;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::added_scores::Added;
use super::input::ManifestInput;
use super::pipeline::{self, Output, Splitter};
use super::row_filter::RowFilter;
use super::{Manifest, write_failed};
use crate::error::{Error, ErrorKind, Result};

/// Blank lines are not rows, and are dropped.
pub(super) fn filter(
    manifest: &Manifest,
    input: ManifestInput<'_>,
    output: &mut (dyn Write + Send),
    row_filter: &mut RowFilter<'_>,
) -> Result<()> {
    let added = Added::of(manifest);
    let mut lines = Lines {
        manifest,
        row_filter,
        added,
        found: Vec::new(),
        ids: Vec::new(),
        keep_flags: Vec::new(),
        scratch: Vec::new(),
    };
    pipeline::run(input, output, manifest.compression, &mut lines)
}

struct Lines<'a, 's> {
    manifest: &'a Manifest,
    row_filter: &'a mut RowFilter<'s>,
    added: Option<Added<'a>>,
    /// Lines that have been found but not decided about, and their ids.
    found: Vec<Line>,
    ids: Vec<i64>,
    keep_flags: Vec<bool>,
    scratch: Vec<u8>,
}

/// The position of a line, and what is needed to keep it.
struct Line {
    place: Range<usize>,
    fields: usize,
    taken: Option<String>,
}

impl Splitter for Lines<'_, '_> {
    fn take(&mut self, window: &[u8], at_end: bool, output: &mut Output<'_>) -> Result<usize> {
        let mut at = 0;
        while at < window.len() {
            let rest = &window[at..];
            let length = match memchr::memchr(b'\n', rest) {
                Some(end) => end + 1,
                None if at_end => rest.len(),
                None => break,
            };
            let place = at..at + length;
            at += length;
            if !window[place.clone()].trim_ascii().is_empty() {
                self.find(window, place)?;
            }
        }
        self.decide(window, output)?;
        Ok(at)
    }

    fn bad_row(&self, what: &str) -> Error {
        self.row_filter.bad_row(what)
    }

    fn bad_manifest(&self, kind: ErrorKind, what: &str) -> Error {
        self.row_filter.bad_manifest(kind, what)
    }
}

impl Lines<'_, '_> {
    /// Finds the id of a line.
    fn find(&mut self, window: &[u8], place: Range<usize>) -> Result<()> {
        // Without a key or an added score, the line need not be parsed.
        let object = match (&self.manifest.key, &self.added) {
            (None, None) => Object::default(),
            (key, added) => {
                let fields = Fields { key: key.as_deref(), added: added.as_ref() };
                let mut parser = serde_json::Deserializer::from_slice(&window[place.clone()]);
                let object = (&mut parser).deserialize_map(fields);
                object.and_then(|object| parser.end().map(|()| object)).map_err(|error| {
                    self.row_filter.bad_row("expected a JSON object").with_source(error)
                })?
            }
        };
        self.ids.push(match (&self.manifest.key, object.key) {
            (None, _) => self.row_filter.id_of_row(),
            (Some(name), Some(Key::Id(id))) => self.row_filter.id_of_number(id, name)?,
            (Some(name), Some(Key::Text(text))) => {
                self.row_filter.id_of_text(text.as_bytes(), name)?
            }
            (Some(name), Some(Key::Other(what))) => return Err(self.row_filter.no_id(name, &what)),
            (Some(name), None) => return Err(self.row_filter.missing(name)),
        });
        self.found.push(Line { place, fields: object.fields, taken: object.taken });
        Ok(())
    }

    fn decide(&mut self, window: &[u8], output: &mut Output<'_>) -> Result<()> {
        self.row_filter.decide(&self.ids, &mut self.keep_flags);
        for ((line, &id), &keep) in self.found.iter().zip(&self.ids).zip(&self.keep_flags) {
            let text = &window[line.place.clone()];
            match &self.added {
                _ if !keep => {}
                None => output.push(text)?,
                Some(added) => {
                    if let Some(name) = &line.taken {
                        return Err(self.row_filter.has_column(name));
                    }
                    self.scratch.clear();
                    let is_empty = line.fields == 0;
                    write_values(added, id, is_empty, &mut self.scratch, self.row_filter)?;
                    let (object, end) = text.split_at(text.trim_ascii_end().len() - 1);
                    output.push(object)?;
                    output.push(&self.scratch)?;
                    output.push(end)?;
                }
            }
        }
        self.found.clear();
        self.ids.clear();
        Ok(())
    }
}

/// Writes the fields for the scores of a row.
fn write_values(
    added: &Added<'_>,
    id: i64,
    is_empty: bool,
    text: &mut Vec<u8>,
    row_filter: &RowFilter<'_>,
) -> Result<()> {
    for (place, (name, value)) in added.names().zip(added.values(id)).enumerate() {
        let comma = if is_empty && place == 0 { "" } else { "," };
        let quoted = serde_json::Value::from(name);
        match value {
            None => write!(text, "{comma}{quoted}:null"),
            Some(value) if value.is_finite() => {
                write!(text, "{comma}{quoted}:{}", serde_json::Value::from(value))
            }
            Some(value) => {
                return Err(row_filter.bad_manifest(
                    ErrorKind::Manifest,
                    format!(
                        "the `{name}` of example {id} is {value}, which JSON has no number for; add \
                         another score"
                    ),
                ));
            }
        }
        .map_err(write_failed)?;
    }
    Ok(())
}

/// What is needed of an object.
#[derive(Default)]
struct Object {
    key: Option<Key>,
    /// The number of its fields.
    fields: usize,
    /// A field that has the name of one to be added.
    taken: Option<String>,
}

/// The value of an object's key field.
enum Key {
    Id(i64),
    Text(String),
    Other(String),
}

/// Reads some fields of an object and skips the others.
#[derive(Clone, Copy)]
struct Fields<'a> {
    key: Option<&'a str>,
    added: Option<&'a Added<'a>>,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut object = Object::default();
        let mut has_key = false;
        while let Some(field) = map.next_key_seed(self)? {
            object.fields += 1;
            match field {
                Field::Key if has_key => {
                    let key = self.key.unwrap_or_default();
                    return Err(A::Error::custom(format_args!("two fields `{key}`")));
                }
                Field::Key => {
                    has_key = true;
                    object.key = match map.next_value::<serde_json::Value>()? {
                        serde_json::Value::String(text) => Some(Key::Text(text)),
                        serde_json::Value::Null => None,
                        value => match value.as_i64() {
                            Some(example) => Some(Key::Id(example)),
                            None => Some(Key::Other(value.to_string())),
                        },
                    };
                    if self.key.is_some_and(|key| self.is_added(key)) {
                        object.taken = self.key.map(str::to_owned);
                    }
                }
                Field::Taken(name) => {
                    map.next_value::<IgnoredAny>()?;
                    object.taken = Some(name);
                }
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(object)
    }
}

impl Fields<'_> {
    fn is_added(self, name: &str) -> bool {
        self.added.is_some_and(|added| added.names().any(|added| added == name))
    }
}

enum Field {
    Key,
    Taken(String),
    Other,
}

/// Compares a field's name without storing it.
impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        struct Name<'a>(Fields<'a>);

        impl Visitor<'_> for Name<'_> {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Field, E> {
                Ok(match self.0 {
                    fields if fields.key == Some(name) => Field::Key,
                    fields if fields.is_added(name) => Field::Taken(name.to_owned()),
                    _ => Field::Other,
                })
            }
        }
        deserializer.deserialize_str(Name(self))
    }
}
