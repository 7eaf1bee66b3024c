//! How one parameter contributes to the gradient of each example, and the sums of squares of these
//! gradients.
//!
//! The gradient of a weight matrix is a sum of outer products over positions. Its norm follows from
//! the two factors. With a single position it is the product of their norms. Otherwise either the
//! gradient is formed, `L R^T`, or the Gram matrices of the positions are,
//! `sum((L^T L) * (R^T R))`, whichever takes fewer operations. The gradient of a weight that is
//! used several times is the sum over its uses, that is, over all their positions.

use candle_core::{DType, Result, Tensor};

use crate::gradients::matmul::batched_product;
use crate::gradients::patches::Geometry;
use crate::gradients::squares::{product_dtype, sum_dtype, sums_of_squares};

/// What one use of a parameter contributes to the gradient of each example.
#[derive(Clone, Debug)]
pub(crate) enum Contribution {
    /// The example gradients themselves, `[batch, ...]`.
    Gradient(Tensor),
    /// Outer products of `left` and `right`, summed over positions, separately for each of
    /// `groups`.
    Outer { left: Factor, right: Factor, groups: usize },
}

/// One factor of a sum of outer products, for every example.
#[derive(Clone, Debug)]
pub(crate) enum Factor {
    /// `[batch, positions, features]`.
    Rows(Tensor),
    /// `[images, features, positions]`, with one or more images per example.
    Maps(Tensor),
    /// The patches of images `[images, channels, height, width]`.
    Patches(Tensor, Geometry),
    /// One-hot rows, by their index: `[batch, positions]`.
    OneHot(Tensor),
}

/// The largest intermediate on the host that still fits in the caches.
pub(crate) const CACHED_BYTES: usize = 1 << 20;

/// One example needs more memory than is allowed.
#[derive(Debug)]
pub(crate) struct MemoryLimitExceeded {
    pub(crate) bytes: usize,
}

type BoundedResult = std::result::Result<Tensor, MemoryLimitExceeded>;

/// Returns the sum of squares of every example's gradient, `[batch]`, for the parameter whose uses
/// these are. Fails with [`MemoryLimitExceeded`] if one example needs more than `max_bytes`.
pub(crate) fn per_example_squares(
    uses: &[Contribution],
    parameter: &Tensor,
    batch: usize,
    max_bytes: usize,
) -> Result<BoundedResult> {
    let mut gradients: Option<Tensor> = None;
    let mut outer = Vec::new();
    for used in uses {
        match used {
            Contribution::Gradient(gradient) => {
                let gradient = gradient.reshape((batch, ()))?.to_dtype(product_dtype(gradient))?;
                gradients = Some(match gradients {
                    None => gradient,
                    Some(sum) => (sum + gradient)?,
                });
            }
            Contribution::Outer { left, right, groups } => {
                outer.push(OuterProducts { left, right, groups: *groups });
            }
        }
    }
    match (gradients, outer.as_slice()) {
        (Some(gradients), []) => sums_of_squares(&gradients).map(Ok),
        (None, [tokens]) if matches!(tokens.left, Factor::OneHot(_)) => {
            embedding_squares(tokens, batch, max_bytes)
        }
        (gradients, outer) => Products { gradients, outer, parameter, batch }.squares(max_bytes),
    }
}

/// Returns the gradients themselves, `[count, values]`, of `count` examples from `start` on, for
/// the parameter whose uses these are.
pub(crate) fn per_example_gradients(
    uses: &[Contribution],
    parameter: &Tensor,
    batch: usize,
    start: usize,
    count: usize,
) -> Result<Tensor> {
    let mut products = Products { gradients: None, outer: &[], parameter, batch };
    let mut outer = Vec::new();
    for used in uses {
        match used {
            Contribution::Gradient(gradient) => {
                let gradient = gradient.reshape((batch, ()))?.to_dtype(product_dtype(gradient))?;
                products.gradients = Some(match products.gradients {
                    None => gradient,
                    Some(sum) => (sum + gradient)?,
                });
            }
            Contribution::Outer { left, right, groups } => {
                outer.push(OuterProducts { left, right, groups: *groups });
            }
        }
    }
    if outer.is_empty() && products.gradients.is_none() {
        let shape = (count, parameter.elem_count());
        return Tensor::zeros(shape, product_dtype(parameter), parameter.device());
    }
    products.outer = &outer;
    products.formed(start, count)
}

