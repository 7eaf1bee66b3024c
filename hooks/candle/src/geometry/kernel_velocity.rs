//! Kernel velocity over a run: how fast the tangent kernel of a model turns, on several groups of
//! examples.

use candle_core::Tensor;
use data_diet::geometry::{KernelVelocityRow, KernelVelocityTable, TimeUnit};

use crate::error::{Error, Result};
use crate::ntk::{Gram, GramOptions};
use crate::weights::{Params, Weights};

/// Measures kernel velocities over the snapshots of a run.
///
/// There is one row for every group of examples and every two consecutive snapshots: the
/// [kernel distance](data_diet::geometry::kernel::distance) between the two, divided by the time
/// between them. A kernel is computed once and used for both of its pairs, so one kernel per group
/// is in memory (4 MB for 100 examples of 10 classes).
///
/// # Examples
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, VarBuilder, VarMap, linear, ops::leaky_relu};
/// use data_diet::geometry::KernelVelocityTable;
/// use data_diet_candle::geometry::KernelVelocity;
/// use data_diet_candle::weights::{Params, Weights};
///
/// # let directory = tempfile::tempdir()?;
/// # let experiment = directory.path();
/// let variables = VarMap::new();
/// let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
/// let (below, above) = (linear(4, 8, builder.pp("below"))?, linear(8, 3, builder.pp("above"))?);
/// let model = |x: &Tensor| above.forward(&leaky_relu(&below.forward(x)?, 0.1)?);
/// let params = Params::from_varmap(&variables)?;
/// # let start = params.copy()?;
/// # let end = start.iter().map(|(name, w)| Ok((name.clone(), (w * 1.5)?.sin()?)));
/// # let end = end.collect::<candle_core::Result<_>>()?;
/// # let snapshots = [(0, 0, start), (100, 2, end)]
/// #     .map(|(step, epoch, tensors)| Ok(Weights { step, epoch, tensors }));
/// // `snapshots`: weights of a run in order of time; `easy`: inputs [examples, ...].
/// let easy = Tensor::randn(0.0_f32, 1.0, (5, 4), &Device::Cpu)?;
/// let mut table = KernelVelocityTable::open(experiment, "seed-0")?;
/// KernelVelocity::new(&params)
///     .set("window_000", easy)
///     .per_epoch(50)
///     .run(snapshots, model, &mut table, |set, step| println!("{set} at step {step}"))?;
/// assert_eq!(table.rows()[0].dt, 2.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is measured before `run`"]
pub struct KernelVelocity<'a> {
    params: &'a Params,
    sets: Vec<(String, Tensor)>,
    options: GramOptions,
    /// The number of steps of an epoch, if time is counted in epochs.
    steps_per_epoch: Option<u64>,
}

impl<'a> KernelVelocity<'a> {
    /// Measures the model with these variables. Time is counted in steps.
    pub fn new(params: &'a Params) -> Self {
        let options = GramOptions::default();
        Self { params, sets: Vec::new(), options, steps_per_epoch: None }
    }

    /// Adds a group of examples: its name, and its inputs `[examples, ...]`.
    pub fn set(mut self, name: impl Into<String>, inputs: Tensor) -> Self {
        self.sets.push((name.into(), inputs));
        self
    }

    /// Sets how kernels are computed.
    pub fn options(mut self, options: GramOptions) -> Self {
        self.options = options;
        self
    }

    /// Counts time in epochs of this many steps. Snapshots may be a fraction of an epoch apart.
    pub fn per_epoch(mut self, steps: u64) -> Self {
        self.steps_per_epoch = Some(steps);
        self
    }

