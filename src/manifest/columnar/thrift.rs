//! Thrift's compact protocol, in which Parquet stores its footer and page indexes, as a tree that
//! keeps fields this program does not know.
//!
//! The Parquet crate reads a footer into its own types and writes those, which loses or adds what
//! they do not hold exactly; it does not export its Thrift code. The `thrift` crate has no tree and
//! a runtime of its own.
//!
//! Source: the Thrift project's `thrift-compact-protocol.md`.

use parquet::errors::{ParquetError, Result};

/// Structs and lists nested deeper than this are damage.
const MAX_DEPTH: usize = 32;

/// A value of any type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Byte(u8),
    /// 16, 32 or 64 bits, by the type code.
    Integer(Kind, i64),
    Double([u8; 8]),
    Binary(Vec<u8>),
    /// A list or a set.
    List(Kind, Kind, Vec<Self>),
    Map(Kind, Kind, Vec<(Self, Self)>),
    Struct(Struct),
    Uuid([u8; 16]),
}

/// The fields of a struct by their ids, in the order in which they are stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Struct(pub(super) Vec<(i16, Value)>);

/// A type code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    const TRUE: Self = Self(1);
    const FALSE: Self = Self(2);
    const BYTE: Self = Self(3);
    const I16: Self = Self(4);
    pub(super) const I32: Self = Self(5);
    pub(super) const I64: Self = Self(6);
    const DOUBLE: Self = Self(7);
    const BINARY: Self = Self(8);
    pub(super) const LIST: Self = Self(9);
    const SET: Self = Self(10);
    const MAP: Self = Self(11);
    pub(super) const STRUCT: Self = Self(12);
    const UUID: Self = Self(13);
}

impl Value {
    pub(super) fn as_struct_mut(&mut self) -> Option<&mut Struct> {
        match self {
            Self::Struct(fields) => Some(fields),
            _ => None,
        }
    }

    pub(super) fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(_, value) => Some(*value),
            _ => None,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Bool(true) => Kind::TRUE,
            Self::Bool(false) => Kind::FALSE,
            Self::Byte(_) => Kind::BYTE,
            Self::Integer(kind, _) | Self::List(kind, ..) => *kind,
            Self::Double(_) => Kind::DOUBLE,
            Self::Binary(_) => Kind::BINARY,
            Self::Map(..) => Kind::MAP,
            Self::Struct(_) => Kind::STRUCT,
            Self::Uuid(_) => Kind::UUID,
        }
    }
}

impl Struct {
    pub(super) fn get(&self, id: i16) -> Option<&Value> {
        self.0.iter().find(|(found, _)| *found == id).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, id: i16) -> Option<&mut Value> {
        self.0.iter_mut().find(|(found, _)| *found == id).map(|(_, value)| value)
    }

    pub(super) fn remove(&mut self, ids: &[i16]) {
        self.0.retain(|(id, _)| !ids.contains(id));
    }
}

/// Reads values off the front of some bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

