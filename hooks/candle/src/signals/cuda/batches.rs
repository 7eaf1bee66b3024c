//! Records batches whose logits are on a CUDA device.

use std::fmt;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::CudaContext;
use candle_core::cuda_backend::cudarc::driver::sys::CUstreamCaptureStatus;
use candle_core::{Device, Tensor};
use data_diet::observe::{Batch, BatchFormat, ModelKind, Moment, Targets};
use data_diet::record::Recorder;

use super::kernel::Kernels;
use super::kernel_arguments::Task;
use super::result_layout::{DeviceShape, ResultLayout, has_softmax};
use crate::arguments::{
    ExampleIds, HostLabels, Labels, batch_ids, check_label_width, ids_per_token,
};
use crate::error::{Error, Result};
use crate::output_shape::OutputShape;
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
enum Given<T> {
    Host(T),
    Device(Tensor),
}

impl DeviceBatches {
    /// Prepares what `device` needs, if it is a CUDA device: compiles the kernels and makes a stream.
    pub(crate) fn new(format: &BatchFormat, device: Option<&Device>) -> Result<Self> {
        let mut batches = Self { format: Arc::new(format.clone()), devices: Vec::new() };
        if let Some(device) = device.filter(|device| device.is_cuda()) {
            batches.device(device.as_cuda_device()?.cuda_stream().context())?;
        }
        Ok(batches)
    }

    /// Records a batch whose outputs are on a CUDA device: checks what can be checked without
    /// waiting, and leaves the rest to the recorder's thread.
    pub(crate) fn record<I, L>(
        &mut self,
        recorder: &mut Recorder,
        moment: Moment,
        ids: &I,
        outputs: &Tensor,
        labels: &L,
    ) -> Result<()>
    where
        I: ExampleIds + ?Sized,
        L: Labels + ?Sized,
    {
        let kind = self.format.kind;
        let shape = OutputShape::of(kind, outputs)?;
        let rows = shape.rows();
        let row_length = ids.row_length();
        let ids = match ids.as_tensor() {
            Some(tensor) if is_on_same_device(tensor, outputs) && is_integer(tensor) => {
                Given::Device(tensor.flatten_all()?)
            }
            _ => Given::Host(ids.to_ids()?.into_owned()),
        };
        let id_count = match &ids {
            Given::Host(ids) => ids.len(),
            Given::Device(ids) => ids.dim(0)?,
        };
        let per_token = ids_per_token(kind, row_length, id_count, &shape);
        let labels = match labels.as_tensor() {
            Some(tensor) if is_on_same_device(tensor, outputs) => device_labels(tensor, kind)?,
            _ => host_labels(labels.to_labels()?.of_kind(kind), &shape, outputs.device())?,
        };
        check_label_shape(kind, &labels, rows)?;
        if let (Given::Host(ids), Given::Host(labels)) = (&ids, &labels) {
            let ids = batch_ids(per_token, ids);
            let targets =
                if kind == ModelKind::LossOnly { Targets::None } else { Targets::Classes(labels) };
            self.format.check_rows(ids, rows, targets)?;
        } else if !kind.has_tokens() && id_count != rows {
            return Err(Error::Argument(format!(
                "ids: expected {rows}, one per row of logits, got {id_count}"
            )));
        }
        if rows == 0 {
            return Ok(());
        }
        let label_columns = match &labels {
            Given::Device(labels) if !has_softmax(kind) => {
                let is_class = kind == ModelKind::Binary && !is_float(labels.dtype());
                if is_class { 0 } else { kind.outputs() }
            }
            _ => 0,
        };
        let device_shape = DeviceShape {
            rows,
            ids: if matches!(ids, Given::Device(_)) { id_count } else { 0 },
            has_weights: has_softmax(kind)
                && matches!(&labels, Given::Device(tensor) if is_float(tensor.dtype())),
            label_columns,
        };
        let sections = ResultLayout::new(&self.format, device_shape);
        let bytes = sections.bytes + if device_shape.ids > 0 { 0 } else { id_count * 8 };
        recorder.record_pending(moment, rows, bytes, || {
            let copy = self.start(outputs, &shape, &ids, &labels, sections, device_shape)?;
            let format = Arc::clone(&self.format);
            let ids = if let Given::Host(ids) = ids { Some(ids) } else { None };
            Ok(move || {
                let arrived = copy
                    .wait()
                    .map_err(|error| data_diet::Error::device("wait for a batch", error))?;
                let bytes = arrived.bytes();
                let ids = ids.unwrap_or_else(|| sections.ids(bytes));
                let ids = batch_ids(per_token, &ids);
                if has_softmax(format.kind) {
                    let observed = sections.observed(&format, rows, bytes);
                    return Batch::from_device_signals(&format, moment, ids, observed);
                }
                let (classes, numbers) = (sections.labels(bytes), sections.targets(bytes));
                let targets = match format.kind {
                    ModelKind::LossOnly => Targets::None,
                    _ if label_columns == 0 => Targets::Classes(&classes),
                    _ => Targets::Soft(&numbers),
                };
                Batch::new(&format, moment, ids, &sections.outputs(bytes), targets)
            })
        })
    }

