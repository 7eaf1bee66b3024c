//! Recorded weights as candle tensors.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use candle_core::{Device, Tensor, safetensors};
use candle_nn::VarMap;
use data_diet::{Experiment, SnapshotTensor, TensorValues};

use crate::error::{Error, Result};
use crate::transfer::to_device;

/// The weights that a run has recorded, by step.
///
/// # Examples
///
/// ```no_run
/// # let varmap = candle_nn::VarMap::new();
/// use data_diet_candle::Snapshots;
///
/// let snapshots = Snapshots::open("runs/digits", "seed-0")?;
/// snapshots.at(1000)?.load_into(&varmap)?;
/// # Ok::<(), data_diet_candle::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshots(data_diet::Snapshots);

impl Snapshots {
    /// Opens the snapshots of a run. Changes nothing on disk.
    ///
    /// # Errors
    ///
    /// If there is no such experiment or run, with the runs there are.
    pub fn open(experiment: impl Into<PathBuf>, run: &str) -> Result<Self> {
        Ok(Self(Experiment::open_read_only(experiment)?.run(run)?.snapshots()?))
    }

    /// The steps, ascending: optimizer updates already applied.
    #[must_use]
    pub fn steps(&self) -> &[u64] {
        self.0.steps()
    }

    /// The weights after `step` updates, on the CPU.
    ///
    /// # Errors
    ///
    /// If there is no snapshot of this step, with the steps there are, or its file is damaged.
    pub fn at(&self, step: u64) -> Result<Weights> {
        let snapshot = self.0.at(step)?;
        let (step, epoch) = (snapshot.step(), snapshot.epoch());
        let tensors = snapshot.into_tensors().into_iter().map(|tensor| {
            let name = tensor.name().to_owned();
            Ok((name, to_candle(tensor)?))
        });
        Ok(Weights { step, epoch, tensors: tensors.collect::<Result<_>>()? })
    }
}

impl From<data_diet::Snapshots> for Snapshots {
    fn from(snapshots: data_diet::Snapshots) -> Self {
        Self(snapshots)
    }
}

/// Named weights at one moment of training.
#[derive(Clone, Debug)]
pub struct Weights {
    step: u64,
    epoch: u32,
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// The optimizer updates already applied.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The epochs completed before.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The tensors by name, in their own dtypes.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Overwrites the variables of a model with these weights, bit for bit. Variables that the
    /// snapshot was told to leave out keep their values.
    ///
    /// # Errors
    ///
    /// If a tensor has no variable of its name, or one of another shape or dtype; the message lists
    /// every difference, and no variable is changed then.
    pub fn load_into(&self, variables: &VarMap) -> Result<()> {
        let data = variables.data().lock().unwrap_or_else(PoisonError::into_inner);
        let mut differences = Vec::new();
        for (name, tensor) in &self.tensors {
            let (shape, dtype) = (tensor.dims(), tensor.dtype().as_str());
            match data.get(name) {
                None => differences.push(format!("`{name}` is not in the model")),
                Some(v) if (v.dims(), v.dtype()) != (shape, tensor.dtype()) => {
                    let (ours, own) = (v.dtype().as_str(), v.dims());
                    differences.push(format!(
                        "`{name}` is {dtype} {shape:?}, in the model {ours} {own:?}"
                    ));
                }
                Some(_) => {}
            }
        }
        if !differences.is_empty() {
            let mut missing: Vec<&String> = data.keys().collect();
            missing.retain(|&name| !self.tensors.contains_key(name));
            missing.sort_unstable();
            differences
                .extend(missing.iter().map(|name| format!("`{name}` is not in the snapshot")));
            let differences = differences.join("; ");
            return Err(Error::Argument(format!(
                "snapshot: expected the weights of this model, but {differences}"
            )));
        }
        for (name, tensor) in &self.tensors {
            if let Some(variable) = data.get(name) {
                variable.set(&to_device(tensor, variable.device())?)?;
            }
        }
        Ok(())
    }

    /// Writes the weights as safetensors, which other tools and [`VarMap::load`] read.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn save_safetensors(&self, path: impl AsRef<Path>) -> Result<()> {
        let tensors: HashMap<&str, Tensor> =
            self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
        Ok(safetensors::save(&tensors, path)?)
    }

    /// Reads weights from a safetensors file, as those of this moment.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn load_safetensors(path: impl AsRef<Path>, step: u64, epoch: u32) -> Result<Self> {
        let tensors = safetensors::load(path, &Device::Cpu)?.into_iter().collect();
        Ok(Self { step, epoch, tensors })
    }
}

fn to_candle(tensor: SnapshotTensor) -> Result<Tensor> {
    let shape = tensor.shape().to_vec();
    let device = &Device::Cpu;
    Ok(match tensor.into_values() {
        TensorValues::F32(values) => Tensor::from_vec(values, shape, device)?,
        TensorValues::F16(values) => Tensor::from_vec(values, shape, device)?,
        TensorValues::BF16(values) => Tensor::from_vec(values, shape, device)?,
        TensorValues::F64(values) => Tensor::from_vec(values, shape, device)?,
        TensorValues::I64(values) => Tensor::from_vec(values, shape, device)?,
        TensorValues::I32(values) => Tensor::from_vec(values, shape, device)?,
        TensorValues::I16(values) => Tensor::from_vec(values, shape, device)?,
        TensorValues::U32(values) => Tensor::from_vec(values, shape, device)?,
        TensorValues::U8(values) => Tensor::from_vec(values, shape, device)?,
        other => {
            let dtype = other.dtype();
            return Err(Error::Argument(format!("snapshot: candle has no dtype {dtype}")));
        }
    })
}