struct OuterProducts<'a> {
    left: &'a Factor,
    right: &'a Factor,
    groups: usize,
}

struct Products<'a> {
    gradients: Option<Tensor>,
    outer: &'a [OuterProducts<'a>],
    parameter: &'a Tensor,
    batch: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Plan {
    /// Every use has one position: a product of norms.
    Norms,
    /// `sum((L^T L) * (R^T R))` over positions.
    Gram,
    /// `L R^T`.
    Form,
}

impl Products<'_> {
    fn squares(&self, max_bytes: usize) -> Result<BoundedResult> {
        let (plan, bytes) = self.plan(max_bytes)?;
        if bytes > max_bytes {
            return Ok(Err(MemoryLimitExceeded { bytes }));
        }
        let budget =
            if self.parameter.device().is_cpu() { max_bytes.min(CACHED_BYTES) } else { max_bytes };
        let piece = if plan == Plan::Norms { self.batch } else { (budget / bytes.max(1)).max(1) };
        let mut squares = Vec::new();
        for start in (0..self.batch).step_by(piece) {
            let count = piece.min(self.batch - start);
            squares.push(match plan {
                Plan::Norms => self.product_of_norms()?,
                Plan::Gram => self.gram(start, count)?,
                Plan::Form => sums_of_squares(&self.formed(start, count)?)?,
            });
        }
        if let [squares] = squares.as_slice() {
            return Ok(Ok(squares.clone()));
        }
        Tensor::cat(&squares, 0).map(Ok)
    }

    /// Returns the cheapest method, and the memory that it needs per example.
    fn plan(&self, max_bytes: usize) -> Result<(Plan, usize)> {
        let values = self.parameter.elem_count();
        let size = if self.parameter.dtype() == DType::F64 { 8 } else { 4 };
        let mut positions = 0;
        let mut factors = 0;
        for outer in self.outer {
            let outer_positions = outer.left.positions(self.batch)?;
            positions += outer_positions;
            factors += outer.left.copied(self.batch)? + outer.right.copied(self.batch)?;
        }
        let form = (Plan::Form, size * (factors + values * self.outer.len().min(2)));
        let first = &self.outer[0];
        if !self.can_concatenate() {
            return Ok(form);
        }
        if self.outer.len() == 1 && positions == 1 && first.groups == 1 {
            return Ok((Plan::Norms, 0));
        }
        let features = first.left.features()? + first.right.features()?;
        let gram_bytes =
            8 * (2 * positions * positions * first.groups + positions * features) + size * factors;
        let gram = (Plan::Gram, gram_bytes);
        // Gram matrices cancel where a gradient is small compared with its terms, so they are
        // computed in f64. Metal lacks f64, and on most devices except the host it is far slower.
        let device = self.parameter.device();
        if device.is_metal() {
            return Ok(form);
        }
        let gram_cost = 2 * positions * positions * features;
        // A formed gradient is also written and read.
        let form_cost = (positions + 4) * values;
        let prefer_gram = device.is_cpu() && gram_cost < form_cost;
        Ok(match (prefer_gram, gram.1 <= max_bytes, form.1 <= max_bytes) {
            (true, true, _) | (_, true, false) => gram,
            _ => form,
        })
    }

    /// Returns whether the positions of all uses can be concatenated.
    fn can_concatenate(&self) -> bool {
        self.gradients.is_none()
            && self.outer.iter().all(|outer| {
                outer.groups == self.outer[0].groups && !matches!(outer.left, Factor::OneHot(_))
            })
    }

    fn product_of_norms(&self) -> Result<Tensor> {
        let outer = &self.outer[0];
        let squares = |factor: &Factor| match factor {
            Factor::Rows(rows) => sums_of_squares(&rows.reshape((self.batch, ()))?),
            factor => sums_of_squares(&factor.columns(0, self.batch, self.batch, 1)?),
        };
        squares(outer.left)? * squares(outer.right)?
    }

    fn gram(&self, start: usize, count: usize) -> Result<Tensor> {
        let groups = self.outer[0].groups;
        let gram_of = |factors: &mut dyn Iterator<Item = &Factor>| -> Result<Tensor> {
            let rows = factors.map(|factor| {
                // f32 is exact for the values of a half-precision layer, and converting a tensor is
                // far faster before it is transposed.
                if let (Factor::Rows(rows), 1) = (factor, groups) {
                    return rows.narrow(0, start, count)?.to_dtype(DType::F64);
                }
                let columns = factor.columns(start, count, self.batch, groups)?;
                columns.to_dtype(DType::F64)?.t()
            });
            let rows = Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 1)?;
            rows.matmul(&rows.t()?)
        };
        let left = gram_of(&mut self.outer.iter().map(|outer| outer.left))?;
        let product = (left * gram_of(&mut self.outer.iter().map(|outer| outer.right))?)?;
        // Rounding may make a zero gradient negative; NaN stays NaN.
        let sums = product.reshape((count, ()))?.sum(1)?;
        sums.lt(0.0)?.where_cond(&sums.zeros_like()?, &sums)
    }

    /// Returns the gradients of examples, `[count, values]`.
    fn formed(&self, start: usize, count: usize) -> Result<Tensor> {
        let mut sum = match &self.gradients {
            Some(gradients) => Some(gradients.narrow(0, start, count)?),
            None => None,
        };
        if self.outer.len() > 1 && self.can_concatenate() {
            // One product over the positions of all uses.
            let groups = self.outer[0].groups;
            let (left, right): (Vec<_>, Vec<_>) = self
                .outer
                .iter()
                .map(|outer| {
                    let left = outer.left.columns(start, count, self.batch, groups)?;
                    Ok((left, outer.right.columns(start, count, self.batch, groups)?))
                })
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .unzip();
            let gradients = Tensor::cat(&left, 2)?.matmul(&Tensor::cat(&right, 2)?.t()?)?;
            return gradients.reshape((count, ()));
        }
        for outer in self.outer {
            let right = outer.right.columns(start, count, self.batch, outer.groups)?;
            let gradient = if let Factor::OneHot(indices) = outer.left {
                let rows = self.parameter.dim(0)?;
                scatter_rows(&indices.narrow(0, start, count)?, &right, rows)?
            } else {
                let left = outer.left.columns(start, count, self.batch, outer.groups)?;
                batched_product(&left, &right.t()?)?
            };
            let gradient = gradient.reshape((count, ()))?;
            sum = Some(match sum {
                None => gradient,
                Some(sum) => (sum + gradient)?,
            });
        }
        sum.ok_or_else(|| candle_core::Error::Msg("a parameter without a use".to_owned()))
    }
}

