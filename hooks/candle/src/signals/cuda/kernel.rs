//! The signal kernel: compiled for the device when it is first needed, and launched.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::DType;
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaFunction, CudaStream, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::cudarc::nvrtc::{
    CompileError, CompileOptions, Ptx, compile_ptx_with_opts,
};

use super::kernel_arguments::{Task, kernel_name, threads};
use crate::error::{Error, Result};

const SOURCE: &str = include_str!("signals.cu");

// SAFETY: plain numbers, laid out like the kernel's own `Task`.
unsafe impl DeviceRepr for Task {}

/// The kernels of one context.
pub(super) struct Kernels(Vec<(DType, CudaFunction)>);

impl Kernels {
    pub(super) fn load(context: &Arc<CudaContext>) -> Result<Self> {
        let module = context.load_module(compiled(context.compute_capability()?)?)?;
        let load = |dtype| {
            let name = kernel_name(dtype).unwrap_or_default();
            Ok((dtype, module.load_function(name)?))
        };
        let dtypes = [DType::F32, DType::F64, DType::F16, DType::BF16];
        dtypes.into_iter().map(load).collect::<Result<_>>().map(Self)
    }

    /// Queues the kernel for logits of this type on the stream.
    ///
    /// # Safety
    ///
    /// What the task points to must stay alive, and must not be written to by anyone else, until
    /// the stream has passed the kernel. Its results must have the room that the task describes.
    pub(super) unsafe fn launch(
        &self,
        stream: &CudaStream,
        dtype: DType,
        task: &Task,
    ) -> Result<()> {
        let Some((_, kernel)) = self.0.iter().find(|(kind, _)| *kind == dtype) else {
            return Err(crate::transfer::unsupported_logits(dtype));
        };
        let config = LaunchConfig {
            grid_dim: (task.rows as u32, 1, 1),
            block_dim: (threads(task.classes as usize), 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the kernel takes one task by value; the caller guarantees what it points to.
        unsafe { stream.launch_builder(kernel).arg(task).launch(config) }?;
        Ok(())
    }
}

/// Returns the kernels for devices of this compute capability. Compiling takes a moment, so all
/// hooks of a process share the result.
fn compiled(capability: (i32, i32)) -> Result<Ptx> {
    static COMPILED: Mutex<Vec<((i32, i32), Ptx)>> = Mutex::new(Vec::new());
    let mut known = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, ptx)) = known.iter().find(|(of, _)| *of == capability) {
        return Ok(ptx.clone());
    }
    let ptx = compile(capability).map_err(|error| {
        Error::Candle(candle_core::Error::msg(format!(
            "cuda: cannot compile the signal kernel: {error}"
        )))
    })?;
    known.push((capability, ptx.clone()));
    Ok(ptx)
}

fn compile((major, minor): (i32, i32)) -> Result<Ptx, CompileError> {
    let options = |options| CompileOptions {
        name: Some("signals.cu".to_owned()),
        options,
        ..CompileOptions::default()
    };
    let own = vec![format!("--gpu-architecture=compute_{major}{minor}")];
    // A compiler that is older than the device compiles for an older architecture, which the driver
    // translates.
    compile_ptx_with_opts(SOURCE, options(own))
        .or_else(|_unknown| compile_ptx_with_opts(SOURCE, options(Vec::new())))
}
