//! Maps keys that are text, such as file names and hashes, to example ids. A standard hash map
//! would hold each key as an allocation of its own.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use crate::error::{Error, Result};

/// Maps the text keys of a manifest to example ids.
///
/// Keys are compared byte for byte: `7` and `007` differ, and blanks are not trimmed. Each key maps
/// to one example; several keys may map to the same. Takes 16 bytes per key plus its text, and up
/// to 16 for look-up.
///
/// # Examples
///
/// ```
/// use data_diet::manifest::KeyMap;
///
/// let map = KeyMap::new([("cats/a.png", 0), ("dogs/a.png", 1)])?;
/// assert_eq!(map.example(b"dogs/a.png"), Some(1));
/// assert_eq!(map.example(b"a.png"), None);
/// # Ok::<(), data_diet::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct KeyMap {
    /// All keys, one after the other.
    text: Vec<u8>,
    /// Where each key ends.
    ends: Vec<u64>,
    examples: Vec<i64>,
    /// Open addressing with linear probing: the number of a key plus one, or 0 for a free slot. At
    /// least half of the slots are free.
    places: Vec<u32>,
}

const FEWEST_PLACES: usize = 16;

impl KeyMap {
    /// Makes a map of these keys.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if a key occurs twice or is empty,
    /// for an id below 0, and for more than 2^32 - 2 keys.
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = (K, i64)>) -> Result<Self> {
        let mut map = Self::default();
        for (key, example) in keys {
            map.insert(key.as_ref(), example)?;
        }
        map.text.shrink_to_fit();
        map.ends.shrink_to_fit();
        map.examples.shrink_to_fit();
        Ok(map)
    }

    /// Returns the example that a key maps to.
    #[must_use]
    pub fn example(&self, key: &[u8]) -> Option<i64> {
        if self.places.is_empty() {
            return None;
        }
        match self.places[self.place(key)] {
            0 => None,
            number => Some(self.examples[number as usize - 1]),
        }
    }

    /// Returns one of the keys, for messages.
    pub(super) fn some_key(&self) -> Option<&[u8]> {
        (!self.is_empty()).then(|| self.key(0))
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the key that was inserted as the `number`-th.
    fn key(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[number] as usize]
    }

    pub(super) fn insert(&mut self, key: &[u8], example: i64) -> Result<()> {
        let shown = || String::from_utf8_lossy(key).chars().take(60).collect::<String>();
        if key.is_empty() {
            return Err(Error::invalid(format!(
                "key map: expected a key for example {example}, got an empty one"
            )));
        }
        if example < 0 {
            let shown = shown();
            return Err(Error::invalid(format!(
                "key map: expected an example id in 0..2^63 for key `{shown}`, got {example}"
            )));
        }
        if self.len() + 1 >= u32::MAX as usize {
            return Err(Error::invalid("key map: expected fewer than 2^32 keys"));
        }
        if 2 * (self.len() + 1) > self.places.len() {
            self.grow();
        }
        let place = self.place(key);
        if let Some(earlier) = (self.places[place] as usize).checked_sub(1) {
            let (shown, earlier) = (shown(), self.examples[earlier]);
            return Err(Error::invalid(format!(
                "key map: key `{shown}` occurs twice, for example {earlier} and for example {example}"
            )));
        }
        self.text.extend_from_slice(key);
        self.ends.push(self.text.len() as u64);
        self.examples.push(example);
        self.places[place] = self.ends.len() as u32;
        Ok(())
    }

    fn grow(&mut self) {
        let places = (2 * self.places.len()).max(FEWEST_PLACES);
        // The old slots are no longer needed and are freed first.
        self.places = Vec::new();
        self.places = vec![0; places];
        for number in 0..self.len() {
            let place = self.place(self.key(number));
            self.places[place] = number as u32 + 1;
        }
    }

    /// Returns the slot of a key, or the free slot that it would take.
    fn place(&self, key: &[u8]) -> usize {
        let mask = self.places.len() - 1;
        // A fixed hash function: the results never depend on it, only the speed.
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        let mut place = hash as usize & mask;
        loop {
            match self.places[place] {
                0 => return place,
                number if self.key(number as usize - 1) == key => return place,
                _ => place = (place + 1) & mask,
            }
        }
    }
}

impl fmt::Debug for KeyMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyMap").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_key_is_found_and_no_other(
            keys in prop::collection::btree_map(prop::collection::vec(0_u8..4, 1..5), 0..i64::MAX, 0..200),
            others in prop::collection::vec(prop::collection::vec(0_u8..4, 0..6), 0..50),
        ) {
            let map = KeyMap::new(keys.iter().map(|(key, &example)| (key, example))).unwrap();
            prop_assert_eq!(map.len(), keys.len());
            for key in keys.keys().chain(&others) {
                prop_assert_eq!(map.example(key), keys.get(key).copied());
            }
        }
    }

    #[test]
    fn keys_are_exact() {
        let map = KeyMap::new([("7", 1), ("007", 2), (" 7", 3), ("a", 4), ("A", 5)]).unwrap();
        let keys: BTreeMap<&str, Option<i64>> = ["7", "007", " 7", "07", "a", "A", ""]
            .map(|key| (key, map.example(key.as_bytes())))
            .into();
        assert_eq!(keys["7"], Some(1));
        assert_eq!(keys["007"], Some(2));
        assert_eq!(keys[" 7"], Some(3));
        assert_eq!((keys["07"], keys[""]), (None, None));
        assert_eq!((keys["a"], keys["A"]), (Some(4), Some(5)));
    }

    #[test]
    fn refusals_name_the_key() {
        let error = KeyMap::new([("a", 1), ("b", 2), ("a", 1)]).unwrap_err();
        assert!(error.to_string().contains("key `a` occurs twice"), "{error}");
        let error = KeyMap::new([("a", -1)]).unwrap_err();
        assert!(error.to_string().contains("0..2^63 for key `a`, got -1"), "{error}");
        assert!(KeyMap::new([("", 1)]).is_err());
        assert!(KeyMap::default().is_empty());
    }
}
