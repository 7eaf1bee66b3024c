//! A convolution on a tape: its output, the contributions of its parameters, and the gradient of
//! its input, as products of matrices and unfolded images.

use candle_core::{DType, Result, Tensor};

use crate::gradients::contribution::{CACHED_BYTES, Contribution, Factor};
use crate::gradients::matmul::batched_product;
use crate::gradients::patches::Geometry;
use crate::gradients::squares::product_dtype;
use crate::gradients::tape::OutputGradient;

/// A convolution on a tape; a sequence is an image of height 1.
pub(super) struct Convolution {
    pub(super) geometry: Geometry,
    pub(super) groups: usize,
    /// `[outputs, inputs / groups, ...]`.
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
    /// `[images, channels, height, width]`.
    pub(super) images: Tensor,
}

impl Convolution {
    /// Returns `W X + b` of the unfolded images, equal to candle's own up to rounding, in a third
    /// of its time. Returns `None` on other devices, for other dtypes than f32 and f64, and for
    /// what candle refuses.
    pub(super) fn output_on_host(&self) -> Result<Option<Tensor>> {
        let (images, outputs) = (self.images.dim(0)?, self.weight.dim(0)?);
        let dtype = self.images.dtype();
        let as_usual = self.images.device().is_cpu()
            && matches!(dtype, DType::F32 | DType::F64)
            && self.weight.dtype() == dtype
            && self.geometry.fits()
            && self.weight.elem_count() * self.groups == outputs * self.geometry.patch()
            && outputs.is_multiple_of(self.groups)
            && images > 0;
        if !as_usual {
            return Ok(None);
        }
        let (each, patch) = (outputs / self.groups, self.geometry.patch() / self.groups);
        let weight = self.weight.detach().reshape((outputs, patch))?;
        let (height, width) = self.geometry.output();
        let mut pieces = Vec::new();
        let piece = self.images_at_once();
        for start in (0..images).step_by(piece) {
            let count = piece.min(images - start);
            let patches = self.geometry.unfold(&self.images.narrow(0, start, count)?)?;
            let blocks = (0..self.groups).map(|group| {
                let weight = weight.narrow(0, group * each, each)?;
                batched_product(
                    &weight.broadcast_left(count)?,
                    &patches.narrow(1, group * patch, patch)?,
                )
            });
            pieces.push(joined(&blocks.collect::<Result<Vec<_>>>()?, 1)?);
        }
        let output = joined(&pieces, 0)?;
        let output = match &self.bias {
            Some(bias) => output.broadcast_add(&bias.detach().reshape((outputs, 1))?)?,
            None => output,
        };
        output.reshape((images, outputs, height, width)).map(Some)
    }

    /// Returns how many images' patches fit in the caches.
    fn images_at_once(&self) -> usize {
        let size = self.images.dtype().size_in_bytes().max(4);
        let bytes = size * self.geometry.positions() * self.geometry.patch();
        (CACHED_BYTES / bytes.max(1)).max(1)
    }

    /// Records the contributions of the parameters, and returns the gradient of the images.
    pub(super) fn backward(&self, output: &OutputGradient<'_>) -> Result<Option<Tensor>> {
        let (images, outputs) = (self.images.dim(0)?, self.weight.dim(0)?);
        let gradient = output.gradient.reshape((images, outputs, ()))?;
        output.tape.add(&self.weight, || {
            Ok(Contribution::Outer {
                left: Factor::Maps(gradient.clone()),
                right: Factor::Patches(self.images.clone(), self.geometry),
                groups: self.groups,
            })
        })?;
        if let Some(bias) = &self.bias {
            output.tape.add(bias, || {
                let sums = gradient.to_dtype(product_dtype(&gradient))?.sum(2)?;
                let batch = output.tape.batch();
                let sums = sums.reshape((batch, (), outputs))?;
                super::linear::summed(&sums).map(Contribution::Gradient)
            })?;
        }
        if !output.needs_input_gradient {
            return Ok(None);
        }
        let of_input = if gradient.device().is_cpu() {
            self.input_gradient_on_host(&gradient)?
        } else {
            self.input_gradient_transposed(&gradient)?
        };
        of_input.to_dtype(self.images.dtype()).map(Some)
    }

