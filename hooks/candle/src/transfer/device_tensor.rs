//! Addresses and strides of tensors on a CUDA device.

use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, SyncOnDrop};
use candle_core::{Layout, Storage, Tensor};

use super::element_kind::ElementKind;
use crate::error::{Error, Result};

/// A tensor's memory, for work on a stream to read.
pub(crate) struct DeviceView<'a> {
    /// The address of the first element.
    pub(crate) address: u64,
    pub(crate) kind: ElementKind,
    /// In elements, one per dimension.
    pub(crate) strides: &'a [usize],
    /// If the context tracks what its streams do, reports the reading to it when dropped, after the
    /// work has been queued.
    _tracked: SyncOnDrop<'a>,
}

/// Returns the memory behind a tensor's storage. `what` names the argument.
pub(crate) fn device_view<'a>(
    what: &str,
    storage: &'a Storage,
    layout: &'a Layout,
    stream: &'a CudaStream,
) -> Result<DeviceView<'a>> {
    let Storage::Cuda(storage) = storage else {
        return Err(Error::Argument(format!("{what}: expected a tensor on the logits' device")));
    };
    let kind = ElementKind::of(candle_core::backend::BackendStorage::dtype(storage));
    let start = layout.start_offset();
    let (address, tracked) = match &storage.slice {
        CudaStorageSlice::U8(slice) => place(slice, start, stream),
        CudaStorageSlice::U32(slice) => place(slice, start, stream),
        CudaStorageSlice::I16(slice) => place(slice, start, stream),
        CudaStorageSlice::I32(slice) => place(slice, start, stream),
        CudaStorageSlice::I64(slice) => place(slice, start, stream),
        CudaStorageSlice::BF16(slice) => place(slice, start, stream),
        CudaStorageSlice::F16(slice) => place(slice, start, stream),
        CudaStorageSlice::F32(slice) => place(slice, start, stream),
        CudaStorageSlice::F64(slice) => place(slice, start, stream),
        _ => return Err(unsupported(what)),
    };
    let kind = kind.ok_or_else(|| unsupported(what))?;
    Ok(DeviceView { address, kind, strides: layout.stride(), _tracked: tracked })
}

fn place<'a, T>(
    slice: &'a CudaSlice<T>,
    start: usize,
    stream: &'a CudaStream,
) -> (u64, SyncOnDrop<'a>) {
    let (address, tracked) = slice.device_ptr(stream);
    (address + (start * size_of::<T>()) as u64, tracked)
}

fn unsupported(what: &str) -> Error {
    Error::Argument(format!("{what}: expected integers of 8 to 64 bits or floats of 16 to 64 bits"))
}

/// Returns whether a tensor is on the device of the logits.
pub(crate) fn is_on_same_device(tensor: &Tensor, logits: &Tensor) -> bool {
    tensor.device().is_cuda() && tensor.device().same_device(logits.device())
}
