//! Synchronous copies between host and device; works on every device.
//!
//! Tensors on the CPU are read in place. Tensors on another device are first made small (a view
//! would bring its whole backing storage along) and then copied by the calling thread, which orders
//! the copy after the kernels that compute them but has to wait for it.

#![allow(
    clippy::disallowed_methods,
    reason = "this is the one place that moves tensors to the host"
)]

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use data_diet::observe::{
    Batch, BatchFormat, BatchIds, Moment, OutputRows, RowLayout, Targets, TensorValues,
};

use crate::error::{Error, Result};

/// A contiguous tensor on the host, without an autograd graph.
#[derive(Debug)]
pub(crate) struct HostTensor(Tensor);

impl HostTensor {
    pub(crate) fn new(tensor: &Tensor) -> Result<Self> {
        let tensor = tensor.detach();
        if tensor.device().is_cpu() {
            return Ok(Self(tensor.contiguous()?));
        }
        // `copy` and a contiguous view keep the whole storage behind them, and `to_device` would
        // copy all of it: a batch of labels would cost a copy of the data set's labels.
        Ok(Self(tensor.force_contiguous()?.to_device(&Device::Cpu)?))
    }

    /// Returns the values as integers. `what` names the argument.
    pub(crate) fn integers(&self, what: &str) -> Result<Vec<i64>> {
        self.read(|storage, from, to| match storage {
            CpuStorage::U8(values) => Some(values[from..to].iter().map(|&v| v.into()).collect()),
            CpuStorage::U32(values) => Some(values[from..to].iter().map(|&v| v.into()).collect()),
            CpuStorage::I16(values) => Some(values[from..to].iter().map(|&v| v.into()).collect()),
            CpuStorage::I32(values) => Some(values[from..to].iter().map(|&v| v.into()).collect()),
            CpuStorage::I64(values) => Some(values[from..to].to_vec()),
            _ => None,
        })?
        .ok_or_else(|| {
            let got = self.0.dtype().as_str();
            Error::Argument(format!("{what}: expected an integer tensor, got {got}"))
        })
    }

    /// Returns the values as `f32`. `what` names the argument.
    pub(crate) fn floats(&self, what: &str) -> Result<Vec<f32>> {
        if !is_float(self.0.dtype()) {
            let got = self.0.dtype().as_str();
            return Err(Error::Argument(format!("{what}: expected a float tensor, got {got}")));
        }
        let wide = Self(self.0.to_dtype(DType::F32)?);
        let values = wide.read(|storage, from, to| match storage {
            CpuStorage::F32(values) => Some(values[from..to].to_vec()),
            _ => None,
        })?;
        Ok(values.unwrap_or_default())
    }

    /// Copies the values in their own dtype, into the memory of `spare` if it fits. `name` is that
    /// of the tensor.
    pub(crate) fn values(&self, name: &str, spare: Option<TensorValues>) -> Result<TensorValues> {
        macro_rules! copy {
            ($kind:ident, $values:expr) => {
                Some(TensorValues::$kind(match spare {
                    Some(TensorValues::$kind(mut old)) if old.len() == $values.len() => {
                        old.copy_from_slice($values);
                        old
                    }
                    _ => $values.to_vec(),
                }))
            };
        }
        self.read(|storage, from, to| match storage {
            CpuStorage::F32(values) => copy!(F32, &values[from..to]),
            CpuStorage::F16(values) => copy!(F16, &values[from..to]),
            CpuStorage::BF16(values) => copy!(BF16, &values[from..to]),
            CpuStorage::F64(values) => copy!(F64, &values[from..to]),
            CpuStorage::I64(values) => copy!(I64, &values[from..to]),
            CpuStorage::I32(values) => copy!(I32, &values[from..to]),
            CpuStorage::I16(values) => copy!(I16, &values[from..to]),
            CpuStorage::U32(values) => copy!(U32, &values[from..to]),
            CpuStorage::U8(values) => copy!(U8, &values[from..to]),
            _ => None,
        })?
        .ok_or_else(|| {
            let got = self.0.dtype().as_str();
            Error::Argument(format!("snapshots: `{name}` is {got}, which cannot be recorded"))
        })
    }

