//! Copies, what is put back, and what lies between two sets of weights.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarMap;
use data_diet_candle::Error;
use data_diet_candle::weights::{NamedTensors, Params, interpolate};
use half::{bf16, f16};
use proptest::prelude::*;

use crate::models::{Convolutional, scatter};

fn single(tensor: &Tensor) -> NamedTensors {
    NamedTensors::from([("w".to_owned(), tensor.clone())])
}

fn bits(tensor: &Tensor) -> Vec<u64> {
    let flat = tensor.flatten_all().unwrap();
    match tensor.dtype() {
        DType::F64 => flat.to_vec1::<f64>().unwrap().iter().map(|v| v.to_bits()).collect(),
        DType::F32 => flat.to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits().into()).collect(),
        DType::F16 => flat.to_vec1::<f16>().unwrap().iter().map(|v| v.to_bits().into()).collect(),
        _ => flat.to_vec1::<bf16>().unwrap().iter().map(|v| v.to_bits().into()).collect(),
    }
}

fn same(a: &NamedTensors, b: &NamedTensors) -> bool {
    a.keys().eq(b.keys()) && a.iter().all(|(name, tensor)| bits(tensor) == bits(&b[name]))
}

/// Every float that rounding or arithmetic could change.
fn awkward(dtype: DType) -> Tensor {
    let device = &Device::Cpu;
    match dtype {
        DType::F64 => {
            let values = [
                0.0,
                -0.0,
                0.1,
                -1e308,
                5e-324,
                f64::INFINITY,
                f64::from_bits(0x7ff4_0000_0000_beef),
            ];
            Tensor::new(&values, device).unwrap()
        }
        DType::F32 => {
            let values =
                [0.0, -0.0, 0.1, -3e38, 1e-45, f32::NEG_INFINITY, f32::from_bits(0x7fa0_beef)];
            Tensor::new(&values, device).unwrap()
        }
        DType::F16 => {
            let values = [0_u16, 0x8000, 0x2e66, 0xfbff, 1, 0x7c00, 0x7d01].map(f16::from_bits);
            Tensor::new(&values, device).unwrap()
        }
        _ => {
            let values = [0_u16, 0x8000, 0x3dcd, 0xff7f, 1, 0x7f80, 0x7fa1].map(bf16::from_bits);
            Tensor::new(&values, device).unwrap()
        }
    }
}

const DTYPES: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];

#[test]
fn a_copy_does_not_follow_its_variable_and_comes_back_to_the_bit() {
    for dtype in DTYPES {
        let original = awkward(dtype);
        let variable = Var::from_tensor(&original).unwrap();
        let params = Params::new([("w".to_owned(), variable.clone())]).unwrap();
        let handle = variable.as_detached_tensor();
        let copy = params.copy().unwrap();
        variable.set(&original.ones_like().unwrap()).unwrap();
        assert_eq!(bits(&handle), bits(&original.ones_like().unwrap()), "a handle is no copy");
        assert_eq!(bits(&copy["w"]), bits(&original), "{dtype:?}");
        params.load(&copy).unwrap();
        assert_eq!(bits(&variable), bits(&original), "{dtype:?}");
        // What was loaded is not shared either.
        variable.set(&original.ones_like().unwrap()).unwrap();
        assert_eq!(bits(&copy["w"]), bits(&original), "{dtype:?}");
    }
}

#[test]
fn running_statistics_are_among_the_weights_in_the_order_of_names() {
    let model = Convolutional::new(1);
    let params = model.params();
    assert_eq!(
        params.names().collect::<Vec<_>>(),
        [
            "conv.bias",
            "conv.weight",
            "head.bias",
            "head.weight",
            "norm.bias",
            "norm.running_mean",
            "norm.running_var",
            "norm.weight",
        ]
    );
    let before = params.copy().unwrap();
    scatter(&model.variables, 2);
    assert!(!same(&params.copy().unwrap(), &before));
    params.load(&before).unwrap();
    assert!(same(&params.copy().unwrap(), &before));
    let trained = params.only(|name| !name.contains("running")).unwrap();
    assert_eq!(trained.variables().count(), 6);
}

#[test]
fn work_on_the_weights_leaves_no_trace() {
    let model = Convolutional::new(3);
    let params = model.params();
    let before = params.copy().unwrap();
    let value = params.restore_after(|| {
        scatter(&model.variables, 4);
        Ok(7)
    });
    assert_eq!(value.unwrap(), 7);
    assert!(same(&params.copy().unwrap(), &before));
    let error = params.restore_after(|| -> Result<(), Error> {
        scatter(&model.variables, 5);
        Err(Error::Argument("no".to_owned()))
    });
    assert_eq!(error.unwrap_err().to_string(), "no");
    assert!(same(&params.copy().unwrap(), &before));
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let _ = params.restore_after(|| -> Result<(), Error> {
            scatter(&model.variables, 6);
            panic!("in the middle")
        });
    }));
    assert!(panic.is_err());
    assert!(same(&params.copy().unwrap(), &before));
}

#[test]
fn the_ends_and_equal_weights_are_kept_to_the_bit() {
    for dtype in DTYPES {
        let first = awkward(dtype);
        let second = first.flip(&[0]).unwrap().contiguous().unwrap();
        let (first, second) = (single(&first), single(&second));
        let at = |alpha| interpolate(&first, &second, alpha).unwrap();
        assert!(same(&at(1.0), &first) && same(&at(0.0), &second), "{dtype:?}");
        // All but the last, NaN, which equals nothing.
        let numbers = single(&awkward(dtype).narrow(0, 0, 6).unwrap());
        for alpha in [0.0, 1e-9, 0.1, 0.3, 0.5, 0.7, 0.999, 1.0] {
            let blended = interpolate(&numbers, &numbers, alpha).unwrap();
            assert!(same(&blended, &numbers), "{dtype:?} at {alpha}");
        }
        let between = at(0.5)["w"].to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        assert!(between[6].is_nan() && between[0].is_nan());
    }
}

