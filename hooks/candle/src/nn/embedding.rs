//! The embedding.

use std::ops::Deref;

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use crate::gradients::contribution::{Contribution, Factor};
use crate::gradients::tape::Tape;

/// [`candle_nn::Embedding`], with the same methods: indices `[batch, ...]` to vectors
/// `[batch, ..., size]`.
///
/// For gradient norms, pass positions as `[batch, length]` like tokens: a look-up that the whole
/// batch shares takes a backward pass per example.
#[derive(Clone, Debug)]
pub struct Embedding(candle_nn::Embedding);

impl Embedding {
    /// Makes a layer from vectors `[indices, size]`.
    #[must_use]
    pub fn new(embeddings: Tensor, hidden_size: usize) -> Self {
        Self(candle_nn::Embedding::new(embeddings, hidden_size))
    }
}

impl Deref for Embedding {
    type Target = candle_nn::Embedding;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<candle_nn::Embedding> for Embedding {
    fn from(inner: candle_nn::Embedding) -> Self {
        Self(inner)
    }
}

impl Module for Embedding {
    fn forward(&self, indices: &Tensor) -> Result<Tensor> {
        let Some(tape) = Tape::running() else { return self.0.forward(indices) };
        let weight = self.0.embeddings();
        if !tape.takes(indices, &[Some(weight)]) {
            return self.0.forward(indices);
        }
        let output = self.0.forward(indices)?;
        let (weight, looked_up) = (weight.clone(), indices.detach());
        tape.attach(indices, &output, move |output| {
            let batch = output.tape.batch();
            output.tape.add(&weight, || {
                Ok(Contribution::Outer {
                    left: Factor::OneHot(looked_up.reshape((batch, ()))?),
                    right: Factor::Rows(output.gradient.reshape((batch, (), weight.dim(1)?))?),
                    groups: 1,
                })
            })?;
            Ok(None)
        })
    }
}

/// As [`candle_nn::embedding()`].
///
/// # Errors
///
/// If `vb` has a parameter of this name with another shape.
pub fn embedding(in_size: usize, out_size: usize, vb: VarBuilder) -> Result<Embedding> {
    candle_nn::embedding(in_size, out_size, vb).map(Embedding)
}
