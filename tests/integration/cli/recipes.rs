//! `data-diet filter` in several steps and by class, and the recipes that it writes and replays.

use std::fs;
use std::path::Path;

use data_diet::manifest::recipe::{Recipe, RecipeFile, Step};
use data_diet::selection::{Classes, HardEnd};
use data_diet::{Amount, Rule};

use super::Twelve;
use crate::harness::data_diet;

/// The scores of the twelve examples and a manifest of them, with the label as the class.
pub(super) struct Scored {
    twelve: Twelve,
    pub(super) scores: String,
    pub(super) manifest: String,
    output: String,
}

impl Scored {
    pub(super) fn new() -> Self {
        let twelve = Twelve::new();
        let place = |name: &str| twelve.beside(name);
        let (scores, manifest, output) =
            (place("scores.parquet"), place("train.csv"), place("kept.csv"));
        data_diet(&["scores", &twelve.shown(), "-o", &scores], 0);
        let rows: Vec<String> = (0..12).map(|row| format!("{}\n", row * 5 % 12)).collect();
        fs::write(&manifest, format!("id\n{}", rows.concat())).unwrap();
        Self { twelve, scores, manifest, output }
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let start = ["filter", "--force", "--scores", &self.scores, "--manifest", &self.manifest];
        [&start[..], &["--key", "id"], more].concat()
    }

    /// The recipe that a call saves.
    fn recipe(&self, more: &[&str]) -> Recipe {
        data_diet(&self.arguments(&[more, &["-o", &self.output]].concat()), 0);
        Recipe::read(self.beside("kept.recipe.json")).unwrap()
    }

    pub(super) fn experiment(&self) -> String {
        self.twelve.shown()
    }

    pub(super) fn beside(&self, name: &str) -> String {
        self.twelve.beside(name)
    }

    fn files(&self) -> usize {
        fs::read_dir(self.twelve.directory.path()).unwrap().count()
    }
}

#[test]
fn options_make_the_recipe_that_they_say() {
    let scored = Scored::new();
    let half = Amount::Fraction(0.5);
    let cases = [
        (
            "--by el2n --drop-highest 25% --keep highest --fraction 0.5",
            Recipe::new()
                .then(Step::drop("el2n", Rule::Highest(Amount::Fraction(0.25))))
                .then(Step::keep("el2n", Rule::Highest(half))),
        ),
        (
            "--by el2n --drop-lowest 2 --drop-by forgetting --drop-highest 1 --min -1",
            Recipe::new()
                .then(Step::drop("forgetting", Rule::Highest(Amount::Count(1))))
                .then(Step::drop("forgetting", Rule::Lowest(Amount::Count(2))))
                .then(Step::keep("el2n", Rule::Threshold { min: Some(-1.0), max: None })),
        ),
        (
            "--by el2n --keep stratified --drop-hardest 0.25 --count 4 --strata 3 --seed 9",
            Recipe::coverage_centric(
                "el2n",
                HardEnd::High,
                Amount::Fraction(0.25),
                3,
                Amount::Count(4),
                9,
            ),
        ),
        (
            "--by el2n --keep stratified --drop-hardest 1 --hard low --fraction 0.5",
            Recipe::coverage_centric("el2n", HardEnd::Low, Amount::Count(1), 50, half, 0),
        ),
        (
            "--by el2n --keep window --offset 0.25 --count 3 --classes balanced",
            Recipe::new().then(
                Step::keep(
                    "el2n",
                    Rule::Window { offset: Amount::Fraction(0.25), keep: Amount::Count(3) },
                )
                .classes(Classes::Balanced),
            ),
        ),
        (
            "--by el2n --keep random --seed 3 --fraction 0.5 --class-floor 1",
            Recipe::new().then(
                Step::keep("el2n", Rule::Random { amount: half, seed: 3 })
                    .classes(Classes::AtLeast(Amount::Count(1))),
            ),
        ),
        (
            "--by el2n --keep beta --prediction-mean never_learned --count 3 --seed 7 --c-d 5.5",
            Recipe::new().then(
                Step::keep("el2n", Rule::Beta { amount: Amount::Count(3), c_d: 5.5, seed: 7 })
                    .prediction_mean("never_learned"),
            ),
        ),
        (
            "--by el2n --keep lowest --fraction 0.5 --classes proportional --drop-lowest 3",
            Recipe::new()
                .then(
                    Step::drop("el2n", Rule::Lowest(Amount::Count(3)))
                        .classes(Classes::Proportional),
                )
                .then(Step::keep("el2n", Rule::Lowest(half)).classes(Classes::Proportional)),
        ),
    ];
    for (options, expected) in cases {
        let options: Vec<&str> = options.split(' ').collect();
        let recipe = scored.recipe(&options);
        assert_eq!(recipe, expected, "{options:?}");
        // What was kept is what the library keeps.
        let read = |name: &str| data_diet::selection::ScoreColumn::read(&scored.scores, name);
        let selection = recipe.select(read).unwrap();
        let kept = fs::read_to_string(&scored.output).unwrap();
        let mut kept: Vec<i64> = kept.lines().skip(1).map(|id| id.parse().unwrap()).collect();
        kept.sort_unstable();
        assert_eq!(kept, selection.examples().collect::<Vec<_>>(), "{options:?}");
    }
}

