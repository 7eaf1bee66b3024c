//! How a batch is cut into the pieces that pass through the model one after the other.
//!
//! On the host a pass is bound by memory: candle's operations write a tensor each, and while those of
//! a piece fit into the caches they cost a fraction of what they cost in main memory. The weights, on
//! the other hand, are read again for every piece.

use std::sync::Once;

use candle_core::Device;

use crate::gradients::tape::Outputs;

/// What the layers of a piece put out together, in bytes. Operations between them, and the backward
/// pass, write several times as much.
const CACHED_OUTPUTS: usize = 384 << 10;
/// From so many values on candle spreads even the simplest operations over threads, which then wait
/// for each other longer than they work.
const SPREAD: usize = 1 << 16;
/// Examples of the first piece, while it is not known what the layers put out.
const FIRST: usize = 8;

/// Some of the largest that glibc lets its threshold follow.
const LARGEST_FREED: usize = 16 << 20;

/// How large pieces are.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    /// Whether a batch must not be cut.
    whole: bool,
    /// Bytes of all weights.
    weights: usize,
    /// What the layers put out for an example, at most, as far as is known.
    outputs: Option<Outputs>,
}

impl Pieces {
    pub(super) fn new(device: &Device, weights: usize) -> Self {
        if device.is_cpu() {
            keep_freed_memory();
        }
        Self { whole: !device.is_cpu(), weights, outputs: None }
    }

    /// How many of the examples that are left to take next.
    pub(super) fn next(&self, left: usize) -> usize {
        let most = match self.outputs {
            _ if self.whole => left,
            None => FIRST,
            Some(Outputs { bytes, largest }) => {
                let cached = (CACHED_OUTPUTS / bytes.max(1)).min((SPREAD - 1) / largest.max(1));
                // Or the weights would be what is read most.
                cached.max(self.weights / 4 / bytes.max(1))
            }
        };
        // Alike in size, so that the last one is no straggler.
        left.div_ceil(left.div_ceil(most.max(1)))
    }

    /// Learns what the layers put out for a piece of so many examples.
    pub(super) fn learn(&mut self, examples: usize, outputs: Outputs) {
        let known = self.outputs.unwrap_or_default();
        self.outputs = Some(Outputs {
            bytes: known.bytes.max(outputs.bytes.div_ceil(examples)),
            largest: known.largest.max(outputs.largest.div_ceil(examples)),
        });
    }

    /// Cuts no batch any more. Whether there were others.
    pub(super) fn keep_whole(&mut self) -> bool {
        !std::mem::replace(&mut self.whole, true)
    }
}

/// Lets the allocator keep what a piece has freed for the next one. glibc gives memory back beyond a
/// threshold, twice the largest block that was freed so far, and below it every piece would fault its
/// tensors in anew, which takes as long as the arithmetic. Other allocators do not mind.
fn keep_freed_memory() {
    static ONCE: Once = Once::new();
    // Never touched, so it takes no memory.
    ONCE.call_once(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGEST_FREED))));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &Pieces, batch: usize) -> Vec<usize> {
        let mut left = batch;
        let mut cut = Vec::new();
        while left > 0 {
            cut.push(pieces.next(left));
            left -= cut[cut.len() - 1];
        }
        cut
    }

    #[test]
    fn pieces_are_alike_and_as_large_as_what_the_layers_put_out_allows() {
        let mut pieces = Pieces::new(&Device::Cpu, 1000);
        let outputs = |bytes, largest| Outputs { bytes, largest };
        assert_eq!(cut(&pieces, 8), [8]);
        assert_eq!(cut(&pieces, 17), [6, 6, 5]);
        pieces.learn(8, outputs(8 * 40_000, 8 * 4_000));
        assert_eq!(cut(&pieces, 9), [9]);
        assert_eq!(cut(&pieces, 32), [8, 8, 8, 8]);
        // Outputs of sequences of several lengths: the largest counts.
        pieces.learn(8, outputs(8 * 130_000, 8 * 4_000));
        pieces.learn(8, outputs(8, 8));
        assert_eq!(cut(&pieces, 10), [3, 3, 2, 2]);
        // Tensors that candle would spread over threads.
        pieces.learn(8, outputs(8, 8 * 32_767));
        assert_eq!(cut(&pieces, 10), [2, 2, 2, 2, 2]);
        pieces.learn(1, outputs(1 << 30, 32_768));
        assert_eq!(cut(&pieces, 3), [1, 1, 1]);
        // Reading the weights again would cost more than what fits into caches.
        pieces.weights = 400 << 30;
        assert_eq!(cut(&pieces, 64), [64]);
        pieces.weights = 0;
        assert!(pieces.keep_whole() && !pieces.keep_whole());
        assert_eq!(cut(&pieces, 64), [64]);
    }
}
