//! Records batches whose logits are on a CUDA device.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;
use candle_core::cuda_backend::cudarc::driver::CudaContext;
use candle_core::cuda_backend::cudarc::driver::sys::CUstreamCaptureStatus;
use data_diet::observe::{Batch, BatchFormat, Moment, Targets};
use data_diet::record::Recorder;

use super::kernel::Kernels;
use super::kernel_arguments::Task;
use super::result_layout::ResultLayout;
use crate::arguments::{ExampleIds, HostLabels, Labels, check_logits};
use crate::error::{Error, Result};
use crate::transfer::{
    ElementKind, PendingCopy, Staging, StagingSlot, device_view, is_float, is_on_same_device,
};

/// Moves batches from CUDA devices to the host.
pub(crate) struct DeviceBatches {
    format: Arc<BatchFormat>,
    devices: Vec<DeviceContext>,
}

/// The kernels and buffers of one device.
struct DeviceContext {
    kernels: Kernels,
    staging: Arc<Staging>,
}

/// Ids or labels, on the host or on the device.
enum Given<'a, T> {
    Host(T),
    Device(Cow<'a, Tensor>),
}

impl DeviceBatches {
    pub(crate) fn new(format: &BatchFormat) -> Self {
        Self { format: Arc::new(format.clone()), devices: Vec::new() }
    }

    /// Records a batch whose logits are on a CUDA device: checks what can be checked without
    /// waiting, and leaves the rest to the recorder's thread.
    pub(crate) fn record<I, L>(
        &mut self,
        recorder: &mut Recorder,
        moment: Moment,
        ids: &I,
        logits: &Tensor,
        labels: &L,
    ) -> Result<()>
    where
        I: ExampleIds + ?Sized,
        L: Labels + ?Sized,
    {
        let classes = self.format.classes as usize;
        let ids = match ids.as_tensor() {
            Some(tensor) if is_on_same_device(tensor, logits) && is_integer(tensor) => {
                Given::Device(Cow::Borrowed(tensor))
            }
            _ => Given::Host(ids.to_ids()?.into_owned()),
        };
        let rows = match &ids {
            Given::Host(ids) => ids.len(),
            Given::Device(ids) => ids.dim(0)?,
        };
        check_logits(logits, rows, classes)?;
        let labels = match labels.as_tensor() {
            Some(tensor) if is_on_same_device(tensor, logits) => {
                device_labels(tensor, rows, classes)?
            }
            _ => match labels.to_labels()? {
                HostLabels::Classes(labels) => Given::Host(labels),
                soft @ HostLabels::Soft { .. } => {
                    let targets = soft.targets(rows, classes)?;
                    if let Given::Host(ids) = &ids {
                        self.format.check_rows(ids, targets)?;
                    }
                    let Targets::Soft(weights) = targets else { return Ok(()) };
                    let tensor = Tensor::from_slice(weights, (rows, classes), logits.device())?;
                    Given::Device(Cow::Owned(tensor))
                }
            },
        };
        if let Given::Host(labels) = &labels {
            match &ids {
                Given::Host(ids) => self.format.check_rows(ids, Targets::Classes(labels))?,
                Given::Device(_) if labels.len() != rows => {
                    return Err(Error::Argument(format!(
                        "labels: expected {rows}, one per id, got {}",
                        labels.len()
                    )));
                }
                Given::Device(_) => {}
            }
        }
        let has_ids = matches!(ids, Given::Device(_));
        let has_weights = matches!(&labels, Given::Device(tensor) if is_float(tensor.dtype()));
        let sections = ResultLayout::new(&self.format, rows, has_ids, has_weights);
        let bytes = sections.bytes + if has_ids { 0 } else { rows * size_of::<i64>() };
        recorder.record_pending(moment, rows, bytes, || {
            let copy = self.start(logits, &ids, &labels, sections)?;
            let format = Arc::clone(&self.format);
            let ids = if let Given::Host(ids) = ids { Some(ids) } else { None };
            Ok(move || {
                let arrived = copy
                    .wait()
                    .map_err(|error| data_diet::Error::device("wait for a batch", error))?;
                let ids = ids.unwrap_or_else(|| sections.ids(arrived.bytes()));
                let observed = sections.observed(&format, rows, arrived.bytes());
                Batch::from_device_signals(&format, moment, &ids, observed)
            })
        })
    }

