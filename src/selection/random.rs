//! Randomness that is the same for ever: what people cite by its seed must not change with a crate.

/// The generator of Steele, Lea and Flood (2014), 64 bits of state.
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

    /// Uniform in `0..bound` by rejection, so that no value is favoured.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let zone = u64::MAX - u64::MAX % bound;
        loop {
            let value = self.next();
            if value < zone {
                return value % bound;
            }
        }
    }

    /// The first `count` steps of a Fisher-Yates shuffle: a uniformly random choice of `count` values, in
    /// random order, comes to the front. More steps with the same seed choose the same values first.
    pub(crate) fn shuffle_front<T>(&mut self, values: &mut [T], count: usize) {
        let length = values.len();
        for place in 0..count.min(length) {
            let other = place + self.below((length - place) as u64) as usize;
            values.swap(place, other);
        }
    }
}
