//! The device of the tests, and data that is never twice the same.

use candle_core::{Device, Tensor};

/// The device, or the reason why `test` does not run.
pub(crate) fn device(test: &str) -> Option<Device> {
    match Device::new_cuda(0) {
        Ok(device) => Some(device),
        Err(error) => {
            eprintln!("SKIPPED {test}: no CUDA device ({error})");
            None
        }
    }
}

/// Numbers from a seed, by the generator `SplitMix64`.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn logits(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() >> 40) as f32 / (1 << 20) as f32 - 8.0).collect()
    }
}

/// The same tensor on a device. Its memory there is new each time, and an old tensor's as a rule.
pub(crate) fn upload(tensor: &Tensor, device: &Device) -> Tensor {
    tensor.to_device(device).unwrap()
}
