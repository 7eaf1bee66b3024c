//! Recorded weights as candle tensors.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, safetensors};
use candle_nn::VarMap;
use data_diet::Experiment;
use data_diet::observe::{SnapshotTensor, TensorValues};

use crate::error::{Error, Result};
use crate::weights::params::{NamedTensors, Params};

/// The weights that a run has recorded, by step.
///
/// # Examples
///
/// ```no_run
/// # let varmap = candle_nn::VarMap::new();
/// use data_diet_candle::weights::Snapshots;
///
/// let snapshots = Snapshots::open("runs/digits", "seed-0")?;
/// snapshots.at(1000)?.load_into(&varmap)?;
/// # Ok::<(), data_diet_candle::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshots(data_diet::run::Snapshots);

impl Snapshots {
    /// Opens the snapshots of a run. Changes nothing on disk.
    ///
    /// # Errors
    ///
    /// If there is no such experiment or run; the message lists the runs.
    pub fn open(experiment: impl Into<PathBuf>, run: &str) -> Result<Self> {
        Ok(Self(Experiment::open_read_only(experiment)?.run(run)?.snapshots()?))
    }

    /// Returns the steps, ascending: optimizer updates already applied.
    #[must_use]
    pub fn steps(&self) -> &[u64] {
        self.0.steps()
    }

    /// Reads the weights after `step` updates, on the CPU.
    ///
    /// # Errors
    ///
    /// If there is no snapshot of this step (the message lists the steps), or its file is damaged.
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

impl Snapshots {
    /// Reads every snapshot in order of time, each when it is asked for.
    pub fn iter(&self) -> impl Iterator<Item = Result<Weights>> + '_ {
        self.steps().iter().map(|&step| self.at(step))
    }
}

impl From<data_diet::run::Snapshots> for Snapshots {
    fn from(snapshots: data_diet::run::Snapshots) -> Self {
        Self(snapshots)
    }
}

/// Named weights at one moment of training.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The optimizer updates already applied.
    pub step: u64,
    /// The epochs completed before.
    pub epoch: u32,
    /// The tensors by name, in their own dtypes.
    pub tensors: NamedTensors,
}

impl Weights {
    /// Overwrites the variables of a model with these weights, bit for bit. Variables that the
    /// snapshot left out keep their values.
    ///
    /// # Errors
    ///
    /// If a tensor has no variable of its name, or one of another shape or dtype; the message lists
    /// every difference, and no variable is changed.
    pub fn load_into(&self, variables: &VarMap) -> Result<()> {
        let params = Params::from_varmap(variables)?;
        let known = self.tensors.keys().all(|name| params.names().any(|other| other == name));
        if known {
            params.only(|name| self.tensors.contains_key(name))?.load(&self.tensors)
        } else {
            params.load(&self.tensors)
        }
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

    /// Reads weights from a safetensors file, as weights of this moment.
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
