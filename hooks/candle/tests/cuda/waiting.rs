//! That training never waits for the device, and that candle's kernels get no event calls of the hook's
//! making. Neither can be seen without a device.

use crate::place::Place;

on_cuda!(alone: no_call_waits_for_the_device, streams_stay_unmanaged);

#[cfg(not(feature = "cuda"))]
mod bodies {
    use super::Place;

    pub(super) fn no_call_waits_for_the_device(place: &Place) {
        place.is_cuda_for("all of it");
    }

    pub(super) use no_call_waits_for_the_device as streams_stay_unmanaged;
}

#[cfg(feature = "cuda")]
mod bodies {
    use candle_core::{DType, Device, Tensor, Var};
    use candle_nn::VarMap;
    use data_diet::observe::{Schedule, Signal};
    use data_diet_candle::DataDietHook;

    use super::Place;
    use crate::fixture::Fixture;
    use crate::numbers::Numbers;
    use crate::training::{Recipe, Trainer};

    const ROWS: usize = 64;
    const CLASSES: usize = 10;

    /// Gives the device work for a good part of a second, and returns when all of it is in the stream.
    fn occupy(matrix: &Tensor) {
        let mut product = matrix.clone();
        for _ in 0..20 {
            product = product.matmul(matrix).unwrap();
        }
    }

    /// Puts an event behind long work, calls the hook, and sees whether the event is still to come. The
    /// work is thousands of times as long as a call, so no other load on the host decides this.
    pub(super) fn no_call_waits_for_the_device(place: &Place) {
        if !place.is_cuda_for("all of it") {
            return;
        }
        for (stream, place) in place.streams() {
            let device = &place.device;
            let fixture = Fixture::new();
            let weights = VarMap::new();
            let variable = Var::zeros((1000, 1000), DType::F32, device).unwrap();
            weights.data().lock().unwrap().insert("weight".to_owned(), variable);
            let builder = fixture.builder().classes(CLASSES).signals(Signal::ALL);
            let schedule = Schedule::every_steps(5);
            let mut hook = builder.snapshots(&weights, schedule).build().unwrap();
            let matrix = (Tensor::randn(0_f32, 1.0, (8192, 8192), device).unwrap() * 0.01).unwrap();
            let logits = Numbers::new(1).tensor(3.0, &[ROWS, CLASSES], device);
            let labels = Tensor::zeros(ROWS, DType::U32, device).unwrap();
            let ids = Tensor::arange(0_i64, ROWS as i64, device).unwrap();
            let call = |hook: &mut DataDietHook| {
                hook.on_step_end(&ids, &logits, &labels).unwrap();
            };
            // Kernels are loaded, and memory that is kept is taken, in the first calls.
            (0..20).for_each(|_| call(&mut hook));
            occupy(&matrix);
            device.synchronize().unwrap();
            for round in 0..8 {
                occupy(&matrix);
                let cuda = device.as_cuda_device().unwrap();
                let behind = cuda.cuda_stream().record_event(None).unwrap();
                call(&mut hook);
                assert!(!behind.is_complete(), "{stream}: call {round} waited for the device");
                device.synchronize().unwrap();
                assert!(behind.is_complete());
            }
            hook.finish().unwrap().check().unwrap();
        }
    }

    /// As soon as a context has two streams, cudarc records events around every use of every tensor
    /// that is made from then on. With candle's usual device there is one, unless somebody adds one.
    pub(super) fn streams_stay_unmanaged(place: &Place) {
        if !place.is_cuda_for("all of it") {
            return;
        }
        let device = Device::new_cuda(0).unwrap();
        let state = || {
            let stream = device.as_cuda_device().unwrap().cuda_stream();
            let context = stream.context();
            (
                context.is_managing_stream_synchronization(),
                context.is_in_multi_stream_mode(),
                context.is_event_tracking(),
            )
        };
        let before = state();
        assert_eq!((before.0, before.1), (false, false));
        let fixture = Fixture::new();
        let recipe = Recipe { examples: 70, ..Recipe::PLAIN };
        let mut trainer = Trainer::new(recipe, &device);
        let builder = fixture.builder().classes(recipe.classes).signals(Signal::ALL);
        let builder = builder.snapshots(&trainer.weights, Schedule::every_steps(10));
        let mut hook = builder.build().unwrap();
        assert_eq!(state(), before, "after building the hook");
        trainer.train(&mut hook, 50).unwrap();
        assert_eq!(state(), before, "while recording");
        hook.flush().unwrap();
        hook.finish().unwrap().check().unwrap();
        assert_eq!(state(), before, "after the end");
    }
}

use bodies::{no_call_waits_for_the_device, streams_stay_unmanaged};
