//! Moves a model along the straight line between two sets of weights.

use std::fmt;

use data_diet::geometry::barrier::{RiskCurve, RiskPoint, check_grid};

use super::risk::Risk;
use crate::error::{Error, Result};
use crate::weights::{NamedTensors, Params, interpolate};

/// The positions at which a model is measured: weights `alpha w + (1 - alpha) w'`.
#[derive(Clone, Debug, PartialEq)]
pub struct AlphaGrid {
    alphas: Vec<f64>,
    refinements: u32,
}

impl AlphaGrid {
    /// The positions 0, 1/n, 2/n, ..., 1.
    ///
    /// # Errors
    ///
    /// If `intervals` is 0.
    pub fn uniform(intervals: u32) -> Result<Self> {
        if intervals == 0 {
            return Err(Error::Argument("intervals: expected at least 1, got 0".to_owned()));
        }
        let alpha = |place| f64::from(place) / f64::from(intervals);
        Ok(Self { alphas: (0..=intervals).map(alpha).collect(), refinements: 0 })
    }

    /// The given positions.
    ///
    /// # Errors
    ///
    /// Unless the positions begin at 0, end at 1 and ascend without repeating.
    pub fn at(alphas: Vec<f64>) -> Result<Self> {
        check_grid(&alphas)?;
        Ok(Self { alphas, refinements: 0 })
    }

    /// Refines the grid this many times: halves the intervals on both sides of the position where
    /// the [risk](RiskCurve::risks), the error rate if there is one, rises highest above the chord.
    #[must_use]
    pub fn refined(mut self, times: u32) -> Self {
        self.refinements = times;
        self
    }
}

impl Default for AlphaGrid {
    /// The positions 0, 0.1, ..., 1, about as many as the figures of the Data Diet paper have.
    fn default() -> Self {
        let alphas = (0..=10).map(|place| f64::from(place) / 10.0).collect();
        Self { alphas, refinements: 0 }
    }
}

type Passes<'a> = Box<dyn FnMut() -> candle_core::Result<()> + 'a>;

/// The straight line between two sets of weights of a model.
#[must_use = "nothing is measured before `curve`"]
pub struct Line<'a> {
    params: &'a Params,
    grid: AlphaGrid,
    reestimate_batch_norm: Option<Passes<'a>>,
}

impl<'a> Line<'a> {
    /// Makes a line for the model with these variables, on the default grid, with running
    /// statistics interpolated.
    pub fn new(params: &'a Params) -> Self {
        Self { params, grid: AlphaGrid::default(), reestimate_batch_norm: None }
    }

    /// Sets where to measure.
    pub fn grid(mut self, grid: AlphaGrid) -> Self {
        self.grid = grid;
        self
    }

    /// Re-estimates the running statistics of batch normalization at every position, including the
    /// ends: `passes` runs the model in training mode over some data, without updates. The
    /// statistics start from the interpolated ones, of which `(1 - momentum)^n` remains after n
    /// batches: 4 % after 30 with candle's 0.1. Whatever `passes` changes is reset at the next
    /// position.
    pub fn reestimate_batch_norm(
        mut self,
        passes: impl FnMut() -> candle_core::Result<()> + 'a,
    ) -> Self {
        self.reestimate_batch_norm = Some(Box::new(passes));
        self
    }

    pub(super) fn reestimates_batch_norm(&self) -> bool {
        self.reestimate_batch_norm.is_some()
    }

    /// Measures the model along the line: `first` is at `alpha = 1`, `second` at 0. `measure` runs
    /// the model, in evaluation mode, over the same examples at every position. The model's weights
    /// are restored at the end, also after an error.
    ///
    /// # Errors
    ///
    /// If the weights are not those of this model; the message lists every difference. If `measure`
    /// counts no example, or a different number than before. Any error of the closures.
    pub fn curve(
        &mut self,
        first: &NamedTensors,
        second: &NamedTensors,
        mut measure: impl FnMut() -> Result<Risk>,
    ) -> Result<RiskCurve> {
        let params = self.params;
        params.restore_after(|| {
            // Both ends, and the model's own weights, are checked before anything is measured.
            params.load(first).map_err(|error| error.context("first"))?;
            params.load(second).map_err(|error| error.context("second"))?;
            let (first, second) = (params.place(first)?, params.place(second)?);
            let mut examples = None;
            let mut point = |alpha: f64| -> Result<RiskPoint> {
                params.load(&interpolate(&first, &second, alpha)?)?;
                if let Some(passes) = &mut self.reestimate_batch_norm {
                    passes()?;
                }
                let risk = measure()?;
                let before = *examples.get_or_insert(risk.examples());
                if risk.examples() == 0 || risk.examples() != before {
                    return Err(Error::Argument(format!(
                        "measure: expected the same examples at every alpha, at least 1, got {} at \
                         alpha {alpha} after {before}",
                        risk.examples()
                    )));
                }
                Ok(RiskPoint { alpha, error: risk.error(), loss: risk.loss() })
            };
            let mut points =
                self.grid.alphas.iter().map(|&alpha| point(alpha)).collect::<Result<Vec<_>>>()?;
            for _ in 0..self.grid.refinements {
                let top = RiskCurve::new(points.clone())?.risks().by_chord().alpha;
                let place = points.iter().position(|point| point.alpha == top).unwrap_or(0);
                // From the top, so that the lower indices stay valid.
                for place in [place + 1, place] {
                    let neighbors =
                        place.checked_sub(1).zip((place < points.len()).then_some(place));
                    let Some((below, above)) = neighbors else { continue };
                    let (low, high) = (points[below].alpha, points[above].alpha);
                    let middle = f64::midpoint(low, high);
                    if low < middle && middle < high {
                        points.insert(above, point(middle)?);
                    }
                }
            }
            Ok(RiskCurve::new(points)?)
        })
    }
}

impl fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("params", &self.params)
            .field("grid", &self.grid)
            .field("reestimates_batch_norm", &self.reestimates_batch_norm())
            .finish()
    }
}

/// Measures a model along the line between two sets of weights, on the default grid and with
/// running statistics interpolated. See [`Line`] for more options.
///
/// # Errors
///
/// As for [`Line::curve`].
///
/// # Examples
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, VarBuilder, VarMap, linear};
/// use data_diet_candle::geometry::barrier;
/// use data_diet_candle::geometry::barrier::Risk;
/// use data_diet_candle::weights::Params;
///
/// let variables = VarMap::new();
/// let model = linear(2, 2, VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
/// let params = Params::from_varmap(&variables)?;
/// let one = params.copy()?;
/// // ... training ...
/// let other = params.copy()?;
///
/// let images = Tensor::new(&[[1.0_f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let curve = barrier::curve(&params, &one, &other, || {
///     let mut risk = Risk::default();
///     risk.add(&model.forward(&images)?, &[0_u32, 1])?;
///     Ok(risk)
/// })?;
/// assert_eq!(curve.errors().by_chord().height, 0.0);
/// # Ok::<(), data_diet_candle::Error>(())
/// ```
pub fn curve(
    params: &Params,
    first: &NamedTensors,
    second: &NamedTensors,
    measure: impl FnMut() -> Result<Risk>,
) -> Result<RiskCurve> {
    Line::new(params).curve(first, second, measure)
}
