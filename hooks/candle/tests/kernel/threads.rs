//! What threads of a block do to one another.

use std::process::Command;

use candle_core::DType;

use crate::arithmetic::format;
use crate::emulator::{Given, Logits, build, observe};
use crate::task::{kernel_name, threads};

#[test]
fn no_thread_reads_what_another_is_writing() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("emulator");
    let options = ["-O1", "-g", "-fsanitize=thread", "-DWITH_MAIN"];
    if build(&program, &options).is_none() {
        return;
    }
    let run = Command::new(&program).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn a_block_of_any_size_agrees() {
    let values: Vec<f32> = (0..500).map(|place| ((place * 37) % 101) as f32 * 0.1).collect();
    let logits = Logits { values: &values, rows: 5, strides: (100, 1) };
    let labels = [0_i64, 99, 50, 13, 7];
    let of = |threads| observe(&format(100), &logits, &Given::new(&labels, 1), threads);
    let Some(one) = of(1) else { return };
    for threads in [2, 4, 16, 64, 256] {
        let many = of(threads).unwrap();
        assert_eq!((&many.correct, &many.labels), (&one.correct, &one.labels));
        for (a, b) in many.signals.iter().flatten().zip(one.signals.iter().flatten()) {
            assert!((a - b).abs() <= 1e-6 * b.abs(), "{a} and {b}");
        }
    }
}

#[test]
fn a_launch_is_a_power_of_two_within_the_kernels_bounds() {
    let bound = include_str!("../../src/signals/cuda/signals.cu");
    assert!(bound.contains("#define MOST_THREADS 256"));
    for (classes, expected) in [(2, 32), (10, 32), (129, 64), (1000, 256), (200_000, 256)] {
        assert_eq!(threads(classes), expected);
    }
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        let name = kernel_name(dtype).unwrap();
        assert!(bound.contains(&format!("void {name}(Task task)")), "{name}");
    }
    assert_eq!(kernel_name(DType::I64), None);
}