#[test]
fn a_recipe_is_replayed_to_the_byte() {
    let scored = Scored::new();
    let choice = ["--by", "el2n", "--keep", "stratified", "--count", "5", "--drop-hardest", "2"];
    let call = data_diet(&scored.arguments(&[&choice[..], &["-o", &scored.output]].concat()), 0);
    let saved = scored.beside("kept.recipe.json");
    call.tells(&format!("recipe -> {saved}"));
    let (again, other) = (scored.beside("again.csv"), scored.beside("other.csv"));
    let call = data_diet(&["filter", "--recipe", &saved, "-o", &again, "--exact"], 0);
    assert!(!call.stderr.contains("warning"), "{}", call.describe());
    assert_eq!(fs::read(&scored.output).unwrap(), fs::read(&again).unwrap());
    // The recipe of the replay is the recipe.
    let text = |path: &str| fs::read_to_string(path).unwrap();
    assert_eq!(text(&saved), text(&scored.beside("again.recipe.json")));

    let file = RecipeFile::read(&saved).unwrap();
    let origin = file.scores.unwrap();
    assert_eq!(origin.path, scored.scores);
    let bytes = fs::read(&scored.scores).unwrap();
    assert_eq!(origin.bytes, bytes.len() as u64);
    assert_eq!(origin.crc32c, format!("{:08x}", crc32c::crc32c(&bytes)));
    assert_eq!(origin.info.unwrap().runs, ["seed-0", "seed-1"]);
    let outcome = file.outcome.unwrap();
    assert_eq!((outcome.rows, outcome.rows_kept, outcome.rows_pruned), (12, 5, 7));
    assert_eq!((outcome.examples, outcome.examples_kept, outcome.classes.len()), (12, 5, 3));

    // Other scores and another manifest; the key and the policies are those of the recipe.
    let others = scored.beside("others.parquet");
    data_diet(&["scores", &scored.twelve.shown(), "--run", "seed-0", "-o", &others], 0);
    let rows = "x,id\na,3\nb,0\nc,1\nd,2\ne,4\nf,5\ng,6\nh,7\ni,8\nj,9\nk,10\nl,11\n";
    fs::write(&scored.manifest, rows).unwrap();
    let replay = ["filter", "--recipe", &saved, "--scores", &others, "-o", &other];
    let call = data_diet(&replay, 0);
    call.tells("warning: ").tells("are not the scores that the recipe was made from");
    assert_eq!(text(&other).lines().count(), 6);
    fs::remove_file(&other).unwrap();
    let call = data_diet(&[&replay[..], &["--exact"]].concat(), 1);
    call.tells("are not the scores that the recipe was made from");
    assert!(!Path::new(&other).exists());
}

