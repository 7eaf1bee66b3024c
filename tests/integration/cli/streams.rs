//! Help, exit codes, and streams that are closed or full.

use std::io;
use std::process::Stdio;

use super::Twelve;
use crate::harness::{command, data_diet, finish};

/// The writing end of a pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn help_teaches() {
    let help = data_diet(&["--help"], 0);
    for words in
        ["inspect", "scores", "filter", "recover", "verify", "A typical session", "Exit codes"]
    {
        help.says(words);
    }
    let inspect = data_diet(&["inspect", "--help"], 0);
    inspect.says("runs/digits").says("--examples <N>").says("[default: 5]");
    let scores = data_diet(&["scores", "--help"], 0);
    for words in [
        "el2n_PHASE_epoch_E",
        "el2n_PHASE_steps_A_to_B",
        "forgetting_inf",
        "never_learned",
        "aum",
        "cartography_variability",
        "grand_epoch_E",
        "NAME_std",
        "--at-epoch",
        "--at-step",
        "--phase",
        "Toneva et al. 2018",
        "Pleiss et al. 2020",
        "Swayamdipta et al. 2020",
        "Paul et al. 2021",
    ] {
        scores.says(words);
    }
    data_diet(&["recover", "--help"], 0).says("interrupted runs");
    data_diet(&["verify", "--help"], 0).says("checksums");
    data_diet(&["--version"], 0).says(concat!("data-diet ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn arguments_that_make_no_sense_exit_with_2() {
    let none: [&str; 0] = [];
    data_diet(&none, 2).tells("Usage: data-diet");
    data_diet(&["inspct"], 2).tells("a similar subcommand exists: 'inspect'");
    data_diet(&["inspect"], 2).tells("<EXPERIMENT>");
    data_diet(&["inspect", "x", "--examples", "-1"], 2);
    data_diet(&["verify", "x", "y"], 2).tells("unexpected argument 'y'");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let twelve = Twelve::new();
    let experiment = twelve.shown();
    for arguments in [&["inspect", &experiment][..], &["--help"], &["scores", "--help"]] {
        finish(command(arguments).stdout(closed_pipe()), 0).is_quiet();
    }
}

#[test]
fn findings_count_even_if_nobody_reads_them() {
    let twelve = Twelve::new();
    std::fs::write(twelve.path().join("observations/notes.txt"), "").unwrap();
    let call = finish(command(&["verify", &twelve.shown()]).stdout(closed_pipe()), 1);
    call.tells("1 finding");
    assert_eq!(call.stderr.lines().count(), 1, "{}", call.describe());
}

#[test]
fn a_closed_standard_error_changes_no_exit_code() {
    let twelve = Twelve::new();
    let (experiment, output) = (twelve.shown(), twelve.beside("scores.parquet"));
    for (arguments, code) in [
        (&["scores", &experiment, "-o", &output][..], 0),
        (&["verify", &experiment], 0),
        (&["recover", &experiment], 0),
        (&["inspect", "missing"], 1),
        (&["inspect"], 2),
    ] {
        finish(command(arguments).stderr(closed_pipe()), code);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output_is_a_failure() {
    let twelve = Twelve::new();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let call = finish(command(&["inspect", &twelve.shown()]).stdout(full), 1);
    call.tells("data-diet: cannot write to standard output: No space left on device");
}
