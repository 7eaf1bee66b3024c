//! Values against candle's own to the bit; gradients against differences, and both ways to them
//! against each other.

use candle_core::Var;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Case {
    shape: [usize; 4],
    kernel: (usize, usize),
    stride: (usize, usize),
    values: Vec<f64>,
    weights: Vec<f64>,
}

impl Case {
    fn tensor(&self, dtype: DType) -> Tensor {
        let tensor = Tensor::from_slice(&self.values, &self.shape, &Device::Cpu).unwrap();
        tensor.to_dtype(dtype).unwrap()
    }

    fn pool(&self, kind: Kind) -> Pool {
        let [_, _, height, width] = self.shape;
        let windows = Windows { height, width, kernel: self.kernel, stride: self.stride };
        Pool { kind, windows }
    }

    fn weights_like(&self, output: &Tensor) -> Tensor {
        let weights = self.weights.iter().copied().cycle().take(output.elem_count());
        let weights = Tensor::from_vec(weights.collect::<Vec<f64>>(), output.shape(), &Device::Cpu);
        weights.unwrap().to_dtype(output.dtype()).unwrap()
    }

    /// The gradient of the weighted sum of the output.
    fn gradient(&self, kind: Kind, dtype: DType) -> Vec<f64> {
        let variable = Var::from_tensor(&self.tensor(dtype)).unwrap();
        let output = pooled(&variable, kind, self.kernel, self.stride).unwrap();
        let sum = (&output * self.weights_like(&output)).unwrap().sum_all().unwrap();
        numbers(sum.backward().unwrap().get(&variable).unwrap())
    }
}

#[allow(clippy::disallowed_methods, reason = "the test reads what it has computed on the host")]
fn numbers(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    tensor.to_vec1().unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u64> {
    numbers(tensor).into_iter().map(f64::to_bits).collect()
}

/// Images that windows need not divide, windows that overlap or leave gaps. `levels` distinct values
/// make ties; none makes all values distinct.
fn cases(levels: Option<u32>) -> impl Strategy<Value = Case> {
    let sizes = (1_usize..=2, 1_usize..=2, 1_usize..=7, 1_usize..=7);
    let kernels = ((1_usize..=3, 1_usize..=3), (1_usize..=4, 1_usize..=4), any::<bool>());
    (sizes, kernels, any::<u64>()).prop_map(move |(sizes, (kernel, stride, pairs), seed)| {
        let (images, channels, height, width) = sizes;
        let (kernel, stride) = if pairs { ((2, 2), (2, 2)) } else { (kernel, stride) };
        let shape = [images, channels, height.max(kernel.0), width.max(kernel.1)];
        let count = shape.iter().product::<usize>();
        let mut state = seed;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 33
        };
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_cached_key(|_| random());
        let values = order.iter().map(|&place| match levels {
            Some(levels) => f64::from(place as u32 % levels) - 1.0,
            None => place as f64 * 0.125 - 3.0,
        });
        let weights = (0..7).map(|_| random() as f64 / 1e9 - 1.0).collect();
        Case { shape, kernel, stride, values: values.collect(), weights }
    })
}

/// Differences of the weighted sum, which is linear around distinct values and in the mean.
fn differences(case: &Case, kind: Kind) -> Vec<f64> {
    let step = 1e-3;
    let sum = |case: &Case| {
        let output = pooled(&case.tensor(DType::F64), kind, case.kernel, case.stride).unwrap();
        numbers(&(&output * case.weights_like(&output)).unwrap()).iter().sum::<f64>()
    };
    let mut moved = case.clone();
    (0..case.values.len())
        .map(|at| {
            moved.values[at] = case.values[at] + step;
            let up = sum(&moved);
            moved.values[at] = case.values[at] - step;
            let down = sum(&moved);
            moved.values[at] = case.values[at];
            (up - down) / (2.0 * step)
        })
        .collect()
}

