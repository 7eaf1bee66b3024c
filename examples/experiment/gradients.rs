//! How well EL2N and the last layer alone predict GraNd, the norm of an example's whole gradient:
//! recorded at some epochs of training for several seeds, and compared by rank.

use std::io::Write;

use candle_core::{D, DType, Tensor};
use candle_nn::loss::cross_entropy;
use candle_nn::{AdamW, Optimizer, VarBuilder, VarMap};
use data_diet::observe::Signal;
use data_diet::scores::agreement::{Agreement, AgreementOptions, ScoreSeries};
use data_diet::scores::{At, ScoreRequest};
use data_diet::selection::ScoreColumn;
use data_diet::{Experiment, ScoreOptions, ScoreTable};
use data_diet_candle::gradients::{GradientNorms, last_layer_norms};
use data_diet_candle::nn::{Linear, Module, linear};
use data_diet_candle::{DataDietHook, RunReport};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Result;
use super::dataset::Dataset;
use super::figures::{self, mean_and_deviation, thousands};
use super::network::draw_weights;
use super::options::Options;
use super::progress::Meter;
use super::training::{Task, run_name};
use super::weights::named_variables;

/// Units of the hidden layers: a fully connected network often taken for MNIST.
const HIDDEN: [usize; 2] = [300, 100];
/// Examples whose gradients are looked at together.
const BATCH: usize = 256;

/// A perceptron of [`HIDDEN`] layers, of the layers that show their parameters' gradients.
struct Perceptron {
    hidden: Vec<Linear>,
    output: Linear,
    weights: VarMap,
}

/// What a seed has shown at an epoch.
struct Moment {
    epoch: u32,
    /// On the test set.
    accuracy: f64,
    /// GraNd in the last layer alone.
    last_layer: ScoreColumn,
}

/// A seed's network, trained.
struct Recorded {
    moments: Vec<Moment>,
    report: RunReport,
}

/// How far scores agree at an epoch: rank correlations of each seed's, and of their means.
struct Row {
    epoch: u32,
    accuracies: Vec<f64>,
    el2n: Vec<f64>,
    last_layer: Vec<f64>,
    /// The share of the examples to keep that both GraNd and EL2N keep.
    shared: Vec<f64>,
    of_means: Option<(f64, f64)>,
}

/// Trains, records and compares at the epochs that are asked for.
pub(crate) fn run(task: &Task, options: &Options, output: &mut dyn Write) -> Result<()> {
    let epochs = &options.grand;
    let (examples, seeds) = (thousands(task.train.len() as u64), options.seeds);
    writeln!(
        output,
        "GraNd beside EL2N: {examples} {}, networks of {}-{}-{}-{} units, {seeds} seeds\n\
         Recording into {}",
        task.name,
        task.sizes.pixels,
        HIDDEN[0],
        HIDDEN[1],
        task.sizes.classes,
        options.experiment.display()
    )?;
    let mut recorded = Vec::new();
    for seed in 0..options.seeds {
        let Recorded { moments, report } = record(task, options, epochs, seed)?;
        writeln!(output, "  {report}")?;
        recorded.push(moments);
    }
    writeln!(output)?;
    let rows = compare(options, &recorded)?;
    table(output, &rows, options)
}

impl Perceptron {
    fn new(task: &Task, random: &mut StdRng) -> Result<Self> {
        let weights = VarMap::new();
        let builder = VarBuilder::from_varmap(&weights, DType::F32, task.device());
        let mut inputs = task.sizes.pixels;
        let mut hidden = Vec::new();
        for (at, units) in HIDDEN.into_iter().enumerate() {
            hidden.push(linear(inputs, units, builder.pp(format!("hidden{at}")))?);
            inputs = units;
        }
        let output = linear(inputs, task.sizes.classes, builder.pp("output"))?;
        draw_weights(&named_variables(&weights), random)?;
        Ok(Self { hidden, output, weights })
    }

    /// What the last layer makes logits of, `[batch, units]`.
    fn features(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        let mut hidden = self.hidden.iter();
        hidden.try_fold(images.clone(), |values, layer| layer.forward(&values)?.relu())
    }

    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        self.output.forward(&self.features(images)?)
    }

    fn accuracy(&self, data: &Dataset) -> Result<f64> {
        let classes = self.forward(data.inputs())?.argmax(D::Minus1)?;
        let correct = classes.eq(data.labels())?.to_dtype(DType::F32)?.sum_all()?;
        Ok(f64::from(correct.to_scalar::<f32>()?) / data.len() as f64)
    }
}