    /// Queues the kernel and the copy on the device.
    fn start(
        &mut self,
        logits: &Tensor,
        ids: &Given<'_, Vec<i64>>,
        labels: &Given<'_, Cow<'_, [i64]>>,
        sections: ResultLayout,
    ) -> Result<PendingCopy> {
        let stream = logits.device().as_cuda_device()?.cuda_stream();
        if stream.capture_status()? != CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE {
            return Err(Error::Argument(
                "logits: the stream is capturing a CUDA graph; call the hook after the capture"
                    .into(),
            ));
        }
        let format = Arc::clone(&self.format);
        let device = self.device(stream.context())?;
        let rows = logits.dim(0)?;
        let upload =
            if let Given::Host(labels) = labels { labels.len() * size_of::<i64>() } else { 0 };
        let mut draft = device.staging.draft(sections.bytes, upload)?;
        let mut task = sections.task(&format, rows, draft.device());

        let (storage, layout) = logits.storage_and_layout();
        let located = device_view("logits", &storage, layout, &stream)?;
        task.logits = located.address;
        task.row_stride = located.strides[0] as i64;
        task.class_stride = located.strides[1] as i64;

        let label_tensor = labels.tensor();
        let label_memory = label_tensor.map(Tensor::storage_and_layout);
        let label_place = label_memory
            .as_ref()
            .map(|(storage, layout)| device_view("labels", storage, layout, &stream))
            .transpose()?;
        match (&label_place, labels) {
            (Some(place), _) => {
                task.labels = place.address;
                task.label_kind = place.kind as i32;
                task.label_row_stride = place.strides[0] as i64;
                task.label_class_stride = place.strides.get(1).map_or(0, |&stride| stride as i64);
            }
            (None, Given::Host(labels)) => upload_labels(&mut task, &mut draft, labels),
            (None, Given::Device(_)) => {}
        }
        let id_memory = ids.tensor().map(Tensor::storage_and_layout);
        let id_place = id_memory
            .as_ref()
            .map(|(storage, layout)| device_view("ids", storage, layout, &stream))
            .transpose()?;
        if let Some(place) = &id_place {
            task.ids = place.address;
            task.id_kind = place.kind as i32;
            task.id_stride = place.strides[0] as i64;
        }
        // SAFETY: the tensors are alive here, and the stream orders later work of this thread on
        // their memory, including freeing it, after the kernel. The slot has room for every
        // section, and is not reused before the copy that follows has ended.
        unsafe { device.kernels.launch(&stream, logits.dtype(), &task) }?;
        Ok(draft.send(&stream)?)
    }

    fn device(&mut self, context: &Arc<CudaContext>) -> Result<&DeviceContext> {
        let known = self.devices.iter().position(|device| device.staging.context() == context);
        let place = if let Some(place) = known {
            place
        } else {
            let kernels = Kernels::load(context)?;
            self.devices.push(DeviceContext { kernels, staging: Staging::new(context)? });
            self.devices.len() - 1
        };
        Ok(&self.devices[place])
    }
}

impl<T> Given<'_, T> {
    fn tensor(&self) -> Option<&Tensor> {
        match self {
            Self::Host(_) => None,
            Self::Device(tensor) => Some(tensor),
        }
    }
}

/// Lets the device read class indices from host memory.
fn upload_labels(task: &mut Task, draft: &mut StagingSlot, labels: &[i64]) {
    task.labels = draft.upload(labels.iter().flat_map(|label| label.to_le_bytes()));
    task.label_kind = ElementKind::I64 as i32;
    task.label_row_stride = 1;
}

fn is_integer(tensor: &Tensor) -> bool {
    tensor.rank() == 1 && tensor.dtype().is_int() && ElementKind::of(tensor.dtype()).is_some()
}

/// Checks the shape and type of labels on the logits' device; their values are checked when they
/// arrive.
fn device_labels(
    tensor: &Tensor,
    rows: usize,
    classes: usize,
) -> Result<Given<'_, Cow<'_, [i64]>>> {
    match *tensor.dims() {
        [got] if is_integer(tensor) && got != rows => {
            Err(Error::Argument(format!("labels: expected {rows}, one per id, got {got}")))
        }
        [got_rows, got_classes]
            if is_float(tensor.dtype()) && (got_rows, got_classes) != (rows, classes) =>
        {
            Err(Error::Argument(format!(
                "labels: expected soft targets [{rows}, {classes}], got [{got_rows}, {got_classes}]"
            )))
        }
        [_] if is_integer(tensor) => Ok(Given::Device(Cow::Borrowed(tensor))),
        [_, _] if is_float(tensor.dtype()) => Ok(Given::Device(Cow::Borrowed(tensor))),
        _ => Err(crate::arguments::unsupported_labels(tensor)),
    }
}

impl fmt::Debug for DeviceBatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let staging: Vec<_> = self.devices.iter().map(|device| &device.staging).collect();
        f.debug_struct("DeviceBatches").field("devices", &staging).finish_non_exhaustive()
    }
}