fn near(got: &[f64], expected: &[f64], tolerance: f64) -> bool {
    got.len() == expected.len()
        && got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() <= tolerance)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn values_are_candles_to_the_bit(case in cases(Some(3)), not_a_number in any::<u16>()) {
        let mut case = case;
        let place = usize::from(not_a_number) % (2 * case.values.len());
        if let Some(value) = case.values.get_mut(place) {
            *value = f64::NAN;
        }
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let images = case.tensor(dtype);
            // Contiguous, of another order, and starting elsewhere.
            let turned = images.transpose(0, 1).unwrap();
            let later = images.narrow(1, images.dim(1).unwrap() - 1, 1).unwrap();
            for images in [&images, &turned, &later] {
                let expected = images.max_pool2d_with_stride(case.kernel, case.stride).unwrap();
                let got = max_pool2d_with_stride(images, case.kernel, case.stride).unwrap();
                prop_assert_eq!(got.dims(), expected.dims());
                prop_assert_eq!(bits(&got), bits(&expected));
                let expected = images.avg_pool2d_with_stride(case.kernel, case.stride).unwrap();
                let got = avg_pool2d_with_stride(images, case.kernel, case.stride).unwrap();
                prop_assert_eq!(bits(&got), bits(&expected));
            }
        }
    }

    #[test]
    fn gradients_are_those_of_differences(case in cases(None)) {
        for kind in [Kind::Max, Kind::Mean] {
            let expected = differences(&case, kind);
            let wide = case.gradient(kind, DType::F64);
            prop_assert!(near(&wide, &expected, 1e-8), "{wide:?} for {expected:?}");
            prop_assert!(near(&case.gradient(kind, DType::F32), &expected, 1e-5));
            prop_assert!(near(&case.gradient(kind, DType::BF16), &expected, 0.1));
        }
    }

    /// By brute force: of several largest the first, row by row.
    #[test]
    fn ties_go_to_the_first(case in cases(Some(3))) {
        let windows = case.pool(Kind::Max).windows;
        let weights = case.weights.iter().copied().cycle();
        let mut weights = weights.take(case.shape[0] * case.shape[1] * windows.count());
        let mut expected = vec![0.0; case.values.len()];
        let (rows, columns) = windows.output();
        for plane in 0..case.shape[0] * case.shape[1] {
            for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |c| (row, c))) {
                let pixels = (0..case.kernel.0).flat_map(|y| (0..case.kernel.1).map(move |x| (y, x)));
                let pixels: Vec<usize> = pixels.map(|(y, x)| {
                    let (y, x) = (row * case.stride.0 + y, column * case.stride.1 + x);
                    (plane * windows.height + y) * windows.width + x
                }).collect();
                let largest = pixels.iter().map(|&at| case.values[at]).fold(f64::MIN, f64::max);
                let first = pixels.into_iter().find(|&at| case.values[at] == largest).unwrap();
                expected[first] += weights.next().unwrap();
            }
        }
        let got = case.gradient(Kind::Max, DType::F64);
        prop_assert!(near(&got, &expected, 1e-12), "{got:?} for {expected:?}");
    }

    /// What other devices do, done on the host. candle's `argmax` also takes the first.
    #[test]
    fn both_ways_to_a_gradient_agree(case in cases(Some(3))) {
        for kind in [Kind::Max, Kind::Mean] {
            let pool = case.pool(kind);
            let pixels = case.tensor(DType::F64);
            let output = pooled(&pixels, kind, case.kernel, case.stride).unwrap();
            let gradient = case.weights_like(&output);
            let host = pool.backward_on_host::<f64>(&pixels, &gradient).unwrap();
            let indexed = pool.backward_by_index(&pixels, &gradient).unwrap();
            prop_assert!(near(&numbers(&indexed), &numbers(&host), 1e-12));
        }
    }
}

#[test]
fn a_not_a_number_that_comes_first_takes_the_gradient() {
    let case = Case {
        shape: [1, 1, 2, 4],
        kernel: (2, 2),
        stride: (2, 2),
        values: vec![f64::NAN, 5.0, 1.0, f64::NAN, 7.0, 6.0, 2.0, 0.0],
        weights: vec![1.0, 2.0],
    };
    let expected = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0];
    assert_eq!(case.gradient(Kind::Max, DType::F32), expected);
}

/// The image is large enough for several threads.
#[test]
fn large_images_are_pooled_alike() {
    let images = Tensor::randn(0.0_f32, 1.0, (2, 3, 400, 500), &Device::Cpu).unwrap();
    let expected = images.max_pool2d(2).unwrap();
    let got = max_pool2d(&images, 2).unwrap();
    assert!(bits(&got) == bits(&expected));
    let pool = Pool {
        kind: Kind::Max,
        windows: Windows { height: 400, width: 500, kernel: (2, 2), stride: (2, 2) },
    };
    let host = pool.backward_on_host::<f32>(&images, &expected).unwrap();
    assert!(bits(&host) == bits(&pool.backward_by_index(&images, &expected).unwrap()));
}

#[test]
fn what_does_not_fit_is_refused() {
    let image = Tensor::zeros((1, 1, 3, 2), DType::F32, &Device::Cpu).unwrap();
    for (kernel, stride) in [((2, 3), (1, 1)), ((4, 1), (1, 1)), ((0, 1), (1, 1)), ((1, 1), (1, 0))]
    {
        assert!(max_pool2d_with_stride(&image, kernel, stride).is_err(), "{kernel:?} {stride:?}");
        assert!(avg_pool2d_with_stride(&image, kernel, stride).is_err(), "{kernel:?} {stride:?}");
    }
    assert!(max_pool2d(&image.squeeze(0).unwrap(), 1).is_err());
}
