//! What earlier versions have written is read, scored and filtered as they did; see `tests/fixtures`.

use std::fs;
use std::path::{Path, PathBuf};

use data_diet::geometry::{ErrorBarrierTable, KernelVelocityTable};
use data_diet::scores::ScoreInfo;
use data_diet::selection::ScoreColumn;
use data_diet::{Experiment, ScoreOptions, ScoreTable};

use crate::harness::{Directory, copy_directory, data_diet};

/// A copy of a fixture that a test may change.
fn fixture(name: &str) -> Directory {
    let directory = Directory::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    copy_directory(&fixture, directory.path());
    directory
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

#[test]
fn an_experiment_of_0_1_scores_as_it_did() {
    let directory = fixture("experiment_0_1");
    let scores = directory.join("again.parquet");
    let mut arguments = vec![
        "scores".to_owned(),
        text(directory.experiment()),
        "-o".to_owned(),
        text(scores.clone()),
    ];
    for score in ["el2n", "margin", "loss", "forgetting", "aum", "grand", "cartography"] {
        arguments.extend(["--score".to_owned(), score.to_owned()]);
    }
    // The run that was killed is recovered first: both tables of both phases, and `grand`.
    data_diet(&arguments, 0).tells("run `seed-2` (rank 0)").tells("288 rows");
    let earlier = directory.join("scores.parquet");
    let info = ScoreInfo::read(&scores).unwrap().unwrap();
    assert_eq!(ScoreInfo::read(&earlier).unwrap().unwrap(), info);
    assert_eq!(info.runs, ["seed-0", "seed-1", "seed-2"]);
    for name in [
        "el2n",
        "margin",
        "loss",
        "forgetting",
        "aum",
        "grand",
        "cartography_confidence",
        "cartography_variability",
        "cartography_correctness",
        "el2n_std",
        "el2n_count",
        "forgetting_std",
    ] {
        let column = |path: &Path| ScoreColumn::read(path, name).unwrap();
        let (earlier, now) = (column(&earlier), column(&scores));
        assert_eq!((earlier.examples(), earlier.labels()), (now.examples(), now.labels()));
        let bits = |column: &ScoreColumn| -> Vec<u64> {
            column.scores().iter().map(|score| score.to_bits()).collect()
        };
        assert_eq!(bits(&earlier), bits(&now), "{name}");
    }
}

#[test]
fn scores_and_a_recipe_of_0_1_keep_the_same_rows() {
    let directory = fixture("experiment_0_1");
    let kept = fs::read(directory.join("kept.csv")).unwrap();
    let (scores, manifest) = (directory.join("scores.parquet"), directory.join("manifest.csv"));
    let output = directory.join("again.csv");
    let (scores, manifest, output) = (text(scores), text(manifest), text(output));
    data_diet(
        &[
            "filter",
            "--scores",
            &scores,
            "--manifest",
            &manifest,
            "--key",
            "id",
            "--by",
            "el2n",
            "--keep",
            "highest",
            "--fraction",
            "0.5",
            "-o",
            &output,
        ],
        0,
    );
    assert_eq!(fs::read(&output).unwrap(), kept);

    let recipe = text(directory.join("kept.recipe.json"));
    let replayed = text(directory.join("replayed.csv"));
    data_diet(
        &[
            "filter",
            "--recipe",
            &recipe,
            "--scores",
            &scores,
            "--manifest",
            &manifest,
            "-o",
            &replayed,
        ],
        0,
    );
    assert_eq!(fs::read(&replayed).unwrap(), kept);
}

#[test]
fn every_table_of_0_1_is_read_and_verified() {
    let directory = fixture("experiment_0_1");
    let path = directory.experiment();
    data_diet(&["recover".to_owned(), text(path.clone())], 0);
    data_diet(&["verify".to_owned(), text(path.clone())], 0).tells("24 parts, 1,458 rows");
    let experiment = Experiment::open(&path).unwrap();
    let snapshots = experiment.run("seed-0").unwrap().snapshots().unwrap();
    assert_eq!(snapshots.steps(), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(snapshots.at(0).unwrap().tensors().len(), 2);
    let velocities = KernelVelocityTable::open(&path, "seed-0").unwrap();
    assert_eq!(velocities.rows()[0].distance, 0.125);
    let barriers = ErrorBarrierTable::open(&path).unwrap();
    assert_eq!(barriers.rows()[0].curve.errors().by_chord().height, 0.25);
    assert_eq!(
        ScoreTable::fold(&experiment, &ScoreOptions::default()).unwrap().examples().len(),
        48
    );
}
