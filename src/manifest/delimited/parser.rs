//! Parses one record of delimited text with `csv-core`, which defines what quotes in odd places
//! mean.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

/// Parses one record at a time.
#[derive(Debug)]
pub(in super::super) struct Parser {
    reader: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

/// What the bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Parsed {
    /// A record of this many bytes, including blank lines before it and its line end.
    Record(usize),
    /// The beginning of a record.
    Part,
    /// The beginning of a record that ends inside a quoted field, with nothing after it.
    OpenQuote,
    /// Blank lines with nothing after them.
    Blank,
}

impl Parser {
    pub(in super::super) fn new(delimiter: u8, quotes: bool) -> Self {
        let reader = ReaderBuilder::new().delimiter(delimiter).quoting(quotes).build();
        Self { reader, text: vec![0; 1024], ends: vec![0; 64] }
    }

    /// Parses the record at the front of `bytes`. `at_end` says that nothing follows them.
    pub(in super::super) fn parse(&mut self, bytes: &[u8], at_end: bool) -> Parsed {
        let (outcome, mut length) = self.read(bytes, at_end, &[]);
        match outcome {
            None => return Parsed::Part,
            Some(false) => return Parsed::Blank,
            Some(true) => {}
        }
        // The parser ends a record at a carriage return; the line feed after it belongs to the same
        // line.
        if bytes[..length].last() == Some(&b'\r') {
            match bytes.get(length) {
                Some(b'\n') => length += 1,
                Some(_) => {}
                None if at_end => {}
                None => return Parsed::Part,
            }
        }
        // The parser ends a record at the end of the text, too. If a quote is open, a line feed
        // after it would not.
        if at_end && length == bytes.len() && bytes.contains(&b'"') {
            let fields = self.ends.clone();
            if self.read(bytes, false, b"\n").0.is_none() {
                return Parsed::OpenQuote;
            }
            self.ends = fields;
        }
        Parsed::Record(length)
    }

    /// Returns whether there is a record, if that is known, and its length in bytes.
    fn read(&mut self, bytes: &[u8], at_end: bool, more: &[u8]) -> (Option<bool>, usize) {
        self.ends.resize(self.ends.len().max(64), 0);
        self.reader.reset();
        // The reader drops a byte order mark that comes first. A blank line comes before text that
        // may begin in the middle of a file.
        self.reader.read_record(b"\n", &mut self.text, &mut self.ends);
        let (mut read, mut text, mut ends) = (0, 0, 0);
        loop {
            let unseen = if read < bytes.len() { &bytes[read..] } else { more };
            if unseen.is_empty() && !at_end {
                return (None, read);
            }
            if self.ends.len() == ends {
                self.ends.resize(2 * ends, 0);
            }
            let (result, more_read, more_text, more_ends) =
                self.reader.read_record(unseen, &mut self.text[text..], &mut self.ends[ends..]);
            let past_the_end = read >= bytes.len() && !more.is_empty();
            read += more_read;
            text += more_text;
            ends += more_ends;
            match result {
                ReadRecordResult::InputEmpty if past_the_end => return (None, read),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(2 * self.text.len(), 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                ReadRecordResult::Record => {
                    self.ends.truncate(ends);
                    return (Some(true), read);
                }
                ReadRecordResult::End => return (Some(false), read),
            }
        }
    }

    /// Returns the number of fields of the record that was parsed last.
    pub(in super::super) fn fields(&self) -> usize {
        self.ends.len()
    }

    /// Returns a field of the record that was parsed last, without its quotes.
    pub(in super::super) fn field(&self, column: usize) -> &[u8] {
        let start = column.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[column]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_parts_and_open_quotes_are_told_apart() {
        let parse = |text: &str, at_end| {
            let mut parser = Parser::new(b',', true);
            let parsed = parser.parse(text.as_bytes(), at_end);
            let count = if matches!(parsed, Parsed::Record(_)) { parser.fields() } else { 0 };
            let fields = (0..count).map(|column| parser.field(column).to_vec());
            let fields: Vec<_> = fields.map(|field| String::from_utf8(field).unwrap()).collect();
            (parsed, fields.join("|"))
        };
        let record = |length, fields: &str| (Parsed::Record(length), fields.to_owned());
        assert_eq!(parse("a,b\nc\n", false), record(4, "a|b"));
        assert_eq!(parse("\r\n\na\r\nb", false), record(6, "a"));
        assert_eq!(parse("a,\"\"\"x\n\"", true), record(8, "a|\"x\n"));
        assert_eq!(parse("a\r", true), record(2, "a"));
        assert_eq!(parse("\u{feff}a\n", true), record(5, "\u{feff}a"), "only at a text's start");
        let many = ",".repeat(3000);
        assert_eq!(parse(&many, true).0, Parsed::Record(3000));
        for part in ["a", "a\r", "\"a\n", "\n", ""] {
            assert_eq!(parse(part, false).0, Parsed::Part, "{part:?}");
        }
        assert_eq!(parse("\n\r\n", true).0, Parsed::Blank);
        for open in ["\"", "a,\"b\n", "\"a\"\""] {
            assert_eq!(parse(open, true).0, Parsed::OpenQuote, "{open:?}");
        }
    }
}
