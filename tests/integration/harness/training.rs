//! A made-up training run, in which every value of every row follows from a number: whoever reads the
//! tables back knows what they must hold.

use data_diet::observe::{Batch, BatchFormat, Moment, Phase, Targets};

use super::tables::Row;

/// Training batches with a score pass of one batch after every fifth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Training {
    pub(crate) classes: usize,
    pub(crate) batch_rows: usize,
    pub(crate) epoch_steps: u64,
}

impl Training {
    const TRAIN_BATCHES: u64 = 5;

    pub(crate) fn format(&self) -> BatchFormat {
        BatchFormat::classes(self.classes).unwrap()
    }

    /// When the `index`-th batch of the run is made.
    pub(crate) fn moment(&self, index: u64) -> Moment {
        let cycle = Self::TRAIN_BATCHES + 1;
        let (round, place) = (index / cycle, index % cycle);
        let step = round * Self::TRAIN_BATCHES + place;
        let phase = if place == Self::TRAIN_BATCHES { Phase::Score } else { Phase::Train };
        // The score pass belongs to the epoch of the step that follows it.
        Moment { phase, step, epoch: (step / self.epoch_steps) as u32 }
    }

    /// The rows of the `index`-th batch.
    pub(crate) fn rows(&self, index: u64) -> Vec<Row> {
        let moment = self.moment(index);
        let row = |place: usize| {
            let number = index * self.batch_rows as u64 + place as u64;
            let logit = |class: usize| {
                let bits = mix(number * self.classes as u64 + class as u64);
                (bits % 4096) as f32 / 256.0 - 8.0
            };
            Row {
                step: moment.step as i64,
                epoch: moment.epoch as i32,
                example: number as i64,
                label: (mix(number) % self.classes as u64) as i32,
                logits: (0..self.classes).map(logit).collect(),
            }
        };
        (0..self.batch_rows).map(row).collect()
    }

    pub(crate) fn batch(&self, index: u64) -> Batch {
        let rows = self.rows(index);
        let examples: Vec<i64> = rows.iter().map(|row| row.example).collect();
        let labels: Vec<i64> = rows.iter().map(|row| i64::from(row.label)).collect();
        let logits: Vec<f32> = rows.iter().flat_map(|row| row.logits.iter().copied()).collect();
        let format = self.format();
        Batch::new(&format, self.moment(index), &examples, &logits, Targets::Classes(&labels))
            .unwrap()
    }

    /// The rows of one phase that the first `batches` batches hold, in order.
    pub(crate) fn phase_rows(&self, phase: Phase, batches: u64) -> Vec<Row> {
        let of_phase = (0..batches).filter(|&index| self.moment(index).phase == phase);
        of_phase.flat_map(|index| self.rows(index)).collect()
    }
}

/// A bijection of 64-bit numbers that looks random (the finalizer of `SplitMix64`).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
