//! Recurrent layers.

use std::ops::Deref;

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::ops::sigmoid;
pub use candle_nn::rnn::{Direction, GRUConfig, GRUState, LSTMConfig, LSTMState, RNN};

use crate::gradients::tape::Tape;
use crate::nn::linear::Linear;

/// [`candle_nn::LSTM`], with the same methods.
#[allow(clippy::upper_case_acronyms, reason = "candle-nn's name")]
#[derive(Clone, Debug)]
pub struct LSTM {
    inner: candle_nn::LSTM,
    parameters: RecurrentWeights,
}

/// [`candle_nn::GRU`], with the same methods.
#[allow(clippy::upper_case_acronyms, reason = "candle-nn's name")]
#[derive(Clone, Debug)]
pub struct GRU {
    inner: candle_nn::GRU,
    parameters: RecurrentWeights,
}

/// The parameters; candle-nn's own layers keep them private.
#[derive(Clone, Debug)]
struct RecurrentWeights {
    of_input: Linear,
    of_state: Linear,
}

impl RecurrentWeights {
    fn new(
        rows: usize,
        (inputs, states): (usize, usize),
        suffix: &str,
        (weights, biases): ([candle_nn::Init; 2], [Option<candle_nn::Init>; 2]),
        vb: &VarBuilder,
    ) -> Result<Self> {
        let linear = |which: &str, columns: usize, at: usize| -> Result<Linear> {
            let weight = format!("weight_{which}_{suffix}");
            let weight = vb.get_with_hints((rows, columns), &weight, weights[at])?;
            let bias = format!("bias_{which}_{suffix}");
            let bias = biases[at].map(|init| vb.get_with_hints(rows, &bias, init)).transpose()?;
            Ok(Linear::new(weight, bias))
        };
        Ok(Self { of_input: linear("ih", inputs, 0)?, of_state: linear("hh", states, 1)? })
    }

    fn gates(&self, input: &Tensor, state: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.of_input.forward(input)?, self.of_state.forward(state)?))
    }
}

impl LSTM {
    /// Makes a layer of `hidden_dim` states.
    ///
    /// # Errors
    ///
    /// If `vb` has a parameter of this name with another shape.
    #[allow(clippy::needless_pass_by_value, reason = "candle-nn's signature")]
    pub fn new(
        in_dim: usize,
        hidden_dim: usize,
        config: LSTMConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        let direction = match config.direction {
            Direction::Forward => "",
            Direction::Backward => "_reverse",
        };
        let suffix = format!("l{}{direction}", config.layer_idx);
        let inits = ([config.w_ih_init, config.w_hh_init], [config.b_ih_init, config.b_hh_init]);
        let inner = candle_nn::LSTM::new(in_dim, hidden_dim, config, vb.clone())?;
        let sizes = (in_dim, hidden_dim);
        let parameters = RecurrentWeights::new(4 * hidden_dim, sizes, &suffix, inits, &vb)?;
        Ok(Self { inner, parameters })
    }
}

impl GRU {
    /// Makes a layer of `hidden_dim` states.
    ///
    /// # Errors
    ///
    /// If `vb` has a parameter of this name with another shape.
    #[allow(clippy::needless_pass_by_value, reason = "candle-nn's signature")]
    pub fn new(
        in_dim: usize,
        hidden_dim: usize,
        config: GRUConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        let inits = ([config.w_ih_init, config.w_hh_init], [config.b_ih_init, config.b_hh_init]);
        let inner = candle_nn::GRU::new(in_dim, hidden_dim, config, vb.clone())?;
        let parameters =
            RecurrentWeights::new(3 * hidden_dim, (in_dim, hidden_dim), "l0", inits, &vb)?;
        Ok(Self { inner, parameters })
    }
}

impl Deref for LSTM {
    type Target = candle_nn::LSTM;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl Deref for GRU {
    type Target = candle_nn::GRU;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl RNN for LSTM {
    type State = LSTMState;

    fn zero_state(&self, batch_dim: usize) -> Result<LSTMState> {
        self.inner.zero_state(batch_dim)
    }

    fn step(&self, input: &Tensor, state: &LSTMState) -> Result<LSTMState> {
        if Tape::running().is_none() {
            return self.inner.step(input, state);
        }
        let (of_input, of_state) = self.parameters.gates(input, &state.h)?;
        let gates = (of_input + of_state)?.chunk(4, 1)?;
        let (write, keep, show) = (sigmoid(&gates[0])?, sigmoid(&gates[1])?, sigmoid(&gates[3])?);
        let c = ((keep * &state.c)? + (write * gates[2].tanh()?)?)?;
        let h = (show * c.tanh()?)?;
        Ok(LSTMState { h, c })
    }

    fn states_to_tensor(&self, states: &[LSTMState]) -> Result<Tensor> {
        self.inner.states_to_tensor(states)
    }
}

impl RNN for GRU {
    type State = GRUState;

    fn zero_state(&self, batch_dim: usize) -> Result<GRUState> {
        self.inner.zero_state(batch_dim)
    }

    fn step(&self, input: &Tensor, state: &GRUState) -> Result<GRUState> {
        if Tape::running().is_none() {
            return self.inner.step(input, state);
        }
        let (of_input, of_state) = self.parameters.gates(input, &state.h)?;
        let (of_input, of_state) = (of_input.chunk(3, 1)?, of_state.chunk(3, 1)?);
        let reset = sigmoid(&(&of_input[0] + &of_state[0])?)?;
        let keep = sigmoid(&(&of_input[1] + &of_state[1])?)?;
        let new = (&of_input[2] + (reset * &of_state[2])?)?.tanh()?;
        // In candle-nn's order, for the same result to the bit.
        let h = ((&keep * &state.h)? - ((&keep - 1.0)? * new)?)?;
        Ok(GRUState { h })
    }

    fn states_to_tensor(&self, states: &[GRUState]) -> Result<Tensor> {
        self.inner.states_to_tensor(states)
    }
}

/// As [`candle_nn::lstm`].
///
/// # Errors
///
/// If `vb` has a parameter of this name with another shape.
pub fn lstm(in_dim: usize, hidden_dim: usize, config: LSTMConfig, vb: VarBuilder) -> Result<LSTM> {
    LSTM::new(in_dim, hidden_dim, config, vb)
}

/// As [`candle_nn::gru`].
///
/// # Errors
///
/// If `vb` has a parameter of this name with another shape.
pub fn gru(in_dim: usize, hidden_dim: usize, config: GRUConfig, vb: VarBuilder) -> Result<GRU> {
    GRU::new(in_dim, hidden_dim, config, vb)
}
