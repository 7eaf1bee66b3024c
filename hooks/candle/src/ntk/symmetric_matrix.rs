//! A symmetric matrix that is summed in pieces.

/// Sums are in `f64`. The lower triangle mirrors the upper one: a product and its mirror image may
/// be rounded differently.
#[derive(Debug)]
pub(super) struct SymmetricMatrix {
    side: usize,
    values: Vec<f64>,
}

impl SymmetricMatrix {
    pub(super) fn zeros(side: usize) -> Self {
        Self { side, values: vec![0.0; side * side] }
    }

    pub(super) fn side(&self) -> usize {
        self.side
    }

    /// Adds a piece of a row, starting at this column. Values below the diagonal are ignored.
    pub(super) fn add(&mut self, row: usize, column: usize, piece: &[f64]) {
        let below = row.saturating_sub(column).min(piece.len());
        let at = row * self.side + column;
        let sums = &mut self.values[at + below..at + piece.len()];
        for (sum, value) in sums.iter_mut().zip(&piece[below..]) {
            *sum += value;
        }
    }

    pub(super) fn get(&self, row: usize, column: usize) -> f64 {
        self.values[row.min(column) * self.side + row.max(column)]
    }

    /// Returns the whole matrix, rounded to `f32`.
    pub(super) fn rounded(&self) -> Vec<f32> {
        let mut rounded: Vec<f32> = self.values.iter().map(|&value| value as f32).collect();
        for row in 1..self.side {
            for column in 0..row {
                rounded[row * self.side + column] = rounded[column * self.side + row];
            }
        }
        rounded
    }
}
