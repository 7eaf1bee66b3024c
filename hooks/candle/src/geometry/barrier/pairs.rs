//! Barriers between runs that started from the same weights, over training and on several sets.

use candle_core::Tensor;
use data_diet::geometry::barrier::RiskCurve;
use data_diet::geometry::{ErrorBarrierRow, ErrorBarrierTable, RunningStatistics};

use super::branch::{Branch, describe_steps};
use super::line::Line;
use super::set::LabeledSet;
use crate::arguments::Labels;
use crate::error::{Error, Result};
use crate::transfer::HostTensor;
use crate::weights::{NamedTensors, Weights};

/// Measures error barriers between runs that were spawned from the same weights.
///
/// At every step at which two of the runs have a snapshot, each pair is measured on each set.
/// Children of one parent give the paper's mean barrier ([`ErrorBarrierTable::means`]); a parent
/// and a child are a pair like any other.
///
/// # Examples
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, VarBuilder, VarMap, linear};
/// use data_diet::geometry::ErrorBarrierTable;
/// use data_diet_candle::geometry::barrier::{Branch, ErrorBarrier, Line};
/// use data_diet_candle::weights::{Params, Weights};
///
/// # let directory = tempfile::tempdir()?;
/// # let experiment = directory.path();
/// let variables = VarMap::new();
/// let model = linear(4, 2, VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
/// let params = Params::from_varmap(&variables)?;
/// let images = Tensor::randn(0.0_f32, 1.0, (6, 4), &Device::Cpu)?;
/// # let tensors = params.copy()?;
/// # let at = |step| Ok(Weights { step, epoch: 0, tensors: tensors.clone() });
/// # let (child_0, child_1) = ([at(100), at(200)], [at(100), at(200)]);
/// // `child_0`, `child_1`: snapshots of two runs that went apart at step 100.
/// let mut table = ErrorBarrierTable::open(experiment)?;
/// ErrorBarrier::new(Line::new(&params))
///     .set("lowest", images, &[0_u32, 1, 0, 1, 0, 1], 256)?
///     .run(
///         Some(100),
///         vec![Branch::new("child-0", child_0), Branch::new("child-1", child_1)],
///         |images| model.forward(images),
///         &mut table,
///         |row| println!("{} at step {}", row.set, row.step),
///     )?;
/// for mean in table.means() {
///     println!("{} at step {}: {}", mean.set, mean.step, mean.error_by_chord);
/// }
/// # assert_eq!(table.means().len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is measured before `run`"]
pub struct ErrorBarrier<'a> {
    line: Line<'a>,
    sets: Vec<(String, LabeledSet)>,
}

impl<'a> ErrorBarrier<'a> {
    /// Measures along this line; its grid and its treatment of running statistics apply to all
    /// pairs.
    pub fn new(line: Line<'a>) -> Self {
        Self { line, sets: Vec::new() }
    }

    /// Adds a group of examples: its name, its inputs `[examples, ...]`, their labels (classes or
    /// soft targets), and how many go through the model at a time.
    ///
    /// # Errors
    ///
    /// If the name is taken; otherwise as for [`LabeledSet::new`].
    pub fn set<L: Labels + ?Sized>(
        self,
        name: impl Into<String>,
        inputs: Tensor,
        labels: &L,
        batch: usize,
    ) -> Result<Self> {
        let name = name.into();
        let set = LabeledSet::new(inputs, labels, batch)
            .map_err(|error| error.context(format!("set `{name}`")))?;
        self.labeled_set(name, set)
    }

    /// Adds a group of examples of any kind of model, which `forward` of [`run`](Self::run) puts out. A
    /// kind without an error rate has barriers of the loss, and NaN as those of the error rate.
    ///
    /// # Errors
    ///
    /// If the name is taken.
    pub fn labeled_set(mut self, name: impl Into<String>, set: LabeledSet) -> Result<Self> {
        let name = name.into();
        if self.sets.iter().any(|(other, _)| *other == name) {
            return Err(Error::Argument(format!("set: two groups are named `{name}`")));
        }
        self.sets.push((name, set));
        Ok(self)
    }

