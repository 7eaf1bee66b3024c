//! Pooling: the largest value or the mean under windows that move over images.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Device, Layout, MetalStorage, Result, Shape,
    Storage, Tensor, ToUsize2, WithDType, bail,
};

use crate::gradients::squares::product_dtype;
use crate::nn::parallel_fill::fill_blocks;
use crate::nn::windows::Windows;

/// Returns the largest value under each window of `[batch, channels, height, width]`, with windows
/// side by side: the values of [`Tensor::max_pool2d`] to the bit, with the correct gradient.
///
/// **The gradient differs from candle's.** candle 0.11 passes back only a share, a quarter for
/// windows of 2 x 2, and none if windows overlap. Here a window's gradient goes to its largest
/// value, or to the first of several, row by row; pixels outside all windows get none. A network
/// that trains with this function therefore trains differently than with candle's, and as it would
/// in other frameworks.
///
/// A NaN is the largest value if it comes first in its window, and is ignored otherwise.
///
/// # Errors
///
/// If the tensor is not a batch of images, or smaller than a window; if a size is zero.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use data_diet_candle::nn;
///
/// # fn main() -> candle_core::Result<()> {
/// let image = Var::new(&[[[[1.0_f32, 2.0], [4.0, 3.0]]]], &Device::Cpu)?;
/// let largest = nn::max_pool2d(&image, 2)?;
/// assert_eq!(largest.flatten_all()?.to_vec1::<f32>()?, [4.0]);
/// let gradients = largest.backward()?;
/// let gradient = gradients.get(&image).unwrap().flatten_all()?;
/// assert_eq!(gradient.to_vec1::<f32>()?, [0.0, 0.0, 1.0, 0.0]);
/// # Ok(())
/// # }
/// ```
pub fn max_pool2d<T: ToUsize2>(xs: &Tensor, sz: T) -> Result<Tensor> {
    let sz = sz.to_usize2();
    max_pool2d_with_stride(xs, sz, sz)
}

/// As [`max_pool2d`], for windows that are `stride` apart: the values of
/// [`Tensor::max_pool2d_with_stride`]. A value that is the largest under several windows gets the
/// gradients of all of them.
///
/// # Errors
///
/// As [`max_pool2d`].
pub fn max_pool2d_with_stride<T: ToUsize2>(
    xs: &Tensor,
    kernel_size: T,
    stride: T,
) -> Result<Tensor> {
    pooled(xs, Kind::Max, kernel_size.to_usize2(), stride.to_usize2())
}

/// Returns the mean under each window of `[batch, channels, height, width]`, with windows side by
/// side: the values of [`Tensor::avg_pool2d`] to the bit. Every value under a window gets its share
/// of the window's gradient; candle's own gradient fails or goes to the wrong pixels where windows
/// overlap or leave pixels over.
///
/// # Errors
///
/// As [`max_pool2d`].
pub fn avg_pool2d<T: ToUsize2>(xs: &Tensor, sz: T) -> Result<Tensor> {
    let sz = sz.to_usize2();
    avg_pool2d_with_stride(xs, sz, sz)
}

/// As [`avg_pool2d`], for windows that are `stride` apart: the values of
/// [`Tensor::avg_pool2d_with_stride`].
///
/// # Errors
///
/// As [`max_pool2d`].
pub fn avg_pool2d_with_stride<T: ToUsize2>(
    xs: &Tensor,
    kernel_size: T,
    stride: T,
) -> Result<Tensor> {
    pooled(xs, Kind::Mean, kernel_size.to_usize2(), stride.to_usize2())
}

fn pooled(
    xs: &Tensor,
    kind: Kind,
    kernel: (usize, usize),
    stride: (usize, usize),
) -> Result<Tensor> {
    let (_, _, height, width) = xs.dims4()?;
    if kernel.0 == 0 || kernel.1 == 0 || stride.0 == 0 || stride.1 == 0 {
        bail!("expected a kernel size and a stride above 0, got {kernel:?} and {stride:?}")
    }
    if height < kernel.0 || width < kernel.1 {
        bail!("expected images of at least {kernel:?}, the kernel size, got {:?}", (height, width))
    }
    xs.apply_op1(Pool { kind, windows: Windows { height, width, kernel, stride } })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Max,
    Mean,
}

#[derive(Clone, Copy, Debug)]
struct Pool {
    kind: Kind,
    windows: Windows,
}

impl Pool {
    /// candle's own values.
    fn candles<S: BackendStorage>(&self, values: &S, layout: &Layout) -> Result<(S, Shape)> {
        let (kernel, stride) = (self.windows.kernel, self.windows.stride);
        let pooled = match self.kind {
            Kind::Max => values.max_pool2d(layout, kernel, stride)?,
            Kind::Mean => values.avg_pool2d(layout, kernel, stride)?,
        };
        let (images, channels, _, _) = layout.shape().dims4()?;
        let (height, width) = self.windows.output();
        Ok((pooled, (images, channels, height, width).into()))
    }

    fn max_on_host<T: WithDType>(&self, pixels: &[T], planes: usize) -> CpuStorage {
        let (windows, size) = (self.windows, self.windows.pixels());
        let mut largest = vec![T::zero(); planes * windows.count()];
        fill_blocks(&mut largest, windows.count(), |first, largest| {
            let planes = pixels[first * size..].chunks_exact(size);
            for (pixels, largest) in planes.zip(largest.chunks_exact_mut(windows.count())) {
                windows.max(pixels, largest);
            }
        });
        T::to_cpu_storage_owned(largest)
    }