#[test]
fn recipes_are_written_where_they_were_asked_for() {
    let scored = Scored::new();
    let highest = ["--by", "el2n", "--keep", "highest", "--count", "2"];
    let with = |more: &[&str]| data_diet(&scored.arguments(&[&highest[..], more].concat()), 0);
    let files = scored.files();
    with(&["--dry-run"]);
    with(&["-o", "-"]);
    assert_eq!(scored.files(), files);
    with(&["-o", &scored.output, "--no-recipe"]);
    assert_eq!(scored.files(), files + 1);
    let mine = scored.beside("mine.json");
    with(&["--dry-run", "--save-recipe", &mine]);
    with(&["-o", &scored.output, "--save-recipe", &mine]);
    assert_eq!(scored.files(), files + 2);
    assert_eq!(Recipe::read(&mine).unwrap().steps().len(), 1);
    // No output, no recipe.
    let arguments = scored.arguments(&["--by", "el2n", "--min", "9", "-o", &scored.output]);
    data_diet(&arguments, 1);
    assert_eq!(scored.files(), files + 2);
}

#[test]
fn options_that_make_no_sense_together() {
    let scored = Scored::new();
    let keep = ["--by", "el2n", "--keep", "highest", "--count", "4", "-o", &scored.output];
    let saved = scored.beside("kept.recipe.json");
    scored.recipe(&keep[..6]);
    let files = scored.files();
    let refused = |more: &[&str]| data_diet(&scored.arguments(&[&keep[..], more].concat()), 2);
    refused(&["--offset", "1"]).tells("--offset goes with --keep window");
    refused(&["--strata", "9"]).tells("--strata goes with --keep stratified");
    refused(&["--seed", "9"]).tells("--seed goes with --keep random");
    refused(&["--prediction-mean", "aum"]).tells("--prediction-mean goes with --keep beta");
    refused(&["--c-d", "4"]).tells("--c-d goes with --keep beta");
    refused(&["--drop-by", "el2n"]).tells("--drop-highest");
    refused(&["--hard", "low"]).tells("--drop-hardest");
    refused(&["--exact"]).tells("--recipe");
    refused(&["--drop-hardest", "1", "--drop-lowest", "1"]).tells("cannot be used with");
    refused(&["--classes", "balanced", "--class-floor", "1"]).tells("cannot be used with");
    refused(&["--save-recipe", "x.json", "--no-recipe"]).tells("cannot be used with");
    refused(&["--save-recipe", &scored.output])
        .tells("expected another file than that of --output");
    refused(&["--drop-hardest", "1", "--drop-by", "presentations"])
        .tells("which end of `presentations` is hard? Say --hard");
    for part in ["1.5", "-1", "101%", "nan", "x", "5 apples"] {
        refused(&["--drop-highest", part]);
    }
    refused(&["--drop-highest", "half"]).tells("expected a share such as 0.05 or 5%");
    refused(&["--class-floor", "3"]).tells("class floor: expected at most 4 examples");
    refused(&["--drop-lowest", "9"])
        .tells("step 2 (keep highest by `el2n`): count: expected at most 3");
    let window = ["--by", "el2n", "--keep", "window", "--count", "4", "--dry-run"];
    data_diet(&scored.arguments(&window), 2).tells("--keep window needs --offset");
    let strata = ["--by", "el2n", "--keep", "stratified", "--count", "4", "--strata", "0"];
    data_diet(&scored.arguments(&[&strata[..], &["--dry-run"]].concat()), 2)
        .tells("strata: expected between 1 and 1000000, got 0");
    let all = ["--by", "el2n", "--drop-hardest", "1.0", "--keep", "lowest", "--count", "1"];
    data_diet(&scored.arguments(&[&all[..], &["--dry-run"]].concat()), 1)
        .tells("step 1 (drop highest by `el2n`): this amount drops all of 12 examples");
    let unknown = ["--by", "el2n", "--drop-lowest", "1", "--drop-by", "aun", "--min", "0"];
    data_diet(&scored.arguments(&[&unknown[..], &["--dry-run"]].concat()), 1)
        .tells("no score `aun`; there are: el2n, ");

    let replay = |more: &[&str], code| {
        let start = ["filter", "--recipe", &saved, "--dry-run"];
        data_diet(&[&start[..], more].concat(), code)
    };
    replay(&[], 0).tells("would have kept 4 of 12 rows");
    for contradiction in [
        &["--by", "el2n"][..],
        &["--keep", "lowest", "--count", "1"],
        &["--min", "1"],
        &["--seed", "1"],
        &["--classes", "balanced"],
        &["--drop-lowest", "1"],
        &["--key", "id"],
        &["--format", "csv"],
        &["--unscored", "keep"],
        &["--duplicates", "allow"],
        &["--no-header"],
    ] {
        replay(contradiction, 2).tells("cannot be used with");
    }
    assert_eq!(scored.files(), files);
}

