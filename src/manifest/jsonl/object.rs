//! Scans the fields of an object without looking into their values.

use super::BadRow;

/// The fields of an object on one line.
pub(in super::super) struct Object<'a> {
    bytes: &'a [u8],
    at: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// After `{`.
    First,
    /// After a value.
    Later,
    /// After `}`, or an error.
    Done,
}

/// A field as it is written.
pub(in super::super) struct Field<'a> {
    /// With its quotes.
    pub(in super::super) name: &'a [u8],
    pub(in super::super) value: &'a [u8],
}

impl Field<'_> {
    /// Returns whether the field has this name.
    pub(super) fn is_named(&self, name: &str) -> bool {
        let within = &self.name[1..self.name.len() - 1];
        if memchr::memchr(b'\\', within).is_none() {
            return within == name.as_bytes();
        }
        // Half of a surrogate pair is in no name that can be asked for.
        serde_json::from_slice::<String>(self.name).is_ok_and(|written| written == name)
    }
}

impl<'a> Object<'a> {
    pub(in super::super) fn new(line: &'a [u8]) -> Result<Self, BadRow> {
        let mut object = Self { bytes: line, at: 0, state: State::First };
        object.skip_blanks();
        if object.next_byte() != Some(b'{') {
            return Err(object.expected("an object"));
        }
        Ok(object)
    }

    fn skip_blanks(&mut self) {
        let blanks = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_whitespace());
        self.at += blanks.count();
    }

    fn next_byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    fn expected(&self, what: &str) -> BadRow {
        let column = self.at.max(1);
        BadRow::new(format!("expected a JSON object on the line; no {what} at column {column}"))
    }

    /// Skips a string, whose opening quote has been read.
    fn skip_string(&mut self) -> Result<(), BadRow> {
        loop {
            let Some(stop) = memchr::memchr2(b'"', b'\\', &self.bytes[self.at..]) else {
                self.at = self.bytes.len();
                return Err(self.expected("closing quote"));
            };
            self.at += stop + 1;
            if self.bytes[self.at - 1] == b'"' {
                return Ok(());
            }
            // What follows a backslash ends no string.
            self.at = (self.at + 1).min(self.bytes.len());
        }
    }

    /// Skips an object or an array, whose opening bracket has been read.
    fn skip_nested(&mut self) -> Result<(), BadRow> {
        let mut depth = 1;
        while depth > 0 {
            match self.next_byte() {
                Some(b'"') => self.skip_string()?,
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => depth -= 1,
                Some(_) => {}
                None => return Err(self.expected("closing bracket")),
            }
        }
        Ok(())
    }

    fn skip_value(&mut self) -> Result<(), BadRow> {
        match self.next_byte() {
            Some(b'"') => self.skip_string(),
            Some(b'{' | b'[') => self.skip_nested(),
            Some(b',' | b'}' | b']' | b':') | None => Err(self.expected("value")),
            Some(_) => {
                let rest = self.bytes[self.at..].iter();
                let word = rest
                    .take_while(|byte| !byte.is_ascii_whitespace() && !b",}]:\"{[".contains(byte));
                self.at += word.count();
                Ok(())
            }
        }
    }

    fn field(&mut self) -> Result<Option<Field<'a>>, BadRow> {
        self.skip_blanks();
        match (self.state, self.next_byte()) {
            (_, Some(b'}')) => {
                self.skip_blanks();
                self.state = State::Done;
                return if self.at == self.bytes.len() {
                    Ok(None)
                } else {
                    Err(BadRow::new("expected one JSON object on the line, got more behind it"))
                };
            }
            (State::First, Some(b'"')) => self.at -= 1,
            (State::Later, Some(b',')) => self.skip_blanks(),
            (State::First, _) => return Err(self.expected("name of a field")),
            (_, _) => return Err(self.expected("comma or closing bracket")),
        }
        let start = self.at;
        if self.next_byte() != Some(b'"') {
            return Err(self.expected("name of a field"));
        }
        self.skip_string()?;
        let name = &self.bytes[start..self.at];
        self.skip_blanks();
        if self.next_byte() != Some(b':') {
            return Err(self.expected("colon"));
        }
        self.skip_blanks();
        let start = self.at;
        self.skip_value()?;
        self.state = State::Later;
        Ok(Some(Field { name, value: &self.bytes[start..self.at] }))
    }
}

impl<'a> Iterator for Object<'a> {
    type Item = Result<Field<'a>, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Done {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.state = State::Done;
        }
        field.transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Scanned = (Vec<u8>, Vec<u8>);

    fn scan(line: &[u8]) -> Result<Vec<Scanned>, BadRow> {
        let fields = Object::new(line)?;
        fields.map(|field| field.map(|it| (it.name.to_vec(), it.value.to_vec()))).collect()
    }

    fn values() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<i16>().prop_map(|quarters| (f64::from(quarters) / 4.0).into()),
            ".{0,12}".prop_map(Into::into),
            prop::sample::select(vec!["\"", "\\", "}{][", ":,", "\u{1F600}\n"])
                .prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map(".{0,5}", inner, 0..4)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_writes_is_scanned(
            fields in prop::collection::btree_map(".{0,6}", values(), 0..6), pretty: bool
        ) {
            let object = serde_json::Value::Object(fields.clone().into_iter().collect());
            let text = if pretty {
                serde_json::to_string_pretty(&object).unwrap().replace('\n', " ")
            } else {
                object.to_string()
            };
            let found = scan(text.as_bytes()).unwrap();
            prop_assert_eq!(found.len(), fields.len());
            for ((name, value), (expected, expected_value)) in found.iter().zip(&fields) {
                let field = Field { name, value };
                prop_assert!(field.is_named(expected) && !field.is_named("another"));
                let value: serde_json::Value = serde_json::from_slice(value).unwrap();
                prop_assert_eq!(&value, expected_value);
            }
            // Cut short, it is refused.
            prop_assert!(scan(&text.as_bytes()[..text.len() - 1]).is_err());
        }

        #[test]
        fn any_bytes_are_scanned_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _any_outcome = scan(&bytes);
        }

        #[test]
        fn json_like_bytes_are_scanned_or_refused(
            bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\ a1".to_vec()), 0..40)
        ) {
            // What serde takes for an object is one here too.
            let parsed = serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(&bytes);
            prop_assert!(parsed.is_err() || scan(&bytes).is_ok());
        }
    }

    #[test]
    fn values_that_are_not_json_pass() {
        for line in [
            &b"{\"a\": NaN, \"b\": -Infinity}"[..],
            b"{\"a\": \"\\ud800\", \"\\udc00\": 1}",
            b"{\"a\": \"\xff\xfe\", \"b\": 01}",
        ] {
            assert_eq!(scan(line).unwrap().len(), 2, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for line in [
            "",
            "[]",
            "1",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1,}",
            "{,}",
            "{a:1}",
            "{}{}",
            "{'a':1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":[1}",
            "{\"a\":\"x}",
            "{\"a\"::1}",
            "{\"a\":1}x",
        ] {
            let outcome = scan(line.as_bytes());
            // Brackets of different kinds are not told apart within a value.
            assert!(outcome.is_err(), "{line}");
        }
    }
}
