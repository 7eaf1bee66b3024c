//! `ScoreTable::fold` against the reference, over random experiments.

use data_diet::{Epochs, Experiment, Phase, ScoreOptions, ScoreStatistics, ScoreTable};
use proptest::prelude::*;

use super::plan::{self, CLASSES, name};
use super::reference::{Expected, Statistics, el2n_of, expected};
use crate::harness::recorded::{self, Presented, finish};

/// Recorded EL2N is an `f32`; everything after it is `f64`.
const TOLERANCE: f64 = 3e-7;

fn is_close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE
}

fn rows(score: &ScoreStatistics) -> Vec<Statistics> {
    let pairs = score.mean.iter().zip(&score.std).zip(&score.count);
    pairs.map(|((&mean, &std), &count)| (mean, std, count)).collect()
}

fn assert_table(table: &ScoreTable, expected: &Expected) {
    assert_eq!(table.examples(), expected.examples);
    assert_eq!(table.labels(), expected.labels);
    assert_eq!(table.runs(), expected.runs);
    let mut names: Vec<&str> = table.statistics().iter().map(|s| s.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, expected.scores.keys().collect::<Vec<_>>());
    for score in table.statistics() {
        let (got, expected) = (rows(score), &expected.scores[&score.name]);
        assert_eq!(got.len(), expected.len());
        for (place, (got, expected)) in got.iter().zip(expected).enumerate() {
            assert!(
                is_close(got.0, expected.0) && is_close(got.1, expected.1) && got.2 == expected.2,
                "{} of example {}: {got:?} is not {expected:?}",
                score.name,
                table.examples()[place]
            );
        }
    }
    assert_eq!(table.info().el2n, expected.el2n);
    assert_eq!(table.info().non_finite, expected.non_finite);
    assert_eq!(table.info().repeated, expected.repeated);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_table_is_what_the_definitions_say(plan in plan::plan()) {
        let directory = tempfile::tempdir().unwrap();
        let observations = plan.record(directory.path());
        prop_assume!(!observations.is_empty());
        let experiment = Experiment::open(directory.path()).unwrap();
        let mut read = 0;
        let options = ScoreOptions::default();
        let table =
            ScoreTable::fold_with_progress(&experiment, &options, |rows| read += rows).unwrap();
        assert_table(&table, &expected(&observations, plan.runs()));
        prop_assert_eq!(read, observations.len() as u64);
    }

    /// Asking for less changes no number of what is asked for.
    #[test]
    fn fewer_epochs_or_runs_give_the_same_numbers(
        plan in plan::plan(),
        which in any::<prop::sample::Index>(),
        forgetting: bool,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let observations = plan.record(directory.path());
        prop_assume!(!observations.is_empty());
        let experiment = Experiment::open(directory.path()).unwrap();
        let all = expected(&observations, plan.runs());
        let epoch = which.get(&observations).epoch;
        let mut options = ScoreOptions::default();
        options.epochs = Epochs::List(vec![epoch]);
        options.forgetting = forgetting;
        let table = ScoreTable::fold(&experiment, &options).unwrap();
        let of_epoch = Phase::ALL.map(|phase| format!("el2n_{phase}_epoch_{epoch}"));
        for score in table.statistics().iter().filter(|score| score.name != "el2n") {
            prop_assert!(of_epoch.contains(&score.name) || !score.name.starts_with("el2n"));
            prop_assert!(forgetting || score.name.starts_with("el2n"));
            for (row, &example) in rows(score).iter().zip(table.examples()) {
                let place = all.examples.binary_search(&example).unwrap();
                let expected = all.scores[&score.name][place];
                prop_assert!(is_close(row.0, expected.0) && row.2 == expected.2);
            }
        }
        let expected_here = of_epoch.iter().filter(|name| all.scores.contains_key(*name)).count();
        let nan = |o: &&plan::Observation| o.epoch == epoch && el2n_of(o).is_nan();
        // What was left out of other epochs' means is left out of no mean here.
        prop_assert!(table.info().non_finite <= observations.iter().filter(nan).count() as u64);
        let here = table.statistics().iter().filter(|s| of_epoch.contains(&s.name)).count();
        prop_assert_eq!(here, expected_here);

        let run = which.get(&observations).run;
        let mut options = ScoreOptions::default();
        options.runs = vec![name(run), name(run)];
        let mut alone = observations.clone();
        alone.retain(|o| o.run == run);
        for observation in &mut alone {
            observation.run = 0;
        }
        let table = ScoreTable::fold(&experiment, &options).unwrap();
        assert_table(&table, &expected(&alone, 1));
        prop_assert_eq!(&table.info().runs, &[name(run)]);
    }
}

