//! Selections as tensors, to index a data set by.

use candle_core::{Device, Tensor};
use data_diet::selection::Selection;

use crate::error::{Error, Result};

/// Returns the kept examples as row numbers in ascending order, `[kept]` of `u32` on a device, for
/// `index_select` on tensors whose rows are the examples.
///
/// # Errors
///
/// [`Error::Record`] for an example id above the largest `u32`, which is not a row number;
/// [`Error::Candle`] if the device fails.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use data_diet::{Amount, Rule};
/// use data_diet::selection::ScoreColumn;
/// use data_diet_candle::selection::kept_indices;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::Cpu;
/// let images = Tensor::arange(0.0_f32, 12.0, &device)?.reshape((4, 3))?;
///
/// let el2n = ScoreColumn::new(vec![0, 1, 2, 3], vec![0; 4], vec![0.9, 0.1, 0.4, 0.2])?;
/// let hard = el2n.select(Rule::Highest(Amount::Count(2)))?;
///
/// let kept = kept_indices(&hard, &device)?;
/// let images = images.index_select(&kept, 0)?;
/// assert_eq!(images.to_vec2::<f32>()?, [[0.0, 1.0, 2.0], [6.0, 7.0, 8.0]]);
/// # Ok(())
/// # }
/// ```
///
/// The rows of the smaller set keep their ids, so that it can be recorded under the same ids:
/// `selection.examples()` returns them in the order of the rows.
pub fn kept_indices(selection: &Selection, device: &Device) -> Result<Tensor> {
    let indices = selection.indices()?;
    let kept = indices.len();
    Tensor::from_vec(indices, kept, device).map_err(Error::Candle)
}
