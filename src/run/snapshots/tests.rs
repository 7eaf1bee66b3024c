//! Snapshots written and read back to the bit; nothing half-written is ever seen.

use std::io;
use std::sync::Arc;

use half::{bf16, f16};
use proptest::prelude::*;

use super::chunk::Division;
use super::writer::publish_divided;
use crate::error::ErrorKind;
use crate::observe::{Snapshot, SnapshotTensor, TensorValues};
use crate::run::tests::{FaultyDisk, Fixture};
use crate::run::{Experiment, IfRunExists, RunWriter};
use crate::storage::{CheckedFile, Disk, LocalDisk};

fn tensor(name: &str, shape: &[usize], values: TensorValues) -> SnapshotTensor {
    SnapshotTensor::new(name, shape.to_vec(), values).unwrap()
}

fn snapshot(step: u64) -> Snapshot {
    let weights = (0..6).map(|element| element as f32 + step as f32).collect();
    let tensors = vec![
        tensor("fc.weight", &[2, 3], TensorValues::F32(weights)),
        tensor("fc.bias", &[2], TensorValues::F64(vec![-0.0, step as f64])),
    ];
    Snapshot::new(step, 1, tensors).unwrap()
}

fn steps(fixture: &Fixture) -> Vec<u64> {
    let experiment = Experiment::open(fixture.path()).unwrap();
    let verification = experiment.verify(|_| {}).unwrap();
    assert!(verification.findings.is_empty(), "{:?}", verification.findings);
    let snapshots = experiment.run("seed-0").unwrap().snapshots().unwrap();
    for &step in snapshots.steps() {
        assert_eq!(snapshots.at(step).unwrap(), snapshot(step));
    }
    snapshots.steps().to_vec()
}

fn written(fixture: &Fixture, snapshot: &Snapshot) -> Snapshot {
    let (mut writer, mut metadata) = fixture.open(Arc::new(LocalDisk)).unwrap();
    writer.push_snapshot(snapshot.clone());
    writer.commit().unwrap();
    metadata.snapshots.written = 1;
    writer.write_metadata(&mut metadata).unwrap();
    drop(writer);
    let run = Experiment::open(fixture.path()).unwrap().run("seed-0").unwrap();
    run.snapshots().unwrap().at(snapshot.step()).unwrap()
}

