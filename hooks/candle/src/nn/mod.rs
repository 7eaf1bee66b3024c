//! Drop-in versions of candle-nn's layers that expose per-example gradients.
//!
//! To use them, replace `use candle_nn as nn` (or `use candle_nn`) with `use data_diet_candle::nn`.
//! Nothing else changes: constructors, [`VarBuilder`] paths, initial values and checkpoints are
//! candle-nn's, and so is every result, to the bit, since each layer wraps candle-nn's own. A layer
//! does more only while [`GradientNorms`](crate::gradients::GradientNorms) computes norms; a
//! convolution on the host then sums in another order, for speed.
//!
//! `GradientNorms` covers [`Linear`], [`Conv1d`], [`Conv2d`], [`BatchNorm`], [`LayerNorm`],
//! [`RmsNorm`], [`GroupNorm`], [`Embedding`], [`PReLU`], [`LSTM`] and [`GRU`]. Transposed
//! convolutions are re-exported unchanged; their parameters take a backward pass per example.
//! [`Dropout`] and [`BatchNorm`] refuse to run in training mode while gradient norms are computed.
//!
//! candle-nn's fused kernels, used by `LayerNorm` and `RmsNorm` on contiguous inputs and by
//! [`ops::softmax_last_dim`], have no backward pass, so in candle no gradient reaches the layers
//! before them. The layers here behave the same way during training, but supply the correct
//! gradient while gradient norms are computed.
//!
//! Operations between layers have candle's gradients. candle 0.11's `max_pool2d` scales the
//! gradient down: in a 2 x 2 window with a single maximum, only a quarter of it is passed back.
//! Gradient norms of earlier layers include this error, just as training does.
//! [`max_pool2d`](fn@max_pool2d) and [`avg_pool2d`](fn@avg_pool2d) return the same values as
//! candle's with correct gradients, during training as well. They also support overlapping windows,
//! for which candle has no gradient. [`relu`](fn@relu) equals candle's with a faster backward pass.
//! Use them in place of the tensor's methods: `.add_fn(nn::relu).add_fn(|x| nn::max_pool2d(x, 2))`.

pub mod activation;
pub mod batch_norm;
pub mod conv;
pub mod dropout;
pub mod embedding;
pub mod group_norm;
pub mod layer_norm;
pub mod linear;
mod normalization;
pub mod ops;
mod parallel_fill;
pub mod pool;
pub mod relu;
pub mod rnn;
mod taped_convolution;
mod windows;

pub use candle_nn::{
    attention, encoding, func, init, kv_cache, loss, optim, rotary_emb, sampling, sequential,
    var_builder, var_map,
};

pub use activation::{Activation, PReLU, prelu};
pub use batch_norm::{BatchNorm, BatchNormConfig, batch_norm};
pub use candle_nn::{
    AdamW, Func, FuncT, Init, Module, ModuleT, Optimizer, ParamsAdamW, SGD, Sequential, VarBuilder,
    VarMap, func_t, seq,
};
pub use conv::{
    Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, ConvTranspose1d, ConvTranspose1dConfig,
    ConvTranspose2d, ConvTranspose2dConfig, conv_transpose1d, conv_transpose1d_no_bias,
    conv_transpose2d, conv_transpose2d_no_bias, conv1d, conv1d_no_bias, conv2d, conv2d_no_bias,
};
pub use dropout::Dropout;
pub use embedding::{Embedding, embedding};
pub use group_norm::{GroupNorm, group_norm};
pub use layer_norm::{
    LayerNorm, LayerNormConfig, RmsNorm, layer_norm, layer_norm_no_bias, rms_norm,
};
pub use linear::{Linear, linear, linear_b, linear_no_bias};
pub use pool::{avg_pool2d, avg_pool2d_with_stride, max_pool2d, max_pool2d_with_stride};
pub use relu::relu;
pub use rnn::{GRU, GRUConfig, LSTM, LSTMConfig, RNN, gru, lstm};
