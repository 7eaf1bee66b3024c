//! The tape: while one is running, the layers of [`nn`](crate::nn) record how each example
//! contributes to the gradients of their parameters.
//!
//! A layer on a tape computes its output as usual, but from a detached input, and attaches it to
//! the graph by one operation of the tape. When candle's backward pass reaches that operation, the
//! layer receives the gradient of its output, records a [`Contribution`] for each of its
//! parameters, and returns the gradient of its input. So one backward pass covers every layer, and
//! no gradient of a weight is ever formed.
//!
//! [`contribution`](crate::gradients::contribution) turns contributions into sums of squares;
//! [`norms`](crate::gradients::norms) finds the parameters that the tape has not seen.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp3, DType, Device, Error, Layout, MetalStorage, Result, Shape,
    Tensor, TensorId, Var,
};

use crate::gradients::contribution::Contribution;

thread_local! {
    /// A stack: a forward pass may itself compute gradient norms.
    static RUNNING: RefCell<Vec<Arc<Tape>>> = const { RefCell::new(Vec::new()) };
}

pub(crate) struct Tape {
    batch: usize,
    /// Whether a layer's input may have several consecutive rows per example.
    multi_row_inputs: bool,
    /// The index of each parameter's contributions in the record.
    parameters: HashMap<TensorId, usize>,
    /// Parameters whose gradients candle itself must form.
    attached: HashSet<TensorId>,
    /// candle follows an operation in the backward pass only if one of its arguments leads to a
    /// variable, which the first layer's input does not. Nothing is ever added to its gradient.
    anchor: Var,
    record: Mutex<Record>,
}

/// What a tape has recorded.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// For each parameter, in reverse order of the forward pass.
    pub(crate) contributions: Vec<Vec<Contribution>>,
    /// Why a layer left a parameter to candle.
    pub(crate) reasons: Vec<Option<String>>,
    /// Tensors of layers that no gradient trains.
    pub(crate) buffers: HashSet<TensorId>,
    /// Whether each layer's input had one row per example, or several.
    pub(crate) one_row_per_example: Vec<bool>,
    pub(crate) outputs: OutputSizes,
    refusal: Option<String>,
}

/// The size of the layers' outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputSizes {
    /// The bytes of all outputs.
    pub(crate) bytes: usize,
    /// The number of values of the largest output.
    pub(crate) largest: usize,
}

/// The gradient of a layer's output, as the layer receives it.
#[derive(Debug)]
pub(crate) struct OutputGradient<'a> {
    pub(crate) tape: &'a Tape,
    /// Contiguous, with the shape of the output.
    pub(crate) gradient: Tensor,
    /// Whether the gradient of the layer's input is needed.
    pub(crate) needs_input_gradient: bool,
}

impl OutputSizes {
    fn add(&mut self, output: &Tensor) {
        let values = output.elem_count();
        self.bytes += values * output.dtype().size_in_bytes();
        self.largest = self.largest.max(values);
    }
}

impl Tape {
    /// Makes a tape for batches of `batch` examples that sorts contributions by `parameters` and
    /// leaves those of `attached` to candle. With `multi_row_inputs`, a layer whose input has more rows
    /// than examples is assumed to have several consecutive rows per example; without, it is left
    /// to candle.
    pub(crate) fn new(
        batch: usize,
        multi_row_inputs: bool,
        device: &Device,
        parameters: &[TensorId],
        attached: &[TensorId],
    ) -> Result<Arc<Self>> {
        let record = Record {
            contributions: parameters.iter().map(|_| Vec::new()).collect(),
            reasons: vec![None; parameters.len()],
            ..Record::default()
        };
        Ok(Arc::new(Self {
            batch,
            multi_row_inputs,
            parameters: parameters.iter().enumerate().map(|(at, &id)| (id, at)).collect(),
            attached: attached.iter().copied().collect(),
            anchor: Var::zeros(1, DType::F32, device)?,
            record: Mutex::new(record),
        }))
    }

    /// Returns the tape that is running on this thread.
    pub(crate) fn running() -> Option<Arc<Self>> {
        RUNNING.with_borrow(|tapes| tapes.last().cloned())
    }

    /// Runs `forward` on the tape.
    pub(crate) fn run<T>(self: &Arc<Self>, forward: impl FnOnce() -> T) -> T {
        struct Running;
        impl Drop for Running {
            fn drop(&mut self) {
                RUNNING.with_borrow_mut(Vec::pop);
            }
        }
        RUNNING.with_borrow_mut(|tapes| tapes.push(self.clone()));
        let _running = Running;
        forward()
    }

