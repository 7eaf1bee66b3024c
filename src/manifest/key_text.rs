//! What the keys of a manifest mean, however they are spelled: integers as text, whole decimals and
//! floats, UUIDs.

use std::borrow::Cow;

/// From here on, neighboring integers can be the same 64-bit float.
const FLOAT_LIMIT: i64 = 1 << 53;

/// An integer, and whether it is spelled by its digits alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spelled {
    pub(super) value: i64,
    pub(super) plain: bool,
}

/// Parses the text of an example id: digits, perhaps with blanks around them, a sign or zeros before
/// them, or `.0` after them, as spreadsheets and data frames write integers.
#[inline]
pub(super) fn integer(text: &[u8]) -> Option<Spelled> {
    match digits(text) {
        Some(value) => Some(Spelled { value, plain: text[0] != b'0' || text.len() == 1 }),
        None => loose(text),
    }
}

/// Parses a text of digits and nothing else.
#[inline]
fn digits(text: &[u8]) -> Option<i64> {
    // Eighteen digits always fit.
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    let mut value = 0;
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(value)
}

fn loose(text: &[u8]) -> Option<Spelled> {
    // Joined files have a mark where one of them began.
    let unmarked = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let trimmed = unmarked.trim_ascii();
    let (whole, fraction) = match trimmed.iter().position(|&byte| byte == b'.') {
        Some(point) => (&trimmed[..point], Some(&trimmed[point + 1..])),
        None => (trimmed, None),
    };
    let value: i64 = str::from_utf8(whole).ok()?.parse().ok()?;
    if let Some(fraction) = fraction
        && (value >= FLOAT_LIMIT || !fraction.iter().all(|&byte| byte == b'0'))
    {
        return None;
    }
    // Nineteen digits are plain too.
    let plain = whole.len() == text.len() && whole[0].is_ascii_digit() && whole[0] != b'0';
    Some(Spelled { value, plain }).filter(|spelled| spelled.value >= 0)
}

/// Returns the integer that a float is, if it is one for certain.
pub(super) fn whole_float(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && value.abs() < FLOAT_LIMIT as f64).then_some(value as i64)
}

/// Returns the integer that a decimal is.
pub(super) fn whole_decimal(unscaled: i128, scale: u32) -> Option<i128> {
    let unit = 10_i128.checked_pow(scale)?;
    (unscaled % unit == 0).then(|| unscaled / unit)
}

/// Writes a decimal.
pub(super) fn decimal(unscaled: i128, scale: u32) -> String {
    if let Some(whole) = whole_decimal(unscaled, scale) {
        return whole.to_string();
    }
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    let sign = if unscaled < 0 { "-" } else { "" };
    format!("{sign}{whole}.{}", fraction.trim_end_matches('0'))
}

/// Returns the integer of these bytes in two's complement, the highest first; `None` beyond 128
/// bits.
pub(super) fn big_endian(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|&byte| byte >= 0x80);
    let filler = if negative { 0xff } else { 0 };
    let excess = bytes.len().saturating_sub(16);
    let (front, back) = bytes.split_at(excess);
    if front.iter().any(|&byte| byte != filler) {
        return None;
    }
    let mut value = if negative { -1 } else { 0 };
    for &byte in back {
        value = value << 8 | i128::from(byte);
    }
    // The sign may be in the bytes that were left out alone.
    Some(value).filter(|value| front.is_empty() || (*value < 0) == negative)
}

/// Returns the canonical text of a UUID (RFC 9562): `01234567-89ab-cdef-0123-456789abcdef`.
pub(super) fn uuid(bytes: &[u8]) -> Cow<'_, [u8]> {
    if bytes.len() != 16 {
        return Cow::Borrowed(bytes);
    }
    let mut text = Vec::with_capacity(36);
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push(b'-');
        }
        for digit in [byte >> 4, byte & 0x0f] {
            text.push(b"0123456789abcdef"[usize::from(digit)]);
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_are_read_however_they_are_spelled() {
        let read = |text: &str| integer(text.as_bytes()).map(|it| (it.value, it.plain));
        for (text, value) in [
            ("0", 0),
            ("7", 7),
            ("999999999999999999", 999_999_999_999_999_999),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(read(text), Some((value, true)), "{text}");
        }
        for text in ["007", " 7", "7 ", "+7", "7.0", "7.", "7.000", "\t+007.0 ", "\u{feff}7"] {
            assert_eq!(read(text), Some((7, false)), "{text}");
        }
        assert_eq!(read("-0"), Some((0, false)));
        assert_eq!(read("9007199254740991.0"), Some(((1 << 53) - 1, false)));
        for text in [
            "",
            " ",
            "-7",
            "7.5",
            "9007199254740992.0",
            "9223372036854775808",
            "1e3",
            "0x7",
            "a",
            "7 8",
            ".0",
            "7.0.0",
            "٧",
            "NaN",
            "+",
            "+-7",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn uuids_are_written_as_the_rfc_says() {
        let bytes: Vec<u8> = (0..16).map(|place| place * 16 + place).collect();
        assert_eq!(&*uuid(&bytes), b"00112233-4455-6677-8899-aabbccddeeff");
    }

    proptest! {
        #[test]
        fn decimals_are_whole_or_have_a_fraction(value: i64, scale in 0_u32..20, whole: bool) {
            let unit = 10_i128.pow(scale);
            let unscaled = if whole { i128::from(value) * unit } else { i128::from(value) };
            let text = decimal(unscaled, scale);
            // Back to the unscaled value.
            let (front, back) = text.split_once('.').unwrap_or((&text, ""));
            prop_assert!(!back.ends_with('0'));
            let digits = format!("{front}{back:0<width$}", width = scale as usize);
            prop_assert_eq!(digits.parse::<i128>().unwrap(), unscaled);
            if whole {
                prop_assert_eq!(whole_decimal(unscaled, scale), Some(i128::from(value)));
            }
        }

        #[test]
        fn big_endian_bytes_are_integers(value: i128, more in 0_usize..4) {
            let filler = if value < 0 { 0xff } else { 0 };
            let mut bytes = vec![filler; more];
            bytes.extend(value.to_be_bytes());
            prop_assert_eq!(big_endian(&bytes), Some(value));
            let short = (value >> 64) as i64;
            prop_assert_eq!(big_endian(&short.to_be_bytes()), Some(i128::from(short)));
            bytes.insert(0, 1);
            bytes.extend([0; 3]);
            prop_assert_eq!(big_endian(&bytes), None);
        }

        #[test]
        fn floats_are_integers_only_if_no_other_integer_is_the_same_float(value: i64) {
            let expected = (value.abs() < 1 << 53).then_some(value);
            prop_assert_eq!(whole_float(value as f64), expected);
            let small = value >> 20;
            prop_assert_eq!(whole_float(small as f64), Some(small));
            prop_assert_eq!(whole_float(small as f64 + 0.5), None);
        }
    }
}
