//! The network: a transformer of the kind of GPT-2, small, with weights drawn from a seed.
//!
//! ```text
//! tokens -> embedding + position -> blocks of attention and perceptron -> layer norm -> logits
//! ```
//!
//! A token sees the tokens before it and itself, never a later one. As in later models of that kind,
//! layers have no biases and layer norms no scale. The activation is `SiLU`, not `GELU`, whose gradient
//! candle computes with powers and hyperbolic tangents.

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::{
    Embedding, LayerNorm, Linear, Module, VarBuilder, VarMap, embedding, linear_no_bias,
};
use rand::rngs::StdRng;
use rand_distr::{Distribution, Normal};

use super::Result;
use super::weights::named_variables;

/// Added to the variance in a layer norm.
const EPSILON: f64 = 1e-5;
/// The standard deviation of initial embeddings.
const EMBEDDING_DEVIATION: f32 = 0.1;

/// The sizes of a network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) vocabulary: usize,
    /// The longest sequence.
    pub(crate) tokens: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) blocks: usize,
}

impl Sizes {
    /// The number of weights: tokens, positions and output; in a block, the four matrices of attention
    /// and the perceptron's two, which are four times as large.
    pub(crate) fn parameters(self) -> usize {
        let Self { vocabulary, tokens, width, blocks, .. } = self;
        (2 * vocabulary + tokens + blocks * (4 + 2 * 4) * width) * width
    }
}

/// A decoder: logits for the token that follows.
pub(crate) struct Network {
    token: Embedding,
    /// `[tokens, width]`.
    position: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    output: Linear,
    /// `[tokens, tokens]`: 0 where the column is no later than the row, else minus infinity.
    mask: Tensor,
    weights: VarMap,
}

/// Attention, then a perceptron, each added to what came in.
struct Block {
    attention_norm: LayerNorm,
    attention: Attention,
    perceptron_norm: LayerNorm,
    enter: Linear,
    leave: Linear,
}

/// Causal attention of several heads.
struct Attention {
    heads: usize,
    queries: Linear,
    keys: Linear,
    values: Linear,
    leave: Linear,
}

impl Network {
    pub(crate) fn new(sizes: Sizes, random: &mut StdRng, device: &Device) -> Result<Self> {
        if !sizes.width.is_multiple_of(sizes.heads) {
            let Sizes { width, heads, .. } = sizes;
            return Err(format!("width: expected a multiple of {heads} heads, got {width}").into());
        }
        let weights = VarMap::new();
        let builder = VarBuilder::from_varmap(&weights, DType::F32, device);
        let Sizes { vocabulary, tokens, width, .. } = sizes;
        let blocks = (0..sizes.blocks).map(|number| Block::new(sizes, &builder.pp(number)));
        let blocks = blocks.collect::<candle_core::Result<_>>()?;
        let network = Self {
            token: embedding(vocabulary, width, builder.pp("token"))?,
            position: builder.get((tokens, width), "position")?,
            blocks,
            norm: norm(width, device)?,
            output: linear_no_bias(width, vocabulary, builder.pp("output"))?,
            mask: mask(tokens, device)?,
            weights,
        };
        network.draw_weights(sizes, random)?;
        Ok(network)
    }

    pub(crate) fn variables(&self) -> Vec<Var> {
        self.named_variables().into_iter().map(|(_, variable)| variable).collect()
    }

    pub(crate) fn named_variables(&self) -> Vec<(String, Var)> {
        named_variables(&self.weights)
    }

    /// Draws matrices from normal distributions, those that lead back into the stream smaller the
    /// more blocks there are, as GPT-2 does; biases stay zero and the scales of layer norms one.
    fn draw_weights(&self, sizes: Sizes, random: &mut StdRng) -> Result<()> {
        for (name, variable) in self.named_variables() {
            let &[_, inputs] = variable.dims() else { continue };
            let deviation = match name.as_str() {
                "token.weight" | "position" => EMBEDDING_DEVIATION,
                name if name.ends_with("leave.weight") => {
                    1.0 / ((inputs * 2 * sizes.blocks) as f32).sqrt()
                }
                _ => 1.0 / (inputs as f32).sqrt(),
            };
            let values = Normal::new(0.0, deviation)?.sample_iter(&mut *random);
            let values: Vec<f32> = values.take(variable.elem_count()).collect();
            variable.set(&Tensor::from_vec(values, variable.shape(), variable.device())?)?;
        }
        Ok(())
    }
}