/// Bits, since NaN does not equal itself.
fn bits(values: &TensorValues) -> Vec<u64> {
    match values {
        TensorValues::F32(v) => v.iter().map(|v| v.to_bits().into()).collect(),
        TensorValues::F16(v) => v.iter().map(|v| v.to_bits().into()).collect(),
        TensorValues::BF16(v) => v.iter().map(|v| v.to_bits().into()).collect(),
        TensorValues::F64(v) => v.iter().map(|v| v.to_bits()).collect(),
        TensorValues::I64(v) => v.iter().map(|&v| v as u64).collect(),
        TensorValues::I32(v) => v.iter().map(|&v| v as u64).collect(),
        TensorValues::I16(v) => v.iter().map(|&v| v as u64).collect(),
        TensorValues::U32(v) => v.iter().map(|&v| v.into()).collect(),
        TensorValues::U8(v) => v.iter().map(|&v| v.into()).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_bits_of_any_type_come_back(
        words in prop::collection::vec(any::<u64>(), 0..40),
        step in 0..1_u64 << 50,
        epoch in 0..1_u32 << 31,
    ) {
        let n = words.len();
        let all = [
            TensorValues::F32(words.iter().map(|&w| f32::from_bits(w as u32)).collect()),
            TensorValues::F16(words.iter().map(|&w| f16::from_bits(w as u16)).collect()),
            TensorValues::BF16(words.iter().map(|&w| bf16::from_bits(w as u16)).collect()),
            TensorValues::F64(words.iter().map(|&w| f64::from_bits(w)).collect()),
            TensorValues::I64(words.iter().map(|&w| w as i64).collect()),
            TensorValues::I32(words.iter().map(|&w| w as i32).collect()),
            TensorValues::I16(words.iter().map(|&w| w as i16).collect()),
            TensorValues::U32(words.iter().map(|&w| w as u32).collect()),
            TensorValues::U8(words.iter().map(|&w| w as u8).collect()),
        ];
        let tensors = all.iter().map(|v| tensor(v.dtype(), &[1, n], v.clone())).collect();
        let snapshot = Snapshot::new(step, epoch, tensors).unwrap();
        let read = written(&Fixture::new(), &snapshot);
        prop_assert_eq!((read.step(), read.epoch()), (step, epoch));
        prop_assert_eq!(read.tensors().len(), all.len());
        for (a, b) in read.tensors().iter().zip(snapshot.tensors()) {
            prop_assert_eq!((a.name(), a.shape()), (b.name(), b.shape()));
            prop_assert_eq!(a.values().dtype(), b.values().dtype());
            prop_assert_eq!(bits(a.values()), bits(b.values()));
        }
    }
}

#[test]
fn tensors_of_many_chunks_and_none_come_back() {
    let full = Division::STANDARD.chunk_elements;
    let long = 2 * full + 1;
    let tensors = vec![
        tensor("a", &[long], TensorValues::F32((0..long).map(|i| i as f32).collect())),
        tensor("b", &[0, 7], TensorValues::F32(vec![])),
        tensor("c", &[], TensorValues::I64(vec![-5])),
        tensor("d", &[full], TensorValues::U8(vec![7; full])),
    ];
    let snapshot = Snapshot::new(0, 0, tensors).unwrap();
    assert_eq!(written(&Fixture::new(), &snapshot), snapshot);
}

/// Elements of every type, none of them like its neighbors.
fn all_types(elements: usize) -> Vec<TensorValues> {
    let word = |place: usize| (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = || (0..elements).map(word);
    vec![
        TensorValues::F32(words().map(|w| (w >> 40) as f32).collect()),
        TensorValues::F16(words().map(|w| f16::from_f32((w >> 55) as f32)).collect()),
        TensorValues::BF16(words().map(|w| bf16::from_f32((w >> 57) as f32)).collect()),
        TensorValues::F64(words().map(|w| (w >> 11) as f64).collect()),
        TensorValues::I64(words().map(|w| w as i64).collect()),
        TensorValues::I32(words().map(|w| (w >> 32) as i32).collect()),
        TensorValues::I16(words().map(|w| (w >> 48) as i16).collect()),
        TensorValues::U32(words().map(|w| (w >> 32) as u32).collect()),
        TensorValues::U8(words().map(|w| (w >> 56) as u8).collect()),
    ]
}

/// Writes a snapshot whose tensors are divided in this way, reads it, and tells its rows and row groups.
fn divided(
    snapshot: &Snapshot,
    division: Division,
) -> crate::error::Result<(Snapshot, u64, usize)> {
    let fixture = Fixture::new();
    let (writer, mut metadata) = fixture.open(Arc::new(LocalDisk))?;
    publish_divided(&LocalDisk, &fixture.layout(), snapshot, division)?;
    metadata.snapshots.written = 1;
    writer.write_metadata(&mut metadata)?;
    drop(writer);
    let run = Experiment::open(fixture.path())?.run("seed-0")?;
    let read = run.snapshots()?.at(snapshot.step())?;
    let file = CheckedFile::open(&fixture.layout().snapshot(snapshot.step()))?;
    Ok((read, file.rows(), file.metadata().num_row_groups()))
}

#[test]
fn tensors_of_thousands_of_chunks_come_back_from_many_row_groups() {
    // As a tensor of some gibibytes is divided, in small.
    let elements = 5003;
    let tensors = all_types(elements).into_iter();
    let tensors = tensors.map(|v| tensor(v.dtype(), &[elements], v)).collect();
    let snapshot = Snapshot::new(3, 1, tensors).unwrap();
    for (chunk_elements, encoded_bytes) in [(7, 2 << 10), (1000, 4 << 10), (5003, 1)] {
        let division = Division { chunk_elements, encoded_bytes, raw_bytes: usize::MAX };
        let (read, rows, groups) = divided(&snapshot, division).unwrap();
        assert_eq!(rows, 9 * elements.div_ceil(chunk_elements) as u64);
        assert!(groups >= 9, "{groups} row groups of {rows} chunks");
        // A chunk of another length would be told at its offset.
        assert!(read == snapshot, "chunks of {chunk_elements}");
    }
}

#[test]
fn zeros_fill_row_groups_by_what_they_are_to_a_reader() {
    let zeros = |elements| tensor("w", &[elements], TensorValues::F64(vec![0.0; elements]));
    let snapshot = Snapshot::new(3, 1, vec![zeros(40_000)]).unwrap();
    let encoded_bytes = Division::STANDARD.encoded_bytes;
    let division = Division { chunk_elements: 1000, encoded_bytes, raw_bytes: 64_000 };
    let (read, rows, groups) = divided(&snapshot, division).unwrap();
    assert!(read == snapshot && rows == 40);
    // At most eight chunks of 8,000 bytes each; what Arrow adds to them makes it fewer.
    assert!((5..=8).contains(&groups), "{groups}");
}

#[test]
#[ignore = "takes 5 GiB of memory and 3 GiB of disk"]
#[allow(clippy::print_stderr, reason = "it is run to see how long it takes")]
fn tensors_of_more_than_two_gibibytes_come_back() {
    let elements = (1 << 29) + 3;
    let word = |place: usize| {
        let z = (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let floats = || TensorValues::F32((0..elements).map(|at| (word(at) >> 40) as f32).collect());
    let bytes = || TensorValues::U8((0..4 * elements).map(|at| (word(at) >> 56) as u8).collect());
    let zeros = || TensorValues::U8(vec![0; 4 * elements]);
    let all: [(&str, &dyn Fn() -> TensorValues); 3] =
        [("floats", &floats), ("bytes", &bytes), ("zeros", &zeros)];
    for (kind, values) in all {
        let values = values();
        assert!(values.bytes() > 2 << 30);
        let length = values.len();
        let snapshot = Snapshot::new(3, 1, vec![tensor("w", &[length], values)]).unwrap();
        let start = std::time::Instant::now();
        let (read, rows, groups) = divided(&snapshot, Division::STANDARD).unwrap();
        eprintln!("{kind}: {rows} chunks in {groups} row groups, {:.1?}", start.elapsed());
        assert!(read == snapshot, "{kind}");
        drop(read);
        if kind == "zeros" {
            // Compressed, all of them are one small row group, of which no reader can make an array.
            let unbounded = Division { raw_bytes: usize::MAX, ..Division::STANDARD };
            let error = divided(&snapshot, unbounded).unwrap_err();
            eprintln!("without a bound: {error}");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}

#[test]
fn a_step_that_was_not_taken_is_answered_with_those_that_were() {
    let fixture = Fixture::new();
    written(&fixture, &snapshot(7));
    let run = Experiment::open(fixture.path()).unwrap().run("seed-0").unwrap();
    let error = run.snapshots().unwrap().at(8).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().ends_with("no snapshot at step 8; there are: 7"), "{error}");
}

#[test]
fn a_failed_call_is_made_good_by_the_next_commit() {
    for call in 0.. {
        let fixture = Fixture::new();
        let disk = FaultyDisk::default();
        let (mut writer, _) = fixture.open(disk.arc()).unwrap();
        disk.fail_call(call, io::ErrorKind::StorageFull);
        writer.push_snapshot(snapshot(1));
        writer.push_snapshot(snapshot(2));
        let failed = writer.commit().is_err();
        disk.heal();
        writer.commit().unwrap();
        assert_eq!(writer.pending().snapshots, 0);
        drop(writer);
        assert_eq!(steps(&fixture), [1, 2], "call {call}");
        if !failed {
            assert!(call >= 2 * 5, "there are more calls than {call}");
            break;
        }
    }
}

#[test]
fn a_process_that_dies_at_any_call_leaves_whole_snapshots() {
    let mut seen = Vec::new();
    for call in 0.. {
        let fixture = Fixture::new();
        let disk = FaultyDisk::default();
        let (mut writer, _) = fixture.open(disk.arc()).unwrap();
        disk.die_after(call);
        writer.push_snapshot(snapshot(1));
        writer.push_snapshot(snapshot(2));
        let died = writer.commit().is_err();
        drop(writer);
        let found = steps(&fixture);
        let drafts = fixture.layout().drafts().unwrap();
        assert!(drafts.is_empty(), "recovery removes {drafts:?}");
        assert!(found.iter().zip(1..).all(|(&step, expected)| step == expected), "{found:?}");
        seen.push(found.len());
        if !died {
            break;
        }
    }
    assert!(seen.is_sorted() && seen.first() == Some(&0) && seen.last() == Some(&2), "{seen:?}");
}

#[test]
fn resuming_puts_later_weights_aside_and_overwriting_removes_all() {
    let fixture = Fixture::new();
    let (mut writer, _) = fixture.open(Arc::new(LocalDisk)).unwrap();
    for step in [0, 10, 20, 30] {
        writer.push_snapshot(snapshot(step));
    }
    writer.commit().unwrap();
    drop(writer);
    let reopen = |existing| {
        let disk: Arc<dyn Disk> = Arc::new(LocalDisk);
        let mut options = fixture.options();
        options.existing = existing;
        RunWriter::open(disk, options).unwrap()
    };
    let (writer, metadata) = reopen(IfRunExists::ResumeAt { step: 20, epoch: 1 });
    assert_eq!(metadata.snapshots.written, 3);
    drop(writer);
    assert_eq!(steps(&fixture), [0, 10, 20]);
    let aside = std::fs::read_dir(fixture.layout().aside()).unwrap();
    assert_eq!(aside.count(), 1, "the weights of step 30 are kept aside");
    drop(reopen(IfRunExists::Erase));
    assert_eq!(steps(&fixture), [0_u64; 0]);
}

#[test]
fn what_was_measured_on_weights_goes_with_them() {
    use crate::geometry::{KernelVelocityRow, KernelVelocityTable, TimeUnit};
    let fixture = Fixture::new();
    let (mut writer, _) = fixture.open(Arc::new(LocalDisk)).unwrap();
    for step in [0, 10, 20] {
        writer.push_snapshot(snapshot(step));
    }
    writer.commit().unwrap();
    drop(writer);
    let table = || KernelVelocityTable::open(fixture.path(), "seed-0").unwrap();
    let measured = |first_step| KernelVelocityRow {
        set: "all".to_owned(),
        first_step,
        second_step: first_step + 10,
        first_epoch: 0,
        second_epoch: 0,
        distance: 0.5,
        dt: 10.0,
        dt_unit: TimeUnit::Steps,
        examples: 4,
        classes: 2,
    };
    let measure = |step| table().append(&[measured(step)]).unwrap();
    measure(0);
    measure(10);
    let reopen = |existing| {
        let mut options = fixture.options();
        options.existing = existing;
        drop(RunWriter::open(Arc::new(LocalDisk), options).unwrap());
    };
    // Nothing comes after this step: the measurements hold.
    reopen(IfRunExists::ResumeAt { step: 20, epoch: 1 });
    assert_eq!(table().rows().len(), 2);
    // The weights of step 20 will be others.
    reopen(IfRunExists::ResumeAt { step: 15, epoch: 1 });
    assert!(table().rows().is_empty());
    let aside = std::fs::read_dir(fixture.layout().aside()).unwrap();
    assert_eq!(aside.count(), 3, "two parts, and the weights of step 20");
    measure(0);
    reopen(IfRunExists::Erase);
    assert!(table().rows().is_empty());
    assert_eq!(steps(&fixture), [0_u64; 0]);
}

#[test]
fn damage_is_found() {
    let fixture = Fixture::new();
    written(&fixture, &snapshot(3));
    let path = fixture.layout().snapshot(3);
    let sound = std::fs::read(&path).unwrap();
    let at = |place: usize| {
        let mut bytes = sound.clone();
        bytes[place] ^= 0x10;
        std::fs::write(&path, bytes).unwrap();
        let experiment = Experiment::open(fixture.path()).unwrap();
        let read = experiment.run("seed-0").unwrap().snapshots().unwrap().at(3);
        let found = experiment.verify(|_| {}).unwrap().findings.len();
        (read.map_err(|error| error.kind()), found)
    };
    for place in (0..sound.len()).step_by(7) {
        let (read, found) = at(place);
        assert!(
            matches!(read, Err(ErrorKind::Corrupt | ErrorKind::UnsupportedFormat)),
            "{place}: {read:?}"
        );
        assert_eq!(found, 1, "{place}");
    }
}