/// A row of three classes that is classified as `class`.
fn classified_as(example: i64, class: usize) -> Presented {
    let logits = (0..CLASSES).map(|other| if other == class { 2.0 } else { 0.0 }).collect();
    Presented { example, label: 0, logits }
}

/// The worked example of the definition: forgotten twice, learned at the second presentation; and an
/// example that is never learned ranks above one that is forgotten at every other presentation.
#[test]
fn forgetting_by_hand() {
    let directory = tempfile::tempdir().unwrap();
    let histories =
        [(7, vec![1, 0, 1, 1, 0, 1]), (8, vec![1, 1, 1, 1, 1, 1]), (9, vec![0, 0, 0, 0, 0, 0])];
    let mut recorder = recorded::builder(directory.path(), "seed-0", CLASSES).start().unwrap();
    for presentation in 0..6 {
        let row =
            |(example, history): &(i64, Vec<usize>)| classified_as(*example, history[presentation]);
        let rows: Vec<Presented> = histories.iter().map(row).collect();
        let time = presentation as u32;
        recorded::record(&mut recorder, Phase::Train, time.into(), time / 2, &rows);
    }
    finish(recorder);
    let experiment = Experiment::open(directory.path()).unwrap();
    let table = ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap();
    let scores = |name| table.column(name).unwrap().scores().to_vec();
    assert_eq!(table.examples(), [7, 8, 9]);
    assert_eq!(scores("forgetting"), [2.0, 6.0, 0.0]);
    assert_eq!(scores("forgetting_inf"), [2.0, f64::INFINITY, 0.0]);
    assert_eq!(scores("never_learned"), [0.0, 1.0, 0.0]);
    assert_eq!(scores("presentations"), [6.0; 3]);
    let first = scores("first_learned");
    assert!(first[0] == 1.0 && first[1].is_nan() && first[2] == 0.0, "{first:?}");
}

/// A batch that holds an id twice presents it twice, in the order of its rows.
#[test]
fn an_id_twice_in_a_batch_is_presented_twice_in_order() {
    for (rows, events) in [([0, 1], 1.0), ([1, 0], 0.0)] {
        let directory = tempfile::tempdir().unwrap();
        let mut recorder = recorded::builder(directory.path(), "seed-0", CLASSES).start().unwrap();
        let rows = rows.map(|class| classified_as(5, class));
        recorded::record(&mut recorder, Phase::Train, 0, 0, &rows);
        finish(recorder);
        let experiment = Experiment::open(directory.path()).unwrap();
        let table = ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap();
        assert_eq!(table.column("forgetting").unwrap().scores(), [events]);
        assert_eq!(table.column("presentations").unwrap().scores(), [2.0]);
    }
}

/// More rows per epoch than a reader decodes at once, and all epochs in one part: what lies before the
/// epoch that is asked for is passed over, stretch by stretch.
#[test]
fn an_epoch_deep_inside_a_large_part() {
    const EXAMPLES: i64 = 9000;
    let directory = tempfile::tempdir().unwrap();
    let mut recorder = recorded::builder(directory.path(), "seed-0", CLASSES).start().unwrap();
    for epoch in 0..4_u8 {
        let logits = vec![f32::from(epoch) / 2.0, 0.0, 0.0];
        let row = |example| Presented { example, label: 0, logits: logits.clone() };
        let rows: Vec<Presented> = (0..EXAMPLES).map(row).collect();
        recorded::record(&mut recorder, Phase::Train, epoch.into(), epoch.into(), &rows);
    }
    finish(recorder);
    let experiment = Experiment::open(directory.path()).unwrap();
    for (forgetting, epochs) in [(false, vec![2]), (false, vec![1, 3]), (true, vec![3])] {
        let mut options = ScoreOptions::default();
        options.epochs = Epochs::List(epochs.clone());
        options.forgetting = forgetting;
        let table = ScoreTable::fold(&experiment, &options).unwrap();
        assert_eq!(table.examples().len(), EXAMPLES as usize);
        for epoch in epochs {
            // p = (e, 1, 1) / (e + 2), so p - y = (-2, 1, 1) / (e + 2).
            let el2n = 6_f64.sqrt() / ((f64::from(epoch) / 2.0).exp() + 2.0);
            let column = table.column(&format!("el2n_train_epoch_{epoch}")).unwrap();
            assert!(column.scores().iter().all(|&score| is_close(score, el2n)), "epoch {epoch}");
        }
    }
}
