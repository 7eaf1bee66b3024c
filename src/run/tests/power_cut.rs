//! Power cuts: what was not synced may be gone, and what is flushed under [`Durability::PowerCut`] is
//! not.

use std::sync::Arc;

use super::forgetful_disk::{AfterCut, LossyDisk};
use super::rows::{Fixture, batch};
use crate::run::{Durability, IfRunExists, RunOptions, RunWriter};

fn options(fixture: &Fixture) -> RunOptions {
    RunOptions { durability: Durability::PowerCut, ..fixture.options() }
}

fn outcomes() -> impl Iterator<Item = AfterCut> {
    [AfterCut::Nothing, AfterCut::Everything].into_iter().chain((0..12).map(AfterCut::Some))
}

fn prefix(steps: &[u64]) -> bool {
    steps.iter().copied().eq(0..steps.len() as u64)
}

/// Commits steps, publishing after every third, until the power is cut after `steps` of them.
fn record_until_cut(fixture: &Fixture, steps: u64, after: AfterCut) {
    let disk = LossyDisk::new(fixture.path());
    let (mut writer, _) = RunWriter::open(Arc::new(disk.clone()), options(fixture)).unwrap();
    for step in 0..steps {
        if step % 3 == 2 {
            writer.publish_all().unwrap();
        }
        writer.push(batch(step));
        writer.commit().unwrap();
    }
    drop(writer);
    disk.cut_power(after);
}

#[test]
fn every_flushed_row_survives() {
    for after in outcomes() {
        for steps in 0..8 {
            let fixture = Fixture::new();
            record_until_cut(&fixture, steps, after);
            let survived = fixture.recovered_steps();
            assert_eq!(survived, (0..steps).collect::<Vec<_>>(), "{steps} steps, {after:?}");
        }
    }
}

#[test]
fn without_the_option_a_power_cut_leaves_a_prefix() {
    for after in outcomes() {
        let fixture = Fixture::new();
        let disk = LossyDisk::new(fixture.path());
        let (mut writer, _) = fixture.open(Arc::new(disk.clone())).unwrap();
        for step in 0..9 {
            writer.push(batch(step));
            writer.commit().unwrap();
            if step == 3 {
                writer.publish_all().unwrap();
            }
        }
        drop(writer);
        disk.cut_power(after);
        let Ok(experiment) = crate::run::Experiment::open(fixture.path()) else { continue };
        if experiment.runs().unwrap().is_empty() {
            continue;
        }
        let steps = fixture.steps();
        assert!(prefix(&steps), "{after:?}: {steps:?}");
        if after == AfterCut::Nothing {
            assert!(steps.len() < 9, "the disk forgets nothing, and the tests here prove nothing");
        }
    }
}

#[test]
fn a_failed_sync_neither_doubles_nor_loses_a_row() {
    for after in outcomes() {
        for data_arrived in [false, true] {
            for failing in 0..6 {
                // The cut comes right after the failure, after the repeated commit, or at the end.
                for more in [None, Some(0), Some(3)] {
                    let fixture = Fixture::new();
                    let disk = LossyDisk::new(fixture.path());
                    let (mut writer, _) =
                        RunWriter::open(Arc::new(disk.clone()), options(&fixture)).unwrap();
                    let mut committed = 0;
                    for step in 0..6 {
                        writer.push(batch(step));
                        if step == failing {
                            disk.fail_next_sync(data_arrived);
                            writer.commit().unwrap_err();
                            assert_eq!(writer.pending().rows, 3);
                            let Some(more) = more else { break };
                            writer.commit().unwrap();
                            committed = step + 1;
                            if more == 0 {
                                break;
                            }
                        } else {
                            writer.commit().unwrap();
                            committed = step + 1;
                        }
                    }
                    drop(writer);
                    disk.cut_power(after);
                    let steps = fixture.recovered_steps();
                    let place = format!(
                        "{after:?}, data arrived {data_arrived}, sync {failing}, more {more:?}: \
                         {steps:?}"
                    );
                    assert!(prefix(&steps), "{place}");
                    let at_most = committed + u64::from(more.is_none());
                    assert!((committed..=at_most).contains(&(steps.len() as u64)), "{place}");
                }
            }
        }
    }
}

#[test]
fn a_failed_sync_in_a_healthy_process_is_one_retry() {
    let fixture = Fixture::new();
    let disk = LossyDisk::new(fixture.path());
    let (mut writer, _) = RunWriter::open(Arc::new(disk.clone()), options(&fixture)).unwrap();
    for step in 0..6 {
        writer.push(batch(step));
        if step == 3 {
            disk.fail_next_sync(true);
            writer.commit().unwrap_err();
        }
        writer.commit().unwrap();
    }
    writer.publish_all().unwrap();
    assert_eq!(fixture.steps(), (0..6).collect::<Vec<_>>());
}

#[test]
fn a_resumed_run_does_not_get_its_old_future_back() {
    for after in outcomes() {
        let fixture = Fixture::new();
        record_until_cut(&fixture, 6, AfterCut::Nothing);
        let disk = LossyDisk::new(fixture.path());
        let existing = IfRunExists::ResumeAt { step: 4, epoch: 0 };
        let options = RunOptions { existing, ..options(&fixture) };
        let (mut writer, _) = RunWriter::open(Arc::new(disk.clone()), options).unwrap();
        writer.push(batch(4));
        writer.commit().unwrap();
        drop(writer);
        disk.cut_power(after);
        assert_eq!(fixture.recovered_steps(), [0, 1, 2, 3, 4], "{after:?}");
    }
}
