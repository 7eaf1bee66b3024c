//! Ids that do not belong to examples: the classic mistake is told by every command that reads them.

use std::path::Path;

use data_diet::observe::Phase;
use data_diet::record::RunReport;
use data_diet::run::LabelCounts;

use crate::harness::data_diet;
use crate::harness::recorded::{self, Presented};

const EXAMPLES: i64 = 60;

/// Three epochs of a shuffling loader. By position, an id is the place in the epoch's order.
fn train(experiment: &Path, run: &str, by_position: bool, label: impl Fn(i64) -> i64) -> RunReport {
    let mut recorder = recorded::builder(experiment, run, 3).start().unwrap();
    for epoch in 0..3_u32 {
        let row = |place: i64| {
            let index = (place * 7 + i64::from(epoch) * 13) % EXAMPLES;
            let example = if by_position { place } else { index };
            Presented { example, label: label(index), logits: vec![1.0, 0.0, 0.5] }
        };
        let rows: Vec<Presented> = (0..EXAMPLES).map(row).collect();
        for (batch, rows) in rows.chunks(20).enumerate() {
            let step = u64::from(epoch) * 3 + batch as u64;
            recorded::record(&mut recorder, Phase::Train, step, epoch, rows);
        }
    }
    recorder.finish().unwrap()
}

#[test]
fn ids_by_position_under_a_shuffling_loader_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display().to_string();
    let report = train(directory.path(), "seed-0", true, |index| index % 3);
    let LabelCounts { examples, changed } = report.labels;
    assert!(examples == 60 && changed > 20, "{report}");
    let warning = format!(
        "{changed} of 60 examples changed their label: an id must belong to an example, not to its \
         position in a batch"
    );
    assert!(report.to_string().contains(&format!("; WARNING: {warning}")), "{report}");
    assert!(report.check().is_ok(), "nothing is lost");
    data_diet(&["inspect", &path], 0).says(&format!("run `seed-0` (rank 0): {warning}"));
    let output = directory.path().join("scores.parquet").display().to_string();
    let warned = format!("run `seed-0`: {warning}");
    for call in [data_diet(&["verify", &path], 0), data_diet(&["scores", &path, "-o", &output], 0)]
    {
        assert!(call.stderr.contains(&warned), "{}", call.stderr);
    }
}

#[test]
fn ids_of_examples_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display().to_string();
    let report = train(directory.path(), "seed-0", false, |index| index % 3);
    assert_eq!(report.labels, LabelCounts { examples: 60, changed: 0 });
    assert!(!report.to_string().contains("WARNING"), "{report}");
    let _ = train(directory.path(), "seed-1", false, |index| index % 3);
    let output = directory.path().join("scores.parquet").display().to_string();
    for call in [data_diet(&["verify", &path], 0), data_diet(&["scores", &path, "-o", &output], 0)]
    {
        assert!(!call.stderr.contains("label"), "{}", call.stderr);
    }
}

#[test]
fn ids_that_mean_other_examples_in_another_run_are_told_by_scores() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display().to_string();
    let _ = train(directory.path(), "seed-0", false, |index| index % 3);
    // As if the data set had been sorted in another way: 20 of 60 keep their label.
    let _ = train(directory.path(), "seed-1", false, |index| (index / 3) % 3);
    let output = directory.path().join("scores.parquet").display().to_string();
    let call = data_diet(&["scores", &path, "-o", &output], 0);
    let warning = "40 examples of 60 have another label in another run: an id must mean the same";
    assert!(call.stderr.contains(warning), "{}", call.stderr);
    let late = ["scores", &path, "--score", "el2n", "--at-epoch", "2", "--force", "-o", &output];
    let call = data_diet(&late, 0);
    assert!(call.stderr.contains(warning), "{}", call.stderr);
}
