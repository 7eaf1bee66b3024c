//! Finds the delimiters and line ends of delimited text that are outside quoted fields, 64 bytes at
//! a time, as bits. `csv-core` defines what a record is, but looks at one byte at a time.
//!
//! This handles quotes as writers put them: around a whole field, doubled within it. Marking stops
//! at a quote anywhere else, where `parser` continues with `csv-core`.

const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
/// Multiplying words whose bytes are 0 or 1 by this gathers those bits in the highest byte.
const GATHER: u64 = 0x0102_0408_1020_4080;

/// The marks of some bytes, the first of which begins a record.
#[derive(Debug, Default)]
pub(super) struct Marks {
    delimiters: Vec<u64>,
    ends: Vec<u64>,
    /// The number of marked bytes.
    length: usize,
    /// Whether marking has stopped at a misplaced quote.
    stopped: bool,
}

impl Marks {
    pub(super) fn mark(&mut self, bytes: &[u8], delimiter: u8, quotes: bool) {
        self.delimiters.clear();
        self.ends.clear();
        self.stopped = false;
        let mut state = State { within: 0, after_separator: 1, after_close: 0 };
        let mut blocks = bytes.chunks_exact(64);
        for block in &mut blocks {
            let Ok(block) = block.try_into() else { continue };
            if !self.mark_block(block, u64::MAX, &mut state, delimiter, quotes) {
                return;
            }
        }
        let rest = blocks.remainder();
        if !rest.is_empty() {
            let mut block = [0; 64];
            block[..rest.len()].copy_from_slice(rest);
            let valid = (1 << rest.len()) - 1;
            if !self.mark_block(&block, valid, &mut state, delimiter, quotes) {
                return;
            }
        }
        self.length = bytes.len();
    }

