//! Logits of every dtype and layout that training code produces.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use data_diet::observe::{Phase, Signal};

use crate::fixture::{Fixture, some_logits};
use crate::reference::{assert_row, one_hot};

const ROWS: usize = 7;
const CLASSES: usize = 5;
const DTYPES: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

fn labels() -> Vec<u32> {
    (0..ROWS as u32).map(|row| row * 3 % CLASSES as u32).collect()
}

/// Records logits and compares every signal, and the logits themselves, with what candle's own
/// read-back gives.
fn assert_recorded_exactly(logits: &Tensor) {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(CLASSES).signals(Signal::ALL).build().unwrap();
    hook.on_step_end(&(0..ROWS), logits, &labels()).unwrap();
    hook.finish().unwrap().check().unwrap();
    let expected = logits.detach().to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
    let rows = fixture.rows(Phase::Train);
    assert_eq!(rows.len(), ROWS);
    for ((row, logits), label) in rows.iter().zip(&expected).zip(labels()) {
        assert_row(row, logits, &one_hot(label as usize, CLASSES));
    }
    let recorded = fixture.logits(Phase::Train);
    assert_eq!(recorded.len(), ROWS);
    for ((recorded, logits), row) in recorded.iter().zip(&expected).zip(&rows) {
        let narrowed: Vec<f32> = logits.iter().map(|&z| z as f32).collect();
        assert_eq!(recorded.logits, narrowed);
        assert_eq!((recorded.example, recorded.label), (row.example, row.label));
    }
}

fn for_every_dtype(make: impl Fn(&Tensor) -> Result<Tensor>) {
    for dtype in DTYPES {
        let tensor = make(&some_logits(ROWS * 4, CLASSES * 4).to_dtype(dtype).unwrap()).unwrap();
        assert_eq!((tensor.dims(), tensor.dtype()), (&[ROWS, CLASSES][..], dtype));
        assert_recorded_exactly(&tensor);
    }
}

#[test]
fn contiguous() {
    for_every_dtype(|whole| whole.narrow(0, 0, ROWS)?.narrow(1, 0, CLASSES)?.force_contiguous());
}

#[test]
fn transposed_views() {
    for_every_dtype(|whole| {
        let view = whole.narrow(0, 0, CLASSES)?.narrow(1, 0, ROWS)?.contiguous()?.t()?;
        assert!(!view.is_contiguous());
        Ok(view)
    });
}

#[test]
fn narrowed_views_that_start_inside_their_storage() {
    for_every_dtype(|whole| whole.narrow(0, 5, ROWS)?.narrow(1, 3, CLASSES));
    // Contiguous rows at an offset: the view that batches of a big tensor are.
    for_every_dtype(|whole| {
        let rows = whole.narrow(1, 2, CLASSES)?.contiguous()?.narrow(0, 9, ROWS)?;
        assert!(rows.is_contiguous());
        Ok(rows)
    });
}

#[test]
fn views_of_three_dimensional_outputs() {
    // The last position of a sequence model: `[batch, positions, classes]`.
    for_every_dtype(|whole| {
        let outputs = whole.narrow(0, 0, ROWS)?.reshape((ROWS, 4, CLASSES))?;
        outputs.narrow(1, 3, 1)?.squeeze(1)
    });
}

#[test]
fn broadcast_rows_and_broadcast_classes() {
    for_every_dtype(|whole| {
        whole.narrow(0, 2, 1)?.narrow(1, 1, CLASSES)?.broadcast_as((ROWS, CLASSES))
    });
    for_every_dtype(|whole| whole.narrow(0, 1, ROWS)?.narrow(1, 4, 1)?.expand((ROWS, CLASSES)));
}

#[test]
fn logits_that_carry_an_autograd_graph() {
    for dtype in DTYPES {
        let weights = Var::from_tensor(&some_logits(CLASSES, 3).to_dtype(dtype).unwrap()).unwrap();
        let inputs = some_logits(ROWS, 3).to_dtype(dtype).unwrap();
        let logits = inputs
            .broadcast_mul(&weights.narrow(0, 0, 1).unwrap())
            .unwrap()
            .matmul(&weights.t().unwrap())
            .unwrap();
        assert!(logits.track_op());
        assert_recorded_exactly(&(logits / 8.0).unwrap());
    }
}

