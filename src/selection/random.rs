//! Random numbers that never change: a selection that is cited by its seed must not depend on a
//! crate's version, and the generators of `rand` may change between releases.

/// Shuffles examples into their order in an epoch, as Fisher and Yates do: each order is equally likely, and
/// the same seed and epoch always give the same. Independent of the examples that
/// [`Rule::Random`](crate::Rule::Random) chooses with that seed.
///
/// # Examples
///
/// ```
/// use data_diet::selection::shuffle_for_epoch;
///
/// let mut examples = [0, 1, 2, 3, 4, 5];
/// shuffle_for_epoch(&mut examples, 7, 0);
/// let first = examples;
/// examples.sort_unstable();
/// shuffle_for_epoch(&mut examples, 7, 0);
/// assert_eq!(examples, first);
/// ```
pub fn shuffle_for_epoch<T>(examples: &mut [T], seed: u64, epoch: u32) {
    let stream = SplitMix64::new(seed).next() ^ u64::from(epoch);
    // Mixed once more, since states that differ by few bits would be close in the generator's order.
    let mut random = SplitMix64::new(SplitMix64::new(stream).next());
    random.shuffle_front(examples, examples.len());
}

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

    /// Returns a uniform value above 0 and below 1, in steps of 2^-53.
    pub(crate) fn between_0_and_1(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
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