    /// Returns whether marking can continue.
    #[inline]
    fn mark_block(
        &mut self,
        block: &[u8; 64],
        valid: u64,
        state: &mut State,
        delimiter: u8,
        quotes: bool,
    ) -> bool {
        let mut delimiters = equal(block, delimiter);
        let mut ends = equal(block, b'\n') | equal(block, b'\r');
        let quotes = if quotes { equal(block, b'"') } else { 0 };
        if quotes != 0 || state.within != 0 || state.after_close != 0 {
            // For each bit, whether the number of quotes so far is odd.
            let within = parity(quotes) ^ state.within;
            let (opening, closing) = (quotes & within, quotes & !within);
            delimiters &= !within;
            ends &= !within;
            let separators = delimiters | ends;
            let after_separator = separators << 1 | state.after_separator;
            let after_close = closing << 1 | state.after_close;
            let misplaced = opening & !(after_separator | after_close);
            let trailed = after_close & !(separators | quotes);
            if (misplaced | trailed) & valid != 0 {
                self.length = self.ends.len() * 64;
                self.stopped = true;
                return false;
            }
            state.within = if within >> 63 == 0 { 0 } else { u64::MAX };
            state.after_close = closing >> 63;
        }
        state.after_separator = (delimiters | ends) >> 63;
        self.delimiters.push(delimiters);
        self.ends.push(ends);
        true
    }

    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Returns the first line end at `from` or later.
    #[inline]
    pub(super) fn end(&self, from: usize) -> Option<usize> {
        if from >= self.length {
            return None;
        }
        let mut word = from / 64;
        let mut bits = self.ends[word] & u64::MAX << (from % 64);
        while bits == 0 {
            word += 1;
            bits = *self.ends.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// Returns the number of delimiters in `from..to`.
    #[inline]
    pub(super) fn delimiters(&self, from: usize, to: usize) -> usize {
        if from >= to {
            return 0;
        }
        let (first, last) = (from / 64, to / 64);
        let after = u64::MAX << (from % 64);
        let before = (1_u64 << (to % 64)).wrapping_sub(1);
        if first == last {
            return (self.delimiters[first] & after & before).count_ones() as usize;
        }
        let mut count = (self.delimiters[first] & after).count_ones();
        for word in &self.delimiters[first + 1..last] {
            count += word.count_ones();
        }
        // `to` may be right after the last mark.
        count += self.delimiters.get(last).map_or(0, |word| (word & before).count_ones());
        count as usize
    }

    /// Returns the position of the `number`-th delimiter (from 0) at `from` or later.
    #[inline]
    pub(super) fn delimiter(&self, from: usize, mut number: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.delimiters.get(word)? & u64::MAX << (from % 64);
        loop {
            let count = bits.count_ones() as usize;
            if number < count {
                for _ in 0..number {
                    bits &= bits - 1;
                }
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            number -= count;
            word += 1;
            bits = *self.delimiters.get(word)?;
        }
    }
}

/// The state that one block passes to the next.
struct State {
    /// All ones inside a quoted field, else 0.
    within: u64,
    /// 1 if the previous byte is a delimiter or line end outside quotes, or there is none.
    after_separator: u64,
    /// 1 if the previous byte is a closing quote, or the first of two.
    after_close: u64,
}

/// Returns the bits of the bytes that equal one, by arithmetic on 8 bytes at a time.
#[inline]
fn equal(block: &[u8; 64], byte: u8) -> u64 {
    let wanted = u64::from(byte) * EACH_BYTE;
    let mut bits = 0;
    for (place, bytes) in block.as_chunks::<8>().0.iter().enumerate() {
        let differing = u64::from_le_bytes(*bytes) ^ wanted;
        // The high bit of each byte: whether any of its bits differs.
        let differs = ((differing & LOW_BITS) + LOW_BITS) | differing | LOW_BITS;
        bits |= ((!differs >> 7).wrapping_mul(GATHER) >> 56) << (8 * place);
    }
    bits
}

/// For each bit, whether the number of ones up to and including it is odd.
#[inline]
fn parity(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_the_bytes_that_equal(bytes in prop::collection::vec(any::<u8>(), 64), byte: u8) {
            let block: &[u8; 64] = bytes.as_slice().try_into().unwrap();
            for wanted in [byte, b',', block[17]] {
                let expected: u64 =
                    (0..64).map(|place| u64::from(block[place] == wanted) << place).sum();
                prop_assert_eq!(equal(block, wanted), expected);
            }
        }

        #[test]
        fn parity_counts_ones(bits: u64) {
            for place in 0..64 {
                let ones = (bits << (63 - place)).count_ones();
                prop_assert_eq!(parity(bits) >> place & 1, u64::from(ones % 2));
            }
        }

        #[test]
        fn unquoted_marks_are_found(bytes in prop::collection::vec(prop::sample::select(
            b"ab,\n\r".to_vec()), 0..300), from in 0_usize..300) {
            let mut marks = Marks::default();
            marks.mark(&bytes, b',', true);
            prop_assert_eq!(marks.length, bytes.len());
            let from = from.min(bytes.len());
            let end = bytes[from..].iter().position(|byte| b"\n\r".contains(byte));
            prop_assert_eq!(marks.end(from), end.map(|end| end + from));
            let commas: Vec<usize> =
                (from..bytes.len()).filter(|&place| bytes[place] == b',').collect();
            prop_assert_eq!(marks.delimiters(from, bytes.len()), commas.len());
            for (number, &place) in commas.iter().enumerate() {
                prop_assert_eq!(marks.delimiter(from, number), Some(place));
            }
        }
    }

    #[test]
    fn marking_stops_at_quotes_out_of_place() {
        let marked = |text: &str| {
            let mut marks = Marks::default();
            marks.mark(text.as_bytes(), b',', true);
            (marks.length, marks.stopped())
        };
        for text in ["\"a\"", "\"\"", "a,\"b\"\"c\"\n", "\"\"\"\"", "\"open", "\"a\n,\"\r\n\"b\""] {
            assert_eq!(marked(text), (text.len(), false), "{text}");
        }
        for text in ["5\" pipe", "\"a\"b", " \"a\"", "\"a\" ", "a\"\"", "\"a\"b\"c\""] {
            assert_eq!(marked(text), (0, true), "{text}");
            let (start, tail) = ("x,y\n".repeat(16), format!("{text},z\n"));
            assert_eq!(marked(&(start.clone() + &tail)), (64, true), "{text}");
            // The last quote of a block, and what follows it in the next.
            let padded = format!("{},\"\"x\n", "y".repeat(61));
            assert_eq!(marked(&padded), (64, true));
        }
    }
}
