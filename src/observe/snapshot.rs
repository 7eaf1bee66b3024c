//! The weights of a network at one step: named tensors on the host, validated on construction.

use half::{bf16, f16};

use crate::error::{Error, Result};

/// The weights of a network at one step, ordered by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    step: u64,
    epoch: u32,
    tensors: Vec<SnapshotTensor>,
}

/// One tensor of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotTensor {
    name: String,
    shape: Vec<usize>,
    values: TensorValues,
}

/// The elements of a tensor, row-major, in their own type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TensorValues {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 16-bit floats.
    F16(Vec<f16>),
    /// 16-bit floats with the exponent of `f32`.
    BF16(Vec<bf16>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// 64-bit integers.
    I64(Vec<i64>),
    /// 32-bit integers.
    I32(Vec<i32>),
    /// 16-bit integers.
    I16(Vec<i16>),
    /// 32-bit unsigned integers.
    U32(Vec<u32>),
    /// Bytes.
    U8(Vec<u8>),
}

impl Snapshot {
    /// Makes a snapshot of the weights after `step` updates and `epoch` epochs from tensors in any
    /// order.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if there is no tensor, or a name is
    /// empty or occurs twice.
    pub fn new(step: u64, epoch: u32, mut tensors: Vec<SnapshotTensor>) -> Result<Self> {
        if tensors.is_empty() {
            return Err(Error::invalid("snapshot: expected at least one tensor, got none"));
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        if tensors[0].name.is_empty() {
            return Err(Error::invalid("snapshot: expected a name for each tensor, got ``"));
        }
        if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            let name = &pair[0].name;
            return Err(Error::invalid(format!("snapshot: two tensors have the name `{name}`")));
        }
        Ok(Self { step, epoch, tensors })
    }

    /// Returns the number of optimizer updates already applied to the weights.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Returns the number of completed epochs.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Returns the tensors, ordered by name.
    #[must_use]
    pub fn tensors(&self) -> &[SnapshotTensor] {
        &self.tensors
    }

    /// Returns the tensors by value, ordered by name.
    #[must_use]
    pub fn into_tensors(self) -> Vec<SnapshotTensor> {
        self.tensors
    }

    /// Returns the size of all elements in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.values.bytes()).sum()
    }
}

impl SnapshotTensor {
    /// Makes a named tensor.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the number of elements does not
    /// match the shape.
    pub fn new(name: impl Into<String>, shape: Vec<usize>, values: TensorValues) -> Result<Self> {
        let name = name.into();
        let elements = shape.iter().try_fold(1_usize, |all, &length| all.checked_mul(length));
        if elements != Some(values.len()) {
            let got = values.len();
            return Err(Error::invalid(format!(
                "snapshot: expected the elements of `{name}` to fill {shape:?}, got {got}"
            )));
        }
        Ok(Self { name, shape, values })
    }

    /// Returns the tensor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the tensor's dimensions, outermost first; empty for a scalar.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the elements.
    #[must_use]
    pub fn values(&self) -> &TensorValues {
        &self.values
    }

    /// Returns the elements by value.
    #[must_use]
    pub fn into_values(self) -> TensorValues {
        self.values
    }
}

/// Evaluates one expression for the elements of any type.
macro_rules! of_each {
    ($values:expr, $elements:ident => $result:expr) => {
        match $values {
            TensorValues::F32($elements) => $result,
            TensorValues::F16($elements) => $result,
            TensorValues::BF16($elements) => $result,
            TensorValues::F64($elements) => $result,
            TensorValues::I64($elements) => $result,
            TensorValues::I32($elements) => $result,
            TensorValues::I16($elements) => $result,
            TensorValues::U32($elements) => $result,
            TensorValues::U8($elements) => $result,
        }
    };
}
impl TensorValues {
    /// Reads elements of the type named `dtype` (see [`dtype`](Self::dtype)) from little-endian
    /// bytes. Reuses the memory of `spare` if it holds elements of the same type.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an unsupported type, or if the
    /// bytes end within an element.
    pub fn from_le_bytes(dtype: &str, bytes: &[u8], spare: Option<Self>) -> Result<Self> {
        macro_rules! read {
            ($kind:ident, $element:ty) => {{
                const SIZE: usize = size_of::<$element>();
                let (elements, []) = bytes.as_chunks::<SIZE>() else {
                    let got = bytes.len();
                    return Err(Error::invalid(format!(
                        "bytes: expected whole elements of {dtype}, got {got} bytes"
                    )));
                };
                let mut values = match spare {
                    Some(Self::$kind(values)) => values,
                    _ => Vec::new(),
                };
                values.clear();
                values.extend(elements.iter().map(|&element| <$element>::from_le_bytes(element)));
                Self::$kind(values)
            }};
        }
        Ok(match dtype {
            "f32" => read!(F32, f32),
            "f16" => read!(F16, f16),
            "bf16" => read!(BF16, bf16),
            "f64" => read!(F64, f64),
            "i64" => read!(I64, i64),
            "i32" => read!(I32, i32),
            "i16" => read!(I16, i16),
            "u32" => read!(U32, u32),
            "u8" => read!(U8, u8),
            other => {
                return Err(Error::invalid(format!(
                    "dtype: expected one of a tensor's, got `{other}`"
                )));
            }
        })
    }

