//! The arguments of the signal kernel, laid out like `Task` in `signals.cu`.

use candle_core::DType;
use data_diet::observe::{PerSignal, Signal};

/// See `Task` in `signals.cu`. Addresses are on the device; 0 means none.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Task {
    pub(crate) logits: u64,
    pub(crate) group_stride: i64,
    pub(crate) inner: i64,
    pub(crate) row_stride: i64,
    pub(crate) class_stride: i64,
    pub(crate) labels: u64,
    pub(crate) label_row_stride: i64,
    pub(crate) label_class_stride: i64,
    pub(crate) ids: u64,
    pub(crate) id_stride: i64,
    pub(crate) id_count: i64,
    pub(crate) signals: u64,
    pub(crate) status: u64,
    pub(crate) out_labels: u64,
    pub(crate) out_ids: u64,
    pub(crate) target_sums: u64,
    pub logits_f32: u64,
    pub logits_f16: u64,
    pub(crate) top_values: u64,
    pub(crate) top_classes: u64,
    pub(crate) label_logits: u64,
    pub(crate) log_sum_exps: u64,
    pub(crate) outputs: u64,
    pub(crate) targets: u64,
    pub(crate) rows: i64,
    pub(crate) classes: i32,
    pub(crate) label_kind: i32,
    pub(crate) id_kind: i32,
    pub(crate) top_k: i32,
    pub(crate) label_columns: i32,
    /// The index of each signal among those recorded, or -1, in the kernel's order.
    pub(crate) columns: [i32; Signal::ALL.len()],
}

/// The bit of `Task::status` for a correct row.
pub(crate) const CORRECT: u8 = 1;
/// The bit of `Task::status` for a row whose logits are all finite.
pub(crate) const FINITE: u8 = 2;

/// Returns the name of the kernel for logits of this type.
pub(crate) fn kernel_name(logits: DType) -> Option<&'static str> {
    Some(match logits {
        DType::F32 => "observe_f32",
        DType::F64 => "observe_f64",
        DType::F16 => "observe_f16",
        DType::BF16 => "observe_bf16",
        _ => return None,
    })
}

/// Returns `Task::columns` for the signals of a format.
pub(crate) fn columns(signals: &[Signal]) -> [i32; Signal::ALL.len()] {
    // The order of `Signal` in `signals.cu`.
    let order = PerSignal { el2n: 0, loss: 1, margin: 2, el1n: 3, confidence: 4, entropy: 5 };
    let mut columns = [-1; Signal::ALL.len()];
    for (column, &signal) in signals.iter().enumerate() {
        let place: usize = *order.get(signal);
        columns[place] = column as i32;
    }
    columns
}

/// The number of threads of a block, one block per row: a power of two, at least a warp.
pub(crate) fn threads(classes: usize) -> u32 {
    const MOST: usize = 256;
    // With fewer than four classes per thread, most of the work would be adding up the threads'
    // sums.
    classes.div_ceil(4).next_power_of_two().clamp(32, MOST) as u32
}
