//! Convolutions as matrix products: unfolds an input into the patches under a kernel, and folds
//! patches back.

use candle_core::{Device, Result, Storage, Tensor, WithDType, bail};

/// How a kernel moves over images `[examples, channels, height, width]`. A sequence is an image of
/// height 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) kernel: (usize, usize),
    pub(crate) padding: (usize, usize),
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
}

impl Geometry {
    /// Returns height and width of the output.
    pub(crate) fn output(&self) -> (usize, usize) {
        let along = |size: usize, kernel: usize, padding: usize| {
            (size + 2 * padding - self.dilation * (kernel - 1) - 1) / self.stride + 1
        };
        (
            along(self.height, self.kernel.0, self.padding.0),
            along(self.width, self.kernel.1, self.padding.1),
        )
    }

    /// Returns whether the kernel fits in the image.
    pub(crate) fn fits(&self) -> bool {
        let fits = |size: usize, kernel: usize, padding: usize| {
            kernel > 0 && size > 0 && size + 2 * padding > self.dilation * (kernel - 1)
        };
        self.stride > 0
            && fits(self.height, self.kernel.0, self.padding.0)
            && fits(self.width, self.kernel.1, self.padding.1)
    }

    /// Returns whether the patches are the pixels in order.
    fn is_pointwise(&self) -> bool {
        self.kernel == (1, 1) && self.padding == (0, 0) && self.stride == 1
    }

    /// Returns the number of positions of the kernel.
    pub(crate) fn positions(&self) -> usize {
        let (height, width) = self.output();
        height * width
    }

    /// Returns the number of values under the kernel at one position.
    pub(crate) fn patch(&self) -> usize {
        self.channels * self.kernel.0 * self.kernel.1
    }

    /// Unfolds `[examples, channels, height, width]` to `[examples, patch, positions]`, zero
    /// outside the image.
    pub(crate) fn unfold(&self, images: &Tensor) -> Result<Tensor> {
        let examples = images.dim(0)?;
        let shape = (examples, self.patch(), self.positions());
        let images = images.contiguous()?;
        if self.is_pointwise() {
            return images.reshape(shape);
        }
        match images.device() {
            Device::Cpu if images.dtype() == candle_core::DType::F32 => {
                Tensor::from_vec(self.unfold_on_host::<f32>(&images)?, shape, images.device())
            }
            Device::Cpu if images.dtype() == candle_core::DType::F64 => {
                Tensor::from_vec(self.unfold_on_host::<f64>(&images)?, shape, images.device())
            }
            _ => self.unfold_by_index(&images)?.reshape(shape),
        }
    }

    /// The transpose of [`unfold`](Self::unfold), on the host: adds every value of a patch to the
    /// pixel that it came from.
    pub(crate) fn fold(&self, patches: &Tensor) -> Result<Tensor> {
        let examples = patches.dim(0)?;
        let shape = (examples, self.channels, self.height, self.width);
        let patches = patches.contiguous()?;
        if self.is_pointwise() {
            return patches.reshape(shape);
        }
        match patches.dtype() {
            candle_core::DType::F32 => {
                Tensor::from_vec(self.fold_on_host::<f32>(&patches)?, shape, patches.device())
            }
            candle_core::DType::F64 => {
                Tensor::from_vec(self.fold_on_host::<f64>(&patches)?, shape, patches.device())
            }
            other => bail!("patches: expected f32 or f64, got {other:?}"),
        }
    }

