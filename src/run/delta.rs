//! Decodes `DELTA_BINARY_PACKED`, the encoding of ids, steps and epochs, a whole page at a time.
//! The Parquet crate's decoder is private; its public readers go through levels and record batches.
//!
//! A page is a header (block size, miniblocks per block, number of values, first value) and blocks; a
//! block is its smallest delta, a bit width per miniblock, and the miniblocks' bit-packed deltas above
//! that smallest one. Parquet's encodings document, "Delta Encoding".

/// No writer makes larger miniblocks; one is unpacked on the stack.
const MAX_PER_MINIBLOCK: usize = 256;

/// Appends the values of a page. Returns `None` if the page does not parse.
pub(super) fn decode(page: &[u8], values: &mut Vec<i64>) -> Option<()> {
    let mut rest = page;
    let block = usize::try_from(unsigned(&mut rest)?).ok()?;
    let miniblocks = usize::try_from(unsigned(&mut rest)?).ok()?;
    let count = usize::try_from(unsigned(&mut rest)?).ok()?;
    let mut value = signed(&mut rest)?;
    let per_miniblock = block.checked_div(miniblocks)?;
    if per_miniblock == 0 || per_miniblock % 32 != 0 || per_miniblock > MAX_PER_MINIBLOCK {
        return None;
    }
    if count == 0 {
        return Some(());
    }
    values.push(value);
    let mut left = count - 1;
    while left > 0 {
        let smallest = signed(&mut rest)?;
        let widths = rest.split_off(..miniblocks)?;
        for &width in widths {
            if left == 0 {
                break;
            }
            let width = usize::from(width);
            if width > 64 {
                return None;
            }
            let packed = rest.split_off(..width * per_miniblock / 8)?;
            let take = left.min(per_miniblock);
            unpack(packed, width, take, |delta| {
                value = value.wrapping_add(smallest).wrapping_add(delta as i64);
                values.push(value);
            });
            left -= take;
        }
    }
    Some(())
}

/// Passes the first `take` numbers of `width` bits each to `emit`, lowest bits first.
fn unpack(packed: &[u8], width: usize, take: usize, mut emit: impl FnMut(u64)) {
    if width == 0 {
        (0..take).for_each(|_| emit(0));
        return;
    }
    // Padded with zeros, so that the last number can be read as whole words.
    let mut bytes = [0; MAX_PER_MINIBLOCK * 8 + 16];
    bytes[..packed.len()].copy_from_slice(packed);
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let mask = u64::MAX >> (64 - width);
    if width <= 57 {
        for bit in (0..take).map(|index| index * width) {
            emit(word(bit / 8) >> (bit % 8) & mask);
        }
    } else {
        for bit in (0..take).map(|index| index * width) {
            let (low, high) = (word(bit / 8), word(bit / 8 + 8));
            let both = u128::from(low) | u128::from(high) << 64;
            emit((both >> (bit % 8)) as u64 & mask);
        }
    }
}

/// Reads an unsigned LEB128 number.
fn unsigned(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Reads a zigzag-encoded number.
fn signed(rest: &mut &[u8]) -> Option<i64> {
    let number = unsigned(rest)?;
    Some((number >> 1) as i64 ^ -((number & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification() {
        // 7, 5, 3, 1, 2, 3, 4, 5 with blocks of 128 values in four miniblocks: deltas -2, -2, -2, 1, 1,
        // 1, 1; the smallest is -2, so 0, 0, 0, 3, 3, 3, 3 are packed with two bits each.
        let mut page = vec![0x80, 0x01, 4, 8, 14, 3, 2, 0, 0, 0];
        page.extend([0b1100_0000, 0b0011_1111, 0, 0, 0, 0, 0, 0]);
        let mut values = Vec::new();
        decode(&page, &mut values).unwrap();
        assert_eq!(values, [7, 5, 3, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn pages_that_end_early_are_not_understood() {
        let whole = [0x80, 0x01, 4, 3, 14, 3, 2, 0, 0, 0, 0b1100, 0, 0, 0, 0, 0, 0, 0];
        decode(&whole, &mut Vec::new()).unwrap();
        for end in 0..whole.len() {
            assert!(decode(&whole[..end], &mut Vec::new()).is_none(), "{end}");
        }
    }
}
