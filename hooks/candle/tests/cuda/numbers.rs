//! Numbers that are the same on every machine.

use candle_core::{Device, Tensor};

/// Steele, Lea and Flood's `SplitMix64`.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below a number.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Between -1 and 1.
    pub(crate) fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn shuffle<T>(&mut self, values: &mut [T]) {
        for end in (2..=values.len()).rev() {
            values.swap(end - 1, self.below(end));
        }
    }

    /// A tensor of numbers between `-scale` and `scale`.
    pub(crate) fn tensor(&mut self, scale: f32, shape: &[usize], device: &Device) -> Tensor {
        let count = shape.iter().product();
        let values = std::iter::repeat_with(|| self.signed() * scale).take(count).collect();
        Tensor::from_vec(values, shape, device).unwrap()
    }

    /// Rows of positive numbers that sum to 1, `[rows, classes]`.
    pub(crate) fn distributions(&mut self, rows: usize, classes: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(rows * classes);
        for _ in 0..rows {
            // One class stands out, so that no rounding decides which is the likeliest.
            let likeliest = self.below(classes);
            let mut row: Vec<f32> = (0..classes).map(|_| 1.01 + self.signed()).collect();
            row[likeliest] += 3.0;
            let total: f64 = row.iter().map(|&value| f64::from(value)).sum();
            values.extend(row.iter().map(|&value| (f64::from(value) / total) as f32));
        }
        values
    }
}
