//! Windows that move over a plane of pixels, on the host: the largest value or the mean under each,
//! and their gradients.

use candle_core::WithDType;

/// How windows cover a plane `[height, width]`, from the top left. Pixels left over at the far
/// edges belong to no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Windows {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) kernel: (usize, usize),
    pub(super) stride: (usize, usize),
}

impl Windows {
    /// Returns the number of rows and columns of windows.
    pub(super) fn output(&self) -> (usize, usize) {
        (
            (self.height - self.kernel.0) / self.stride.0 + 1,
            (self.width - self.kernel.1) / self.stride.1 + 1,
        )
    }

    pub(super) fn count(&self) -> usize {
        let (rows, columns) = self.output();
        rows * columns
    }

    pub(super) fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// The most common windows, whose loops the compiler can unroll.
    fn is_2x2_stride_2(&self) -> bool {
        self.kernel == (2, 2) && self.stride == (2, 2)
    }

    /// The largest value under each window. A NaN in the window's first pixel stays; elsewhere it
    /// is ignored, since it is not greater than anything.
    pub(super) fn max<T: WithDType>(&self, pixels: &[T], largest: &mut [T]) {
        if self.is_2x2_stride_2() {
            let columns = self.output().1;
            let rows = pixels.chunks_exact(2 * self.width);
            for (rows, largest) in rows.zip(largest.chunks_exact_mut(columns)) {
                let (upper, lower) = rows.split_at(self.width);
                let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
                for ((upper, lower), largest) in pairs.zip(largest) {
                    let first = if upper[0] < upper[1] { upper[1] } else { upper[0] };
                    let first = if first < lower[0] { lower[0] } else { first };
                    *largest = if first < lower[1] { lower[1] } else { first };
                }
            }
            return;
        }
        self.each(|window, place| largest[window] = pixels[self.first_largest(pixels, place)]);
    }

    /// Adds each window's gradient to its largest pixel, the first of several.
    pub(super) fn max_backward<T: WithDType>(
        &self,
        pixels: &[T],
        gradients: &[T],
        of_pixels: &mut [T],
    ) {
        if self.is_2x2_stride_2() {
            let columns = self.output().1;
            let rows = pixels.chunks_exact(2 * self.width);
            let rows = rows.zip(of_pixels.chunks_exact_mut(2 * self.width));
            for ((rows, of_rows), gradients) in rows.zip(gradients.chunks_exact(columns)) {
                let (upper, lower) = rows.split_at(self.width);
                let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
                for (column, ((upper, lower), &gradient)) in pairs.zip(gradients).enumerate() {
                    // Without branches, most of which would be mispredicted.
                    let right = upper[0] < upper[1];
                    let largest = if right { upper[1] } else { upper[0] };
                    let below = largest < lower[0];
                    let largest = if below { lower[0] } else { largest };
                    let last = usize::from(largest < lower[1]);
                    let row = usize::from(below) | last;
                    let side = last | (usize::from(right) & (1 - row));
                    of_rows[row * self.width + 2 * column + side] += gradient;
                }
            }
            return;
        }
        self.each(|window, place| {
            of_pixels[self.first_largest(pixels, place)] += gradients[window];
        });
    }

    /// Adds each window's share of the gradient, already divided by the window's size, to all
    /// pixels under the window.
    pub(super) fn mean_backward<T: WithDType>(&self, shares: &[T], of_pixels: &mut [T]) {
        self.each(|window, place| {
            for row in 0..self.kernel.0 {
                let from = place + row * self.width;
                for of_pixel in &mut of_pixels[from..from + self.kernel.1] {
                    *of_pixel += shares[window];
                }
            }
        });
    }

    /// Returns the offset of the first of the largest values under the window at this place.
    fn first_largest<T: WithDType>(&self, pixels: &[T], place: usize) -> usize {
        let mut at = place;
        for row in 0..self.kernel.0 {
            let from = place + row * self.width;
            for pixel in from..from + self.kernel.1 {
                if pixels[at] < pixels[pixel] {
                    at = pixel;
                }
            }
        }
        at
    }

    /// Visits every window's number, and the offset of its first pixel.
    pub(super) fn each(&self, mut visit: impl FnMut(usize, usize)) {
        let (rows, columns) = self.output();
        for row in 0..rows {
            for column in 0..columns {
                let place = row * self.stride.0 * self.width + column * self.stride.1;
                visit(row * columns + column, place);
            }
        }
    }
}