    /// Visits every run of pixels under one kernel element in a row of the output: (offset in the
    /// output, offset in the image, length). Pixels are `stride` apart in the image.
    fn for_each_run(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (output_height, output_width) = self.output();
        let (padding_y, padding_x) = self.padding;
        let positions = output_height * output_width;
        for y in 0..self.kernel.0 {
            for x in 0..self.kernel.1 {
                // The first and the last position in a row at which this element is over a pixel.
                let offset = x * self.dilation;
                let first = padding_x.saturating_sub(offset).div_ceil(self.stride);
                let Some(furthest) = (self.width - 1 + padding_x).checked_sub(offset) else {
                    continue;
                };
                let end = (furthest / self.stride + 1).min(output_width);
                if first >= end {
                    continue;
                }
                let element = (y * self.kernel.1 + x) * positions;
                for row in 0..output_height {
                    let Some(pixel_y) = (row * self.stride + y * self.dilation)
                        .checked_sub(padding_y)
                        .filter(|&pixel_y| pixel_y < self.height)
                    else {
                        continue;
                    };
                    let pixel_x = first * self.stride + offset - padding_x;
                    visit(
                        element + row * output_width + first,
                        pixel_y * self.width + pixel_x,
                        end - first,
                    );
                }
            }
        }
    }

    fn runs(&self) -> Vec<(usize, usize, usize)> {
        let mut runs = Vec::new();
        self.for_each_run(|patch, pixel, count| runs.push((patch, pixel, count)));
        runs
    }

    fn unfold_on_host<T: WithDType>(&self, images: &Tensor) -> Result<Vec<T>> {
        let (storage, layout) = images.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else { bail!("expected a host tensor") };
        let pixels = &T::cpu_storage_as_slice(storage)?[layout.start_offset()..];
        let (runs, image) = (self.runs(), self.height * self.width);
        let patches = self.kernel.0 * self.kernel.1 * self.positions();
        let planes = images.dim(0)? * self.channels;
        let mut unfolded = vec![T::zero(); planes * patches];
        for (plane, unfolded) in unfolded.chunks_exact_mut(patches).enumerate() {
            let pixels = &pixels[plane * image..][..image];
            for &(patch, pixel, count) in &runs {
                let unfolded = &mut unfolded[patch..patch + count];
                if self.stride == 1 {
                    unfolded.copy_from_slice(&pixels[pixel..pixel + count]);
                } else {
                    let pixels = pixels[pixel..].iter().step_by(self.stride);
                    unfolded.iter_mut().zip(pixels).for_each(|(to, &from)| *to = from);
                }
            }
        }
        Ok(unfolded)
    }

    fn fold_on_host<T: WithDType>(&self, patches: &Tensor) -> Result<Vec<T>> {
        let (storage, layout) = patches.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else { bail!("expected a host tensor") };
        let unfolded = &T::cpu_storage_as_slice(storage)?[layout.start_offset()..];
        let (runs, image) = (self.runs(), self.height * self.width);
        let patch_values = self.kernel.0 * self.kernel.1 * self.positions();
        let planes = patches.dim(0)? * self.channels;
        let mut pixels = vec![T::zero(); planes * image];
        for (plane, pixels) in pixels.chunks_exact_mut(image).enumerate() {
            let unfolded = &unfolded[plane * patch_values..][..patch_values];
            for &(patch, pixel, count) in &runs {
                let unfolded = &unfolded[patch..patch + count];
                if self.stride == 1 {
                    let pixels = &mut pixels[pixel..pixel + count];
                    pixels.iter_mut().zip(unfolded).for_each(|(to, &from)| *to += from);
                } else {
                    let pixels = pixels[pixel..].iter_mut().step_by(self.stride);
                    pixels.zip(unfolded).for_each(|(to, &from)| *to += from);
                }
            }
        }
        Ok(pixels)
    }

