//! Kernels against brute force, closed forms, and what holds for all of them.

use candle_core::{DType, Device, IndexOp, Tensor, Var};
use data_diet_candle::ntk::{Gram, GramOptions, gram};
use data_diet_candle::weights::{NamedTensors, Params};
use proptest::prelude::*;

use crate::models::{Convolutional, Perceptron, numbers, tensor};

/// Every row of the Jacobian by a backward pass of its own through the whole batch, and all inner products
/// in double precision.
pub(crate) fn brute_force(
    params: &Params,
    inputs: &Tensor,
    forward: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Vec<f64> {
    let logits = forward(inputs).unwrap();
    let (examples, classes) = logits.dims2().unwrap();
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for example in 0..examples {
        for class in 0..classes {
            let gradients = logits.i((example, class)).unwrap().backward().unwrap();
            let of = |variable: &Var| match gradients.get(variable) {
                Some(gradient) => {
                    let gradient = gradient.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
                    gradient.to_vec1::<f64>().unwrap()
                }
                None => vec![0.0; variable.elem_count()],
            };
            rows.push(params.variables().flat_map(of).collect());
        }
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    rows.iter().flat_map(|a| rows.iter().map(move |b| dot(a, b))).collect()
}

/// Whether every entry agrees, in units of what the entry could be at most.
pub(crate) fn assert_close(gram: &Gram, expected: &[f64], tolerance: f64) {
    let rows = gram.rows();
    assert_eq!(expected.len(), rows * rows);
    for row in 0..rows {
        for column in 0..rows {
            let most = (expected[row * rows + row] * expected[column * rows + column]).sqrt();
            let (got, expected) =
                (f64::from(gram.values()[row * rows + column]), expected[row * rows + column]);
            assert!(
                (got - expected).abs() <= tolerance * most,
                "row {row}, column {column}: {got} instead of {expected}"
            );
        }
    }
}

#[derive(Clone, Debug)]
struct Case {
    widths: Vec<usize>,
    examples: usize,
    seed: u64,
    /// How many gradients fit into the memory that is allowed, from 2.
    fit: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    let widths = prop::collection::vec(1..7_usize, 2..5);
    (widths, 2..5_usize, 0..1000_u64, 2..16_usize).prop_map(|(widths, examples, seed, fit)| Case {
        widths,
        examples,
        seed,
        fit,
    })
}

impl Case {
    fn model(&self) -> Perceptron {
        Perceptron::new(&self.widths, DType::F32, self.seed)
    }

    fn inputs(&self) -> Tensor {
        tensor(self.seed + 1, &[self.examples, self.widths[0]], DType::F32)
    }

    fn gram(&self, inputs: &Tensor) -> Gram {
        let (model, parameters) = (self.model(), self.widths.windows(2));
        let parameters: usize = parameters.map(|pair| pair[0] * pair[1] + pair[1]).sum();
        let options = GramOptions::default().max_bytes(self.fit * parameters * 4);
        options.gram(&model.params(), inputs, |x| model.forward(x)).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn is_the_product_of_all_jacobian_rows_whatever_the_memory(case in cases()) {
        let (model, inputs) = (case.model(), case.inputs());
        let expected = brute_force(&model.params(), &inputs, |x| model.forward(x));
        assert_close(&case.gram(&inputs), &expected, 1e-6);
    }

    #[test]
    fn is_symmetric_and_positive_semidefinite(case in cases(), seed in 0..1000_u64) {
        let gram = case.gram(&case.inputs());
        let (rows, values) = (gram.rows(), gram.values());
        let vector = numbers(seed, rows);
        let (mut form, mut trace) = (0.0, 0.0);
        for i in 0..rows {
            trace += f64::from(values[i * rows + i]);
            for j in 0..rows {
                prop_assert_eq!(values[i * rows + j].to_bits(), values[j * rows + i].to_bits());
                form += vector[i] * f64::from(values[i * rows + j]) * vector[j];
            }
        }
        prop_assert!(form >= -1e-6 * trace * rows as f64, "{form}");
    }

    #[test]
    fn permuting_the_examples_permutes_the_kernel(case in cases(), turn in 1..4_u32) {
        let inputs = case.inputs();
        let examples = case.examples as u32;
        let order: Vec<u32> = (0..examples).map(|i| (i + turn) % examples).collect();
        let places = Tensor::new(order.as_slice(), &Device::Cpu).unwrap();
        let (plain, turned) =
            (case.gram(&inputs), case.gram(&inputs.index_select(&places, 0).unwrap()));
        let (rows, classes) = (plain.rows(), plain.classes());
        let from = |row: usize| order[row / classes] as usize * classes + row % classes;
        let expected: Vec<f64> = (0..rows * rows)
            .map(|place| plain.values()[from(place / rows) * rows + from(place % rows)].into())
            .collect();
        assert_close(&turned, &expected, 1e-6);
    }
}

#[test]
fn rows_are_example_by_example_and_logit_by_logit() {
    // Logits w.x and (w.x)^2 / 2, whose gradients are x and (w.x) x.
    let w = Var::new(&[0.5_f64, -2.0], &Device::Cpu).unwrap();
    let params = Params::new([("w".to_owned(), w.clone())]).unwrap();
    let inputs = [[1.0, 3.0], [-1.0, 0.25], [2.0, 0.5]];
    let forward = |x: &Tensor| {
        let product = x.matmul(&w.reshape((2, 1))?)?;
        Tensor::cat(&[&product, &(product.sqr()? / 2.0)?], 1)
    };
    let gram = gram(&params, &Tensor::new(&inputs, &Device::Cpu).unwrap(), forward).unwrap();
    assert_eq!((gram.examples(), gram.classes(), gram.rows()), (3, 2, 6));
    let dot = |a: &[f64; 2], b: &[f64; 2]| a[0] * b[0] + a[1] * b[1];
    let slope = |row: usize| match row % 2 {
        0 => 1.0,
        _ => dot(&inputs[row / 2], &[0.5, -2.0]),
    };
    for row in 0..6 {
        for column in 0..6 {
            let expected = slope(row) * slope(column) * dot(&inputs[row / 2], &inputs[column / 2]);
            assert_eq!(f64::from(gram.values()[row * 6 + column]), expected, "{row}, {column}");
        }
    }
}

#[test]
fn of_a_convolutional_network_with_batch_normalization() {
    let model = Convolutional::new(5);
    let params = model.params();
    let before = params.copy().unwrap();
    let inputs = tensor(6, &[4, 2, 6, 6], DType::F32);
    let expected = brute_force(&params, &inputs, |x| model.forward(x));
    let whole = gram(&params, &inputs, |x| model.forward(x)).unwrap();
    assert_close(&whole, &expected, 1e-6);
    assert_eq!(whole.backward_passes(), 4 * Convolutional::CLASSES);
    // Running statistics are not trained, and asking for them or not makes no difference.
    let trained = model.params().only(|name| !name.contains("running")).unwrap();
    assert_eq!(gram(&trained, &inputs, |x| model.forward(x)).unwrap().values(), whole.values());
    let after = params.copy().unwrap();
    let same = |a: &NamedTensors, b: &NamedTensors| {
        a.iter().all(|(name, tensor)| {
            let read = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            read(tensor) == read(&b[name])
        })
    };
    assert!(same(&before, &after), "measuring changes nothing");
}

#[test]
fn of_layers_wider_than_one_segment() {
    // 300 * 300 parameters of a layer are more than are added up at once.
    let model = Perceptron::new(&[300, 300, 2], DType::F32, 3);
    let inputs = (tensor(4, &[3, 300], DType::F32) * 0.02).unwrap();
    let expected = brute_force(&model.params(), &inputs, |x| model.forward(x));
    assert_close(&gram(&model.params(), &inputs, |x| model.forward(x)).unwrap(), &expected, 1e-6);
}

#[test]
fn less_memory_costs_the_documented_number_of_passes() {
    let model = Perceptron::new(&[3, 4, 2], DType::F32, 1);
    let inputs = tensor(2, &[6, 3], DType::F32);
    let row_bytes = (3 * 4 + 4 + 4 * 2 + 2) * 4;
    let passes = |rows: usize| {
        let options = GramOptions::default().max_bytes(rows * row_bytes);
        options.gram(&model.params(), &inputs, |x| model.forward(x)).unwrap().backward_passes()
    };
    assert_eq!(passes(12), 12);
    // Four held and one passing by: 12 + 8 + 4.
    assert_eq!(passes(5), 24);
    // One at a time: 12 + 11 + ... + 1.
    assert_eq!(passes(2), 78);
}

#[test]
fn other_precisions() {
    let inputs = tensor(8, &[3, 4], DType::F64);
    let model = Perceptron::new(&[4, 6, 3], DType::F64, 7);
    let expected = brute_force(&model.params(), &inputs, |x| model.forward(x));
    let wide = gram(&model.params(), &inputs, |x| model.forward(x)).unwrap();
    assert_close(&wide, &expected, 1e-7);
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F16, 1e-2), (DType::BF16, 6e-2)] {
        let model = Perceptron::new(&[4, 6, 3], dtype, 7);
        let inputs = inputs.to_dtype(dtype).unwrap();
        let gram = gram(&model.params(), &inputs, |x| model.forward(x)).unwrap();
        assert_close(&gram, &expected, tolerance);
    }
}

#[test]
fn distance_sees_no_positive_factor() {
    let model = Perceptron::new(&[4, 3], DType::F32, 9);
    let inputs = tensor(10, &[5, 4], DType::F32);
    let plain = gram(&model.params(), &inputs, |x| model.forward(x)).unwrap();
    let doubled = gram(&model.params(), &inputs, |x| model.forward(x)? * 2.0).unwrap();
    assert_eq!(plain.distance(&doubled).unwrap(), 0.0);
    let other = gram(&model.params(), &(&inputs * 2.0).unwrap(), |x| model.forward(x)?.tanh());
    let other = other.unwrap();
    let there = plain.distance(&other).unwrap();
    assert!(there > 0.01 && there <= 1.0);
    assert_eq!(there, other.distance(&plain).unwrap());
}
