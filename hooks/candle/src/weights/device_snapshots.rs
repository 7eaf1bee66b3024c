//! Snapshots of weights on a CUDA device: copied on the device between two updates, then to the
//! host like batches.

#![allow(unsafe_code, reason = "a copy that nobody waits for takes addresses")]

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::{Tensor, Var};
use data_diet::observe::{Clock, Snapshot, SnapshotTensor, TensorValues};
use data_diet::record::Recorder;

use crate::error::{Error, Result};
use crate::transfer::{ElementKind, PendingCopy, Staging, device_view, is_on_same_device};

/// Copies weights from CUDA devices to the host, on a stream of its own so that batches do not
/// queue behind them.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeviceSnapshots {
    staging: Option<Arc<Staging>>,
}

/// The position of a tensor in the buffer.
struct Place {
    name: String,
    shape: Vec<usize>,
    dtype: &'static str,
    start: usize,
    length: usize,
}

/// Why no copy was started.
enum Refusal {
    /// The device or the host has no room for a second copy of the weights.
    OutOfMemory,
    Other(Error),
}

impl From<data_diet::Error> for Refusal {
    fn from(error: data_diet::Error) -> Self {
        Self::Other(error.into())
    }
}

impl DeviceSnapshots {
    /// Queues a copy of the weights at this point of the thread's stream. Returns whether that
    /// worked: weights that are not all on one CUDA device, or that it has no room to copy, need a
    /// synchronous copy.
    pub(crate) fn copy(
        &mut self,
        clock: Clock,
        variables: &[(String, Var)],
        recorder: &mut Recorder,
    ) -> Result<bool> {
        let Some((_, first)) = variables.first() else { return Ok(false) };
        let on_one_device = |(_, variable): &(String, Var)| {
            is_on_same_device(variable, first) && ElementKind::of(variable.dtype()).is_some()
        };
        if !variables.iter().all(on_one_device) {
            return Ok(false);
        }
        let mut bytes = 0;
        let mut places = Vec::with_capacity(variables.len());
        for (name, variable) in variables {
            let length = variable.elem_count() * variable.dtype().size_in_bytes();
            places.push(Place {
                name: name.clone(),
                shape: variable.dims().to_vec(),
                dtype: variable.dtype().as_str(),
                start: bytes,
                length,
            });
            // Copies of aligned words are fast.
            bytes += length.next_multiple_of(16);
        }
        let handed_over = recorder.record_pending_snapshot(clock.step(), bytes, || {
            let copy = self.start(variables, &places, bytes)?;
            Ok(move |spare| received(clock, copy, &places, spare))
        });
        match handed_over {
            Ok(_) => Ok(true),
            Err(Refusal::OutOfMemory) => Ok(false),
            Err(Refusal::Other(error)) => Err(error),
        }
    }

    fn start(
        &mut self,
        variables: &[(String, Var)],
        places: &[Place],
        bytes: usize,
    ) -> Result<PendingCopy, Refusal> {
        let copied = || -> Result<Option<PendingCopy>> {
            let device = variables[0].1.device().as_cuda_device()?.clone();
            let stream = device.cuda_stream();
            let staging = match &self.staging {
                Some(staging) if staging.context() == stream.context() => Arc::clone(staging),
                _ => Arc::clone(self.staging.insert(Staging::new(stream.context())?)),
            };
            // If memory cannot be allocated, the synchronous copy needs none.
            let Ok(draft) = staging.draft(bytes, 0) else { return Ok(None) };
            for ((name, variable), place) in variables.iter().zip(places) {
                // Freed after the copy has been queued, in stream order.
                let whole: Tensor = variable.contiguous()?;
                let (storage, layout) = whole.storage_and_layout();
                let located = device_view(name, &storage, layout, &stream)?;
                let to = draft.device() + place.start as u64;
                // SAFETY: the source is alive until the stream has passed the copy, since freeing
                // it is ordered after that; the places are within the slot and do not overlap.
                unsafe {
                    result::memcpy_dtod_async(to, located.address, place.length, stream.cu_stream())
                }?;
            }
            Ok(Some(draft.send(&stream)?))
        };
        match { copied }() {
            Ok(Some(copy)) => Ok(copy),
            Ok(None) => Err(Refusal::OutOfMemory),
            Err(error) => Err(Refusal::Other(error)),
        }
    }
}

/// Reads the copy on the host, into the memory of an earlier snapshot where it fits.
fn received(
    clock: Clock,
    copy: PendingCopy,
    places: &[Place],
    spare: Option<Snapshot>,
) -> data_diet::Result<Snapshot> {
    let arrived =
        copy.wait().map_err(|error| data_diet::Error::device("wait for a snapshot", error))?;
    let mut spares = spare.map(Snapshot::into_tensors).unwrap_or_default().into_iter();
    let tensor = |place: &Place| {
        let bytes = &arrived.bytes()[place.start..][..place.length];
        let spare = spares.next().map(SnapshotTensor::into_values);
        let values = TensorValues::from_le_bytes(place.dtype, bytes, spare)?;
        SnapshotTensor::new(place.name.as_str(), place.shape.clone(), values)
    };
    let tensors = places.iter().map(tensor).collect::<data_diet::Result<_>>()?;
    Snapshot::new(clock.step(), clock.epoch(), tensors)
}