    /// Unfolds on any device by gathering each value's index; one extra index stands for the
    /// outside.
    fn unfold_by_index(&self, images: &Tensor) -> Result<Tensor> {
        let outside = self.height * self.width;
        let values = self.kernel.0 * self.kernel.1 * self.positions();
        let mut index = vec![outside as u32; values];
        self.for_each_run(|patch, pixel, count| {
            for at in 0..count {
                index[patch + at] = (pixel + at * self.stride) as u32;
            }
        });
        let index = Tensor::from_vec(index, values, images.device())?;
        let planes = images.reshape((images.dim(0)?, self.channels, outside))?;
        planes.pad_with_zeros(2, 0, 1)?.index_select(&index, 2)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    fn geometries() -> impl Iterator<Item = Geometry> {
        (0..400).filter_map(|seed: usize| {
            let pick = |shift: usize, least: usize, count: usize| {
                least + (seed.wrapping_mul(2_654_435_761) >> (3 * shift)) % count
            };
            let geometry = Geometry {
                channels: pick(0, 1, 3),
                height: pick(1, 1, 7),
                width: pick(2, 1, 7),
                kernel: (pick(3, 1, 3), pick(4, 1, 3)),
                padding: (pick(5, 0, 3), pick(6, 0, 3)),
                stride: pick(7, 1, 3),
                dilation: pick(8, 1, 3),
            };
            let fits = |size: usize, kernel: usize, padding: usize| {
                size + 2 * padding > geometry.dilation * (kernel - 1)
            };
            (fits(geometry.height, geometry.kernel.0, geometry.padding.0)
                && fits(geometry.width, geometry.kernel.1, geometry.padding.1))
            .then_some(geometry)
        })
    }

    fn images(geometry: &Geometry) -> Tensor {
        let shape = (2, geometry.channels, geometry.height, geometry.width);
        let values = 2 * geometry.channels * geometry.height * geometry.width;
        let values: Vec<f32> = (0..values).map(|at| (at as f32 * 0.7).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        let tensor = tensor.flatten_all().unwrap();
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else { panic!("not on the host") };
        f32::cpu_storage_as_slice(storage).unwrap()[layout.start_offset()..].to_vec()
    }

    /// Pixel by pixel, from the definition.
    fn unfolded(geometry: &Geometry, images: &[f32]) -> Vec<f32> {
        let (output_height, output_width) = geometry.output();
        let mut unfolded = Vec::new();
        for plane in 0..2 * geometry.channels {
            for y in 0..geometry.kernel.0 {
                for x in 0..geometry.kernel.1 {
                    for row in 0..output_height {
                        for column in 0..output_width {
                            let pixel_y = (row * geometry.stride + y * geometry.dilation) as i64
                                - geometry.padding.0 as i64;
                            let pixel_x = (column * geometry.stride + x * geometry.dilation) as i64
                                - geometry.padding.1 as i64;
                            let inside = (0..geometry.height as i64).contains(&pixel_y)
                                && (0..geometry.width as i64).contains(&pixel_x);
                            let at = || {
                                plane * geometry.height * geometry.width
                                    + (pixel_y * geometry.width as i64 + pixel_x) as usize
                            };
                            unfolded.push(if inside { images[at()] } else { 0.0 });
                        }
                    }
                }
            }
        }
        unfolded
    }

    #[test]
    fn both_ways_unfold_as_defined() {
        for geometry in geometries() {
            let images = images(&geometry);
            let expected = unfolded(&geometry, &values(&images));
            let host = geometry.unfold(&images).unwrap();
            assert_eq!(host.dims(), [2, geometry.patch(), geometry.positions()]);
            assert_eq!(values(&host), expected, "{geometry:?}");
            let indexed = geometry.unfold_by_index(&images).unwrap();
            assert_eq!(values(&indexed), expected, "{geometry:?}");
            // Another dtype.
            let wide = geometry.unfold(&images.to_dtype(DType::F64).unwrap()).unwrap();
            assert_eq!(values(&wide.to_dtype(DType::F32).unwrap()), expected, "{geometry:?}");
        }
    }

    /// <unfold(a), b> = <a, fold(b)> for all a and b defines the transpose.
    #[test]
    fn folding_is_the_transpose_of_unfolding() {
        for geometry in geometries() {
            let images = images(&geometry);
            let unfolded = geometry.unfold(&images).unwrap();
            let other: Vec<f32> =
                (0..unfolded.elem_count()).map(|at| (at as f32 * 1.3).cos()).collect();
            let folded = geometry
                .fold(&Tensor::from_vec(other.clone(), unfolded.dims(), &Device::Cpu).unwrap())
                .unwrap();
            let product = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
            };
            let (left, right) =
                (product(&values(&unfolded), &other), product(&values(&images), &values(&folded)));
            assert!((left - right).abs() < 1e-4, "{geometry:?}: {left} and {right}");
        }
    }
}
