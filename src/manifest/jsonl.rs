//! JSON Lines: one object per line, copied byte for byte.

use std::fmt;
use std::io::{BufRead, BufReader, Write};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::input::ManifestInput;
use super::sieve::Sieve;
use super::{Manifest, write_failed};
use crate::error::{ErrorKind, Result};

/// Blank lines are no rows, and do not come through.
pub(super) fn filter(
    manifest: &Manifest,
    input: ManifestInput<'_>,
    output: &mut dyn Write,
    sieve: &mut Sieve<'_>,
) -> Result<()> {
    let mut input = BufReader::with_capacity(1 << 18, input.into_reader());
    let mut line = Vec::new();
    loop {
        line.clear();
        input.read_until(b'\n', &mut line).map_err(|error| {
            sieve.bad_manifest(ErrorKind::Io, "cannot be read").with_source(error)
        })?;
        if line.is_empty() {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        if keeps(manifest, &line, sieve)? {
            output.write_all(&line).map_err(write_failed)?;
        }
    }
}

fn keeps(manifest: &Manifest, line: &[u8], sieve: &mut Sieve<'_>) -> Result<bool> {
    let Some(field) = &manifest.key else { return Ok(sieve.keeps(sieve.next_row() as i64)) };
    let mut parser = serde_json::Deserializer::from_slice(line);
    let key = (&mut parser).deserialize_map(Field(field)).and_then(|key| {
        parser.end()?;
        Ok(key)
    });
    match key {
        Ok(Some(Key::Id(example))) => Ok(sieve.keeps(example)),
        Ok(Some(Key::Text(text))) => sieve.keeps_text(&text, field),
        Ok(Some(Key::Other(what))) => Err(sieve.no_id(field, &what)),
        Ok(None) => Err(sieve.missing(field)),
        Err(error) => Err(sieve.bad_row("expected a JSON object").with_source(error)),
    }
}

/// What an object has under the key's name.
enum Key {
    Id(i64),
    Text(String),
    Other(String),
}

/// Finds one field of an object and passes over the others.
struct Field<'a>(&'a str);

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<Key>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_key) = object.next_key_seed(Is(self.0))? {
            if !is_key {
                object.next_value::<IgnoredAny>()?;
            } else if found.is_some() {
                return Err(A::Error::custom(format_args!("two fields `{}`", self.0)));
            } else {
                found = Some(match object.next_value::<serde_json::Value>()? {
                    serde_json::Value::String(text) => Key::Text(text),
                    serde_json::Value::Null => return Ok(None),
                    value => match value.as_i64().filter(|&id| id >= 0) {
                        Some(example) => Key::Id(example),
                        None => Key::Other(value.to_string()),
                    },
                });
            }
        }
        Ok(found)
    }
}

/// Compares a field's name without keeping it.
struct Is<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}
