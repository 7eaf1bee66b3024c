//! Ids of a shuffled order stay with their examples; ids by position do not, and that is told.

use candle_core::{Device, Tensor};
use data_diet::run::LabelCounts;
use data_diet_candle::{RunReport, Shuffled};

use crate::fixture::{Fixture, some_logits};

const EXAMPLES: usize = 48;

/// Three epochs over tensors; the label of row `i` is `i % 3`.
fn train(by_position: bool) -> RunReport {
    let fixture = Fixture::new();
    let mut hook = fixture.hook();
    let all: Vec<u32> = (0..EXAMPLES as u32).map(|row| row % 3).collect();
    let all = Tensor::new(all, &Device::Cpu).unwrap();
    let order = Shuffled::new(EXAMPLES, 3);
    for epoch in 0..3 {
        for (number, batch) in order.epoch(epoch).batches(10).unwrap().enumerate() {
            let labels = all.index_select(&batch.indices(&Device::Cpu).unwrap(), 0).unwrap();
            let size = batch.ids().len();
            let logits = some_logits(size, 3);
            if by_position {
                let start = number * 10;
                hook.on_step_end(&(start..start + size), &logits, &labels).unwrap();
            } else {
                hook.on_step_end(batch.ids(), &logits, &labels).unwrap();
            }
        }
        hook.on_epoch_end().unwrap();
    }
    hook.finish().unwrap()
}

#[test]
fn the_ids_of_a_shuffled_batch_belong_to_its_rows() {
    let report = train(false);
    assert_eq!(report.rows.written, 3 * EXAMPLES as u64);
    assert_eq!(report.labels, LabelCounts { examples: EXAMPLES as u64, changed: 0 });
    assert!(!report.to_string().contains("WARNING"), "{report}");
}

#[test]
fn positions_in_a_shuffled_epoch_are_told_from_ids() {
    let report = train(true);
    assert_eq!(report.labels.examples, EXAMPLES as u64);
    assert!(report.labels.changed > EXAMPLES as u64 / 2, "{report}");
    assert!(report.to_string().contains("pass the shuffled indices as ids"), "{report}");
}