    /// Measures over these snapshots, which must be in order of time. Rows that are already in the
    /// table are skipped, and each snapshot's rows are on disk before the next one is read, so that
    /// an interrupted measurement continues where it was. `forward` computes logits as for
    /// [`gram`](crate::ntk::gram). `progress` is called after every kernel with its group and step.
    /// The model's weights are restored at the end, also after an error.
    ///
    /// # Errors
    ///
    /// If there is no group, a name occurs twice or a group has fewer than 2 examples; there are
    /// fewer than two snapshots or they are not in order of time; an epoch has no steps; the table
    /// has a group of the same name with another number of examples; or weights do not fit the
    /// model. Any error of computing a kernel, or of writing the table.
    pub fn run(
        &self,
        snapshots: impl IntoIterator<Item = Result<Weights>>,
        mut forward: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
        table: &mut KernelVelocityTable,
        mut progress: impl FnMut(&str, u64),
    ) -> Result<()> {
        self.check(table)?;
        self.params.restore_after(|| {
            let mut before: Option<(Weights, Vec<Option<Gram>>)> = None;
            let mut count = 0;
            for snapshot in snapshots {
                let now = snapshot?;
                count += 1;
                let Some((first, mut earlier)) = before.take() else {
                    before = Some((now, vec![None; self.sets.len()]));
                    continue;
                };
                if now.step <= first.step {
                    return Err(Error::Argument(format!(
                        "snapshots: expected steps in ascending order, got {} after {}",
                        now.step, first.step
                    )));
                }
                let unit = self.unit();
                let missing: Vec<usize> = (0..self.sets.len())
                    .filter(|&set| {
                        table.find(&self.sets[set].0, first.step, now.step, unit).is_none()
                    })
                    .collect();
                let mut later = vec![None; self.sets.len()];
                let unknown: Vec<usize> =
                    missing.iter().copied().filter(|&set| earlier[set].is_none()).collect();
                for (weights, sets, grams) in
                    [(&first, &unknown, &mut earlier), (&now, &missing, &mut later)]
                {
                    if sets.is_empty() {
                        continue;
                    }
                    self.params.load(&weights.tensors).map_err(|error| {
                        error.context(format!("the snapshot at step {}", weights.step))
                    })?;
                    for &set in sets {
                        let (name, inputs) = &self.sets[set];
                        let gram = self.options.gram(self.params, inputs, &mut forward);
                        grams[set] = Some(gram.map_err(|error| {
                            error.context(format!("set `{name}` at step {}", weights.step))
                        })?);
                        progress(name, weights.step);
                    }
                }
                let rows = missing.iter().filter_map(|&set| {
                    let (earlier, later) = (earlier[set].as_ref()?, later[set].as_ref()?);
                    Some(self.row(&self.sets[set].0, [&first, &now], earlier, later))
                });
                let rows = rows.collect::<Result<Vec<_>>>()?;
                table.append(&rows)?;
                before = Some((now, later));
            }
            if count < 2 {
                return Err(Error::Argument(format!(
                    "snapshots: expected at least 2, whose kernels are compared, got {count}"
                )));
            }
            Ok(())
        })
    }

    fn unit(&self) -> TimeUnit {
        if self.steps_per_epoch.is_some() { TimeUnit::Epochs } else { TimeUnit::Steps }
    }

    fn check(&self, table: &KernelVelocityTable) -> Result<()> {
        if self.sets.is_empty() {
            return Err(Error::Argument("set: expected at least one group of examples".to_owned()));
        }
        if self.steps_per_epoch == Some(0) {
            return Err(Error::Argument("per_epoch: expected at least 1 step, got 0".to_owned()));
        }
        for (place, (name, inputs)) in self.sets.iter().enumerate() {
            if self.sets[..place].iter().any(|(other, _)| other == name) {
                return Err(Error::Argument(format!("set: two groups are named `{name}`")));
            }
            let examples = inputs.dims().first().copied().unwrap_or_default();
            if examples < 2 {
                return Err(Error::Argument(format!(
                    "set `{name}`: inputs: expected a tensor [examples, ...] of at least 2 examples, \
                     got {:?}",
                    inputs.dims()
                )));
            }
            let known = table.rows().iter().find(|row| row.set == *name);
            if let Some(known) = known.filter(|known| known.examples as usize != examples) {
                return Err(Error::Argument(format!(
                    "set: the table knows `{name}` as a group of {} examples, got {examples}",
                    known.examples
                )));
            }
        }
        Ok(())
    }

    fn row(
        &self,
        set: &str,
        [first, second]: [&Weights; 2],
        earlier: &Gram,
        later: &Gram,
    ) -> Result<KernelVelocityRow> {
        let distance = earlier.distance(later).map_err(|error| {
            let (first, second) = (first.step, second.step);
            error.context(format!("set `{set}` between steps {first} and {second}"))
        })?;
        let steps = (second.step - first.step) as f64;
        Ok(KernelVelocityRow {
            set: set.to_owned(),
            first_step: first.step,
            second_step: second.step,
            first_epoch: first.epoch,
            second_epoch: second.epoch,
            distance,
            dt: self.steps_per_epoch.map_or(steps, |per_epoch| steps / per_epoch as f64),
            dt_unit: self.unit(),
            examples: earlier.examples() as u32,
            classes: earlier.classes() as u32,
        })
    }
}
