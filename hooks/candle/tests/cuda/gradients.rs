//! Gradient norms and tangent kernels are the CPU's.

use candle_core::{DType, Device, Result, Tensor};
use data_diet_candle::gradients::{ExampleNorms, GradientNorms};
use data_diet_candle::nn::{
    BatchNorm, Conv2d, Conv2dConfig, Linear, Module, ModuleT, VarBuilder, VarMap, batch_norm,
    conv2d, linear,
};
use data_diet_candle::ntk;
use data_diet_candle::weights::Params;

use crate::numbers::Numbers;
use crate::place::Place;

everywhere!(gradient_norms, tangent_kernels);

const TOLERANCE: f64 = 1e-4;
const CLASSES: usize = 4;

/// A convolution with a stride, batch normalization and two fully connected layers.
struct Network {
    weights: VarMap,
    conv: Conv2d,
    norm: BatchNorm,
    layers: [Linear; 2],
}

impl Network {
    /// With the same weights on every device.
    fn new(device: &Device) -> Self {
        let weights = VarMap::new();
        let builder = VarBuilder::from_varmap(&weights, DType::F32, device);
        let config = Conv2dConfig { stride: 2, padding: 1, ..Conv2dConfig::default() };
        let network = Self {
            conv: conv2d(3, 6, 3, config, builder.pp("conv")).unwrap(),
            norm: batch_norm(6, 1e-5, builder.pp("norm")).unwrap(),
            layers: [
                linear(6 * 4 * 4, 20, builder.pp("first")).unwrap(),
                linear(20, CLASSES, builder.pp("second")).unwrap(),
            ],
            weights,
        };
        let mut numbers = Numbers::new(43);
        let params = Params::from_varmap(&network.weights).unwrap();
        for (name, variable) in params.names().zip(params.variables()) {
            let values = numbers.tensor(0.4, variable.dims(), &Device::Cpu);
            // A variance is positive, and so are scales as a rule.
            let values = if name.starts_with("norm") && !name.ends_with("bias") {
                values.affine(1.0, 1.0).unwrap()
            } else {
                values
            };
            variable.set(&values.to_device(device).unwrap()).unwrap();
        }
        network
    }

    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let hidden = self.norm.forward_t(&self.conv.forward(images)?, false)?.relu()?;
        let hidden = self.layers[0].forward(&hidden.flatten_from(1)?)?.tanh()?;
        self.layers[1].forward(&hidden)
    }
}

fn images(examples: usize, device: &Device) -> Tensor {
    Numbers::new(47).tensor(1.0, &[examples, 3, 8, 8], device)
}

fn gradient_norms(place: &Place) {
    let examples = place.times(128, 10);
    let labels: Vec<u32> = (0..examples as u32).map(|row| row % CLASSES as u32).collect();
    let norms = |device: &Device, per_example: bool| -> ExampleNorms {
        let network = Network::new(device);
        let norms = GradientNorms::new(&network.weights).unwrap();
        let mut norms = if per_example { norms.per_example() } else { norms };
        let images = images(examples, device);
        norms.cross_entropy(&images, &labels, |images| network.forward(images)).unwrap()
    };
    let precision = reduced_precision();
    let expected = norms(&Device::Cpu, true);
    for per_example in [false, true] {
        let got = norms(&place.device, per_example);
        assert_eq!(got.report.is_batched(), !per_example);
        for (example, (got, expected)) in got.values.iter().zip(&expected.values).enumerate() {
            let (got, expected) = (f64::from(*got), f64::from(*expected));
            assert!(
                (got - expected).abs() <= TOLERANCE * expected,
                "example {example}: {got} instead of {expected}, one by one: {per_example}"
            );
        }
    }
    assert_eq!(reduced_precision(), precision);
}

fn tangent_kernels(place: &Place) {
    let examples = place.times(32, 5);
    let gram = |device: &Device, options: ntk::GramOptions| {
        let network = Network::new(device);
        let params = Params::from_varmap(&network.weights).unwrap();
        options.gram(&params, &images(examples, device), |x| network.forward(x)).unwrap()
    };
    let precision = reduced_precision();
    let expected = gram(&Device::Cpu, ntk::GramOptions::default().per_example());
    let (rows, values) = (expected.rows(), expected.values());
    for options in [ntk::GramOptions::default(), ntk::GramOptions::default().per_example()] {
        let got = gram(&place.device, options);
        for (at, (got, expected)) in got.values().iter().zip(values).enumerate() {
            let (row, column) = (at / rows, at % rows);
            let most = (values[row * rows + row] * values[column * rows + column]).sqrt();
            assert!(
                f64::from((got - expected).abs()) <= TOLERANCE * f64::from(most),
                "row {row}, column {column}: {got} instead of {expected}, {options:?}"
            );
        }
        assert!(expected.distance(&got).unwrap() <= TOLERANCE);
    }
    assert_eq!(reduced_precision(), precision);
}

/// Which products candle's CUDA backend computes in less than their own precision, process-wide: all
/// off as candle starts, and nobody but the user's program switches them.
fn reduced_precision() -> [bool; 3] {
    use candle_core::cuda::{
        gemm_reduced_precision_bf16, gemm_reduced_precision_f16, gemm_reduced_precision_f32,
    };
    let switches =
        [gemm_reduced_precision_f32(), gemm_reduced_precision_f16(), gemm_reduced_precision_bf16()];
    if cfg!(feature = "cuda") {
        assert_eq!(switches, [false; 3]);
    }
    switches
}
