//! Moves tensors between devices and the host; the only module that waits for a device.
//!
//! [`HostTensor`] copies synchronously and works on every device. On CUDA, [`Staging`] copies after
//! the work already queued on the training stream, through pinned buffers, and only the recorder's
//! thread waits, in [`PendingCopy::wait`]. What the bytes mean is left to `signals` and `weights`.

#[cfg(feature = "cuda")]
mod device_tensor;
#[cfg(feature = "cuda")]
mod element_kind;
mod host;
#[cfg(feature = "cuda")]
mod staging;

#[cfg(feature = "cuda")]
pub(crate) use device_tensor::{device_view, is_on_same_device};
#[cfg(feature = "cuda")]
pub(crate) use element_kind::ElementKind;
pub(crate) use host::{
    HostTensor, batch_from_host, contiguous_on_host, is_float, to_device, unsupported_logits,
};
#[cfg(feature = "cuda")]
pub(crate) use staging::{PendingCopy, Staging, StagingSlot};