#[test]
fn an_end_shares_no_memory_with_what_it_came_from() {
    let variable = Var::new(&[1.0_f32, 2.0], &Device::Cpu).unwrap();
    let handle = single(variable.as_tensor());
    let blended = [0.0, 0.5, 1.0].map(|alpha| interpolate(&handle, &handle, alpha).unwrap());
    variable.set(&Tensor::new(&[9.0_f32, 9.0], &Device::Cpu).unwrap()).unwrap();
    for blended in blended {
        assert_eq!(blended["w"].to_vec1::<f32>().unwrap(), [1.0, 2.0]);
    }
}

proptest! {
    #[test]
    fn between_the_ends_every_weight_is_the_weighted_mean(
        pairs in prop::collection::vec((-1e3..1e3_f64, -1e3..1e3_f64), 1..20), alpha in 0.0..=1.0_f64,
    ) {
        let (first, second): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        for (dtype, epsilon) in [
            (DType::F64, f64::EPSILON),
            (DType::F32, f64::from(f32::EPSILON)),
            (DType::F16, 1e-3),
            (DType::BF16, 8e-3),
        ] {
            let end = |values: &[f64]| {
                Tensor::new(values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
            };
            let read = |tensor: &Tensor| -> Vec<f64> {
                tensor.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
            };
            let (w, v) = (end(&first), end(&second));
            let blended = interpolate(&single(&w), &single(&v), alpha).unwrap();
            prop_assert_eq!(blended["w"].dtype(), dtype);
            let ends = read(&w).into_iter().zip(read(&v));
            for (got, (w, v)) in read(&blended["w"]).into_iter().zip(ends) {
                let expected = alpha * w + (1.0 - alpha) * v;
                let tolerance = 2.0 * epsilon * (w.abs() + v.abs()) + 1e-7 * f64::from(dtype == DType::F16);
                prop_assert!((got - expected).abs() <= tolerance, "{dtype:?}: {got}, {expected}");
            }
        }
    }
}

#[test]
fn every_difference_is_told_and_nothing_is_changed() {
    let device = &Device::Cpu;
    let variable = |name: &str, shape: &[usize]| {
        (name.to_owned(), Var::zeros(shape, DType::F32, device).unwrap())
    };
    let params = Params::new([
        variable("same", &[2]),
        variable("dtype", &[2]),
        variable("absent", &[2]),
        variable("shape", &[2, 3]),
    ])
    .unwrap();
    let ones = |shape: &[usize], dtype| Tensor::ones(shape, dtype, device).unwrap();
    let weights = NamedTensors::from([
        ("same".to_owned(), ones(&[2], DType::F32)),
        ("dtype".to_owned(), ones(&[2], DType::F64)),
        ("other".to_owned(), ones(&[2], DType::F32)),
        ("shape".to_owned(), ones(&[3, 2], DType::F32)),
    ]);
    let error = params.load(&weights).unwrap_err();
    assert_eq!(
        error.to_string(),
        "weights: expected those of this model, but `absent` is missing; `dtype` is f64 [2], not f32 \
         [2]; `other` is not in the model; `shape` is f32 [3, 2], not f32 [2, 3]"
    );
    for tensor in params.copy().unwrap().values() {
        assert!(bits(tensor).iter().all(|&bits| bits == 0));
    }
    let error = interpolate(&params.copy().unwrap(), &weights, 0.5).unwrap_err().to_string();
    assert!(
        error.starts_with("second: expected the weights of the same model as `first`, but"),
        "{error}"
    );
    assert!(error.contains("`absent` is missing; `dtype` is f64 [2], not f32 [2];"), "{error}");
}

#[test]
fn other_refusals_name_the_argument() {
    let device = &Device::Cpu;
    let error = Params::from_varmap(&VarMap::new()).unwrap_err();
    assert!(error.to_string().starts_with("params: expected the variables of a model"), "{error}");
    let variable = || ("w".to_owned(), Var::zeros(2, DType::F32, device).unwrap());
    let error = Params::new([variable(), variable()]).unwrap_err();
    assert_eq!(error.to_string(), "params: two variables are named `w`");
    let error = Params::new([variable()]).unwrap().only(|_| false).unwrap_err();
    assert_eq!(error.to_string(), "keep: expected at least one of the variables w, got none");

    let variable = Var::zeros(2, DType::F32, device).unwrap();
    let params = Params::new([("w".to_owned(), variable.clone())]).unwrap();
    let error = params.load(&single(&variable.as_detached_tensor())).unwrap_err();
    assert!(error.to_string().starts_with("weights: `w` cannot be set from its tensor"), "{error}");
    let copy = params.copy().unwrap();
    for alpha in [-0.1, 1.1, f64::NAN] {
        let error = interpolate(&copy, &copy, alpha).unwrap_err();
        assert_eq!(error.to_string(), format!("alpha: expected between 0 and 1, got {alpha}"));
    }
    let counts = single(&Tensor::zeros(2, DType::U32, device).unwrap());
    let error = interpolate(&counts, &counts, 0.5).unwrap_err();
    assert!(error.to_string().ends_with("but `w` is u32, which cannot be interpolated"), "{error}");
}