    /// Measures all pairs of runs at all steps that both have, with the run that is earlier in the
    /// list first. `spawn_step` is the step at which all of them had the same weights, if they ever
    /// had. `forward` computes the outputs that the sets expect, by default logits `[batch, classes]`,
    /// in evaluation mode. `progress` is called after every curve with its row.
    ///
    /// Curves that are already in the table are skipped, and the curves of a step are on disk
    /// before the next snapshots are read. One snapshot of each run is in memory. The model's
    /// weights are restored at the end, also after an error.
    ///
    /// # Errors
    ///
    /// If there is no set, fewer than two runs, two of the same name, snapshots that are not in
    /// order of time or older than `spawn_step`, no step that two runs share, or runs that differ
    /// at `spawn_step`; if weights do not fit the model. Any error of the closures, or of writing
    /// the table.
    pub fn run(
        &mut self,
        spawn_step: Option<u64>,
        branches: Vec<Branch<'_>>,
        mut forward: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
        table: &mut ErrorBarrierTable,
        mut progress: impl FnMut(&ErrorBarrierRow),
    ) -> Result<()> {
        let mut runs = self.check(branches)?;
        let mut met = false;
        loop {
            for run in &mut runs {
                run.advance(spawn_step)?;
            }
            let Some(step) = runs.iter().filter_map(Run::step).min() else { break };
            let (mut present, waiting): (Vec<_>, Vec<_>) =
                runs.into_iter().partition(|run| run.step() == Some(step));
            let heads = present.iter_mut().filter_map(|run| Some((&run.name, run.head.take()?)));
            let heads: Vec<(&String, Weights)> = heads.collect();
            let mut rows = Vec::new();
            for (place, (first, one)) in heads.iter().enumerate() {
                for (second, other) in &heads[place + 1..] {
                    met = true;
                    if spawn_step == Some(step) {
                        check_same([first, second], [one, other])?;
                    }
                    for set in 0..self.sets.len() {
                        let name = self.sets[set].0.clone();
                        let examples = self.sets[set].1.examples() as u32;
                        let running_statistics = self.running_statistics();
                        let is_known = table.rows().iter().any(|row| {
                            (row.spawn_step, row.step) == (spawn_step, step)
                                && [&row.first, &row.second, &row.set] == [first, second, &name]
                                && row.running_statistics == running_statistics
                        });
                        if is_known {
                            continue;
                        }
                        let curve = self.measure([&one.tensors, &other.tensors], set, &mut forward);
                        let row = ErrorBarrierRow {
                            first: (*first).clone(),
                            second: (*second).clone(),
                            spawn_step,
                            step,
                            epoch: one.epoch,
                            set: name.clone(),
                            examples,
                            running_statistics,
                            curve: curve.map_err(|error| {
                                let runs = format!("`{first}` and `{second}` at step {step}");
                                error.context(format!("{runs} on set `{name}`"))
                            })?,
                        };
                        progress(&row);
                        rows.push(row);
                    }
                }
            }
            table.append(&rows)?;
            runs = present;
            runs.extend(waiting);
            runs.sort_by_key(|run| run.place);
        }
        if !met {
            let steps: Vec<String> =
                runs.iter().map(|run| describe_steps(&run.name, &run.steps)).collect();
            return Err(Error::Argument(format!(
                "branches: expected two runs with a snapshot at the same step, but {}",
                steps.join("; ")
            )));
        }
        Ok(())
    }

    fn check<'b>(&self, branches: Vec<Branch<'b>>) -> Result<Vec<Run<'b>>> {
        if self.sets.is_empty() {
            return Err(Error::Argument("set: expected at least one group of examples".to_owned()));
        }
        let mut runs: Vec<Run<'b>> = Vec::new();
        for branch in branches {
            if runs.iter().any(|run| run.name == branch.run) {
                let name = branch.run;
                return Err(Error::Argument(format!("branches: two runs are named `{name}`")));
            }
            runs.push(Run {
                place: runs.len(),
                name: branch.run,
                snapshots: branch.snapshots,
                head: None,
                steps: Vec::new(),
            });
        }
        if runs.len() < 2 {
            return Err(Error::Argument(format!(
                "branches: expected at least 2 runs, got {}",
                runs.len()
            )));
        }
        Ok(runs)
    }

    fn running_statistics(&self) -> RunningStatistics {
        if self.line.reestimates_batch_norm() {
            RunningStatistics::Reestimated
        } else {
            RunningStatistics::Interpolated
        }
    }

    fn measure(
        &mut self,
        [first, second]: [&NamedTensors; 2],
        set: usize,
        forward: &mut impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<RiskCurve> {
        let set = &self.sets[set].1;
        self.line.curve(first, second, || set.risk(&mut *forward))
    }
}

/// Checks that two runs have the same weights at the step where they should.
fn check_same(names: [&str; 2], [one, other]: [&Weights; 2]) -> Result<()> {
    let differs = |(name, tensor): (&String, &Tensor)| -> Result<Option<String>> {
        // A different shape is reported with all other differences when the weights are loaded.
        let Some(other) = other.tensors.get(name).filter(|it| it.dims() == tensor.dims()) else {
            return Ok(None);
        };
        let [one, other] =
            [tensor, other].map(|tensor| HostTensor::new(tensor)?.values(name, None));
        Ok((one? != other?).then(|| name.clone()))
    };
    for tensor in &one.tensors {
        if let Some(tensor) = differs(tensor)? {
            let ([first, second], step) = (names, one.step);
            return Err(Error::Argument(format!(
                "branches: expected the same weights of `{first}` and `{second}` at the spawn step \
                 {step}, but `{tensor}` differs"
            )));
        }
    }
    Ok(())
}

/// A run, and its current snapshot.
struct Run<'a> {
    /// Its index in the list of runs.
    place: usize,
    name: String,
    snapshots: Box<dyn Iterator<Item = Result<Weights>> + 'a>,
    head: Option<Weights>,
    /// The steps of all snapshots so far.
    steps: Vec<u64>,
}

impl Run<'_> {
    fn step(&self) -> Option<u64> {
        self.head.as_ref().map(|head| head.step)
    }

    /// Loads the next snapshot if none is loaded.
    fn advance(&mut self, spawn_step: Option<u64>) -> Result<()> {
        if self.head.is_some() {
            return Ok(());
        }
        let Some(next) = self.snapshots.next().transpose()? else { return Ok(()) };
        let (name, step) = (&self.name, next.step);
        if let Some(last) = self.steps.last().filter(|&&last| step <= last) {
            return Err(Error::Argument(format!(
                "branches: expected the snapshots of `{name}` in ascending order, got step {step} \
                 after {last}"
            )));
        }
        if let Some(spawn) = spawn_step.filter(|&spawn| step < spawn) {
            return Err(Error::Argument(format!(
                "branches: expected snapshots of `{name}` since the spawn step {spawn}, got step {step}"
            )));
        }
        self.steps.push(step);
        self.head = Some(next);
        Ok(())
    }
}