    /// Queues the kernel and the copy on the device.
    fn start(
        &mut self,
        outputs: &Tensor,
        shape: &OutputShape,
        ids: &Given<Vec<i64>>,
        labels: &Given<Vec<i64>>,
        sections: ResultLayout,
        device_shape: DeviceShape,
    ) -> Result<PendingCopy> {
        let stream = outputs.device().as_cuda_device()?.cuda_stream();
        if stream.capture_status()? != CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE {
            return Err(Error::Argument(
                "logits: the stream is capturing a CUDA graph; call the hook after the capture"
                    .into(),
            ));
        }
        // Values that are not equally far apart, of predictions of several dimensions.
        let contiguous;
        let (outputs, rows) = match shape.layout(outputs) {
            Some(rows) => (outputs, rows),
            None => {
                contiguous = outputs.contiguous()?;
                (&contiguous, shape.contiguous_layout(&contiguous))
            }
        };
        let format = Arc::clone(&self.format);
        let device = self.device(stream.context())?;
        let upload =
            if let Given::Host(labels) = labels { labels.len() * size_of::<i64>() } else { 0 };
        let mut draft = device.staging.draft(sections.bytes, upload)?;
        let mut task = sections.task(&format, device_shape, draft.device());

        let (storage, layout) = outputs.storage_and_layout();
        let located = device_view("logits", &storage, layout, &stream)?;
        task.logits = located.address;
        task.group_stride = rows.group_stride as i64;
        task.inner = rows.inner.max(1) as i64;
        task.row_stride = rows.row_stride as i64;
        task.class_stride = rows.stride as i64;

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
        unsafe { device.kernels.launch(&stream, outputs.dtype(), &task) }?;
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

impl<T> Given<T> {
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
    tensor.dtype().is_int() && ElementKind::of(tensor.dtype()).is_some()
}

/// Returns labels on the outputs' device as `[rows]` or `[rows, columns]`; their values are checked when
/// they arrive.
fn device_labels(tensor: &Tensor, kind: ModelKind) -> Result<Given<Vec<i64>>> {
    if tensor.rank() == 0 || !(is_float(tensor.dtype()) || is_integer(tensor)) {
        return Err(crate::arguments::unsupported_labels(tensor));
    }
    let rows = tensor.dim(0)?;
    let columns = tensor.elem_count() / rows.max(1);
    Ok(Given::Device(if kind.has_tokens() || columns == 1 {
        // Views of one dimension need no copy.
        if tensor.rank() == 1 { tensor.clone() } else { tensor.flatten_all()? }
    } else if tensor.rank() == 2 {
        tensor.clone()
    } else {
        tensor.reshape((rows, columns))?
    }))
}

/// Returns labels from the host: class indices stay there, numbers are sent to the device.
fn host_labels(
    labels: HostLabels<'_>,
    shape: &OutputShape,
    device: &Device,
) -> Result<Given<Vec<i64>>> {
    Ok(match labels {
        HostLabels::Classes { labels, .. } => Given::Host(labels.into_owned()),
        HostLabels::Soft { weights, width } => {
            let rows = weights.len() / width.max(1);
            let numbers = Tensor::from_slice(&weights, (rows, width), device)?;
            Given::Device(if width == 1 && shape.width > 1 {
                numbers.flatten_all()?
            } else {
                numbers
            })
        }
        HostLabels::None => Given::Host(Vec::new()),
    })
}

/// Checks what the shape and the type of labels say about them.
fn check_label_shape(kind: ModelKind, labels: &Given<Vec<i64>>, rows: usize) -> Result<()> {
    let (is_float, got, width) = match labels {
        Given::Host(labels) if kind == ModelKind::LossOnly && labels.is_empty() => return Ok(()),
        Given::Host(labels) => (false, labels.len(), 1),
        Given::Device(tensor) => {
            let got = tensor.dim(0)?;
            (is_float(tensor.dtype()), got, tensor.elem_count() / got.max(1))
        }
    };
    let is_number = matches!(kind, ModelKind::MultiLabel { .. } | ModelKind::Regression { .. });
    let is_other = match kind {
        ModelKind::Tokens { .. } => is_float,
        ModelKind::Regression { .. } => !is_float,
        ModelKind::LossOnly => true,
        _ => false,
    };
    if is_other {
        let got = if is_float { "numbers" } else { "class indices" };
        return Err(Error::Argument(format!(
            "labels: expected those that `{}` has, got {got}",
            kind.name()
        )));
    }
    if got != rows {
        let per = if kind.has_tokens() { "token" } else { "id" };
        return Err(Error::Argument(format!("labels: expected {rows}, one per {per}, got {got}")));
    }
    check_label_width(kind, is_float || is_number, rows, width)
}

impl fmt::Debug for DeviceBatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let staging: Vec<_> = self.devices.iter().map(|device| &device.staging).collect();
        f.debug_struct("DeviceBatches").field("devices", &staging).finish_non_exhaustive()
    }
}
