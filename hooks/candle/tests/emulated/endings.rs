//! A queue that is full, and a recorder that is slow.

use data_diet::observe::LogitsFormat;
use data_diet::record::WhenFull;

use crate::device::{Numbers, device, upload};
use crate::fixture::{Fixture, some_logits};

#[test]
fn a_full_queue_drops_whole_batches_and_counts_them() {
    let Some(device) = device("a_full_queue_drops_whole_batches_and_counts_them") else { return };
    for policy in [WhenFull::Drop, WhenFull::Wait] {
        let fixture = Fixture::new();
        let builder = fixture.builder().classes(3).logits(LogitsFormat::F32);
        let mut hook = builder.queue_bytes(300).when_full(policy).build().unwrap();
        let mut numbers = Numbers(3);
        let mut rows = 0;
        for step in 0..400 {
            let batch = 1 + numbers.below(4);
            let logits = upload(&some_logits(batch, 3), &device);
            let ids: Vec<i64> = (0..batch as i64).map(|row| step * 10 + row).collect();
            hook.on_step_end(&ids, &logits, &vec![1_i64; batch]).unwrap();
            rows += batch as u64;
        }
        let report = hook.finish().unwrap();
        report.check().unwrap();
        assert_eq!(report.rows.written + report.rows.dropped, rows);
        assert_eq!(report.rows.dropped > 0, policy == WhenFull::Drop, "{report}");
        let examples: Vec<i64> =
            fixture.steps_and_examples().iter().map(|&(_, example)| example).collect();
        assert!(examples.is_sorted(), "nothing overtakes");
        assert_eq!(examples.len() as u64, report.rows.written);
    }
}