#[test]
fn the_lowest_class_wins_a_tie_in_every_dtype() {
    let logits = [[1.0_f32, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [3.0, 3.0, 3.0]];
    let labels = [0_u32, 1, 2, 0];
    for dtype in DTYPES {
        let fixture = Fixture::new();
        let mut hook = fixture.hook();
        let tensor = Tensor::new(&logits, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        hook.on_step_end(&(0..4), &tensor, &labels).unwrap();
        hook.finish().unwrap().check().unwrap();
        let correct: Vec<bool> = fixture.rows(Phase::Train).iter().map(|row| row.correct).collect();
        assert_eq!(correct, [true, false, false, true], "{dtype:?}");
    }
}

#[test]
fn f64_logits_are_not_narrowed_before_the_signals_are_computed() {
    // As f32 the two logits would be equal: margin 0, and class 0 would win the tie.
    let logits = Tensor::new(&[[1.0_f64, 1.0 + 1e-12]], &Device::Cpu).unwrap();
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(2).build().unwrap();
    hook.on_step_end(&[0], &logits, &[1]).unwrap();
    hook.finish().unwrap().check().unwrap();
    let rows = fixture.rows(Phase::Train);
    assert!(rows[0].correct);
    let margin = f64::from(rows[0].signals[2].unwrap());
    assert!((margin - 1e-12).abs() < 1e-15, "{margin}");
}

#[test]
fn rows_that_are_not_finite_are_recorded_and_counted_and_spoil_no_other_row() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let values = [[nan, 0.0, 1.0], [0.0, 2.0, 1.0], [inf, 0.0, 0.0], [-inf, -inf, -inf]];
    for dtype in DTYPES {
        let fixture = Fixture::new();
        let mut hook = fixture.builder().classes(3).signals(Signal::ALL).build().unwrap();
        let logits = Tensor::new(&values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        hook.on_step_end(&(0..4), &logits, &[2, 1, 0, 0]).unwrap();
        let report = hook.finish().unwrap();
        assert_eq!((report.rows.written, report.rows.non_finite), (4, 3), "{dtype:?}");
        let rows = fixture.rows(Phase::Train);
        for (row, is_finite) in rows.iter().zip([false, true, false, false]) {
            assert_eq!(row.signals.iter().all(|signal| !signal.unwrap().is_nan()), is_finite);
            assert_eq!(row.signals.iter().all(|signal| signal.unwrap().is_nan()), !is_finite);
            assert_eq!(row.correct, is_finite);
        }
        let stored: Vec<f32> =
            fixture.logits(Phase::Train).into_iter().flat_map(|row| row.logits).collect();
        let same = |(a, b): (&f32, &f32)| a == b || (a.is_nan() && b.is_nan());
        assert!(stored.iter().zip(values.as_flattened()).all(same), "{stored:?}");
    }
}

/// The same batch on the GPU, where copies are asynchronous.
#[cfg(feature = "cuda")]
#[test]
fn logits_on_a_cuda_device() {
    let device = Device::new_cuda(0).unwrap();
    for_every_dtype(|whole| {
        let whole = whole.to_device(&device)?;
        whole.narrow(0, 0, CLASSES)?.narrow(1, 0, ROWS)?.t()
    });
}

#[test]
fn logits_after_log_softmax_give_the_same_signals() {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(CLASSES).signals(Signal::ALL).build().unwrap();
    let logits = some_logits(ROWS, CLASSES).to_dtype(DType::F64).unwrap();
    let normalised = candle_nn::ops::log_softmax(&logits, D::Minus1).unwrap();
    hook.on_step_end(&(0..ROWS), &logits, &labels()).unwrap();
    hook.on_step_end(&(0..ROWS), &normalised, &labels()).unwrap();
    hook.finish().unwrap().check().unwrap();
    let rows = fixture.rows(Phase::Train);
    let (plain, normalised) = rows.split_at(ROWS);
    for (plain, normalised) in plain.iter().zip(normalised) {
        for (a, b) in plain.signals.iter().zip(normalised.signals) {
            let (a, b) = (a.unwrap(), b.unwrap());
            assert!((a - b).abs() <= 1e-6 * a.abs(), "{a} is not {b}");
        }
    }
}
