//! Floats in JSON, exact to the bit. JSON has no infinities, and some readers round numbers of 17
//! digits: both are written as strings.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::Serializer;

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

impl Written {
    fn value<E: Error>(self) -> Result<f64, E> {
        match self {
            Self::Number(value) => Ok(value),
            Self::Text(text) => {
                let got = || E::custom(format!("expected a number, got `{text}`"));
                text.parse().map_err(|_not_a_number| got())
            }
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    let text = serde_json::to_string(value).unwrap_or_default();
    let read = serde_json::from_str::<f64>(&text);
    if read.is_ok_and(|read| read.to_bits() == value.to_bits()) {
        serializer.serialize_f64(*value)
    } else {
        serializer.serialize_str(&value.to_string())
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Written::deserialize(deserializer)?.value()
}

/// The same for an optional number.
pub(super) mod optional {
    use super::{Deserialize, Deserializer, Serializer, Written};

    #[expect(clippy::ref_option, reason = "serde passes fields by reference")]
    pub(in crate::selection) fn serialize<S: Serializer>(
        value: &Option<f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::selection) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        Option::<Written>::deserialize(deserializer)?.map(Written::value).transpose()
    }
}
