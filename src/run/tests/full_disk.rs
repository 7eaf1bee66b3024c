//! A disk that is full from some byte on, and has room again later.

use std::io::ErrorKind::StorageFull;

use super::rows::{Fixture, batch, log_files};
use super::{Call, FaultyDisk};
use crate::run::log::LogReader;

/// What a healthy recording of ten batches writes, in bytes.
fn bytes_of_ten_batches() -> u64 {
    let fixture = Fixture::new();
    let (mut writer, _) = fixture.open(FaultyDisk::default().arc()).unwrap();
    for step in 0..10 {
        writer.push(batch(step));
        writer.commit().unwrap();
    }
    let logs = log_files(&fixture.layout());
    logs.iter().map(|(_, bytes)| bytes.len() as u64).sum()
}

#[test]
fn every_byte_at_which_the_disk_fills_up_is_survived() {
    let bytes = bytes_of_ten_batches();
    assert!(bytes > 2000);
    for room in (0..bytes).step_by(97) {
        let fixture = Fixture::new();
        let disk = FaultyDisk::default();
        let (mut writer, _) = fixture.open(disk.arc()).unwrap();
        disk.set_room(Some(room));
        let (mut failures, mut committed) = (0, 0);
        for step in 0..10 {
            writer.push(batch(step));
            match writer.commit() {
                Ok(()) => committed = step + 1,
                Err(error) => {
                    failures += 1;
                    assert_eq!(error.io_error().unwrap().kind(), StorageFull, "{error}");
                    assert_eq!(writer.pending().rows, (step + 1 - committed) * 3);
                    // Of what was stored of the frame, nothing is left.
                    assert_eq!(whole_frames(&fixture), committed, "room for {room} bytes");
                }
            }
        }
        assert!(failures > 0, "room for {room} bytes was enough");
        disk.heal();
        writer.commit().unwrap();
        assert_eq!(writer.pending().rows, 0);
        assert_eq!(writer.unpublished(), 30);
        writer.publish_all().unwrap();
        assert_eq!(fixture.steps(), (0..10).collect::<Vec<_>>(), "room for {room} bytes");
        assert!(log_files(&fixture.layout()).is_empty());
    }
}

/// The frames of all logs; panics if there is a byte beside them.
fn whole_frames(fixture: &Fixture) -> u64 {
    let mut frames = 0;
    for (path, bytes) in log_files(&fixture.layout()) {
        let mut reader = LogReader::open(&path).unwrap();
        let mut length = 8;
        while let Some(sections) = reader.next_frame().unwrap() {
            frames += 1;
            length += crate::run::log::encode_frame(&sections).unwrap().len();
        }
        assert_eq!(bytes.len(), length, "a partial frame was not cut back");
    }
    frames
}

#[test]
fn a_disk_that_fills_up_while_a_segment_is_published_is_survived() {
    for room in (0..6000).step_by(211) {
        let fixture = Fixture::new();
        let disk = FaultyDisk::default();
        let (mut writer, _) = fixture.open(disk.arc()).unwrap();
        (0..6).for_each(|step| writer.push(batch(step)));
        writer.commit().unwrap();
        disk.set_room(Some(room));
        let published = writer.publish_all();
        if let Err(error) = published {
            assert_eq!(error.io_error().unwrap().kind(), StorageFull, "{error}");
            assert_eq!(writer.unpublished(), 18);
        }
        disk.heal();
        (6..9).for_each(|step| writer.push(batch(step)));
        writer.commit().unwrap();
        writer.publish_all().unwrap();
        assert_eq!(fixture.steps(), (0..9).collect::<Vec<_>>(), "room for {room} bytes");
        assert!(fixture.layout().drafts().unwrap().is_empty());
    }
}

#[test]
fn a_cut_back_that_fails_leaves_the_frame_to_be_overwritten() {
    let fixture = Fixture::new();
    let disk = FaultyDisk::default();
    let (mut writer, _) = fixture.open(disk.arc()).unwrap();
    writer.push(batch(0));
    writer.commit().unwrap();
    disk.set_room(Some(50));
    disk.fail_once(Call::SetLen, 0, std::io::ErrorKind::Other);
    writer.push(batch(1));
    writer.commit().unwrap_err();
    disk.heal();
    writer.commit().unwrap();
    assert_eq!(whole_frames(&fixture), 2);
    writer.publish_all().unwrap();
    assert_eq!(fixture.steps(), [0, 1]);
}
