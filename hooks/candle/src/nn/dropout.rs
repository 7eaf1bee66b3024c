//! Dropout.

use candle_core::{ModuleT, Result, Tensor};

use crate::gradients::tape::Tape;

/// [`candle_nn::Dropout`]. Refuses training mode while gradient norms are computed.
#[derive(Clone, Debug)]
pub struct Dropout(candle_nn::Dropout);

impl Dropout {
    /// Makes a layer that drops a share `drop_p` of its inputs in training mode.
    #[must_use]
    pub fn new(drop_p: f32) -> Self {
        Self(candle_nn::Dropout::new(drop_p))
    }

    /// Returns the input, with some values dropped in training mode.
    ///
    /// # Errors
    ///
    /// In training mode, if the share is not in 0 to 1, or while gradient norms are computed.
    pub fn forward(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        if let (true, Some(tape)) = (train, Tape::running()) {
            return Err(tape.refuse(
                "forward: expected evaluation mode, got Dropout in training mode, whose gradients \
                 are random",
            ));
        }
        self.0.forward(xs, train)
    }
}

impl ModuleT for Dropout {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(xs, train)
    }
}
