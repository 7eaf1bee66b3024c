//! A symmetric matrix that is added up in pieces.

use std::ops::Range;

/// Sums in `f64`.
#[derive(Debug)]
pub(super) struct Square {
    side: usize,
    values: Vec<f64>,
}

impl Square {
    pub(super) fn zeros(side: usize) -> Self {
        Self { side, values: vec![0.0; side * side] }
    }

    /// Adds the piece of these rows and columns, and its mirror image. Of a piece on the diagonal, only
    /// what lies above it counts: a product and its mirror image may be rounded differently.
    pub(super) fn add(&mut self, rows: Range<usize>, columns: Range<usize>, piece: &[f64]) {
        let width = columns.len();
        for (place, row) in rows.enumerate() {
            for (offset, column) in columns.clone().enumerate().filter(|&(_, c)| c >= row) {
                let sum = self.values[row * self.side + column] + piece[place * width + offset];
                self.values[row * self.side + column] = sum;
                self.values[column * self.side + row] = sum;
            }
        }
    }

    pub(super) fn get(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.side + column]
    }

    /// Rounded to `f32`.
    pub(super) fn rounded(&self) -> Vec<f32> {
        self.values.iter().map(|&value| value as f32).collect()
    }
}