    /// Returns the number of examples.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// Takes everything recorded so far.
    pub(crate) fn take(&self) -> Record {
        std::mem::take(&mut *self.record())
    }

    /// Takes the contributions since the last call, for a model that is run backward several times.
    pub(crate) fn take_contributions(&self) -> Vec<Vec<Contribution>> {
        let mut record = self.record();
        let empty = record.contributions.iter().map(|_| Vec::new()).collect();
        std::mem::replace(&mut record.contributions, empty)
    }

    /// Returns whether a layer with these parameters can be taped on this input. If not, it must
    /// run as usual, with its parameters in candle's graph, where their gradients show that the
    /// tape has not seen them.
    pub(crate) fn takes(&self, input: &Tensor, parameters: &[Option<&Tensor>]) -> bool {
        let parameters = || parameters.iter().flatten();
        // A weight that is computed from another tensor trains that tensor.
        let computed = |tensor: &&&Tensor| !tensor.is_variable() && tensor.track_op();
        if parameters().any(|tensor| self.attached.contains(&tensor.id()))
            || parameters().find(computed).is_some()
        {
            return false;
        }
        let rows = input.dims().first().copied().unwrap_or(1);
        let fits = rows == self.batch || self.multi_row_inputs && rows.is_multiple_of(self.batch);
        if input.rank() == 0 || !fits {
            let mut record = self.record();
            for tensor in parameters() {
                if let Some(&at) = self.parameters.get(&tensor.id()) {
                    record.reasons[at] = Some(format!(
                        "its layer's input is {:?}, whose first dimension is not the batch of {}",
                        input.dims(),
                        self.batch
                    ));
                }
            }
            return false;
        }
        self.record().one_row_per_example.push(rows == self.batch);
        true
    }

    /// Puts `output`, which a layer has computed from `input` and its parameters, into candle's
    /// graph. `backward` receives its gradient and returns the gradient of the input if it is
    /// needed.
    pub(crate) fn attach(
        self: &Arc<Self>,
        input: &Tensor,
        output: &Tensor,
        backward: impl Fn(&OutputGradient<'_>) -> Result<Option<Tensor>> + Send + Sync + 'static,
    ) -> Result<Tensor> {
        let output = output.detach();
        // The operation copies the storage, so it should hold the output and nothing else.
        let output = if output.is_contiguous() && output.layout().start_offset() == 0 {
            output
        } else {
            output.force_contiguous()?
        };
        self.record().outputs.add(&output);
        let layer = TapedLayer { tape: self.clone(), backward: Box::new(backward) };
        input.apply_op3(&output, &self.anchor, layer)
    }

    /// Records a contribution to a parameter, if the parameter is of interest.
    pub(crate) fn add(
        &self,
        parameter: &Tensor,
        contribution: impl FnOnce() -> Result<Contribution>,
    ) -> Result<()> {
        if let Some(&at) = self.parameters.get(&parameter.id()) {
            let contribution = contribution()?;
            self.record().contributions[at].push(contribution);
        }
        Ok(())
    }

    /// Records that no gradient trains this tensor.
    pub(crate) fn add_buffer(&self, tensor: &Tensor) {
        self.record().buffers.insert(tensor.id());
    }

    /// Ends the forward pass: its gradients would not be those of single examples, for this reason.
    pub(crate) fn refuse(&self, reason: &str) -> Error {
        self.record().refusal.get_or_insert_with(|| reason.to_owned());
        Error::Msg(reason.to_owned())
    }

    pub(crate) fn refusal(&self) -> Option<String> {
        self.record().refusal.clone()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // A panic of the model leaves the record as it was.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape").field("batch", &self.batch).finish_non_exhaustive()
    }
}

type Backward = dyn Fn(&OutputGradient<'_>) -> Result<Option<Tensor>> + Send + Sync;

/// An operation on (input, output, anchor) whose result is the output.
struct TapedLayer {
    tape: Arc<Tape>,
    backward: Box<Backward>,
}

impl CustomOp3 for TapedLayer {
    fn name(&self) -> &'static str {
        "taped-layer"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        output: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((output.try_clone(layout)?, layout.shape().clone()))
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        output: &CudaStorage,
        layout: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Ok((output.try_clone(layout)?, layout.shape().clone()))
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        output: &MetalStorage,
        layout: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        Ok((output.try_clone(layout)?, layout.shape().clone()))
    }

    fn bwd(
        &self,
        input: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = OutputGradient {
            tape: &self.tape,
            gradient: gradient.detach().contiguous()?,
            // candle expects a gradient for exactly those arguments that it tracks.
            needs_input_gradient: input.track_op() && !input.dtype().is_int(),
        };
        Ok(((self.backward)(&gradient)?, None, None))
    }
}
