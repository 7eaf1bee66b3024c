//! Names of runs that some reader would retype, and files that operating systems leave.

use std::fs;

use super::Twelve;
use crate::harness::data_diet;

#[test]
fn what_an_operating_system_leaves_is_told_apart_from_damage() {
    let twelve = Twelve::new();
    let part = twelve.part("seed-0");
    let partition = part.parent().unwrap();
    let litter = [
        partition.join(".DS_Store"),
        partition.join("._part-000000.parquet"),
        partition.join("Thumbs.db"),
        twelve.path().join("observations/desktop.ini"),
    ];
    for path in &litter {
        fs::write(path, "litter").unwrap();
    }
    fs::write(twelve.path().join("_runs/.DS_Store"), "litter").unwrap();
    let call = data_diet(&["verify", &twelve.shown()], 0);
    call.tells("no problems found").tells("Polars and DuckDB fail; delete them");
    for path in &litter {
        call.tells(&path.display().to_string());
    }
    data_diet(&["scores", &twelve.shown(), "-o", &twelve.beside("scores.parquet")], 0);
    data_diet(&["inspect", &twelve.shown()], 0);
    // What is ours and wrong is still damage.
    fs::write(partition.join("notes.txt"), "mine").unwrap();
    data_diet(&["verify", &twelve.shown()], 1).says("is not a part of any run");
}

#[test]
fn old_names_stay_readable_and_are_told() {
    let twelve = Twelve::new();
    // As an earlier version could have recorded them.
    for table in ["observations", "logits", "grand", "snapshots"] {
        let from = twelve.path().join(table).join("run=seed-0");
        if from.exists() {
            fs::rename(from, twelve.path().join(table).join("run=01")).unwrap();
        }
    }
    let (from, to) = (twelve.path().join("_runs/seed-0"), twelve.path().join("_runs/01"));
    fs::rename(from, &to).unwrap();
    for entry in fs::read_dir(&to).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "json") {
            let text = fs::read_to_string(&path).unwrap().replace("\"seed-0\"", "\"01\"");
            fs::write(&path, text).unwrap();
        }
    }
    fs::create_dir(twelve.path().join("_runs/my run")).unwrap();
    let call = data_diet(&["inspect", &twelve.shown()], 0);
    call.says("run `01`: some readers take this name for a number")
        .says("hive_types={'run': VARCHAR}");
    call.says("`_runs/my run` is left out: no run can have this name");
    data_diet(&["scores", &twelve.shown(), "-o", &twelve.beside("scores.parquet")], 0)
        .tells("2 runs (01, seed-1)");
    data_diet(&["verify", &twelve.shown()], 1).says("my run").says("cannot be that of a run");
}
