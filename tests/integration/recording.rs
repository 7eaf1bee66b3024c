//! A recorded run, from the recorder to the command line, with nothing going wrong.

use data_diet::Experiment;
use data_diet::observe::Phase;
use data_diet::run::RunStatus;

use crate::harness::{Directory, Training, data_diet, observations, part_files, table};

const TRAINING: Training = Training { classes: 3, batch_rows: 16, epoch_steps: 20 };

#[test]
fn what_was_handed_over_is_in_the_tables_once_and_in_order() {
    let directory = Directory::new();
    let mut recorder = directory
        .recorder("seed-0", &TRAINING.format())
        .flush_rows(50)
        .segment_bytes(4096)
        .start()
        .unwrap();
    for index in 0..100 {
        recorder.record(TRAINING.batch(index)).unwrap();
    }
    let report = recorder.finish().unwrap();
    assert_eq!((report.status, report.rows.written), (RunStatus::Finished, 1600));
    let path = directory.experiment();
    let experiment = Experiment::open(&path).unwrap();
    assert!(experiment.recovered().is_empty());
    for phase in [Phase::Train, Phase::Score] {
        let expected = TRAINING.phase_rows(phase, 100);
        assert!(!expected.is_empty());
        assert!(part_files(&path, "logits", "seed-0", phase).len() > 5);
        assert_eq!(table(&path, "logits", "seed-0", phase), expected);
        let plain = table(&path, "observations", "seed-0", phase);
        assert_eq!(observations(&experiment, "seed-0", phase).unwrap(), plain);
        let keys = |row: &crate::harness::Row| (row.step, row.epoch, row.example, row.label);
        assert!(plain.iter().map(keys).eq(expected.iter().map(keys)));
    }
}

#[test]
fn the_command_line_finds_a_finished_run_sound() {
    let directory = Directory::new();
    let mut recorder = directory.recorder("seed-0", &TRAINING.format()).start().unwrap();
    recorder.record(TRAINING.batch(0)).unwrap();
    let _ = recorder.finish().unwrap();
    let call = data_diet(&["verify".as_ref(), directory.experiment().as_os_str()], 0);
    call.tells("2 parts, 32 rows").tells("no problems found");
    assert_eq!(call.stdout, "");
    let elsewhere = directory.path().join("elsewhere");
    data_diet(&["verify".as_ref(), elsewhere.as_os_str()], 1)
        .tells("elsewhere is not an experiment directory");
}
