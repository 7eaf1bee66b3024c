//! The tape: while one is running, the layers of [`nn`](crate::nn) let it see what each example does
//! to their parameters.
//!
//! A layer on a tape computes its output as ever, from a detached input, and attaches it to
//! the graph through one operation of the tape's own. When candle's backward pass reaches that
//! operation, the layer gets the gradient of its output, keeps what its parameters' example gradients
//! are made of (a [`Contribution`] each), and answers with the gradient of its input. So one backward
//! pass shows every layer, and no gradient of a weight is ever formed.
//!
//! What the contributions amount to is the business of [`contribution`](crate::gradients::contribution); which
//! parameters went unseen, that of [`grand`](crate::gradients::norms).

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
    /// The innermost one is the last: a forward pass may itself ask for gradient norms.
    static RUNNING: RefCell<Vec<Arc<Tape>>> = const { RefCell::new(Vec::new()) };
}

pub(crate) struct Tape {
    batch: usize,
    /// Whether a layer's input may have several rows for each example, one after the other.
    several_rows: bool,
    /// Where in the record each parameter's contributions go.
    parameters: HashMap<TensorId, usize>,
    /// Parameters whose gradients candle itself is to form.
    attached: HashSet<TensorId>,
    /// candle follows an operation back only if one of its arguments leads to a variable, and the
    /// first layer's input does not. Nothing is ever added to its gradient.
    anchor: Var,
    record: Mutex<Record>,
}

/// What a tape has seen.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Of each parameter, in order of the forward pass reversed.
    pub(crate) contributions: Vec<Vec<Contribution>>,
    /// Why a layer left a parameter to candle.
    pub(crate) reasons: Vec<Option<String>>,
    /// Tensors that layers keep beside their parameters and that no gradient trains.
    pub(crate) buffers: HashSet<TensorId>,
    /// Whether each layer's input had a row per example, or several.
    pub(crate) single_rows: Vec<bool>,
    pub(crate) outputs: Outputs,
    refusal: Option<String>,
}

/// How large the layers' outputs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outputs {
    /// All of them together.
    pub(crate) bytes: usize,
    /// Values of the largest.
    pub(crate) largest: usize,
}

/// The gradient of a layer's output, as the layer gets it.
#[derive(Debug)]
pub(crate) struct OutputGradient<'a> {
    pub(crate) tape: &'a Tape,
    /// Contiguous, shaped like the output.
    pub(crate) gradient: Tensor,
    /// Whether anything before the layer asks for the gradient of its input.
    pub(crate) input_wanted: bool,
}

impl Outputs {
    fn add(&mut self, output: &Tensor) {
        let values = output.elem_count();
        self.bytes += values * output.dtype().size_in_bytes();
        self.largest = self.largest.max(values);
    }
}

impl Tape {
    /// A tape for batches of `batch` examples that sorts contributions by `parameters` and leaves
    /// those of `attached` to candle. Layers whose inputs have more rows than that are taken to have
    /// `several_rows` for each example, one after the other, or are left to candle.
    pub(crate) fn new(
        batch: usize,
        several_rows: bool,
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
            several_rows,
            parameters: parameters.iter().enumerate().map(|(at, &id)| (id, at)).collect(),
            attached: attached.iter().copied().collect(),
            anchor: Var::zeros(1, DType::F32, device)?,
            record: Mutex::new(record),
        }))
    }

    /// The tape that is running on this thread.
    pub(crate) fn running() -> Option<Arc<Self>> {
        RUNNING.with_borrow(|tapes| tapes.last().cloned())
    }

    /// Runs the tape while `forward` does.
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

    /// How many examples there are.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// Everything seen so far.
    pub(crate) fn take(&self) -> Record {
        std::mem::take(&mut *self.record())
    }

    /// What parameters have got since the last call, for a model that is run backward several times.
    pub(crate) fn take_contributions(&self) -> Vec<Vec<Contribution>> {
        let mut record = self.record();
        let empty = record.contributions.iter().map(|_| Vec::new()).collect();
        std::mem::replace(&mut record.contributions, empty)
    }

    /// Whether a layer with these parameters can be taped on this input. If not, it must run as ever,
    /// with its parameters in candle's graph, where their gradients show that they went unseen.
    pub(crate) fn takes(&self, input: &Tensor, parameters: &[Option<&Tensor>]) -> bool {
        let parameters = || parameters.iter().flatten();
        // A weight that is computed from something else trains what it was computed from.
        let computed = |tensor: &&&Tensor| !tensor.is_variable() && tensor.track_op();
        if parameters().any(|tensor| self.attached.contains(&tensor.id()))
            || parameters().find(computed).is_some()
        {
            return false;
        }
        let rows = input.dims().first().copied().unwrap_or(1);
        let fits = rows == self.batch || self.several_rows && rows.is_multiple_of(self.batch);
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
        self.record().single_rows.push(rows == self.batch);
        true
    }

    /// Puts `output`, which a layer has computed from `input` and from its parameters, into candle's
    /// graph; `backward` gets its gradient and answers with the gradient of the input, if wanted.
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

    /// Keeps what a parameter's example gradients are made of, if anyone asks for them.
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

    /// Notes that no gradient trains this tensor.
    pub(crate) fn add_buffer(&self, tensor: &Tensor) {
        self.record().buffers.insert(tensor.id());
    }

    /// Ends the forward pass with the reason why its gradients would not be those of single examples.
    pub(crate) fn refuse(&self, reason: &str) -> Error {
        self.record().refusal.get_or_insert_with(|| reason.to_owned());
        Error::Msg(reason.to_owned())
    }

    pub(crate) fn refusal(&self) -> Option<String> {
        self.record().refusal.clone()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // A panic of the model's leaves the record as it was.
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
            input_wanted: input.track_op() && !input.dtype().is_int(),
        };
        Ok(((self.backward)(&gradient)?, None, None))
    }
}
