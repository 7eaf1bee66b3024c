//! The weights of a model by name, in order: copied, restored, interpolated.
//!
//! candle's batch normalization keeps its running statistics in the `VarMap`, so they are among the
//! weights here.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use candle_core::{DType, Tensor, Var};
use candle_nn::VarMap;

use crate::error::{Error, Result};
use crate::transfer::to_device;

/// Weights by name, in the order of their names.
pub type NamedTensors = BTreeMap<String, Tensor>;

/// Handles to the variables of a model, in the order of their names.
///
/// A handle always shows the current value of its variable.
///
/// # Examples
///
/// ```
/// use candle_core::{DType, Device};
/// use candle_nn::{VarBuilder, VarMap, linear};
/// use data_diet_candle::weights::Params;
///
/// let variables = VarMap::new();
/// let model = linear(3, 2, VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
/// let params = Params::from_varmap(&variables)?;
/// assert_eq!(params.names().collect::<Vec<_>>(), ["bias", "weight"]);
///
/// let before = params.copy()?;
/// // ... training ...
/// params.load(&before)?;
/// # Ok::<(), data_diet_candle::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Params(BTreeMap<String, Var>);

impl Params {
    /// Takes the variables that a map holds now. Build the model first.
    ///
    /// # Errors
    ///
    /// If the map is empty.
    pub fn from_varmap(variables: &VarMap) -> Result<Self> {
        let data = variables.data().lock().unwrap_or_else(PoisonError::into_inner);
        Self::new(data.iter().map(|(name, variable)| (name.clone(), variable.clone())))
    }

    /// Takes named variables, in any order.
    ///
    /// # Errors
    ///
    /// If there are none, or a name occurs twice.
    pub fn new(variables: impl IntoIterator<Item = (String, Var)>) -> Result<Self> {
        let mut sorted = BTreeMap::new();
        for (name, variable) in variables {
            if sorted.contains_key(&name) {
                return Err(Error::Argument(format!("params: two variables are named `{name}`")));
            }
            sorted.insert(name, variable);
        }
        if sorted.is_empty() {
            return Err(Error::Argument(
                "params: expected the variables of a model, got none; build the model first"
                    .to_owned(),
            ));
        }
        Ok(Self(sorted))
    }

    /// Keeps only the variables for whose name `keep` returns true, such as all but frozen ones.
    ///
    /// # Errors
    ///
    /// If none is left; the message lists the names.
    pub fn only(self, keep: impl Fn(&str) -> bool) -> Result<Self> {
        let names: Vec<String> = self.0.keys().cloned().collect();
        let mut kept = self.0;
        kept.retain(|name, _| keep(name));
        if kept.is_empty() {
            let names = names.join(", ");
            return Err(Error::Argument(format!(
                "keep: expected at least one of the variables {names}, got none"
            )));
        }
        Ok(Self(kept))
    }

    /// Returns the names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the variables, in the order of their names.
    pub fn variables(&self) -> impl Iterator<Item = &Var> {
        self.0.values()
    }

    /// Copies the current weights, on their device and in their dtypes. Later changes of the
    /// variables do not affect the copy.
    ///
    /// # Errors
    ///
    /// If candle cannot copy a tensor.
    pub fn copy(&self) -> Result<NamedTensors> {
        let copy = |(name, variable): (&String, &Var)| {
            Ok((name.clone(), variable.as_detached_tensor().force_contiguous()?))
        };
        self.0.iter().map(copy).collect()
    }

    /// Overwrites the variables with these weights, bit for bit, from whatever device they are on.
    ///
    /// # Errors
    ///
    /// If the names, shapes or dtypes are not those of the variables; the message lists every
    /// difference, and no variable is changed. If a tensor shares the memory of a variable, as a
    /// handle to it does but a [copy](Self::copy) does not.
    pub fn load(&self, weights: &NamedTensors) -> Result<()> {
        let differences = differences(
            self.0.iter().map(|(name, variable)| (name, variable.as_tensor())),
            weights,
        );
        if !differences.is_empty() {
            return Err(Error::Argument(format!(
                "weights: expected those of this model, but {}",
                differences.join("; ")
            )));
        }
        for (name, variable) in &self.0 {
            let tensor = to_device(&weights[name], variable.device())?;
            variable.set(&tensor).map_err(|error| {
                Error::Argument(format!("weights: `{name}` cannot be set from its tensor: {error}"))
            })?;
        }
        Ok(())
    }

    /// Runs `work`, which may change the weights, and restores them afterwards, also if it fails or
    /// panics.
    ///
    /// # Errors
    ///
    /// Any error of `work`; otherwise any error of copying or restoring the weights.
    pub fn restore_after<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut original = RestoreGuard { params: self, weights: Some(self.copy()?) };
        let outcome = work();
        let restored = original.restore();
        let value = outcome?;
        restored?;
        Ok(value)
    }

    /// Returns the same weights on the devices of the variables.
    pub(crate) fn place(&self, weights: &NamedTensors) -> Result<NamedTensors> {
        let place = |(name, tensor): (&String, &Tensor)| {
            let tensor = match self.0.get(name) {
                Some(variable) => to_device(tensor, variable.device())?,
                None => tensor.clone(),
            };
            Ok((name.clone(), tensor))
        };
        weights.iter().map(place).collect()
    }
}