    /// Returns the number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        of_each!(self, elements => elements.len())
    }

    /// Returns whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the size of the elements in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        of_each!(self, elements => size_of_val(elements.as_slice()))
    }

    /// Reserves room for this many elements in all if that much memory is available: a vector that
    /// grows by doubling takes up to three times its length.
    pub(crate) fn try_reserve(&mut self, elements: usize) {
        let _ = of_each!(self, held => {
            held.try_reserve_exact(elements.saturating_sub(held.len())).is_ok()
        });
    }

    /// Returns the name of the element type, as in safetensors but in lower case: `f32`, `bf16`,
    /// `i64` and so on.
    #[must_use]
    pub fn dtype(&self) -> &'static str {
        match self {
            Self::F32(_) => "f32",
            Self::F16(_) => "f16",
            Self::BF16(_) => "bf16",
            Self::F64(_) => "f64",
            Self::I64(_) => "i64",
            Self::I32(_) => "i32",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::U8(_) => "u8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str) -> SnapshotTensor {
        SnapshotTensor::new(name, vec![2], TensorValues::F32(vec![0.0, 1.0])).unwrap()
    }

    #[test]
    fn tensors_are_ordered_by_name() {
        let snapshot =
            Snapshot::new(3, 1, vec![tensor("b"), tensor("a.10"), tensor("a.9")]).unwrap();
        let names: Vec<&str> = snapshot.tensors().iter().map(SnapshotTensor::name).collect();
        assert_eq!(names, ["a.10", "a.9", "b"]);
        assert_eq!((snapshot.step(), snapshot.epoch(), snapshot.bytes()), (3, 1, 24));
    }

    #[test]
    fn elements_come_back_from_their_bytes() {
        let nan = f32::from_bits(0x7f80_0001);
        let bytes: Vec<u8> =
            [1.5, -0.0, nan].iter().flat_map(|value| value.to_le_bytes()).collect();
        let spare = TensorValues::F32(Vec::with_capacity(100));
        for spare in [None, Some(spare), Some(TensorValues::U8(vec![1]))] {
            let TensorValues::F32(values) =
                TensorValues::from_le_bytes("f32", &bytes, spare).unwrap()
            else {
                panic!("another type")
            };
            let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
            assert_eq!(bits, [0x3fc0_0000, 0x8000_0000, 0x7f80_0001]);
        }
        for dtype in ["f16", "bf16", "f64", "i64", "i32", "i16", "u32", "u8"] {
            let values = TensorValues::from_le_bytes(dtype, &bytes[..8], None).unwrap();
            assert_eq!((values.dtype(), values.bytes()), (dtype, 8));
        }
        let message =
            |dtype, bytes| TensorValues::from_le_bytes(dtype, bytes, None).unwrap_err().to_string();
        assert_eq!(
            message("f32", &bytes[..7]),
            "bytes: expected whole elements of f32, got 7 bytes"
        );
        assert!(message("f8", &bytes).contains("got `f8`"));
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        let message = |tensors| Snapshot::new(0, 0, tensors).unwrap_err().to_string();
        assert_eq!(message(vec![]), "snapshot: expected at least one tensor, got none");
        assert!(message(vec![tensor("a"), tensor("a")]).contains("two tensors have the name `a`"));
        assert!(message(vec![tensor("")]).contains("expected a name"));
        let values = || TensorValues::U8(vec![0; 6]);
        SnapshotTensor::new("scalar", vec![], TensorValues::I64(vec![1])).unwrap();
        SnapshotTensor::new("empty", vec![0, 3], TensorValues::F64(vec![])).unwrap();
        for shape in [vec![5], vec![2, 2], vec![], vec![usize::MAX, 2]] {
            let error = SnapshotTensor::new("w", shape, values()).unwrap_err();
            assert!(error.to_string().contains("expected the elements of `w` to fill"), "{error}");
        }
    }
}
