//! Ids and labels on the device, on the host, or one here and the other there.

use candle_core::{DType, Device, Tensor};
use data_diet::observe::{Phase, Signal};

use crate::expected::{Kept, Reading, Seen, SeenTargets, assert_recorded};
use crate::fixture::Fixture;
use crate::numbers::Numbers;
use crate::place::Place;

everywhere!(
    ids_and_labels_of_every_dtype,
    soft_targets_of_every_dtype_and_layout,
    ignored_rows_leave_no_trace,
    labels_out_of_range_are_told_of_and_not_recorded,
);

const ROWS: usize = 8;
const CLASSES: usize = 5;
/// Of ids and labels.
const DTYPES: [DType; 5] = [DType::U8, DType::U32, DType::I16, DType::I32, DType::I64];

fn logits(numbers: &mut Numbers, device: &Device) -> Tensor {
    numbers.tensor(4.0, &[ROWS, CLASSES], device)
}

fn ids_and_labels_of_every_dtype(place: &Place) {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(CLASSES).signals(Signal::ALL).build().unwrap();
    let mut numbers = Numbers::new(1);
    let mut seen = Vec::new();
    // Views into longer tensors, as of a data set's.
    let ids = Tensor::arange(0_i64, (DTYPES.len() * ROWS) as i64, &Device::Cpu).unwrap();
    let classes: Vec<i64> =
        (0..(DTYPES.len() * ROWS) as i64).map(|row| row * 2 % CLASSES as i64).collect();
    let labels = Tensor::new(classes.as_slice(), &Device::Cpu).unwrap();
    for id_device in [&place.device, &Device::Cpu] {
        for label_device in [&place.device, &Device::Cpu] {
            for (step, dtype) in DTYPES.into_iter().enumerate() {
                let view = |tensor: &Tensor, device: &Device| {
                    let whole = tensor.to_dtype(dtype).unwrap().to_device(device).unwrap();
                    whole.narrow(0, step * ROWS, ROWS).unwrap()
                };
                let logits = logits(&mut numbers, &place.device);
                seen.push(Seen {
                    step: hook.step(),
                    epoch: 0,
                    ids: (0..ROWS).map(|row| (step * ROWS + row) as i64).collect(),
                    targets: SeenTargets::Classes(classes[step * ROWS..][..ROWS].to_vec()),
                    logits: Kept::of(&logits, Reading::AtTheEnd),
                });
                let (ids, labels) = (view(&ids, id_device), view(&labels, label_device));
                hook.on_step_end(&ids, &logits, &labels).unwrap();
            }
        }
    }
    hook.finish().unwrap().check().unwrap();
    assert_recorded(&fixture, seen, CLASSES, None);
}

fn soft_targets_of_every_dtype_and_layout(place: &Place) {
    let fixture = Fixture::new();
    let mut hook = fixture.builder().classes(CLASSES).signals(Signal::ALL).build().unwrap();
    let mut numbers = Numbers::new(2);
    let mut seen = Vec::new();
    for device in [&place.device, &Device::Cpu] {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            // Quarters, which every float holds exactly.
            let weights: Vec<f32> = (0..ROWS)
                .flat_map(|row| {
                    (0..CLASSES).map(move |class| {
                        match (class + CLASSES - row % CLASSES) % CLASSES {
                            0 => 0.5,
                            1 | 2 => 0.25,
                            _ => 0.0,
                        }
                    })
                })
                .collect();
            let rows = Tensor::from_slice(&weights, (ROWS, CLASSES), &Device::Cpu).unwrap();
            let rows = rows.to_dtype(dtype).unwrap();
            let turned = rows.t().unwrap().contiguous().unwrap().to_device(device).unwrap();
            let (rows, turned) = (rows.to_device(device).unwrap(), turned.t().unwrap());
            for targets in [rows, turned] {
                let logits = logits(&mut numbers, &place.device);
                seen.push(Seen {
                    step: hook.step(),
                    epoch: 0,
                    ids: (0..ROWS as i64).collect(),
                    targets: SeenTargets::Soft(weights.clone()),
                    logits: Kept::of(&logits, Reading::AtTheEnd),
                });
                hook.on_step_end(&(0..ROWS), &logits, &targets).unwrap();
            }
        }
    }
    hook.finish().unwrap().check().unwrap();
    assert_recorded(&fixture, seen, CLASSES, None);
}

fn ignored_rows_leave_no_trace(place: &Place) {
    let fixture = Fixture::new();
    let builder = fixture.builder().classes(CLASSES).signals(Signal::ALL).ignore_index(-100);
    let mut hook = builder.build().unwrap();
    let mut numbers = Numbers::new(3);
    let mut seen = Vec::new();
    let patterns: [&[i64]; 3] =
        [&[-100, 1, 2, -100, 4, 0, 1, -100], &[-100; ROWS], &[0, 1, 2, 3, 4, 0, 1, 2]];
    for labels in patterns {
        let logits = logits(&mut numbers, &place.device);
        seen.push(Seen {
            step: hook.step(),
            epoch: 0,
            // Rows of padding have ids that nobody could record.
            ids: labels
                .iter()
                .enumerate()
                .map(|(row, &y)| if y < 0 { -1 } else { row as i64 })
                .collect(),
            targets: SeenTargets::Classes(labels.to_vec()),
            logits: Kept::of(&logits, Reading::AtTheEnd),
        });
        let ids = Tensor::new(seen[seen.len() - 1].ids.as_slice(), &place.device).unwrap();
        let labels = Tensor::new(labels, &place.device).unwrap();
        hook.on_step_end(&ids, &logits, &labels).unwrap();
    }
    let report = hook.finish().unwrap();
    report.check().unwrap();
    assert_eq!(report.rows.written, 5 + 8);
    assert_recorded(&fixture, seen, CLASSES, Some(-100));
}

/// A hook that does not wait for the device cannot refuse such a batch at once; it has to do so later.
fn labels_out_of_range_are_told_of_and_not_recorded(place: &Place) {
    for bad in [CLASSES as i64, -1, i64::MAX] {
        let fixture = Fixture::new();
        let mut hook = fixture.builder().classes(CLASSES).build().unwrap();
        let logits = logits(&mut Numbers::new(4), &place.device);
        let mut labels = vec![0_i64; ROWS];
        hook.on_step_end(&(0..ROWS), &logits, &labels).unwrap();
        labels[ROWS - 2] = bad;
        let labels = Tensor::new(labels, &place.device).unwrap();
        let mut told = String::new();
        let mut tell = |message: Option<String>| told.extend(message);
        tell(hook.on_step_end(&(0..ROWS), &logits, &labels).err().map(|error| error.to_string()));
        tell(hook.flush().err().map(|error| error.to_string()));
        match hook.finish() {
            Ok(report) => tell(report.check().err().map(|error| error.to_string())),
            Err(error) => tell(Some(error.to_string())),
        }
        assert!(told.contains("labels: expected"), "{bad}: only told {told:?}");
        let steps: Vec<i64> = fixture.rows(Phase::Train).iter().map(|row| row.step).collect();
        assert_eq!(steps, [0; ROWS], "nothing of the batch with {bad} is recorded");
    }
}
