//! Builds the emulator once, and passes it slices.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use candle_core::DType;
use data_diet::observe::{BatchFormat, DeviceLogits, DeviceSignals, LabelLogits, LogitsFormat};
use libloading::{Library, Symbol};

use crate::element_kind::ElementKind;
use crate::task::{CORRECT, FINITE, Task, columns};

/// Elements that the kernel can read.
pub(crate) trait Element: Copy + 'static {
    const DTYPE: DType;
}

macro_rules! elements {
    ($($element:ty => $dtype:ident),*) => {$(
        impl Element for $element {
            const DTYPE: DType = DType::$dtype;
        }
    )*};
}
elements!(
    u8 => U8, u32 => U32, i16 => I16, i32 => I32, i64 => I64,
    half::f16 => F16, half::bf16 => BF16, f32 => F32, f64 => F64
);

/// Labels or ids where they lie, `[batch]` or `[batch, classes]`.
pub(crate) struct Given {
    pub(crate) address: u64,
    pub(crate) kind: ElementKind,
    /// In elements, of rows and of classes.
    pub(crate) strides: (i64, i64),
}

impl Given {
    /// `classes` is 1 for one element per row.
    pub(crate) fn new<T: Element>(values: &[T], classes: usize) -> Self {
        let kind = ElementKind::of(T::DTYPE).unwrap();
        Self { address: values.as_ptr() as u64, kind, strides: (classes as i64, 1) }
    }
}

/// A batch of logits, perhaps a view.
pub(crate) struct Logits<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) rows: usize,
    /// In elements, of rows and of classes.
    pub(crate) strides: (usize, usize),
}

/// Tells once, at the first test, that there is no compiler.
fn library() -> Option<&'static Library> {
    static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
    let build = || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("libemulator.so");
        build(&path, &["-O2", "-shared", "-fPIC"])?;
        // SAFETY: loading it runs no code of its own but that of the C++ standard library.
        Some(unsafe { Library::new(&path) }.unwrap())
    };
    LIBRARY.get_or_init(build).as_ref()
}

/// Compiles the emulator to `path`; without a compiler says so and returns nothing.
pub(crate) fn build(path: &Path, options: &[&str]) -> Option<()> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/emulator.cpp");
    let compiler = std::env::var("CXX").unwrap_or_else(|_unset| "c++".to_owned());
    let mut command = Command::new(&compiler);
    command.args(["-std=c++17", "-pthread", "-ffp-contract=off", "-Wall", "-Werror"]).args(options);
    match command.arg(source).arg("-o").arg(path).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(())
        }
        Err(error) => {
            eprintln!(
                "SKIPPED: the signal kernel is not tested, no C++ compiler `{compiler}`: {error}"
            );
            None
        }
    }
}

/// What the kernel makes of a batch with blocks of so many threads.
pub(crate) fn observe<T: Element>(
    format: &BatchFormat,
    logits: &Logits<'_, T>,
    labels: &Given,
    threads: i32,
) -> Option<DeviceSignals> {
    let (rows, classes) = (logits.rows, format.kind.outputs());
    let last = (rows - 1) * logits.strides.0 + (classes - 1) * logits.strides.1;
    assert!(last < logits.values.len(), "the view leaves its memory");
    let is_soft = labels.kind as i32 >= ElementKind::F16 as i32;
    let mut signals = vec![0.5_f32; rows * format.signals.len()];
    let mut status = vec![0xff_u8; rows];
    let mut out_labels = vec![-7_i64; rows];
    let mut sums = vec![0.0_f64; rows];
    let all = rows * classes;
    let (mut singles, mut halves) = (vec![0.5_f32; all], vec![1_u16; all]);
    let k = format.logits.top().unwrap_or(0) as usize;
    let has_label = matches!(format.logits, LogitsFormat::TopKAndLabel(_));
    let mut label = LabelLogits { logit: vec![0.5; rows], log_sum_exp: vec![0.5; rows] };
    let (mut top_values, mut top_classes) = (vec![0.5_f32; rows * k], vec![-1_i32; rows * k]);
    let wanted = |format_wanted: bool, address: u64| if format_wanted { address } else { 0 };
    let task = Task {
        logits: logits.values.as_ptr() as u64,
        group_stride: 0,
        inner: rows as i64,
        row_stride: logits.strides.0 as i64,
        class_stride: logits.strides.1 as i64,
        labels: labels.address,
        label_row_stride: labels.strides.0,
        label_class_stride: labels.strides.1,
        ids: 0,
        id_stride: 0,
        id_count: 0,
        signals: signals.as_mut_ptr() as u64,
        status: status.as_mut_ptr() as u64,
        out_labels: out_labels.as_mut_ptr() as u64,
        out_ids: 0,
        target_sums: sums.as_mut_ptr() as u64,
        logits_f32: wanted(format.logits == LogitsFormat::F32, singles.as_mut_ptr() as u64),
        logits_f16: wanted(format.logits == LogitsFormat::F16, halves.as_mut_ptr() as u64),
        top_values: top_values.as_mut_ptr() as u64,
        top_classes: top_classes.as_mut_ptr() as u64,
        label_logits: wanted(has_label, label.logit.as_mut_ptr() as u64),
        log_sum_exps: wanted(has_label, label.log_sum_exp.as_mut_ptr() as u64),
        outputs: 0,
        targets: 0,
        rows: rows as i64,
        classes: classes as i32,
        label_kind: labels.kind as i32,
        id_kind: 0,
        top_k: k as i32,
        label_columns: 0,
        columns: columns(&format.signals),
    };
    run(T::DTYPE, &task, threads)?;
    Some(DeviceSignals {
        labels: out_labels,
        correct: status.iter().map(|status| status & CORRECT != 0).collect(),
        finite: status.iter().map(|status| status & FINITE != 0).collect(),
        signals: signals.chunks_exact(rows).map(<[f32]>::to_vec).collect(),
        logits: match format.logits {
            LogitsFormat::F32 => DeviceLogits::F32(singles),
            LogitsFormat::F16 => {
                DeviceLogits::F16(halves.iter().flat_map(|half| half.to_le_bytes()).collect())
            }
            LogitsFormat::TopK(_) | LogitsFormat::TopKAndLabel(_) => DeviceLogits::TopK {
                classes: top_classes,
                values: top_values,
                label: has_label.then_some(label),
            },
            _ => DeviceLogits::Off,
        },
        target_sums: is_soft.then_some(sums),
    })
}

/// Runs the kernel for logits of a type.
pub(crate) fn run(dtype: DType, task: &Task, threads: i32) -> Option<()> {
    type Emulate = unsafe extern "C" fn(i32, *const Task, i32) -> u32;
    // The emulator is one device, which runs one kernel at a time.
    static DEVICE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let library = library()?;
    let _alone = DEVICE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let kind = ElementKind::of(dtype).unwrap();
    // SAFETY: the symbol has this type in emulator.cpp, and the callers' buffers are as long as the task
    // says and outlive the call.
    let read = unsafe {
        let emulate: Symbol<'_, Emulate> = library.get(b"emulate\0").unwrap();
        emulate(kind as i32, task, threads)
    };
    assert_eq!(read as usize, size_of::<Task>(), "the kernel reads another layout");
    Some(())
}
