//! A log that is cut off at every byte, and one with every bit flipped.

use super::FaultyDisk;
use super::rows::{Fixture, batch, log_files};
use crate::error::ErrorKind;
use crate::run::log::LogReader;
use crate::run::recovery::recover;

/// The log of a run that died after four commits, and where its frames end.
fn died() -> (Fixture, Vec<u8>, Vec<usize>) {
    let fixture = Fixture::new();
    let (mut writer, _) = fixture.open(FaultyDisk::default().arc()).unwrap();
    let mut ends = Vec::new();
    for step in 0..4 {
        writer.push(batch(step));
        writer.commit().unwrap();
        ends.push(log_files(&fixture.layout())[0].1.len());
    }
    drop(writer);
    let bytes = log_files(&fixture.layout()).remove(0).1;
    (fixture, bytes, ends)
}

/// The steps of the rows in a log, in its order, and whether it was found damaged.
fn read(fixture: &Fixture, bytes: &[u8]) -> crate::error::Result<(Vec<u64>, bool)> {
    let path = fixture.layout().log(0);
    std::fs::write(&path, bytes).unwrap();
    let mut log = LogReader::open(&path)?;
    let mut steps = Vec::new();
    while let Some(sections) = log.next_frame()? {
        for section in sections.iter().filter(|section| section.table.is_counted()) {
            use arrow::array::AsArray;
            let column = section.rows.column(0).as_primitive::<arrow::datatypes::Int64Type>();
            steps.extend(column.values().iter().map(|&step| step as u64));
        }
    }
    steps.dedup();
    Ok((steps, log.damaged()))
}

#[test]
fn every_truncation_gives_the_whole_frames_before_it() {
    let (fixture, bytes, ends) = died();
    for length in 0..=bytes.len() {
        let (steps, damaged) = read(&fixture, &bytes[..length]).unwrap();
        let whole = ends.iter().filter(|&&end| end <= length).count() as u64;
        assert_eq!(steps, (0..whole).collect::<Vec<_>>(), "{length} bytes");
        assert!(!damaged, "a write that was cut off at {length} is no damage");
    }
}

#[test]
fn flipped_bits_are_found() {
    let (fixture, mut bytes, ends) = died();
    let headers = [0].into_iter().chain(ends.iter().copied().take(3)).flat_map(|end| {
        // The log's first bytes go before its first header.
        let length = if end == 0 { 32 } else { 24 };
        end * 8..(end + length) * 8
    });
    for bit in headers.chain((0..bytes.len() * 8).step_by(97)) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        match read(&fixture, &bytes) {
            Ok((steps, damaged)) => {
                let whole = ends.iter().filter(|&&end| end <= bit / 8).count() as u64;
                assert_eq!(steps, (0..whole).collect::<Vec<_>>(), "bit {bit}");
                assert!(damaged, "bit {bit} was flipped without a trace");
            }
            Err(error) => {
                assert!(bit < 64, "bit {bit}: {error}");
                assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
            }
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn zeros_after_the_last_frame_are_damage_that_costs_nothing() {
    // What some file systems show after a power cut.
    let (fixture, mut bytes, _) = died();
    bytes.resize(bytes.len() + 4096, 0);
    assert_eq!(read(&fixture, &bytes).unwrap(), ((0..4).collect(), true));
}

#[test]
fn a_damaged_log_is_put_aside_and_never_removed() {
    let (fixture, mut bytes, ends) = died();
    // The length of the second frame.
    bytes[ends[0] + 6] ^= 1;
    std::fs::write(fixture.layout().log(0), &bytes).unwrap();
    let recovered = recover(&FaultyDisk::default(), &fixture.layout()).unwrap().unwrap();
    assert!(recovered.damaged);
    assert_eq!(recovered.rows, 3);
    assert_eq!(fixture.recovered_steps(), [0]);
    let mut aside = std::fs::read_dir(fixture.layout().aside()).unwrap();
    assert_eq!(std::fs::read(aside.next().unwrap().unwrap().path()).unwrap(), bytes);
    let metadata = crate::run::RunMetadata::read(&fixture.layout().metadata()).unwrap().unwrap();
    let failure = metadata.failure.unwrap();
    assert!(failure.contains("damaged") && failure.contains("aside"), "{failure}");
}
