//! A symmetric matrix that is added up in pieces.

/// Sums in `f64`. What lies below the diagonal mirrors what lies above it: a product and its mirror image
/// may be rounded differently.
#[derive(Debug)]
pub(super) struct Square {
    side: usize,
    values: Vec<f64>,
}

impl Square {
    pub(super) fn zeros(side: usize) -> Self {
        Self { side, values: vec![0.0; side * side] }
    }

    pub(super) fn side(&self) -> usize {
        self.side
    }

    /// Adds a piece of a row, from this column on. What lies below the diagonal does not count.
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

    /// The whole matrix, rounded to `f32`.
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
