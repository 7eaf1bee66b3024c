//! The CUDA kernel for signals, run on the host: a C++ compiler builds it with an emulator that gives
//! each thread of a block a thread of its own. Without a compiler the tests skip, and say so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failed test should panic, and a skipped one should be seen"
)]
#![allow(unsafe_code, reason = "the kernel is called through its own interface, with addresses")]

mod arithmetic;
mod emulator;
mod gathered;
mod logits;
mod rows;
mod threads;

#[path = "../../src/signals/cuda/kernel_arguments.rs"]
mod task;

#[path = "../../src/transfer/element_kind.rs"]
mod element_kind;