impl Contribution {
    /// Returns the bytes computed from the output's gradient; a layer's input is held anyway.
    pub(crate) fn bytes(&self) -> usize {
        let made = match self {
            Self::Gradient(gradient) => gradient,
            Self::Outer { left: Factor::Rows(made) | Factor::Maps(made), .. }
            | Self::Outer { right: Factor::Rows(made) | Factor::Maps(made), .. } => made,
            Self::Outer { .. } => return 0,
        };
        made.elem_count() * made.dtype().size_in_bytes()
    }
}

impl Factor {
    /// Returns the number of positions of an example.
    pub(crate) fn positions(&self, batch: usize) -> Result<usize> {
        Ok(match self {
            Self::Rows(rows) => rows.dim(1)?,
            Self::Maps(maps) => maps.dim(2)? * (maps.dim(0)? / batch),
            Self::Patches(images, geometry) => geometry.positions() * (images.dim(0)? / batch),
            Self::OneHot(indices) => indices.dim(1)?,
        })
    }

    /// Returns the bytes of the factor as it is held.
    pub(crate) fn bytes(&self) -> usize {
        let (Self::Rows(held) | Self::Maps(held) | Self::Patches(held, _) | Self::OneHot(held)) =
            self;
        held.elem_count() * held.dtype().size_in_bytes()
    }

    /// Returns the number of features of all groups together.
    pub(crate) fn features(&self) -> Result<usize> {
        match self {
            Self::Rows(rows) => rows.dim(2),
            Self::Maps(maps) => maps.dim(1),
            Self::Patches(_, geometry) => Ok(geometry.patch()),
            Self::OneHot(_) => Ok(0),
        }
    }

