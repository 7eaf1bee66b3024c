//! Convolutions over sequences and images.

use std::ops::Deref;

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
pub use candle_nn::{
    Conv1dConfig, Conv2dConfig, ConvTranspose1d, ConvTranspose1dConfig, ConvTranspose2d,
    ConvTranspose2dConfig, conv_transpose1d, conv_transpose1d_no_bias, conv_transpose2d,
    conv_transpose2d_no_bias,
};

use crate::gradients::patches::Geometry;
use crate::gradients::tape::Tape;
use crate::nn::batch_norm::BatchNorm;
use crate::nn::taped_convolution::Convolution;

/// [`candle_nn::Conv1d`], with the same methods: inputs `[batch, channels, length]`.
#[derive(Clone, Debug)]
pub struct Conv1d(candle_nn::Conv1d);

/// [`candle_nn::Conv2d`], with the same methods: inputs `[batch, channels, height, width]`.
#[derive(Clone, Debug)]
pub struct Conv2d(candle_nn::Conv2d);

impl Conv1d {
    /// Makes a layer from weights `[outputs, inputs / groups, kernel]` and a bias `[outputs]`.
    #[must_use]
    pub fn new(weight: Tensor, bias: Option<Tensor>, config: Conv1dConfig) -> Self {
        Self(candle_nn::Conv1d::new(weight, bias, config))
    }
}

impl Conv2d {
    /// Makes a layer from weights `[outputs, inputs / groups, height, width]` and a bias `[outputs]`.
    #[must_use]
    pub fn new(weight: Tensor, bias: Option<Tensor>, config: Conv2dConfig) -> Self {
        Self(candle_nn::Conv2d::new(weight, bias, config))
    }

    /// Returns this convolution with a normalization of its output, in evaluation mode, folded into
    /// it.
    ///
    /// # Errors
    ///
    /// If the normalization has no scale.
    pub fn absorb_bn(&self, bn: &BatchNorm) -> Result<Self> {
        self.0.absorb_bn(bn).map(Self)
    }
}

impl Deref for Conv1d {
    type Target = candle_nn::Conv1d;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Deref for Conv2d {
    type Target = candle_nn::Conv2d;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<candle_nn::Conv1d> for Conv1d {
    fn from(inner: candle_nn::Conv1d) -> Self {
        Self(inner)
    }
}

impl From<candle_nn::Conv2d> for Conv2d {
    fn from(inner: candle_nn::Conv2d) -> Self {
        Self(inner)
    }
}

impl Module for Conv1d {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let Some(tape) = Tape::running() else { return self.0.forward(input) };
        let (weight, bias, config) = (self.0.weight(), self.0.bias(), self.0.config());
        if input.rank() != 3 || !tape.takes(input, &[Some(weight), bias]) {
            return self.0.forward(input);
        }
        let (_, channels, width) = input.dims3()?;
        let convolution = Convolution {
            geometry: Geometry {
                channels,
                height: 1,
                width,
                kernel: (1, weight.dim(2)?),
                padding: (0, config.padding),
                stride: config.stride,
                dilation: config.dilation,
            },
            groups: config.groups,
            weight: weight.clone(),
            bias: bias.cloned(),
            images: input.detach().unsqueeze(2)?,
        };
        let output = match convolution.output_on_host()? {
            Some(output) => output.squeeze(2)?,
            None => self.0.forward(&input.detach())?,
        };
        tape.attach(input, &output, move |output| {
            convolution.backward(output)?.map(|images| images.squeeze(2)).transpose()
        })
    }
}

impl Module for Conv2d {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let Some(tape) = Tape::running() else { return self.0.forward(input) };
        let (weight, bias, config) = (self.0.weight(), self.0.bias(), self.0.config());
        if input.rank() != 4 || !tape.takes(input, &[Some(weight), bias]) {
            return self.0.forward(input);
        }
        let (_, channels, height, width) = input.dims4()?;
        let convolution = Convolution {
            geometry: Geometry {
                channels,
                height,
                width,
                kernel: (weight.dim(2)?, weight.dim(3)?),
                padding: (config.padding, config.padding),
                stride: config.stride,
                dilation: config.dilation,
            },
            groups: config.groups,
            weight: weight.clone(),
            bias: bias.cloned(),
            images: input.detach(),
        };
        let output = match convolution.output_on_host()? {
            Some(output) => output,
            None => self.0.forward(&input.detach())?,
        };
        tape.attach(input, &output, move |output| convolution.backward(output))
    }
}

/// As [`candle_nn::conv1d`].
///
/// # Errors
///
/// If `vb` has a parameter of this name with another shape.
pub fn conv1d(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: Conv1dConfig,
    vb: VarBuilder,
) -> Result<Conv1d> {
    candle_nn::conv1d(in_channels, out_channels, kernel_size, cfg, vb).map(Conv1d)
}

/// As [`candle_nn::conv1d_no_bias`].
///
/// # Errors
///
/// If `vb` has a parameter of this name with another shape.
pub fn conv1d_no_bias(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: Conv1dConfig,
    vb: VarBuilder,
) -> Result<Conv1d> {
    candle_nn::conv1d_no_bias(in_channels, out_channels, kernel_size, cfg, vb).map(Conv1d)
}

/// As [`candle_nn::conv2d`].
///
/// # Errors
///
/// If `vb` has a parameter of this name with another shape.
pub fn conv2d(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder,
) -> Result<Conv2d> {
    candle_nn::conv2d(in_channels, out_channels, kernel_size, cfg, vb).map(Conv2d)
}

/// As [`candle_nn::conv2d_no_bias`].
///
/// # Errors
///
/// If `vb` has a parameter of this name with another shape.
pub fn conv2d_no_bias(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder,
) -> Result<Conv2d> {
    candle_nn::conv2d_no_bias(in_channels, out_channels, kernel_size, cfg, vb).map(Conv2d)
}
