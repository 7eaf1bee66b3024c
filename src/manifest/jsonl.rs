//! JSON Lines: one object per line, copied byte for byte.

use std::fmt;
use std::io::Write;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::added::Added;
use super::input::ManifestInput;
use super::pipeline::{self, Output, Splitter};
use super::sieve::Sieve;
use super::{Manifest, write_failed};
use crate::error::{Error, ErrorKind, Result};

/// Blank lines are no rows, and do not come through.
pub(super) fn filter(
    manifest: &Manifest,
    input: ManifestInput<'_>,
    output: &mut (dyn Write + Send),
    sieve: &mut Sieve<'_>,
) -> Result<()> {
    let added = Added::of(manifest);
    let mut lines = Lines { manifest, sieve, added, scratch: Vec::new() };
    pipeline::run(input, output, manifest.compression, &mut lines)
}

struct Lines<'a, 's> {
    manifest: &'a Manifest,
    sieve: &'a mut Sieve<'s>,
    added: Option<Added<'a>>,
    scratch: Vec<u8>,
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
            let line = &rest[..length];
            at += length;
            if !line.trim_ascii().is_empty() {
                self.decide(line, output)?;
            }
        }
        Ok(at)
    }

    fn bad_row(&self, what: &str) -> Error {
        self.sieve.bad_row(what)
    }

    fn bad_manifest(&self, kind: ErrorKind, what: &str) -> Error {
        self.sieve.bad_manifest(kind, what)
    }
}

impl Lines<'_, '_> {
    fn decide(&mut self, line: &[u8], output: &mut Output<'_>) -> Result<()> {
        // Without a key or an added score nobody has to look into the line.
        let object = match (&self.manifest.key, &self.added) {
            (None, None) => Object::default(),
            (key, added) => {
                let fields = Fields { key: key.as_deref(), added: added.as_ref() };
                let mut parser = serde_json::Deserializer::from_slice(line);
                let object = (&mut parser).deserialize_map(fields);
                object.and_then(|object| parser.end().map(|()| object)).map_err(|error| {
                    self.sieve.bad_row("expected a JSON object").with_source(error)
                })?
            }
        };
        let keep = match (&self.manifest.key, object.key) {
            (None, _) => self.sieve.keeps_row(),
            (Some(name), Some(Key::Id(example))) => self.sieve.keeps_id(example, name)?,
            (Some(name), Some(Key::Text(text))) => self.sieve.keeps_text(text.as_bytes(), name)?,
            (Some(name), Some(Key::Other(what))) => return Err(self.sieve.no_id(name, &what)),
            (Some(name), None) => return Err(self.sieve.missing(name)),
        };
        if !keep {
            return Ok(());
        }
        let Some(added) = &self.added else { return output.push(line) };
        if let Some(name) = object.taken {
            return Err(self.sieve.has_column(&name));
        }
        let end = line.trim_ascii_end().len() - 1;
        self.scratch.clear();
        let values = added.values(self.sieve.example());
        for (place, (name, value)) in added.names().zip(values).enumerate() {
            let comma = if object.fields == 0 && place == 0 { "" } else { "," };
            let name = serde_json::Value::from(name);
            let written = match value {
                None => write!(self.scratch, "{comma}{name}:null"),
                Some(value) if value.is_finite() => {
                    write!(self.scratch, "{comma}{name}:{}", serde_json::Value::from(value))
                }
                Some(value) => {
                    return Err(self.sieve.bad_row(format!(
                        "its {name} is {value}, which JSON has no number for; add another score"
                    )));
                }
            };
            written.map_err(write_failed)?;
        }
        output.push(&line[..end])?;
        output.push(&self.scratch)?;
        output.push(&line[end..])
    }
}

/// What is of interest in an object.
#[derive(Default)]
struct Object {
    key: Option<Key>,
    /// How many fields it has.
    fields: usize,
    /// A field that has the name of one to be added.
    taken: Option<String>,
}

/// What an object has under the key's name.
enum Key {
    Id(i64),
    Text(String),
    Other(String),
}

/// Looks for some fields of an object and passes over the others.
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

/// Compares a field's name without keeping it.
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