    /// Returns the number of values of an example that must be copied before a product.
    fn copied(&self, batch: usize) -> Result<usize> {
        match self {
            Self::Patches(..) => Ok(self.positions(batch)? * self.features()?),
            Self::Maps(maps) if maps.dim(0)? > batch => {
                Ok(self.positions(batch)? * self.features()?)
            }
            _ => Ok(0),
        }
    }

    /// Returns `[count * groups, features / groups, positions]` of some examples, in f32 at least.
    pub(crate) fn columns(
        &self,
        start: usize,
        count: usize,
        batch: usize,
        groups: usize,
    ) -> Result<Tensor> {
        let by_group = |maps: Tensor, images: usize| -> Result<Tensor> {
            let (_, features, positions) = maps.dims3()?;
            let grouped = (count, images, groups, features / groups, positions);
            let columns = (count * groups, features / groups, images * positions);
            if images == 1 {
                return maps.reshape(columns);
            }
            maps.reshape(grouped)?.permute((0, 2, 3, 1, 4))?.reshape(columns)
        };
        match self {
            Self::Rows(rows) => {
                let rows = rows.narrow(0, start, count)?;
                rows.to_dtype(product_dtype(&rows))?.transpose(1, 2)
            }
            Self::Maps(maps) => {
                let images = maps.dim(0)? / batch;
                let maps = maps.narrow(0, start * images, count * images)?;
                by_group(maps.to_dtype(product_dtype(&maps))?, images)
            }
            Self::Patches(pixels, geometry) => {
                let images = pixels.dim(0)? / batch;
                let pixels = pixels.narrow(0, start * images, count * images)?;
                let pixels = pixels.to_dtype(product_dtype(&pixels))?;
                by_group(geometry.unfold(&pixels)?, images)
            }
            Self::OneHot(_) => candle_core::bail!("one-hot rows are scattered, not multiplied"),
        }
    }
}

/// Computes the sums of squares of embedding gradients without forming them. The gradient's row of
/// a token is the sum of the rows of `right` at the token's positions; each position counts for its
/// share.
fn embedding_squares(
    outer: &OuterProducts<'_>,
    batch: usize,
    max_bytes: usize,
) -> Result<BoundedResult> {
    let Factor::OneHot(indices) = outer.left else { candle_core::bail!("expected one-hot rows") };
    let positions = indices.dim(1)?;
    let bytes = 8 * positions * (positions + outer.right.features()?);
    if bytes > max_bytes {
        return Ok(Err(MemoryLimitExceeded { bytes }));
    }
    let piece = (max_bytes / bytes.max(1)).clamp(1, batch);
    let mut squares = Vec::new();
    for start in (0..batch).step_by(piece) {
        let count = piece.min(batch - start);
        let rows = outer.right.columns(start, count, batch, 1)?.transpose(1, 2)?.contiguous()?;
        let indices = indices.narrow(0, start, count)?;
        let same = indices.unsqueeze(2)?.broadcast_eq(&indices.unsqueeze(1)?)?;
        let same = same.to_dtype(rows.dtype())?;
        let times = same.sum(2)?.to_dtype(sum_dtype(&rows))?;
        let token_rows = sums_of_squares(&same.matmul(&rows)?.flatten_to(1)?)?;
        squares.push((token_rows.reshape((count, positions))? / times)?.sum(1)?);
    }
    Tensor::cat(&squares, 0).map(Ok)
}

/// Returns `[count * rows, features]`: the features of every position, added to the row of its index.
fn scatter_rows(indices: &Tensor, columns: &Tensor, rows: usize) -> Result<Tensor> {
    let (count, features, positions) = columns.dims3()?;
    let device = columns.device();
    let values = columns.transpose(1, 2)?.reshape((count * positions, features))?;
    let offsets = Tensor::arange(0, count as i64, device)?.affine(rows as f64, 0.0)?;
    let indices = indices.to_dtype(DType::I64)?.broadcast_add(&offsets.unsqueeze(1)?)?;
    let zeros = Tensor::zeros((count * rows, features), values.dtype(), device)?;
    zeros.index_add(&indices.flatten_all()?.contiguous()?, &values, 0)
}
