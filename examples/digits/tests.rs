//! The whole example in small, and that recording changes nothing about training.

use std::collections::BTreeSet;

use candle_core::{Device, Var};
use candle_nn::loss::cross_entropy;
use candle_nn::{AdamW, Module, Optimizer};
use data_diet::observe::Phase;
use data_diet::run::{Run, RunStatus};
use data_diet::scores::agreement::{Agreement, AgreementOptions};
use data_diet::selection::ScoreColumn;
use data_diet::{Experiment, ScoreOptions, ScoreTable};
use indicatif::ProgressBar;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::experiment::network::Network;
use crate::experiment::options::Options;
use crate::experiment::progress::Meter;
use crate::experiment::training::{Task, train};
use crate::experiment::{Result, gradients, run};

fn task() -> Task {
    crate::task(&Device::Cpu).unwrap()
}

/// Every weight of a network, bit by bit.
fn bits(network: &Network) -> Vec<(String, Vec<u32>)> {
    let values = |variable: Var| -> Vec<f32> { variable.flatten_all().unwrap().to_vec1().unwrap() };
    let variables = network.named_variables().into_iter();
    variables
        .map(|(name, variable)| (name, values(variable).into_iter().map(f32::to_bits).collect()))
        .collect()
}

#[test]
fn a_small_session_leaves_an_experiment_and_repeats_itself() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        experiment: directory.path().join("digits"),
        epochs: 1,
        seeds: 1,
        retrain: 1,
        ..crate::defaults()
    };
    let session = || {
        let mut output = Vec::new();
        run(&task(), &options, &mut output).unwrap();
        String::from_utf8(output).unwrap()
    };
    let printed = session();
    assert!(printed.contains("a random 70 %                        908"), "{printed}");

    let experiment = Experiment::open(&options.experiment).unwrap();
    let runs = experiment.runs().unwrap();
    assert_eq!(runs.iter().map(Run::name).collect::<Vec<_>>(), ["seed-0"]);
    assert_eq!(runs[0].status(), RunStatus::Finished);
    assert_eq!(runs[0].steps().unwrap(), 1297_u64.div_ceil(32));
    let train: BTreeSet<i64> = task().train.ids().iter().copied().collect();
    for (phase, epoch) in [(Phase::Train, 0), (Phase::Score, 1)] {
        assert_eq!(runs[0].rows(phase).unwrap(), 1297);
        assert_eq!(runs[0].epochs(phase).unwrap(), [epoch]);
        let rows = runs[0].observations(phase, 0).unwrap();
        let examples: BTreeSet<i64> =
            rows.flat_map(|rows| rows.unwrap().examples().to_vec()).collect();
        assert_eq!(examples, train);
    }
    let path = options.experiment.join("scores.parquet");
    let scores = ScoreColumn::read(&path, &options.score_name()).unwrap();
    assert!(scores.examples().iter().eq(&train));
    assert!(scores.scores().iter().all(|el2n| (0.0..=2.0_f64.sqrt()).contains(el2n)));

    assert_eq!(session(), printed, "the same seeds should give the same report");
}

/// Under a softmax of two layers the scores go together, and the last layer tells more than EL2N.
#[test]
fn gradients_are_compared_with_el2n() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        experiment: directory.path().join("digits"),
        seeds: 2,
        grand: vec![0, 2],
        ..crate::defaults()
    };
    let mut output = Vec::new();
    gradients::run(&task(), &options, &mut output).unwrap();
    let printed = String::from_utf8(output).unwrap();
    let rows: Vec<Vec<f64>> = printed
        .lines()
        .skip_while(|line| !line.starts_with("epoch"))
        .skip(1)
        .map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
        .collect();
    let [initial, trained] = rows.as_slice() else { panic!("{printed}") };
    // Epoch, accuracy, EL2N and its deviation and that of means, the last layer likewise, both.
    assert_eq!((initial[0], trained[0], initial.len()), (0.0, 2.0, 9), "{printed}");
    assert!(trained[1] > 80.0 && trained[2] > 0.8 && trained[5] > trained[2], "{printed}");

    // What is printed is what was recorded.
    let experiment = Experiment::open(&options.experiment).unwrap();
    let correlation = |run: &str| {
        let mut request = ScoreOptions::default();
        request.runs = vec![run.to_owned()];
        request.scores =
            ["grand_epoch_2", "el2n_score_epoch_2"].map(|name| name.parse().unwrap()).to_vec();
        let table = ScoreTable::fold(&experiment, &request).unwrap();
        let columns = request_columns(&table);
        Agreement::between(&columns[0], &columns[1], &AgreementOptions::default()).unwrap()
    };
    let mean =
        f64::midpoint(correlation("seed-0").spearman.value, correlation("seed-1").spearman.value);
    assert!((mean - trained[2]).abs() <= 0.000_5, "{mean} in {printed}");
}

fn request_columns(table: &ScoreTable) -> Vec<ScoreColumn> {
    let names = ["grand_epoch_2", "el2n_score_epoch_2"];
    names.iter().map(|name| table.column(name).unwrap()).collect()
}

#[test]
fn runs_of_an_earlier_session_are_named_and_not_scored() {
    let directory = tempfile::tempdir().unwrap();
    let session = |seeds| {
        let experiment = directory.path().to_path_buf();
        let options = Options { experiment, epochs: 1, seeds, retrain: 1, ..crate::defaults() };
        let mut output = Vec::new();
        run(&task(), &options, &mut output).unwrap();
        let scores = ScoreColumn::read(directory.path().join("scores.parquet"), "el2n").unwrap();
        (String::from_utf8(output).unwrap(), scores)
    };
    let (first, one) = session(1);
    let (_, two) = session(2);
    let (last, again) = session(1);
    assert!(one != two && one == again);
    let note = "not scored, left by an earlier session: seed-1";
    assert!(!first.contains(note) && last.contains(note), "{last}");
}

#[test]
fn recording_changes_no_bit_of_the_weights() {
    let directory = tempfile::tempdir().unwrap();
    let task = task();
    let trained = |record| {
        let mut meter = Meter::on(ProgressBar::hidden());
        train(&task, &task.train, 60, 5, record, &mut meter).unwrap()
    };
    let recorded = trained(Some(directory.path()));
    assert_eq!(recorded.report.rows.written, 60 * 32 - 15 + 2 * 1297);
    let unrecorded = trained(None);
    assert_eq!(unrecorded.report.rows.written, 0);
    let bare = train_without_hook(&task, 60, 5).unwrap();
    assert!(bits(&recorded.network) == bits(&bare), "recording has changed the training");
    assert!(bits(&unrecorded.network) == bits(&bare), "a disabled hook has changed the training");
    let other = train_without_hook(&task, 60, 6).unwrap();
    assert!(bits(&other) != bits(&bare), "the seed decides nothing");
}

/// The loop of `experiment/training.rs` as it was before the hook came.
fn train_without_hook(task: &Task, steps: usize, seed: u64) -> Result<Network> {
    let mut random = StdRng::seed_from_u64(seed);
    let network = Network::new(task.sizes, &mut random, task.device())?;
    let mut optimizer = AdamW::new(network.variables(), task.optimizer())?;
    let mut step = 0;
    while step < steps {
        for batch in task.train.shuffled(task.batch, &mut random).take(steps - step) {
            let batch = batch?;
            let logits = network.forward(&batch.inputs)?;
            optimizer.backward_step(&cross_entropy(&logits, &batch.labels)?)?;
            step += 1;
        }
    }
    Ok(network)
}
