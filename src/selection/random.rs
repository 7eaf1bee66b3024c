//! Random numbers that never change: a selection that is cited by its seed must not depend on a
//! crate's version, and the generators of `rand` may change between releases.

/// The generator `SplitMix64` of Steele, Lea and Flood (2014), with 64 bits of state.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a uniform value in `0..bound`, by rejection, so that no value is more likely.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let zone = u64::MAX - u64::MAX % bound;
        loop {
            let value = self.next();
            if value < zone {
                return value % bound;
            }
        }
    }

    /// Runs the first `count` steps of a Fisher-Yates shuffle, which bring a uniformly random
    /// choice of `count` values to the front in random order. More steps with the same seed choose
    /// the same values first.
    pub(crate) fn shuffle_front<T>(&mut self, values: &mut [T], count: usize) {
        let length = values.len();
        for place in 0..count.min(length) {
            let other = place + self.below((length - place) as u64) as usize;
            values.swap(place, other);
        }
    }
}
