//! Exact per-example gradients: what the layers record on the tape during a pass, and how GraNd is
//! computed from it.
//!
//! ```text
//! nn (layers) -> tape (what passed through them) -> contribution (of one parameter) -> squares
//!                                                                    norms: GradientNorms <-/
//! ```
//!
//! Owns the arithmetic of one layer's gradient for every example of a batch. Does not know the layers
//! themselves, which are in [`nn`](crate::nn), nor the recorder.

pub(crate) mod contribution;
pub(crate) mod matmul;
mod norms;
pub(crate) mod patches;
pub(crate) mod squares;
pub(crate) mod tape;

pub(crate) use norms::is_running_statistic;
pub use norms::{
    ExampleNorms, GradientNorms, Inputs, LastLayerNorms, NormsReport, PerExampleParameter,
    last_layer_norms,
};