    /// Returns the values as `f64`, which holds every other float exactly. `what` names the
    /// argument.
    pub(crate) fn doubles(&self, what: &str) -> Result<Vec<f64>> {
        if !is_float(self.0.dtype()) {
            let got = self.0.dtype().as_str();
            return Err(Error::Argument(format!("{what}: expected a float tensor, got {got}")));
        }
        let wide = Self(self.0.to_dtype(DType::F64)?);
        let values = wide.read(|storage, from, to| match storage {
            CpuStorage::F64(values) => Some(values[from..to].to_vec()),
            _ => None,
        })?;
        Ok(values.unwrap_or_default())
    }

    /// Visits the rows of a matrix `[rows, values]`, as `f64`. `what` names the argument.
    pub(crate) fn for_each_row(
        &self,
        what: &str,
        mut visit: impl FnMut(usize, &[f64]),
    ) -> Result<()> {
        let (_, width) = self.0.dims2()?;
        let mut row = vec![0.0; width];
        macro_rules! visit {
            ($values:expr) => {
                for (place, values) in $values.chunks_exact(width.max(1)).enumerate() {
                    row.iter_mut().zip(values).for_each(|(to, &value)| *to = f64::from(value));
                    visit(place, &row);
                }
            };
        }
        self.read(|storage, from, to| {
            match storage {
                CpuStorage::F32(values) => visit!(values[from..to]),
                CpuStorage::F64(values) => visit!(values[from..to]),
                _ => return None,
            }
            Some(())
        })?
        .ok_or_else(|| {
            let got = self.0.dtype().as_str();
            Error::Argument(format!("{what}: expected f32 or f64, got {got}"))
        })
    }

    fn read<T>(&self, read: impl FnOnce(&CpuStorage, usize, usize) -> T) -> Result<T> {
        let (storage, layout) = self.0.storage_and_layout();
        match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(storage), Some((from, to))) => Ok(read(storage, from, to)),
            // `new` has moved the tensor to the CPU and made it contiguous.
            _ => Err(Error::Argument("tensor: expected host memory".to_owned())),
        }
    }
}

/// Makes a batch from outputs on the host, read where they lie and in their own dtype. `layout` is that of
/// the rows in the memory of `outputs`.
pub(crate) fn batch_from_host(
    format: &BatchFormat,
    moment: Moment,
    ids: BatchIds<'_>,
    outputs: &Tensor,
    layout: RowLayout,
    targets: Targets<'_>,
) -> Result<Batch> {
    let (storage, _) = outputs.storage_and_layout();
    macro_rules! batch {
        ($values:expr) => {
            Batch::from_rows(format, moment, ids, OutputRows::strided($values, layout)?, targets)
        };
    }
    let batch = match &*storage {
        Storage::Cpu(CpuStorage::F32(z)) => batch!(z),
        Storage::Cpu(CpuStorage::F64(z)) => batch!(z),
        Storage::Cpu(CpuStorage::F16(z)) => batch!(z),
        Storage::Cpu(CpuStorage::BF16(z)) => batch!(z),
        _ => return Err(unsupported_logits(outputs.dtype())),
    };
    Ok(batch?)
}

/// Returns outputs that are on the host and contiguous; the same tensor if it is already there.
pub(crate) fn contiguous_on_host(outputs: &Tensor) -> Result<Tensor> {
    HostTensor::new(outputs).map(|host| host.0)
}

/// Moves a tensor to the device of a model.
pub(crate) fn to_device(tensor: &Tensor, device: &Device) -> Result<Tensor> {
    Ok(tensor.to_device(device)?)
}

pub(crate) fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
}

pub(crate) fn unsupported_logits(dtype: DType) -> Error {
    let got = dtype.as_str();
    Error::Argument(format!("logits: expected f32, f16, bf16 or f64, got {got}"))
}