struct RestoreGuard<'a> {
    params: &'a Params,
    weights: Option<NamedTensors>,
}

impl RestoreGuard<'_> {
    fn restore(&mut self) -> Result<()> {
        self.weights.take().map_or(Ok(()), |weights| self.params.load(&weights))
    }
}

impl Drop for RestoreGuard<'_> {
    fn drop(&mut self) {
        // Reached with weights to restore only after a panic; a second error cannot be reported.
        let _ = self.restore();
    }
}

/// Returns the weights on the straight line between two networks: `alpha w + (1 - alpha) w'`.
///
/// Half floats are interpolated in `f32` and rounded once. At `alpha` 1 and 0 the result is exactly
/// `first` and `second`, and wherever the two hold the same number the result is that number, to
/// the bit.
///
/// # Errors
///
/// If `alpha` is outside `0..=1`; if the two differ in names, shapes or dtypes, or hold anything
/// but floats; the message lists every difference.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use data_diet_candle::weights::{NamedTensors, interpolate};
///
/// let weights = |value: f32| -> candle_core::Result<NamedTensors> {
///     Ok(NamedTensors::from([("w".to_owned(), Tensor::new(&[value], &Device::Cpu)?)]))
/// };
/// let middle = interpolate(&weights(4.0)?, &weights(0.0)?, 0.25)?;
/// assert_eq!(middle["w"].to_vec1::<f32>()?, [1.0]);
/// # Ok::<(), data_diet_candle::Error>(())
/// ```
pub fn interpolate(
    first: &NamedTensors,
    second: &NamedTensors,
    alpha: f64,
) -> Result<NamedTensors> {
    if !(0.0..=1.0).contains(&alpha) {
        return Err(Error::Argument(format!("alpha: expected between 0 and 1, got {alpha}")));
    }
    let mut differences = differences(first, second);
    let not_floats =
        first.iter().filter(|(_, tensor)| interpolation_dtype(tensor.dtype()).is_none());
    differences.extend(not_floats.map(|(name, tensor)| {
        format!("`{name}` is {}, which cannot be interpolated", tensor.dtype().as_str())
    }));
    if !differences.is_empty() {
        return Err(Error::Argument(format!(
            "second: expected the weights of the same model as `first`, but {}",
            differences.join("; ")
        )));
    }
    let blend = |(name, first): (&String, &Tensor)| {
        Ok((name.clone(), blend(&first.detach(), &second[name].detach(), alpha)?))
    };
    first.iter().map(blend).collect()
}

fn blend(first: &Tensor, second: &Tensor, alpha: f64) -> Result<Tensor> {
    if alpha == 1.0 {
        return Ok(first.force_contiguous()?);
    }
    if alpha == 0.0 {
        return Ok(second.force_contiguous()?);
    }
    let dtype = first.dtype();
    let wide = interpolation_dtype(dtype).unwrap_or(dtype);
    let sum = ((first.to_dtype(wide)? * alpha)? + (second.to_dtype(wide)? * (1.0 - alpha))?)?;
    // Rounding could change a weight that both ends have in common.
    Ok(first.eq(second)?.where_cond(first, &sum.to_dtype(dtype)?)?)
}

/// Returns the type in which weights of a type are interpolated.
fn interpolation_dtype(dtype: DType) -> Option<DType> {
    match dtype {
        DType::F16 | DType::BF16 | DType::F32 => Some(DType::F32),
        DType::F64 => Some(DType::F64),
        _ => None,
    }
}

/// Lists all differences between the tensors of `other` and those of `model`, by name.
fn differences<'a>(
    model: impl IntoIterator<Item = (&'a String, &'a Tensor)>,
    other: &NamedTensors,
) -> Vec<String> {
    let model: BTreeMap<&String, &Tensor> = model.into_iter().collect();
    let mut found = BTreeMap::new();
    for (&name, expected) in &model {
        let (dtype, shape) = (expected.dtype(), expected.dims());
        let difference = match other.get(name) {
            None => format!("`{name}` is missing"),
            Some(got) if (got.dtype(), got.dims()) != (dtype, shape) => {
                let (got_dtype, got_shape) = (got.dtype().as_str(), got.dims());
                let dtype = dtype.as_str();
                format!("`{name}` is {got_dtype} {got_shape:?}, not {dtype} {shape:?}")
            }
            Some(_) => continue,
        };
        found.insert(name, difference);
    }
    for name in other.keys().filter(|&name| !model.contains_key(name)) {
        found.insert(name, format!("`{name}` is not in the model"));
    }
    found.into_values().collect()
}
