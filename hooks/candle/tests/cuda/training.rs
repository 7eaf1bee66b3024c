//! A training loop as users write it, whose every call of the hook is remembered.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::loss::cross_entropy;
use candle_nn::ops::log_softmax;
use candle_nn::{
    AdamW, Dropout, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, linear,
};
use data_diet::observe::Signal;
use data_diet_candle::{DataDietHook, LogitsFormat};

use crate::expected::{Kept, Reading, Seen, SeenTargets, assert_recorded};
use crate::fixture::Fixture;
use crate::numbers::Numbers;

const FEATURES: usize = 12;
const HIDDEN: usize = 24;

/// What is trained on, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    pub(crate) classes: usize,
    /// Of the logits that are recorded. The network is `f32`, as under automatic mixed precision.
    pub(crate) dtype: DType,
    pub(crate) soft: bool,
    /// The share of hidden values that are dropped, at random.
    pub(crate) dropout: f32,
    /// In the data set; the last batch of an epoch is smaller than the others unless `batch` divides it.
    pub(crate) examples: usize,
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    pub(crate) reading: Reading,
}

impl Recipe {
    pub(crate) const PLAIN: Self = Self {
        classes: 10,
        dtype: DType::F32,
        soft: false,
        dropout: 0.25,
        examples: 500,
        batch: 32,
        steps: 100,
        reading: Reading::AtTheEnd,
    };

    /// Trains with a hook that records everything, and compares what lies on disk.
    pub(crate) fn assert_recorded(self, device: &Device) {
        let fixture = Fixture::new();
        let builder = fixture.builder().classes(self.classes).signals(Signal::ALL);
        let builder = builder.logits(LogitsFormat::F32);
        let mut hook = builder.build().unwrap();
        let mut trainer = Trainer::new(self, device);
        let seen = trainer.train(&mut hook, self.steps).unwrap();
        let report = hook.finish().unwrap();
        report.check().unwrap();
        assert_eq!(report.rows.dropped, 0);
        assert_recorded(&fixture, seen, self.classes, None);
    }
}

/// A network with dropout, its optimizer, and a data set on their device.
pub(crate) struct Trainer {
    recipe: Recipe,
    device: Device,
    pub(crate) weights: VarMap,
    layers: [Linear; 2],
    dropout: Dropout,
    optimizer: AdamW,
    inputs: Tensor,
    classes: (Vec<i64>, Tensor),
    soft: Option<(Vec<f32>, Tensor)>,
    numbers: Numbers,
    /// What is left of the epoch, and the ids in the epoch's order, on the device.
    order: Vec<usize>,
    ids: Tensor,
}

impl Trainer {
    pub(crate) fn new(recipe: Recipe, device: &Device) -> Self {
        let Recipe { classes, examples, .. } = recipe;
        let mut numbers = Numbers::new(classes as u64);
        let weights = VarMap::new();
        let builder = VarBuilder::from_varmap(&weights, DType::F32, device);
        let layers = [
            linear(FEATURES, HIDDEN, builder.pp("first")).unwrap(),
            linear(HIDDEN, classes, builder.pp("second")).unwrap(),
        ];
        let parameters = ParamsAdamW { lr: 0.01, ..ParamsAdamW::default() };
        let optimizer = AdamW::new(weights.all_vars(), parameters).unwrap();
        let labels: Vec<i64> = (0..examples).map(|_| numbers.below(classes) as i64).collect();
        let on_device = Tensor::new(labels.as_slice(), device).unwrap();
        let soft = recipe.soft.then(|| {
            let targets = numbers.distributions(examples, classes);
            let on_device = Tensor::from_slice(&targets, (examples, classes), device).unwrap();
            (targets, on_device)
        });
        Self {
            recipe,
            device: device.clone(),
            layers,
            dropout: Dropout::new(recipe.dropout),
            optimizer,
            inputs: numbers.tensor(2.0, &[examples, FEATURES], device),
            classes: (labels, on_device.to_dtype(DType::U32).unwrap()),
            soft,
            numbers,
            weights,
            order: Vec::new(),
            ids: Tensor::zeros(1, DType::I64, device).unwrap(),
        }
    }

    /// So many updates, each followed by a call of the hook.
    pub(crate) fn train(&mut self, hook: &mut DataDietHook, steps: usize) -> Result<Vec<Seen>> {
        let mut seen = Vec::with_capacity(steps);
        for _ in 0..steps {
            seen.push(self.step(hook)?);
            if self.order.is_empty() {
                hook.on_epoch_end()?;
            }
        }
        Ok(seen)
    }

    fn step(&mut self, hook: &mut DataDietHook) -> Result<Seen> {
        if self.order.is_empty() {
            self.begin_epoch()?;
        }
        let start = self.recipe.examples - self.order.len();
        let rows: Vec<usize> =
            self.order.drain(..self.recipe.batch.min(self.order.len())).collect();
        let index: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let index = Tensor::new(index, &self.device)?;
        let hidden = self.layers[0].forward(&self.inputs.index_select(&index, 0)?)?.relu()?;
        let logits = self.layers[1].forward(&self.dropout.forward(&hidden, true)?)?;
        let labels = self.classes.1.index_select(&index, 0)?;
        let targets =
            self.soft.as_ref().map(|(_, soft)| soft.index_select(&index, 0)).transpose()?;
        let loss = match &targets {
            Some(targets) => {
                ((log_softmax(&logits, 1)? * targets)?.sum_all()? * (-1.0 / rows.len() as f64))?
            }
            None => cross_entropy(&logits, &labels)?,
        };
        self.optimizer.backward_step(&loss)?;
        let logits = logits.to_dtype(self.recipe.dtype)?;
        let seen = Seen {
            step: hook.step(),
            epoch: hook.epoch(),
            ids: rows.iter().map(|&row| id(row)).collect(),
            targets: self.targets_of(&rows),
            logits: Kept::of(&logits, self.recipe.reading),
        };
        let ids = self.ids.narrow(0, start, rows.len())?;
        match targets {
            Some(targets) => hook.on_step_end(&ids, &logits, &targets)?,
            None => hook.on_step_end(&ids, &logits, &labels)?,
        }
        Ok(seen)
    }

    fn begin_epoch(&mut self) -> Result<()> {
        self.order = (0..self.recipe.examples).collect();
        self.numbers.shuffle(&mut self.order);
        let ids: Vec<i64> = self.order.iter().map(|&row| id(row)).collect();
        self.ids = Tensor::new(ids, &self.device)?;
        Ok(())
    }

    fn targets_of(&self, rows: &[usize]) -> SeenTargets {
        let classes = self.recipe.classes;
        match &self.soft {
            Some((soft, _)) => SeenTargets::Soft(
                rows.iter().flat_map(|&row| &soft[row * classes..][..classes]).copied().collect(),
            ),
            None => SeenTargets::Classes(rows.iter().map(|&row| self.classes.0[row]).collect()),
        }
    }
}

/// The id of a row of the data set: neither its number nor below 2^32.
fn id(row: usize) -> i64 {
    (row as i64) * 3_000_000_019 + 7
}