/// Trains one network and records EL2N and GraNd, with the weights held still, at every epoch asked
/// for.
fn record(task: &Task, options: &Options, epochs: &[u32], seed: u64) -> Result<Recorded> {
    let mut random = StdRng::seed_from_u64(seed);
    let network = Perceptron::new(task, &mut random)?;
    let variables = named_variables(&network.weights);
    let mut optimizer =
        AdamW::new(variables.into_iter().map(|(_, var)| var).collect(), task.optimizer())?;
    let mut norms = GradientNorms::new(&network.weights)?;
    let mut hook = DataDietHook::builder(&options.experiment, run_name(seed))
        .classes(task.sizes.classes)
        .examples(task.examples)
        .seed(seed)
        .overwrite()
        .build()?;
    let last = epochs.last().copied().unwrap_or(0);
    let passes = task.train.len().div_ceil(BATCH) * epochs.len();
    let mut meter = Meter::new(task.steps(last) + passes);
    meter.label(run_name(seed));
    let mut moments = Vec::new();
    for epoch in 0..=last {
        if epochs.contains(&epoch) {
            let mut last_layer = Vec::new();
            for batch in task.train.in_order(BATCH) {
                let batch = batch?;
                let features = network.features(&batch.inputs)?;
                let logits = network.output.forward(&features)?;
                hook.on_score_batch(&batch.ids, &logits, &batch.labels)?;
                let grand = norms.cross_entropy(&batch.inputs, &batch.labels, |images| {
                    network.forward(images)
                })?;
                hook.on_grand_batch(&batch.ids, &grand, &batch.labels)?;
                last_layer.extend(last_layer_norms(&logits, &features, &batch.labels, true)?);
                meter.looked(&hook);
            }
            let accuracy = network.accuracy(&task.test)?;
            moments.push(Moment { epoch, accuracy, last_layer: column(task, &last_layer)? });
        }
        if epoch == last {
            break;
        }
        for batch in task.train.shuffled(task.batch, &mut random) {
            let batch = batch?;
            let logits = network.forward(&batch.inputs)?;
            let loss = cross_entropy(&logits, &batch.labels)?;
            optimizer.backward_step(&loss)?;
            hook.on_step_end(&batch.ids, &logits, &batch.labels)?;
            meter.step(&loss, &hook);
        }
        hook.on_epoch_end()?;
        meter.epoch(&figures::accuracy(network.accuracy(&task.test)?))?;
    }
    let report = hook.finish()?;
    meter.finish();
    Ok(Recorded { moments, report })
}

fn column(task: &Task, scores: &[f32]) -> Result<ScoreColumn> {
    let labels: Vec<u32> = task.train.labels().to_vec1()?;
    let labels = labels.into_iter().map(|label| label as i32).collect();
    let scores = scores.iter().map(|&score| f64::from(score)).collect();
    Ok(ScoreColumn::new(task.train.ids().to_vec(), labels, scores)?)
}

/// Of every epoch, what the runs have recorded against each other.
fn compare(options: &Options, seeds: &[Vec<Moment>]) -> Result<Vec<Row>> {
    let experiment = Experiment::open(&options.experiment)?;
    let mut tables = Vec::new();
    for seed in 0..seeds.len() as u64 {
        let mut recorded = ScoreOptions::default();
        recorded.runs = vec![run_name(seed)];
        recorded.scores = vec![
            ScoreRequest::grand().at(At::EveryEpoch),
            ScoreRequest::signal(Signal::El2n).at(At::EveryEpoch),
        ];
        tables.push(ScoreTable::fold(&experiment, &recorded)?);
    }
    let mut how = AgreementOptions::default();
    how.bootstrap = None;
    how.fractions = vec![options.kept()];
    let mut rows = Vec::new();
    for (at, &epoch) in options.grand.iter().enumerate() {
        let mut row = Row {
            epoch,
            accuracies: vec![],
            el2n: vec![],
            last_layer: vec![],
            shared: vec![],
            of_means: None,
        };
        let mut columns: [Vec<(String, ScoreColumn)>; 3] = Default::default();
        for (seed, (table, moments)) in tables.iter().zip(seeds).enumerate() {
            let moment = &moments[at];
            let grand = table.column(&format!("grand_epoch_{epoch}"))?;
            let el2n = table.column(&format!("el2n_score_epoch_{epoch}"))?;
            let agreement = Agreement::between(&grand, &el2n, &how)?;
            row.el2n.push(agreement.spearman.value);
            row.shared.extend(agreement.overlaps.iter().map(|overlap| overlap.shared.value));
            let last_layer = Agreement::between(&grand, &moment.last_layer, &how)?;
            row.last_layer.push(last_layer.spearman.value);
            debug_assert_eq!(moment.epoch, epoch);
            row.accuracies.push(moment.accuracy);
            for (columns, column) in
                columns.iter_mut().zip([grand, el2n, moment.last_layer.clone()])
            {
                columns.push((run_name(seed as u64), column));
            }
        }
        if seeds.len() > 1 {
            let places: Vec<usize> = (0..seeds.len()).collect();
            let means = columns.map(|columns| ScoreSeries::new("", columns).mean(&places));
            let [grand, el2n, last_layer] = means;
            let grand = grand?;
            let of_el2n = Agreement::between(&grand, &el2n?, &how)?.spearman.value;
            let of_last_layer = Agreement::between(&grand, &last_layer?, &how)?.spearman.value;
            row.of_means = Some((of_el2n, of_last_layer));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn table(output: &mut dyn Write, rows: &[Row], options: &Options) -> Result<()> {
    writeln!(
        output,
        "Spearman's rank correlation with GraNd, each seed's mean ± standard deviation, and of the\n\
         scores' means over the seeds; the share of the {:.0} % of highest GraNd that EL2N keeps too\n",
        100.0 * options.kept()
    )?;
    writeln!(
        output,
        "{:>5} {:>8}  {:>16} {:>7}  {:>16} {:>7}  {:>8}",
        "epoch", "accuracy", "EL2N", "means", "last layer", "means", "both"
    )?;
    for row in rows {
        let spread = |values: &[f64]| {
            let (mean, deviation) = mean_and_deviation(values);
            deviation.map_or(format!("{mean:.3}"), |d| format!("{mean:.3} ± {d:.3}"))
        };
        let percent = |values: &[f64]| format!("{:.1} %", 100.0 * mean_and_deviation(values).0);
        let of_means = |which: fn(&(f64, f64)) -> f64| {
            row.of_means.as_ref().map_or("-".to_owned(), |means| format!("{:.3}", which(means)))
        };
        writeln!(
            output,
            "{:>5} {:>8}  {:>16} {:>7}  {:>16} {:>7}  {:>8}",
            row.epoch,
            percent(&row.accuracies),
            spread(&row.el2n),
            of_means(|means| means.0),
            spread(&row.last_layer),
            of_means(|means| means.1),
            percent(&row.shared),
        )?;
    }
    Ok(())
}