fn damaged(what: &str) -> ParquetError {
    ParquetError::General(format!("the footer is damaged: {what}"))
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.bytes.split_at_checked(length).ok_or_else(|| damaged("it ends too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_length| damaged("it ends too early"))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn unsigned(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("an integer has more than 64 bits"))
    }

    fn signed(&mut self) -> Result<i64> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A count of things that take at least a byte each.
    fn count(&mut self) -> Result<usize> {
        let count = self.unsigned()?;
        if count > self.bytes.len() as u64 {
            return Err(damaged("a length exceeds its end"));
        }
        Ok(count as usize)
    }

    /// Reads the header of a struct's next field, whose previous field has the id `previous`; `None`
    /// at the end of the struct.
    pub(super) fn field(&mut self, previous: i16) -> Result<Option<(i16, Kind)>> {
        let header = self.byte()?;
        if header == 0 {
            return Ok(None);
        }
        let id = match header >> 4 {
            0 => self.signed()? as i16,
            delta => previous.wrapping_add(i16::from(delta)),
        };
        Ok(Some((id, Kind(header & 0x0f))))
    }

    /// Reads the header of a list: the type of its elements, and their number.
    pub(super) fn list(&mut self) -> Result<(Kind, usize)> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.count()?,
            count => usize::from(count),
        };
        Ok((Kind(header & 0x0f), count))
    }

    pub(super) fn read_struct(&mut self) -> Result<Struct> {
        self.struct_within(0)
    }

    fn struct_within(&mut self, depth: usize) -> Result<Struct> {
        if depth > MAX_DEPTH {
            return Err(damaged("it is nested too deeply"));
        }
        let mut fields = Vec::new();
        let mut previous = 0;
        while let Some((id, kind)) = self.field(previous)? {
            let value = match kind {
                Kind::TRUE => Value::Bool(true),
                Kind::FALSE => Value::Bool(false),
                kind => self.value(kind, depth + 1)?,
            };
            fields.push((id, value));
            previous = id;
        }
        Ok(Struct(fields))
    }

    /// Reads a value of this type. Booleans are stored as in a list.
    fn value(&mut self, kind: Kind, depth: usize) -> Result<Value> {
        if depth > MAX_DEPTH {
            return Err(damaged("it is nested too deeply"));
        }
        Ok(match kind {
            Kind::TRUE | Kind::FALSE => Value::Bool(self.byte()? == 1),
            Kind::BYTE => Value::Byte(self.byte()?),
            Kind::I16 | Kind::I32 | Kind::I64 => Value::Integer(kind, self.signed()?),
            Kind::DOUBLE => Value::Double(self.array()?),
            Kind::BINARY => {
                let length = self.count()?;
                Value::Binary(self.take(length)?.to_vec())
            }
            Kind::LIST | Kind::SET => {
                let (element, count) = self.list()?;
                let mut values = Vec::with_capacity(count.min(self.bytes.len()));
                for _ in 0..count {
                    values.push(self.value(element, depth + 1)?);
                }
                Value::List(kind, element, values)
            }
            Kind::MAP => {
                let count = self.count()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                let (key, value) = (Kind(kinds >> 4), Kind(kinds & 0x0f));
                let mut entries = Vec::new();
                for _ in 0..count {
                    entries.push((self.value(key, depth + 1)?, self.value(value, depth + 1)?));
                }
                Value::Map(key, value, entries)
            }
            Kind::STRUCT => Value::Struct(self.struct_within(depth)?),
            Kind::UUID => Value::Uuid(self.array()?),
            Kind(_) => return Err(damaged("a field has an unknown type")),
        })
    }

    /// Skips a struct's field, and returns its bytes.
    pub(super) fn raw(&mut self, kind: Kind) -> Result<&'a [u8]> {
        let start = self.bytes;
        if !matches!(kind, Kind::TRUE | Kind::FALSE) {
            self.value(kind, 0)?;
        }
        Ok(&start[..start.len() - self.bytes.len()])
    }
}

