//! The inputs of a forward pass: a tensor, or several that belong together.

use candle_core::Tensor;

use crate::error::{Error, Result};

/// The inputs of a batch: a tensor whose first dimension counts the examples, or a tuple, array or
/// vector of those.
pub trait Inputs: Sized {
    /// Returns the number of examples.
    ///
    /// # Errors
    ///
    /// If a tensor has no first dimension, or they disagree in it.
    fn examples(&self) -> Result<usize>;

    /// Returns one of the examples as a batch of one.
    ///
    /// # Errors
    ///
    /// If there is no such example.
    fn example(&self, row: usize) -> Result<Self>;

    /// Returns `count` examples from `start` on as a batch; `None` if a batch can only be used
    /// whole or one by one. Batches that can be split go through a model in pieces that fit in the
    /// processor's caches.
    ///
    /// # Errors
    ///
    /// If there are no such examples.
    fn part(&self, start: usize, count: usize) -> Result<Option<Self>> {
        let _ = (start, count);
        Ok(None)
    }
}

impl Inputs for Tensor {
    fn examples(&self) -> Result<usize> {
        self.dims().first().copied().ok_or_else(|| {
            Error::Argument("inputs: expected a tensor [batch, ...], got a scalar".to_owned())
        })
    }

    fn example(&self, row: usize) -> Result<Self> {
        Ok(self.narrow(0, row, 1)?)
    }

    fn part(&self, start: usize, count: usize) -> Result<Option<Self>> {
        Ok(Some(self.narrow(0, start, count)?))
    }
}

fn common_batch_size<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<usize> {
    let sizes = tensors.into_iter().map(Inputs::examples).collect::<Result<Vec<_>>>()?;
    match sizes.as_slice() {
        [] => Err(Error::Argument("inputs: expected at least one tensor, got none".to_owned())),
        [first, rest @ ..] if rest.iter().all(|size| size == first) => Ok(*first),
        _ => Err(Error::Argument(format!(
            "inputs: expected tensors with the same number of examples, got {sizes:?}"
        ))),
    }
}

impl Inputs for Vec<Tensor> {
    fn examples(&self) -> Result<usize> {
        common_batch_size(self)
    }

    fn example(&self, row: usize) -> Result<Self> {
        self.iter().map(|tensor| tensor.example(row)).collect()
    }

    fn part(&self, start: usize, count: usize) -> Result<Option<Self>> {
        self.iter().map(|tensor| tensor.part(start, count)).collect()
    }
}

impl<const N: usize> Inputs for [Tensor; N] {
    fn examples(&self) -> Result<usize> {
        common_batch_size(self)
    }

    fn example(&self, row: usize) -> Result<Self> {
        let mut tensors = self.clone();
        for tensor in &mut tensors {
            *tensor = tensor.example(row)?;
        }
        Ok(tensors)
    }

    fn part(&self, start: usize, count: usize) -> Result<Option<Self>> {
        let mut tensors = self.clone();
        for tensor in &mut tensors {
            *tensor = tensor.narrow(0, start, count)?;
        }
        Ok(Some(tensors))
    }
}

impl Inputs for (Tensor, Tensor) {
    fn examples(&self) -> Result<usize> {
        common_batch_size([&self.0, &self.1])
    }

    fn example(&self, row: usize) -> Result<Self> {
        Ok((self.0.example(row)?, self.1.example(row)?))
    }

    fn part(&self, start: usize, count: usize) -> Result<Option<Self>> {
        let part = |tensor: &Tensor| tensor.narrow(0, start, count);
        Ok(Some((part(&self.0)?, part(&self.1)?)))
    }
}

impl Inputs for (Tensor, Tensor, Tensor) {
    fn examples(&self) -> Result<usize> {
        common_batch_size([&self.0, &self.1, &self.2])
    }

    fn example(&self, row: usize) -> Result<Self> {
        Ok((self.0.example(row)?, self.1.example(row)?, self.2.example(row)?))
    }

    fn part(&self, start: usize, count: usize) -> Result<Option<Self>> {
        let part = |tensor: &Tensor| tensor.narrow(0, start, count);
        Ok(Some((part(&self.0)?, part(&self.1)?, part(&self.2)?)))
    }
}