impl Module for Network {
    /// Tokens `[batch, tokens]` to logits `[batch, tokens, vocabulary]`.
    fn forward(&self, tokens: &Tensor) -> candle_core::Result<Tensor> {
        let length = tokens.dim(1)?;
        let position = self.position.narrow(0, 0, length)?;
        let mask = self.mask.narrow(0, 0, length)?.narrow(1, 0, length)?;
        let mut stream = self.token.forward(tokens)?.broadcast_add(&position)?;
        for block in &self.blocks {
            stream = block.forward(&stream, &mask)?;
        }
        self.output.forward(&self.norm.forward(&stream)?)
    }
}

impl Block {
    fn new(sizes: Sizes, builder: &VarBuilder) -> candle_core::Result<Self> {
        let Sizes { width, heads, .. } = sizes;
        let hidden = 4 * width;
        Ok(Self {
            attention_norm: norm(width, builder.device())?,
            attention: Attention {
                heads,
                queries: linear_no_bias(width, width, builder.pp("attention.queries"))?,
                keys: linear_no_bias(width, width, builder.pp("attention.keys"))?,
                values: linear_no_bias(width, width, builder.pp("attention.values"))?,
                leave: linear_no_bias(width, width, builder.pp("attention.leave"))?,
            },
            perceptron_norm: norm(width, builder.device())?,
            enter: linear_no_bias(width, hidden, builder.pp("enter"))?,
            leave: linear_no_bias(hidden, width, builder.pp("leave"))?,
        })
    }

    fn forward(&self, stream: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
        let stream =
            (stream + self.attention.forward(&self.attention_norm.forward(stream)?, mask)?)?;
        let hidden = self.enter.forward(&self.perceptron_norm.forward(&stream)?)?;
        let hidden = hidden.silu()?;
        &stream + self.leave.forward(&hidden)?
    }
}

impl Attention {
    fn forward(&self, stream: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, tokens, width) = stream.dims3()?;
        let size = width / self.heads;
        // `[batch, heads, tokens, size]`.
        let split = |layer: &Linear| {
            let values = layer.forward(stream)?.reshape((batch, tokens, self.heads, size))?;
            values.transpose(1, 2)?.contiguous()
        };
        let (queries, keys) = (split(&self.queries)?, split(&self.keys)?);
        let scores = (queries / (size as f64).sqrt())?.matmul(&keys.t()?)?.broadcast_add(mask)?;
        // The softmax of candle-nn, but that no gradient flows through the maximum, where it is zero.
        let scores = scores.broadcast_sub(&scores.detach().max_keepdim(D::Minus1)?)?.exp()?;
        let shares = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
        let mixed = shares
            .matmul(&split(&self.values)?)?
            .transpose(1, 2)?
            .reshape((batch, tokens, width))?;
        self.leave.forward(&mixed)
    }
}

/// A layer norm without scale and shift. With a shift, candle-nn takes its fused kernel, which has no
/// gradient: nothing before it would learn.
fn norm(width: usize, device: &Device) -> candle_core::Result<LayerNorm> {
    Ok(LayerNorm::new_no_bias(Tensor::ones(width, DType::F32, device)?, EPSILON))
}

fn mask(tokens: usize, device: &Device) -> candle_core::Result<Tensor> {
    let rows = (0..tokens).flat_map(|row| {
        (0..tokens).map(move |column| if column <= row { 0.0 } else { f32::NEG_INFINITY })
    });
    Tensor::from_iter(rows, device)?.reshape((tokens, tokens))
}