/// Writes values.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn signed(&mut self, value: i64) {
        self.unsigned((value << 1 ^ value >> 63) as u64);
    }

    /// Writes the header of a field after that with the id `previous`.
    pub(super) fn field(&mut self, previous: i16, id: i16, kind: Kind) {
        let delta = i32::from(id) - i32::from(previous);
        if (1..=15).contains(&delta) {
            self.bytes.push((delta as u8) << 4 | kind.0);
        } else {
            self.bytes.push(kind.0);
            self.signed(i64::from(id));
        }
    }

    pub(super) fn end_of_struct(&mut self) {
        self.bytes.push(0);
    }

    /// Writes the header of a list.
    pub(super) fn list(&mut self, element: Kind, count: usize) {
        if count < 15 {
            self.bytes.push((count as u8) << 4 | element.0);
        } else {
            self.bytes.push(0xf0 | element.0);
            self.unsigned(count as u64);
        }
    }

    pub(super) fn write_struct(&mut self, fields: &Struct) {
        let mut previous = 0;
        for (id, value) in &fields.0 {
            self.field(previous, *id, value.kind());
            if !matches!(value, Value::Bool(_)) {
                self.write(value);
            }
            previous = *id;
        }
        self.end_of_struct();
    }

    /// Writes a value without a field's header.
    pub(super) fn write(&mut self, value: &Value) {
        match value {
            Value::Bool(value) => self.bytes.push(if *value { Kind::TRUE } else { Kind::FALSE }.0),
            Value::Byte(value) => self.bytes.push(*value),
            Value::Integer(_, value) => self.signed(*value),
            Value::Double(bytes) => self.bytes.extend_from_slice(bytes),
            Value::Binary(bytes) => {
                self.unsigned(bytes.len() as u64);
                self.bytes.extend_from_slice(bytes);
            }
            Value::List(_, element, values) => {
                self.list(*element, values.len());
                for value in values {
                    self.write(value);
                }
            }
            Value::Map(key, value, entries) => {
                self.unsigned(entries.len() as u64);
                if !entries.is_empty() {
                    self.bytes.push(key.0 << 4 | value.0);
                }
                for (key, value) in entries {
                    self.write(key);
                    self.write(value);
                }
            }
            Value::Struct(fields) => self.write_struct(fields),
            Value::Uuid(bytes) => self.bytes.extend_from_slice(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns a value for a field of a struct, in which any kind can occur.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<u8>().prop_map(Value::Byte),
            any::<i16>().prop_map(|value| Value::Integer(Kind::I16, value.into())),
            any::<i64>().prop_map(|value| Value::Integer(Kind::I64, value)),
            any::<[u8; 8]>().prop_map(Value::Double),
            any::<[u8; 16]>().prop_map(Value::Uuid),
            prop::collection::vec(any::<u8>(), 0..200).prop_map(Value::Binary),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            let fields = prop::collection::btree_map(any::<i16>(), inner, 0..8);
            let fields = fields.prop_map(|fields| Struct(fields.into_iter().collect()));
            let lists = prop::collection::vec(any::<bool>(), 0..20);
            prop_oneof![
                fields.clone().prop_map(Value::Struct),
                prop::collection::vec(fields.clone().prop_map(Value::Struct), 0..20)
                    .prop_map(|list| Value::List(Kind::LIST, Kind::STRUCT, list)),
                lists.prop_map(|list| Value::List(
                    Kind::SET,
                    Kind::TRUE,
                    list.into_iter().map(Value::Bool).collect()
                )),
                prop::collection::vec((any::<i32>(), fields), 1..5).prop_map(|entries| Value::Map(
                    Kind::I32,
                    Kind::STRUCT,
                    entries
                        .into_iter()
                        .map(|(key, value)| {
                            (Value::Integer(Kind::I32, key.into()), Value::Struct(value))
                        })
                        .collect()
                )),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            fields in prop::collection::btree_map(any::<i16>(), values(), 0..10),
            cut in any::<prop::sample::Index>(),
        ) {
            let fields = Struct(fields.into_iter().collect());
            let mut writer = Writer::default();
            writer.write_struct(&fields);
            let mut reader = Reader::new(&writer.bytes);
            prop_assert_eq!(&reader.read_struct().unwrap(), &fields);
            prop_assert!(reader.bytes.is_empty());
            // Cut short, it is damaged.
            let cut = cut.index(writer.bytes.len());
            prop_assert!(Reader::new(&writer.bytes[..cut]).read_struct().is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _any_outcome = Reader::new(&bytes).read_struct();
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        // Field 1 (i32) = 1, field 2 (binary) = "ab", field 20 (true), field 21 (list of 2 i64).
        let fields = Struct(vec![
            (1, Value::Integer(Kind::I32, 1)),
            (2, Value::Binary(b"ab".to_vec())),
            (20, Value::Bool(true)),
            (
                21,
                Value::List(
                    Kind::LIST,
                    Kind::I64,
                    vec![Value::Integer(Kind::I64, -1), Value::Integer(Kind::I64, 64)],
                ),
            ),
        ]);
        let mut writer = Writer::default();
        writer.write_struct(&fields);
        let expected =
            [0x15, 0x02, 0x18, 0x02, b'a', b'b', 0x01, 0x28, 0x19, 0x26, 0x01, 0x80, 0x01, 0x00];
        assert_eq!(writer.bytes, expected);
    }

    #[test]
    fn deep_nesting_is_damage() {
        // A struct in a struct in a struct ...
        let error = Reader::new(&[0x1c; 10_000]).read_struct().unwrap_err();
        assert!(error.to_string().contains("nested too deeply"), "{error}");
        // A list in a list ...
        let mut lists = vec![0x19];
        lists.extend([0x19; 10_000]);
        let error = Reader::new(&lists).read_struct().unwrap_err();
        assert!(error.to_string().contains("nested too deeply"), "{error}");
    }
}
