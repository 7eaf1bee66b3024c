//! The slow way: candle's own backward pass for one example at a time, in f64, and random weights.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::VarMap;
use proptest::test_runner::TestCaseError;

/// Uniform in -1 to 1, and the same for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn value(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The upper bits are the good ones.
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    pub(crate) fn tensor(&mut self, shape: &[usize], dtype: DType) -> Tensor {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| self.value()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
    }

    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        ((self.value() * 0.5 + 0.5) * f64::from(limit)) as u32 % limit
    }

    pub(crate) fn indices(&mut self, count: usize, limit: u32) -> Vec<u32> {
        (0..count).map(|_| self.below(limit)).collect()
    }
}

/// A map's variables in order of name.
pub(crate) fn named(map: &VarMap) -> Vec<(String, Var)> {
    let data = map.data().lock().unwrap();
    let mut vars: Vec<_> = data.iter().map(|(name, var)| (name.clone(), var.clone())).collect();
    vars.sort_by(|(a, _), (b, _)| a.cmp(b));
    vars
}

/// Gives every variable values that are far from those that layers start with.
pub(crate) fn randomize(map: &VarMap, seed: u64) {
    let mut random = Random(seed);
    for (name, var) in named(map) {
        let inputs = var.elem_count() / var.dim(0).unwrap_or(1).max(1);
        let scale = (2.0 / inputs as f64).sqrt().min(1.0);
        let values = (random.tensor(var.dims(), DType::F64) * scale).unwrap();
        let values = match name.rsplit('.').next() {
            Some("running_var") => (values.abs().unwrap() + 0.5).unwrap(),
            _ => values,
        };
        // What f32 can hold, so that models of both kinds have the same weights.
        let values = values.to_dtype(DType::F32).unwrap().to_dtype(var.dtype()).unwrap();
        var.set(&values).unwrap();
    }
}

/// Cross-entropy of class indices, each row's own.
pub(crate) fn cross_entropies(logits: &Tensor, labels: &[u32]) -> Result<Tensor> {
    let labels = Tensor::new(labels, logits.device())?.unsqueeze(1)?;
    candle_nn::ops::log_softmax(logits, D::Minus1)?.gather(&labels, 1)?.squeeze(1)?.neg()
}

/// The norm of the gradient of every row's own loss in all variables that it reaches.
pub(crate) fn per_example(
    map: &VarMap,
    inputs: &Tensor,
    loss: impl Fn(&Tensor, usize) -> Result<Tensor>,
) -> Vec<f64> {
    let vars = named(map);
    let norm = |row: usize| {
        let loss = loss(&inputs.narrow(0, row, 1).unwrap(), row).unwrap();
        let gradients = loss.sum_all().unwrap().backward().unwrap();
        let squares = vars.iter().filter_map(|(_, var)| gradients.get(var)).map(|gradient| {
            let values = gradient.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
            values.to_vec1::<f64>().unwrap().iter().map(|value| value * value).sum::<f64>()
        });
        squares.sum::<f64>().sqrt()
    };
    (0..inputs.dim(0).unwrap()).map(norm).collect()
}

/// The largest difference relative to the expected value; differences around zero do not count.
pub(crate) fn relative_error(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let errors = got.iter().zip(expected).map(|(&got, &expected)| {
        let difference = (f64::from(got) - expected).abs();
        assert!(!difference.is_nan(), "{got} for {expected}");
        if difference < 1e-9 { 0.0 } else { difference / expected }
    });
    errors.fold(0.0, f64::max)
}

pub(crate) fn close(
    got: &[f32],
    expected: &[f64],
    what: &str,
) -> std::result::Result<(), TestCaseError> {
    let error = relative_error(got, expected);
    proptest::prop_assert!(error < 1e-5, "{what}: {error:e}\ngot {got:?}\nfor {expected:?}");
    Ok(())
}
