//! `ScoreTable::fold` against the reference, over random experiments.

use std::num::NonZeroUsize;

use data_diet::observe::{Phase, Signal};
use data_diet::scores::{At, Score, ScoreRequest, ScoreStatistics, Span, TrainPhaseScore};
use data_diet::{ErrorKind, Experiment, ScoreOptions, ScoreTable};
use proptest::prelude::*;

use super::plan::{self, CLASSES, name};
use super::reference::{Expected, Reference, Statistics, el2n};
use crate::harness::recorded::{self, Presented, finish};

/// Recorded signals are `f32`; everything after them is `f64`.
const TOLERANCE: f64 = 3e-7;

fn is_close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * (1.0 + b.abs())
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
    assert_eq!(table.info().aliases.get("el2n"), expected.el2n.as_ref());
    assert_eq!(table.info().non_finite, expected.non_finite);
    assert_eq!(table.info().repeated, expected.repeated);
    assert_eq!(table.info().partial, expected.partial);
}

/// Any score whose name says everything, mostly at moments that are there.
fn score() -> impl Strategy<Value = Score> {
    let ends = (0_u32..12, 0_u32..6).prop_map(|(first, more)| (first, first + more));
    let span = (ends, 0..4).prop_map(|((first, last), kind)| match kind {
        0 => Span::epoch(first),
        1 => Span::epochs(first, last),
        2 => Span::step(first.into()),
        _ => Span::steps(first.into(), last.into()),
    });
    let signal = prop::sample::select(Signal::ALL.to_vec());
    let phase = prop::sample::select(Phase::ALL.to_vec());
    let epochs = prop::option::of((0_u32..8, 0_u32..8));
    let epochs = epochs.prop_map(|ends| ends.map(|(a, b)| (a.min(b), a.max(b))));
    let of_training = prop::sample::select(TrainPhaseScore::ALL.to_vec());
    prop_oneof![
        3 => (signal, phase, span)
            .prop_map(|(signal, phase, span)| Score::Signal { signal, phase, span }),
        3 => (of_training, epochs)
            .prop_map(|(score, epochs)| Score::TrainPhase { score, epochs }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_standard_table_is_what_the_definitions_say(plan in plan::plan()) {
        let directory = tempfile::tempdir().unwrap();
        let observations = plan.record(directory.path());
        prop_assume!(!observations.is_empty());
        let experiment = Experiment::open(directory.path()).unwrap();
        let mut read = 0;
        let options = ScoreOptions::default();
        let table =
            ScoreTable::fold_with_progress(&experiment, &options, |rows| read += rows).unwrap();
        assert_table(&table, &Reference::new(&plan, &observations).standard());
        let is_read = |o: &&plan::Observation| {
            o.phase == Phase::Train || plan.records(o.run, Signal::El2n)
        };
        prop_assert_eq!(read, observations.iter().filter(is_read).count() as u64);
    }

    /// Also that asking for less changes no number of what is asked for.
    #[test]
    fn scores_asked_for_by_name(
        plan in plan::plan(),
        asked in prop::collection::vec(score(), 1..5),
        threads in 1_usize..4,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let observations = plan.record(&directory.path().join("runs"));
        prop_assume!(!observations.is_empty());
        let experiment = Experiment::open(directory.path().join("runs")).unwrap();
        let reference = Reference::new(&plan, &observations);
        let mut options = ScoreOptions::default();
        options.threads = NonZeroUsize::new(threads);
        options.scores = asked.iter().copied().map(ScoreRequest::from).collect();
        let table = ScoreTable::fold(&experiment, &options);
        if asked.iter().all(|&score| reference.has(score)) {
            let table = table.unwrap();
            assert_table(&table, &reference.table(&asked));
            let [whole, spilled] = ["whole", "spilled"].map(|name| directory.path().join(name));
            table.write(&whole).unwrap();
            options.threads = NonZeroUsize::new(4 - threads);
            ScoreTable::fold_to_file(&experiment, &options, &spilled, |_| {}).unwrap();
            prop_assert!(std::fs::read(&whole).unwrap() == std::fs::read(&spilled).unwrap());
        } else {
            prop_assert_eq!(table.unwrap_err().kind(), ErrorKind::NotFound);
        }
    }

    #[test]
    fn one_run_by_itself(plan in plan::plan(), which in any::<prop::sample::Index>()) {
        let directory = tempfile::tempdir().unwrap();
        let observations = plan.record(directory.path());
        prop_assume!(!observations.is_empty());
        let experiment = Experiment::open(directory.path()).unwrap();
        let run = which.get(&observations).run;
        let mut options = ScoreOptions::default();
        options.runs = vec![name(run), name(run)];
        let (alone, mut rows) = (plan.alone(run), observations.clone());
        rows.retain(|o| o.run == run);
        for row in &mut rows {
            row.run = 0;
        }
        let table = ScoreTable::fold(&experiment, &options).unwrap();
        assert_table(&table, &Reference::new(&alone, &rows).standard());
        prop_assert_eq!(&table.info().runs, &[name(run)]);
    }

    /// Moments are resolved to the scores that there are, and those are the same numbers.
    #[test]
    fn moments_of_a_signal(plan in plan::plan(), phase in prop::option::of(0..Phase::ALL.len())) {
        let directory = tempfile::tempdir().unwrap();
        let observations = plan.record(directory.path());
        let phases: Vec<Phase> =
            phase.map_or(Phase::ALL.to_vec(), |phase| vec![Phase::ALL[phase]]);
        let with_el2n = |o: &&plan::Observation| {
            plan.records(o.run, Signal::El2n) && phases.contains(&o.phase)
        };
        let mut epochs: Vec<(Phase, u32)> =
            observations.iter().filter(with_el2n).map(|o| (o.phase, o.epoch)).collect();
        epochs.sort_unstable();
        epochs.dedup();
        prop_assume!(!epochs.is_empty());
        let experiment = Experiment::open(directory.path()).unwrap();
        let names = |at: At| {
            let request = ScoreRequest::signal(Signal::El2n).at(at);
            let mut options = ScoreOptions::default();
            options.scores =
                vec![if phase.is_some() { request.phase(phases[0]) } else { request }];
            let table = ScoreTable::fold(&experiment, &options).unwrap();
            let names = table.statistics().iter().map(|score| score.name.clone());
            names.collect::<Vec<String>>()
        };
        let all: Vec<String> =
            epochs.iter().map(|&(phase, epoch)| el2n(phase, epoch).to_string()).collect();
        prop_assert_eq!(&names(At::EveryEpoch), &all);
        let numbers = epochs.iter().map(|&(_, epoch)| epoch).rev().collect();
        prop_assert_eq!(&names(At::Epochs(numbers)), &all);
        let first = epochs.iter().map(|&(_, epoch)| epoch).min().unwrap();
        let ranges = phases.iter().filter(|phase| epochs.iter().any(|(of, _)| of == *phase));
        let span = Span::epochs(first, first + 100);
        let ranges: Vec<String> =
            ranges.map(|phase| format!("el2n_{phase}_{span}")).collect();
        prop_assert_eq!(names(At::EpochRange(first, first + 100)), ranges);
        let last = names(At::LastEpoch);
        prop_assert!(last.iter().all(|name| all.contains(name)) && !last.is_empty());
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
        let at = At::Epochs(epochs.clone());
        options.scores = vec![ScoreRequest::signal(Signal::El2n).at(at)];
        options.scores.extend(forgetting.then_some(TrainPhaseScore::Forgetting.into()));
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

/// What one rank has not recorded, its examples have no value of.
#[test]
fn ranks_that_record_different_signals() {
    let directory = tempfile::tempdir().unwrap();
    for (rank, signals) in [(0, vec![Signal::Margin]), (1, vec![Signal::Loss])] {
        let mut format = recorded::format(CLASSES);
        format.signals = signals;
        let builder =
            data_diet::record::Recorder::builder(directory.path(), "seed-0", format).rank(rank);
        let mut recorder = builder.start().unwrap();
        let row = classified_as(rank.into(), 0);
        recorded::record(&mut recorder, Phase::Train, 0, 0, &[row]);
        finish(recorder);
    }
    let experiment = Experiment::open(directory.path()).unwrap();
    let table = ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap();
    assert_eq!(table.column("presentations").unwrap().scores(), [1.0, 1.0]);
    let aum = table.column("aum").unwrap().scores().to_vec();
    assert!(aum[0] == 2.0 && aum[1].is_nan(), "{aum:?}");
    assert_eq!(table.info().non_finite, 0);
}

/// The epochs of a row group span some that it has no row of.
#[test]
fn a_run_without_an_epoch_between_its_own_has_no_say_in_it() {
    let directory = tempfile::tempdir().unwrap();
    for (run, epochs) in [("seed-0", &[3][..]), ("seed-1", &[0, 4])] {
        let mut recorder = recorded::builder(directory.path(), run, CLASSES).start().unwrap();
        for &epoch in epochs {
            let rows = [classified_as(0, 0)];
            recorded::record(&mut recorder, Phase::Train, epoch.into(), epoch, &rows);
        }
        finish(recorder);
    }
    let mut options = ScoreOptions::default();
    options.scores = vec!["el2n_train_epoch_3".parse().unwrap()];
    let experiment = Experiment::open(directory.path()).unwrap();
    let table = ScoreTable::fold(&experiment, &options).unwrap();
    assert_eq!((table.runs(), table.info().partial), (&[1][..], 0));
}
