//! The training loop of a language model, with the five lines of [`DataDietHook`]. Copy from here.

use std::path::Path;

use candle_core::{D, DType, Tensor};
use candle_nn::{AdamW, Module, Optimizer, ParamsAdamW};
use data_diet_candle::{DataDietHook, RunReport};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Result;
use super::data::IGNORED;
use super::dataset::Dataset;
use super::network::{Network, Sizes};
use super::progress::Meter;
use super::side_by_side;

/// The data, the network's sizes, and how to train.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) train: Dataset,
    pub(crate) test: Dataset,
    pub(crate) sizes: Sizes,
    pub(crate) batch: usize,
    pub(crate) learning_rate: f64,
}

/// A trained network.
pub(crate) struct Trained {
    #[allow(dead_code, reason = "for the tests, which look at its weights")]
    pub(crate) network: Network,
    /// The mean loss of the last epoch.
    pub(crate) loss: f32,
    /// On the test set.
    pub(crate) perplexity: f64,
    /// How the recording went.
    pub(crate) report: RunReport,
}

impl Task {
    /// How many trainings may run at the same time.
    pub(crate) fn workers(&self) -> usize {
        side_by_side::workers(self.train.inputs().device())
    }

    /// Optimizer updates in some epochs over the whole training set.
    pub(crate) fn steps(&self, epochs: u32) -> usize {
        epochs as usize * self.train.len().div_ceil(self.batch)
    }

    /// Grows over the first tenth of the steps, then shrinks to zero.
    fn learning_rate(&self, step: usize, steps: usize) -> f64 {
        let (step, steps) = (step as f64, steps as f64);
        let share = ((step + 1.0) / (0.1 * steps)).min((steps - step) / (0.9 * steps));
        self.learning_rate * share.min(1.0)
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
    let network = Network::new(task.sizes, &mut random, data.inputs().device())?;
    let mut optimizer = AdamW::new(network.variables(), ParamsAdamW::default())?;

    let mut hook = match record {
        Some(experiment) => DataDietHook::builder(experiment, run_name(seed)) // 1
            .tokens(task.sizes.vocabulary)
            .ignore_index(IGNORED)
            .examples(task.train.len() as u64)
            .seed(seed)
            .overwrite()
            .build()?,
        None => DataDietHook::disabled(),
    };
    let (mut step, mut loss, mut test) = (0, 0.0, f64::NAN);
    while step < steps {
        for batch in data.shuffled(task.batch, &mut random).take(steps - step) {
            let batch = batch?;
            let logits = network.forward(&batch.inputs)?;
            let loss = mean_loss(&logits, &batch.labels)?;
            optimizer.set_learning_rate(task.learning_rate(step, steps));
            optimizer.backward_step(&loss)?;
            hook.on_step_end(&batch.ids, &logits, &batch.labels)?; // 2
            meter.step(&loss, &hook);
            step += 1;
        }
        hook.on_epoch_end()?; // 3

        // Scores are taken with the weights held still. Switch a network with dropout to evaluation
        // mode here.
        if hook.is_enabled() {
            for batch in data.in_order(task.batch) {
                let batch = batch?;
                let logits = network.forward(&batch.inputs)?;
                hook.on_score_batch(&batch.ids, &logits, &batch.labels)?; // 4
            }
        }
        test = perplexity(&network, &task.test, task.batch)?;
        loss = meter.epoch(&format!("perplexity {test:.3}"))?;
    }
    let report = hook.finish()?; // 5
    Ok(Trained { network, loss, perplexity: test, report })
}

/// The cross-entropy of each token, `[batch, tokens]`, zero where it does not count; and one where it
/// counts, zero elsewhere.
pub(crate) fn token_losses(logits: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
    let counts = labels.ge(0_i64)?.to_dtype(DType::F32)?;
    // An ignored token has no class; any will do where the loss is multiplied by zero.
    let classes = labels.maximum(&labels.zeros_like()?)?.unsqueeze(D::Minus1)?;
    // No gradient flows through the maximum, where it is zero.
    let logits = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let log_sum = logits.exp()?.sum(D::Minus1)?.log()?;
    let losses = ((log_sum - logits.gather(&classes, D::Minus1)?.squeeze(D::Minus1)?)? * &counts)?;
    Ok((losses, counts))
}

/// The mean over all tokens of the batch that count.
pub(crate) fn mean_loss(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (losses, counts) = token_losses(logits, labels)?;
    Ok((losses.sum_all()? / counts.sum_all()?)?)
}

/// The exponential of the mean loss of all tokens.
fn perplexity(network: &Network, data: &Dataset, batch: usize) -> Result<f64> {
    let (mut loss, mut tokens) = (0.0, 0.0);
    for batch in data.in_order(batch) {
        let batch = batch?;
        let (losses, counts) = token_losses(&network.forward(&batch.inputs)?, &batch.labels)?;
        loss += f64::from(losses.sum_all()?.to_scalar::<f32>()?);
        tokens += f64::from(counts.sum_all()?.to_scalar::<f32>()?);
    }
    Ok((loss / tokens).exp())
}
