//! `data-diet inspect`.

use data_diet::observe::Phase;

use super::Twelve;
use crate::harness::recorded::{self, Presented, finish};
use crate::harness::{copy_directory, data_diet};

/// The words of each line.
fn lines(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn shows_runs_and_the_hardest_and_easiest_examples() {
    let twelve = Twelve::new();
    let call = data_diet(&["inspect", &twelve.shown(), "--examples", "2"], 0);
    call.is_quiet();
    let lines = lines(&call.stdout);
    assert_eq!(lines[0], [twelve.shown()]);
    assert_eq!(
        lines[2].join(" "),
        "run status ranks model train rows score rows steps epochs size"
    );
    for (line, run) in lines[3..5].iter().zip(["seed-0", "seed-1"]) {
        assert_eq!(line[..9], [run, "finished", "1", "3", "classes", "36", "36", "9", "3"]);
        assert_eq!(line[10], "KiB", "{}", call.describe());
    }
    let place = |heading: &str| call.stdout.lines().position(|line| line == heading).unwrap();
    let hardest = place("hardest examples (el2n_score_epoch_3)");
    assert_eq!(lines[hardest + 1], ["example", "label", "el2n", "std", "runs"]);
    assert_eq!([lines[hardest + 2][0], lines[hardest + 3][0]], ["11", "10"]);
    let easiest = place("easiest examples");
    assert_eq!([lines[easiest + 2][0], lines[easiest + 3][0]], ["0", "1"]);
    // Example 0 in epoch 3: logits (3, 0, 0) and (3.125, 0, 0).
    let el2n = |ease: f64| {
        let other = 1.0 / (ease.exp() + 2.0);
        (4.0 * other * other + 2.0 * other * other).sqrt()
    };
    let (a, b) = (el2n(3.0), el2n(3.125));
    let expected =
        [format!("{:.4}", f64::midpoint(a, b)), format!("{:.4}", (a - b) / 2_f64.sqrt())];
    assert_eq!(lines[easiest + 2][1..], ["0", &expected[0], &expected[1], "2"]);
}

#[test]
fn lists_the_scores_that_runs_can_give() {
    let twelve = Twelve::new();
    let call = data_diet(&["inspect", &twelve.shown()], 0);
    call.says("scores of seed-0, seed-1\n  recorded: el2n, loss, margin, forgetting, ")
        .says("\n  from loss: confidence, cartography_confidence, cartography_variability, ")
        .says("\n  missing (no gradient norms): grand\n")
        .says("\n  missing (no logits): el1n, entropy\n");
}

#[test]
fn one_run_has_no_deviation_and_no_examples_are_shown_unless_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    recorded::finished(directory.path(), "seed-0", 0);
    let path = directory.path().display().to_string();
    let call = data_diet(&["inspect", &path, "--examples", "1"], 0);
    let easiest = lines(&call.stdout).pop().unwrap();
    assert_eq!((easiest[3], easiest[4]), ("-", "1"), "{}", call.describe());
    let call = data_diet(&["inspect", &path, "--examples", "0"], 0);
    assert!(!call.stdout.contains("examples"), "{}", call.describe());
}

#[test]
fn tells_what_went_wrong_in_a_run() {
    let twelve = Twelve::new();
    let mut recorder = recorded::builder(&twelve.path(), "seed-2", 3).start().unwrap();
    let broken = Presented { example: 0, label: 0, logits: vec![f32::NAN; 3] };
    recorded::record(&mut recorder, Phase::Train, 0, 0, &[broken]);
    drop(recorder);
    let call = data_diet(&["inspect", &twelve.shown()], 0);
    assert_eq!(lines(&call.stdout)[5][..7], ["seed-2", "failed", "1", "3", "classes", "1", "0"]);
    call.says("run `seed-2` (rank 0): the hook was dropped without `finish`")
        .says("run `seed-2` (rank 0): 1 row with non-finite logits")
        .is_quiet();
}

/// Two folds: each run holds out the examples that the other trains on.
#[test]
fn held_out_rows_have_a_column_where_there_are_any() {
    let directory = tempfile::tempdir().unwrap();
    for (fold, run) in [(0, "fold-0"), (1, "fold-1")] {
        let row = |example| Presented { example, label: 0, logits: vec![1.0, 0.0, 0.5] };
        let mut recorder = recorded::builder(directory.path(), run, 3).start().unwrap();
        let (held_out, trained): (Vec<i64>, Vec<i64>) = (0..7).partition(|id| id % 2 == fold);
        let rows = |ids: Vec<i64>| ids.into_iter().map(row).collect::<Vec<_>>();
        recorded::record(&mut recorder, Phase::Train, 0, 0, &rows(trained));
        recorded::record(&mut recorder, Phase::HeldOut, 1, 1, &rows(held_out));
        finish(recorder);
    }
    let path = directory.path().display().to_string();
    let call = data_diet(&["inspect", &path], 0);
    let lines = lines(&call.stdout);
    let heading = "run status ranks model train rows score rows held_out rows steps epochs size";
    assert_eq!(lines[2].join(" "), heading);
    assert_eq!(
        lines[3][..10],
        ["fold-0", "finished", "1", "3", "classes", "3", "0", "4", "1", "1"]
    );
    assert_eq!(
        lines[4][..10],
        ["fold-1", "finished", "1", "3", "classes", "4", "0", "3", "1", "1"]
    );
}

#[test]
fn a_run_that_is_being_recorded_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display().to_string();
    let mut recorder = recorded::builder(directory.path(), "seed-0", 3).start().unwrap();
    recorded::record_twelve(&mut recorder, 0);
    recorder.flush().unwrap();
    let call = data_diet(&["inspect", &path], 0);
    call.says("seed-0  running").says("no observations are published yet").is_quiet();
    let call = data_diet(&["recover", &path], 0);
    call.tells("nothing to recover");
    finish(recorder);
    let call = data_diet(&["inspect", &path], 0);
    call.says("seed-0  finished").says("hardest examples").is_quiet();
}

#[test]
fn what_a_running_run_has_published_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display().to_string();
    let builder = recorded::builder(directory.path(), "seed-0", 3);
    let mut recorder = recorded::in_small_parts(builder).start().unwrap();
    recorded::record_twelve(&mut recorder, 0);
    // The second answer comes after the recorder has published what the first one committed.
    recorder.flush().unwrap();
    recorder.flush().unwrap();
    let call = data_diet(&["inspect", &path], 0);
    call.says("seed-0  running").says("hardest examples (el2n_score_epoch_3)").is_quiet();
    let call = data_diet(&["verify", &path], 0);
    call.tells("run `seed-0` is being recorded, or was interrupted").tells("72 rows");
    finish(recorder);
}

#[test]
fn a_crashed_run_is_brought_back_and_said_so_once() {
    let directory = tempfile::tempdir().unwrap();
    let (alive, crashed) = (directory.path().join("alive"), directory.path().join("crashed"));
    let mut recorder = recorded::builder(&alive, "seed-0", 3).start().unwrap();
    recorded::record_twelve(&mut recorder, 0);
    recorder.flush().unwrap();
    copy_directory(&alive, &crashed);
    drop(recorder);
    let path = crashed.display().to_string();
    let call = data_diet(&["inspect", &path], 0);
    call.tells("run `seed-0` (rank 0) was interrupted: 72 rows recovered");
    call.says("seed-0  failed").says("the recording process ended without `finish`");
    data_diet(&["inspect", &path], 0).is_quiet();
    data_diet(&["verify", &path], 0).tells("no problems found");
}