#[test]
fn recipes_that_cannot_be_replayed() {
    let scored = Scored::new();
    let saved = scored.beside("mine.json");
    let replay = |more: &[&str], code| {
        let start = ["filter", "--recipe", &saved, "--dry-run"];
        data_diet(&[&start[..], more].concat(), code)
    };
    replay(&[], 1).tells("cannot read").tells("mine.json");
    let by_hand = r#"{"schema_version": 1,
        "steps": [{"keep": {"lowest": {"count": 3}}, "by": "el2n"}]}"#;
    fs::write(&saved, by_hand).unwrap();
    replay(&[], 2).tells("names no scores; name it by --scores");
    replay(&["--scores", &scored.scores], 2).tells("names no manifest; name it by --manifest");
    let both = ["--scores", &scored.scores, "--manifest", &scored.manifest];
    // Without a word about the manifest, ids are row numbers.
    replay(&both, 0).tells("would have kept 3 of 12 rows");
    replay(&[&both[..], &["--exact"]].concat(), 1)
        .tells("the recipe does not say which scores it was made from");
    fs::write(&saved, by_hand.replace("1,", "99,")).unwrap();
    replay(&both, 1).tells("has schema version 99, this crate knows 1");
    fs::write(&saved, by_hand.replace("lowest", "loudest")).unwrap();
    replay(&both, 1).tells("is not a valid recipe").tells("unknown variant `loudest`");
    fs::write(&saved, &by_hand[..40]).unwrap();
    replay(&both, 1).tells("is not JSON");
}

#[test]
fn a_replay_reads_directories_keys_and_added_scores_as_the_first_call_did() {
    let scored = Scored::new();
    let shards = scored.beside("shards");
    fs::create_dir(&shards).unwrap();
    for (shard, ids) in [("a.csv", 0..7), ("b.csv", 7..12)] {
        let rows: Vec<String> = ids.map(|id| format!("{id}.png\n")).collect();
        let rows = rows.concat();
        fs::write(Path::new(&shards).join(shard), format!("path\n{rows}")).unwrap();
    }
    let map = scored.beside("map.csv");
    let rows: Vec<String> = (0..12).map(|id| format!("{id}.png,{id}\n")).collect();
    let rows = rows.concat();
    fs::write(&map, format!("name,example\n{rows}")).unwrap();
    let (kept, again) = (scored.beside("kept"), scored.beside("again"));
    let options = [
        &["filter", "--scores", &scored.scores, "--manifest", &shards, "--key", "path"][..],
        &["--key-map", &map, "--key-map-key", "name", "--with-scores"],
        &["--by", "el2n", "--keep", "highest", "--count", "5", "-o", &kept],
    ];
    data_diet(&options.concat(), 0).tells("recipe -> ");
    let recipe = scored.beside("kept.recipe.json");
    data_diet(&["filter", "--recipe", &recipe, "--exact", "-o", &again], 0);
    for shard in ["a.csv", "b.csv"] {
        let read = |directory: &str| fs::read_to_string(Path::new(directory).join(shard)).unwrap();
        assert_eq!(read(&kept), read(&again));
        assert!(read(&kept).starts_with("path,el2n\n"), "{}", read(&kept));
    }
    let origin = RecipeFile::read(&recipe).unwrap().manifest.unwrap();
    assert_eq!(origin.with_scores, ["el2n"]);
    assert_eq!(origin.key_map.unwrap().key, "name");
    for flag in ["--key-map", "--with-scores"] {
        data_diet(&["filter", "--recipe", &recipe, flag, &map, "--dry-run"], 2).tells(flag);
    }
}
