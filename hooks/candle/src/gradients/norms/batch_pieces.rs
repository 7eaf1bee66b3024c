//! Splits a batch into pieces that go through the model one after the other.
//!
//! On the host a pass is bound by memory: every candle operation writes a tensor, which costs a
//! fraction while the tensors of a piece fit in the caches. On the other hand, the weights are read
//! again for every piece.

use std::sync::Once;

use candle_core::Device;

use crate::gradients::tape::OutputSizes;

/// The size of a piece's layer outputs in bytes. Operations between layers, and the backward pass,
/// write several times as much.
const CACHED_OUTPUTS: usize = 384 << 10;
/// From this many values on, candle runs even simple operations on several threads, which then wait
/// for each other longer than they work.
const SPREAD: usize = 1 << 16;
/// The number of examples of the first piece, before the size of layer outputs is known.
const FIRST_PIECE_EXAMPLES: usize = 8;

/// Near the largest size that glibc's threshold adapts to.
const MALLOC_WARMUP_BYTES: usize = 16 << 20;

/// The size of pieces.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    /// Whether a batch must not be split.
    whole: bool,
    /// The bytes of all weights.
    weights: usize,
    /// The largest layer outputs per example so far.
    outputs: Option<OutputSizes>,
}

impl Pieces {
    pub(super) fn new(device: &Device, weights: usize) -> Self {
        if device.is_cpu() {
            raise_malloc_threshold();
        }
        Self { whole: !device.is_cpu(), weights, outputs: None }
    }

    /// Returns how many of the remaining examples to take next.
    pub(super) fn next(&self, left: usize) -> usize {
        let most = match self.outputs {
            _ if self.whole => left,
            None => FIRST_PIECE_EXAMPLES,
            Some(OutputSizes { bytes, largest }) => {
                let cached = (CACHED_OUTPUTS / bytes.max(1)).min((SPREAD - 1) / largest.max(1));
                // Otherwise reading the weights would dominate.
                cached.max(self.weights / 4 / bytes.max(1))
            }
        };
        // Of similar size, so that the last piece is not tiny.
        left.div_ceil(left.div_ceil(most.max(1)))
    }

    /// Notes the layer outputs of a piece of this many examples.
    pub(super) fn learn(&mut self, examples: usize, outputs: OutputSizes) {
        let known = self.outputs.unwrap_or_default();
        self.outputs = Some(OutputSizes {
            bytes: known.bytes.max(outputs.bytes.div_ceil(examples)),
            largest: known.largest.max(outputs.largest.div_ceil(examples)),
        });
    }

    /// Stops splitting batches. Returns whether any was split before.
    pub(super) fn keep_whole(&mut self) -> bool {
        !std::mem::replace(&mut self.whole, true)
    }
}

/// Lets the allocator keep the memory of a piece for the next one. glibc returns memory to the
/// system beyond a threshold, twice the largest block freed so far; below it, page faults of every
/// piece would take as long as the arithmetic. Other allocators are not affected.
fn raise_malloc_threshold() {
    static ONCE: Once = Once::new();
    // Never touched, so it takes no memory.
    ONCE.call_once(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(MALLOC_WARMUP_BYTES))));
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
        let outputs = |bytes, largest| OutputSizes { bytes, largest };
        assert_eq!(cut(&pieces, 8), [8]);
        assert_eq!(cut(&pieces, 17), [6, 6, 5]);
        pieces.learn(8, outputs(8 * 40_000, 8 * 4_000));
        assert_eq!(cut(&pieces, 9), [9]);
        assert_eq!(cut(&pieces, 32), [8, 8, 8, 8]);
        // Outputs of sequences of several lengths: the largest counts.
        pieces.learn(8, outputs(8 * 130_000, 8 * 4_000));
        pieces.learn(8, outputs(8, 8));
        assert_eq!(cut(&pieces, 10), [3, 3, 2, 2]);
        // Tensors that candle would process on several threads.
        pieces.learn(8, outputs(8, 8 * 32_767));
        assert_eq!(cut(&pieces, 10), [2, 2, 2, 2, 2]);
        pieces.learn(1, outputs(1 << 30, 32_768));
        assert_eq!(cut(&pieces, 3), [1, 1, 1]);
        // Reading the weights again would cost more than staying in the caches saves.
        pieces.weights = 400 << 30;
        assert_eq!(cut(&pieces, 64), [64]);
        pieces.weights = 0;
        assert!(pieces.keep_whole() && !pieces.keep_whole());
        assert_eq!(cut(&pieces, 64), [64]);
    }
}