    fn backward_on_host<T: WithDType>(&self, pixels: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let (windows, size, count) = (self.windows, self.windows.pixels(), self.windows.count());
        let gradient = match self.kind {
            Kind::Max => gradient.contiguous()?,
            Kind::Mean => (gradient.contiguous()? / self.area())?,
        };
        let (of_pixels, pixels_layout) = pixels.storage_and_layout();
        let (of_gradient, gradient_layout) = gradient.storage_and_layout();
        let (Storage::Cpu(of_pixels), Storage::Cpu(of_gradient)) = (&*of_pixels, &*of_gradient)
        else {
            bail!("expected host tensors")
        };
        let of_pixels = &T::cpu_storage_as_slice(of_pixels)?[pixels_layout.start_offset()..];
        let of_gradient = &T::cpu_storage_as_slice(of_gradient)?[gradient_layout.start_offset()..];
        let mut result = vec![T::zero(); pixels.elem_count()];
        fill_blocks(&mut result, size, |first, result| {
            for (plane, result) in (first..).zip(result.chunks_exact_mut(size)) {
                let pixels = &of_pixels[plane * size..][..size];
                let gradients = &of_gradient[plane * count..][..count];
                match self.kind {
                    Kind::Max => windows.max_backward(pixels, gradients, result),
                    Kind::Mean => windows.mean_backward(gradients, result),
                }
            }
        });
        Tensor::from_vec(result, pixels.shape(), pixels.device())
    }

    /// The number of pixels in a window.
    fn area(&self) -> f64 {
        (self.windows.kernel.0 * self.windows.kernel.1) as f64
    }

    /// On any device: gathers windows by the index of every pixel, and adds gradients by it.
    fn backward_by_index(&self, pixels: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let (windows, device) = (self.windows, pixels.device());
        let planes = pixels.dim(0)? * pixels.dim(1)?;
        let (area, count) = (windows.kernel.0 * windows.kernel.1, windows.count());
        let mut places = vec![0_u32; count];
        windows.each(|window, place| places[window] = place as u32);
        let places = Tensor::from_vec(places, (count, 1), device)?;
        let offsets = (0..area)
            .map(|at| (at / windows.kernel.1 * windows.width + at % windows.kernel.1) as u32);
        let offsets = Tensor::from_vec(offsets.collect::<Vec<u32>>(), (1, area), device)?;
        let gradient = gradient.reshape((planes, count))?;
        let (index, gradient) = match self.kind {
            Kind::Max => {
                let index = places.broadcast_add(&offsets)?.flatten_all()?;
                let under = pixels.reshape((planes, windows.pixels()))?.index_select(&index, 1)?;
                let largest = under.reshape((planes * count, area))?.argmax(1)?;
                let offsets = offsets.flatten_all()?.index_select(&largest, 0)?;
                let index = offsets.reshape((planes, count))?.broadcast_add(&places.t()?)?;
                (index, gradient)
            }
            Kind::Mean => {
                let index = places.broadcast_add(&offsets)?.reshape((1, count * area))?;
                let shares = (gradient / self.area())?.unsqueeze(2)?;
                let shares = shares.broadcast_as((planes, count, area))?;
                (index.broadcast_as((planes, count * area))?, shares.reshape((planes, ()))?)
            }
        };
        let zeros = Tensor::zeros((planes, windows.pixels()), gradient.dtype(), device)?;
        let (index, gradient) = (index.contiguous()?, gradient.contiguous()?);
        zeros.scatter_add(&index, &gradient, 1)?.reshape(pixels.shape())
    }
}

impl CustomOp1 for Pool {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Max => "max-pool",
            Kind::Mean => "mean-pool",
        }
    }

    fn cpu_fwd(&self, values: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets().filter(|_| self.kind == Kind::Max)
        else {
            return self.candles(values, layout);
        };
        let (images, channels, _, _) = layout.shape().dims4()?;
        let planes = images * channels;
        let pooled = match values {
            CpuStorage::F32(values) => self.max_on_host(&values[start..end], planes),
            CpuStorage::F64(values) => self.max_on_host(&values[start..end], planes),
            _ => return self.candles(values, layout),
        };
        let (height, width) = self.windows.output();
        Ok((pooled, (images, channels, height, width).into()))
    }

    fn cuda_fwd(&self, values: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.candles(values, layout)
    }

    fn metal_fwd(&self, values: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        self.candles(values, layout)
    }

    fn bwd(&self, pixels: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        // In f32 at least, so that the gradients of several windows are summed in it, too.
        let (dtype, wide) = (pixels.dtype(), product_dtype(pixels));
        let gradient = gradient.detach().to_dtype(wide)?;
        let pixels = pixels.detach().to_dtype(wide)?.contiguous()?;
        let of_pixels = match (pixels.device(), wide) {
            (Device::Cpu, DType::F64) => self.backward_on_host::<f64>(&pixels, &gradient)?,
            (Device::Cpu, _) => self.backward_on_host::<f32>(&pixels, &gradient)?,
            _ => self.backward_by_index(&pixels, &gradient)?,
        };
        of_pixels.to_dtype(dtype).map(Some)
    }
}

#[cfg(test)]
mod tests;
