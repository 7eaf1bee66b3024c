//! The training loop, with the five lines of [`DataDietHook`]. Copy from here.

use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_nn::loss::cross_entropy;
use candle_nn::{AdamW, Module, Optimizer, ParamsAdamW};
use data_diet_candle::{DataDietHook, RunReport};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Result;
use super::dataset::Dataset;
use super::figures;
use super::network::{Network, Sizes};
use super::progress::Meter;

/// The data, the network's sizes, and how to train.
#[derive(Debug)]
pub(crate) struct Task {
    /// What an example is called in the report, such as `digits`.
    pub(crate) name: &'static str,
    pub(crate) train: Dataset,
    pub(crate) test: Dataset,
    /// Every id is below this.
    pub(crate) examples: u64,
    /// Pixels in a row of an image.
    pub(crate) width: usize,
    pub(crate) sizes: Sizes,
    pub(crate) batch: usize,
    pub(crate) learning_rate: f64,
    /// A table of all examples with a column `id`, to try `data-diet filter` on.
    pub(crate) manifest: PathBuf,
    /// Whether the test set is in that table too.
    pub(crate) manifest_lists_test: bool,
}

/// A trained network.
pub(crate) struct Trained {
    pub(crate) network: Network,
    /// The mean loss of the last epoch.
    pub(crate) loss: f32,
    /// On the test set.
    pub(crate) accuracy: f64,
    /// How the recording went.
    pub(crate) report: RunReport,
}

impl Task {
    pub(crate) fn device(&self) -> &Device {
        self.train.inputs().device()
    }

    /// Optimizer updates in some epochs over the whole training set.
    pub(crate) fn steps(&self, epochs: u32) -> usize {
        epochs as usize * self.train.len().div_ceil(self.batch)
    }

    pub(crate) fn optimizer(&self) -> ParamsAdamW {
        ParamsAdamW { lr: self.learning_rate, ..ParamsAdamW::default() }
    }
}

/// The name under which a seed is recorded.
pub(crate) fn run_name(seed: u64) -> String {
    format!("seed-{seed}")
}

/// Trains on `data` for this many steps. The seed decides the initial weights and the order. With
/// `record`, the run `seed-N` of that experiment directory is recorded; without it, exactly the
/// same training runs unrecorded.
pub(crate) fn train(
    task: &Task,
    data: &Dataset,
    steps: usize,
    seed: u64,
    record: Option<&Path>,
    meter: &mut Meter,
) -> Result<Trained> {
    let mut random = StdRng::seed_from_u64(seed);
    let network = Network::new(task.sizes, &mut random, task.device())?;
    let mut optimizer = AdamW::new(network.variables(), task.optimizer())?;

    let mut hook = match record {
        Some(experiment) => DataDietHook::builder(experiment, run_name(seed)) // 1
            .classes(task.sizes.classes)
            .examples(task.examples)
            .seed(seed)
            .overwrite()
            .build()?,
        None => DataDietHook::disabled(),
    };
    let (mut step, mut loss, mut accuracy) = (0, 0.0, 0.0);
    while step < steps {
        for batch in data.shuffled(task.batch, &mut random).take(steps - step) {
            let batch = batch?;
            let logits = network.forward(&batch.inputs)?;
            let loss = cross_entropy(&logits, &batch.labels)?;
            optimizer.backward_step(&loss)?;
            hook.on_step_end(&batch.ids, &logits, &batch.labels)?; // 2
            meter.step(&loss, &hook);
            step += 1;
        }
        hook.on_epoch_end()?; // 3

        // Scores as the paper computes them: one pass with the weights held still. Switch a network
        // with dropout or batch normalization to evaluation mode here.
        if hook.is_enabled() {
            for batch in data.in_order(task.batch) {
                let batch = batch?;
                let logits = network.forward(&batch.inputs)?;
                hook.on_score_batch(&batch.ids, &logits, &batch.labels)?; // 4
            }
        }
        accuracy = network.accuracy(&task.test)?;
        loss = meter.epoch(&figures::accuracy(accuracy))?;
    }
    let report = hook.finish()?; // 5
    Ok(Trained { network, loss, accuracy, report })
}