    /// Computes `W^T D`, folded back. candle's transposed convolution takes many times as long on
    /// the host.
    fn input_gradient_on_host(&self, gradient: &Tensor) -> Result<Tensor> {
        let (images, outputs, _) = gradient.dims3()?;
        let patch = self.geometry.patch() / self.groups;
        let dtype = product_dtype(gradient);
        let gradient = gradient.to_dtype(dtype)?;
        let weight = self.weight.detach().to_dtype(dtype)?.reshape((outputs, patch))?;
        let piece = self.images_at_once();
        let mut pieces = Vec::new();
        for start in (0..images).step_by(piece) {
            let count = piece.min(images - start);
            let gradient = gradient.narrow(0, start, count)?;
            let each = outputs / self.groups;
            let patches = (0..self.groups).map(|group| {
                let weight = weight.narrow(0, group * each, each)?.t()?;
                let gradient = gradient.narrow(1, group * each, each)?;
                batched_product(&weight.broadcast_left(count)?, &gradient)
            });
            let patches = joined(&patches.collect::<Result<Vec<_>>>()?, 1)?;
            pieces.push(self.geometry.fold(&patches)?);
        }
        joined(&pieces, 0)
    }

    /// Computes the transposed convolution on any device, group by group.
    fn input_gradient_transposed(&self, gradient: &Tensor) -> Result<Tensor> {
        let geometry = &self.geometry;
        let images = gradient.dim(0)?;
        let (height, width) = geometry.output();
        // What the strides leave over at the far edges.
        let least = |size: usize, kernel: usize| {
            (size - 1) * geometry.stride + geometry.dilation * (kernel - 1) + 1
        };
        let padded_height = geometry.height + 2 * geometry.padding.0;
        let padded_width = geometry.width + 2 * geometry.padding.1;
        let over_height = padded_height - least(height, geometry.kernel.0);
        let over_width = padded_width - least(width, geometry.kernel.1);
        let each = gradient.dim(1)? / self.groups;
        let blocks = (0..self.groups).map(|group| {
            let block = gradient.narrow(1, group * each, each)?;
            let weight = self.weight.detach().narrow(0, group * each, each)?.contiguous()?;
            // A sequence is treated as an image, too: on the host, candle 0.11's transposed
            // convolution of several sequences is wrong.
            let weight = if weight.rank() == 3 { weight.unsqueeze(2)? } else { weight };
            // candle pads both sides of an image equally, so the padding is cut off afterwards.
            let block = block.reshape((images, each, height, width))?;
            let over = over_height.max(over_width);
            let whole =
                block.conv_transpose2d(&weight, 0, over, geometry.stride, geometry.dilation)?;
            whole.narrow(2, geometry.padding.0, geometry.height)?.narrow(
                3,
                geometry.padding.1,
                geometry.width,
            )
        });
        Tensor::cat(&blocks.collect::<Result<Vec<_>>>()?, 1)
    }
}

/// Avoids the copy that concatenating a single tensor would make.
fn joined(tensors: &[Tensor], dim: usize) -> Result<Tensor> {
    match tensors {
        [one] => Ok(one.clone()),
        several => Tensor::cat(several, dim),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the test reads what it has computed on the host")]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    /// Both methods for the gradient of the input agree for images and sequences of all shapes.
    #[test]
    fn both_ways_to_the_gradient_of_an_input_agree() {
        for (stride, dilation, padding, groups) in
            [(1, 1, 0, 1), (2, 1, 1, 1), (1, 2, 2, 2), (3, 2, 1, 2), (2, 1, 0, 4)]
        {
            for (height, width, kernel) in [(9, 7, 3), (8, 9, 2), (9, 8, 3), (1, 8, 1)] {
                let geometry = Geometry {
                    channels: 4,
                    height,
                    width,
                    kernel: (kernel, 3),
                    padding: (if height == 1 { 0 } else { padding }, padding),
                    stride,
                    dilation,
                };
                let (outputs, sequence) = (8, height == 1);
                let values = |shape: &[usize], speed: f32| {
                    let count = shape.iter().product::<usize>();
                    let values: Vec<f32> = (0..count).map(|at| (at as f32 * speed).sin()).collect();
                    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
                };
                let shape: &[usize] = if sequence {
                    &[outputs, 4 / groups, 3]
                } else {
                    &[outputs, 4 / groups, kernel, 3]
                };
                let convolution = Convolution {
                    geometry,
                    groups,
                    weight: Var::from_tensor(&values(shape, 0.7)).unwrap().into_inner(),
                    bias: None,
                    images: values(&[2, 4, height, width], 1.1),
                };
                let gradient = values(&[2, outputs, geometry.positions()], 0.3);
                let host = convolution.input_gradient_on_host(&gradient).unwrap();
                let transposed = convolution.input_gradient_transposed(&gradient).unwrap();
                assert_eq!(host.dims(), [2, 4, height, width]);
                let difference = (host - transposed).unwrap().abs().unwrap().max_all().unwrap();
                assert!(difference.to_scalar::<f32>().unwrap() < 1e-5, "{geometry:?}");
            }
        }
    }
}
