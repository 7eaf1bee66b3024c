//! Recipes by hand, there and back through a file, and files that are not what they should be.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::error::ErrorKind;
use crate::manifest::{Duplicates, Manifest, ManifestFormat, Unscored};
use crate::selection::Classes;

struct Room(TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("kept.recipe.json")
    }

    fn with(&self, text: impl AsRef<[u8]>) -> Result<RecipeFile> {
        fs::write(self.file(), text).unwrap();
        RecipeFile::read(self.file())
    }
}

/// Ten examples in two classes; `up` is the id, `down` its opposite, `none` lacks the even ones.
fn read(name: &str) -> Result<ScoreColumn> {
    let ids: Vec<i64> = (0..10).collect();
    let labels = ids.iter().map(|id| i32::from(*id > 6)).collect();
    let score = |id: &i64| match name {
        "down" => -(*id as f64),
        "none" if id % 2 == 0 => f64::NAN,
        "mean" => *id as f64 / 10.0,
        "infinite" if *id == 9 => f64::INFINITY,
        _ => *id as f64,
    };
    let scores = ids.iter().map(score).collect();
    if name == "other" {
        return ScoreColumn::new((1..11).collect(), labels, scores);
    }
    ScoreColumn::new(ids, labels, scores)
}

fn kept(recipe: &Recipe) -> Vec<i64> {
    recipe.select(read).unwrap().examples().collect()
}

#[test]
fn shares_mean_all_scored_examples_whatever_was_dropped() {
    let half = Rule::Highest(Amount::Fraction(0.5));
    let recipe = Recipe::new()
        .then(Step::drop("up", Rule::Highest(Amount::Fraction(0.2))))
        .then(Step::keep("up", half));
    assert_eq!(kept(&recipe), [3, 4, 5, 6, 7]);
    assert_eq!(recipe.scores(), ["up"]);
    // The two lowest by `down` are the two highest by `up`.
    let by_another = Recipe::new()
        .then(Step::drop("down", Rule::Lowest(Amount::Count(2))))
        .then(Step::keep("up", half));
    assert_eq!(kept(&by_another), kept(&recipe));
    // Whoever lacks one of the scores takes no part: five are scored, and half of them are 2.5.
    let lacking = Recipe::new()
        .then(Step::drop("up", Rule::Lowest(Amount::Count(1))))
        .then(Step::keep("none", half));
    let selection = lacking.select(read).unwrap();
    assert_eq!(selection.examples().collect::<Vec<_>>(), [5, 7, 9]);
    assert_eq!((selection.without_score(), selection.considered()), (5, 10));
    let random = |seed| {
        Recipe::new().then(Step::keep("up", Rule::Random { amount: Amount::Count(5), seed }))
    };
    assert_ne!(kept(&random(0)), kept(&random(1)));
}

#[test]
fn a_coverage_centric_choice_by_hand() {
    // Without 8 and 9 the range 0..=7 has strata 0-3 and 4-7; all of both are kept.
    let all = Amount::Count(8);
    let recipe =
        |hard, amount| Recipe::coverage_centric("up", hard, Amount::Fraction(0.2), 2, amount, 1);
    assert_eq!(kept(&recipe(HardEnd::High, all)), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(kept(&recipe(HardEnd::Low, all)), [2, 3, 4, 5, 6, 7, 8, 9]);
    let some = kept(&recipe(HardEnd::High, Amount::Count(5)));
    assert_eq!(some.iter().filter(|&&id| id < 4).count(), 2, "{some:?}");
}

#[test]
fn beta_sampling_takes_a_second_score_and_what_earlier_steps_left() {
    let keep = |count, seed| {
        let rule = Rule::Beta { amount: Amount::Count(count), c_d: 4.0, seed };
        Step::keep("up", rule).prediction_mean("mean")
    };
    let recipe = |step| Recipe::new().then(step);
    assert_eq!(recipe(keep(3, 0)).scores(), ["up", "mean"]);
    assert_eq!(kept(&recipe(keep(3, 5))), kept(&recipe(keep(3, 5))));
    let choices: Vec<Vec<i64>> = (0..20).map(|seed| kept(&recipe(keep(3, seed)))).collect();
    assert!(choices.iter().any(|choice| *choice != choices[0]));
    assert!(choices.iter().all(|choice| choice.len() == 3));
    // Example 0 has score 0 and comes only when all others are there.
    assert!(choices.iter().all(|choice| !choice.contains(&0)));
    assert_eq!(kept(&recipe(keep(9, 0))), (1..10).collect::<Vec<_>>());
    let after = recipe(Step::drop("up", Rule::Highest(Amount::Count(5)))).then(keep(4, 1));
    assert_eq!(kept(&after), [1, 2, 3, 4]);
    // Seven examples of class 0, three of class 1.
    let balanced = kept(&recipe(keep(4, 2).classes(Classes::Balanced)));
    assert_eq!(balanced.iter().filter(|&&id| id > 6).count(), 2);
    let floor = kept(&recipe(keep(4, 2).classes(Classes::AtLeast(Amount::Count(2)))));
    assert_eq!((floor.len(), floor.iter().filter(|&&id| id > 6).count() >= 2), (4, true));
    // An example without the second score takes no part.
    let rule = Rule::Beta { amount: Amount::Count(5), c_d: 4.0, seed: 0 };
    let lacking = Step::keep("mean", rule).prediction_mean("none");
    assert!(recipe(lacking).select(read).is_err(), "means above 1");
    let alone = read("up").unwrap().select(rule).unwrap_err();
    assert!(alone.to_string().starts_with("beta: expected a second score"), "{alone}");
}

fn refusal(steps: &[Step]) -> Error {
    let recipe = steps.iter().cloned().fold(Recipe::new(), Recipe::then);
    recipe.select(read).unwrap_err()
}

#[test]
fn refusals_of_beta_sampling_name_the_argument() {
    let keep = |count| Step::keep("up", Rule::Highest(Amount::Count(count)));
    let beta = |c_d| Rule::Beta { amount: Amount::Count(2), c_d, seed: 0 };
    let cases = [
        (
            vec![Step::keep("up", beta(0.0)).prediction_mean("mean")],
            "c_d: expected a finite number above 0, got 0",
        ),
        (
            vec![Step::keep("up", beta(4.0))],
            "prediction mean: expected the name of a score beside the rule beta, got none",
        ),
        (
            vec![keep(1).prediction_mean("mean")],
            "prediction mean: expected it with the rule beta only, got another rule",
        ),
        (
            vec![Step::drop("up", beta(4.0)).prediction_mean("mean")],
            "beta: expected a step that keeps, got one that drops",
        ),
        (
            vec![Step::keep("down", beta(4.0)).prediction_mean("mean")],
            "beta: expected finite scores of at least 0, got -1 of example 1",
        ),
        (
            vec![Step::keep("infinite", beta(4.0)).prediction_mean("mean")],
            "beta: expected finite scores of at least 0, got inf of example 9",
        ),
        (
            vec![Step::keep("up", beta(4.0)).prediction_mean("up")],
            "beta: expected mean predictions between 0 and 1, got 2 of example 2",
        ),
    ];
    for (steps, expected) in cases {
        let error = refusal(&steps);
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}

#[test]
fn refusals_name_the_step_and_the_argument() {
    let keep = |count| Step::keep("up", Rule::Highest(Amount::Count(count)));
    let drop = |share| Step::drop("up", Rule::Lowest(Amount::Fraction(share)));
    let cases = [
        (vec![], "steps: expected at least one, got none"),
        (vec![keep(11)], "count: expected at most 10, the examples that have a score, got 11"),
        (
            vec![drop(0.3), keep(8)],
            "step 2 (keep highest by `up`): count: expected at most 7, what is left of 10 examples \
             that have a score, got 8",
        ),
        (
            vec![drop(0.3), Step::keep("down", Rule::Lowest(Amount::Fraction(0.8)))],
            "step 2 (keep lowest by `down`): fraction: expected at most 7, what is left of 10 \
             examples that have a score, got 0.8, which is 8",
        ),
        (
            vec![drop(1.1), keep(1)],
            "step 1 (drop lowest by `up`): fraction: expected between 0 and 1, got 1.1",
        ),
        (vec![drop(-0.1)], "fraction: expected between 0 and 1, got -0.1"),
        (vec![drop(f64::NAN)], "fraction: expected between 0 and 1, got NaN"),
        (
            vec![Step::keep(
                "up",
                Rule::Window { offset: Amount::Fraction(0.6), keep: Amount::Count(5) },
            )],
            "count: expected at most 4, what is left of 10 examples that have a score, got 5",
        ),
        (
            vec![Step::keep(
                "up",
                Rule::Window { offset: Amount::Fraction(1.6), keep: Amount::Count(5) },
            )],
            "offset: fraction: expected between 0 and 1, got 1.6",
        ),
        (
            vec![Step::keep(
                "up",
                Rule::Stratified { amount: Amount::Count(1), strata: 0, seed: 0 },
            )],
            "strata: expected between 1 and 1000000, got 0",
        ),
        (
            vec![Step::keep(
                "infinite",
                Rule::Stratified { amount: Amount::Count(1), strata: 2, seed: 0 },
            )],
            "stratified: expected finite scores, got inf of example 9; drop it by an earlier step, \
             or take a score without infinities",
        ),
        (
            vec![Step::keep("up", Rule::Threshold { min: Some(f64::NAN), max: Some(1.0) })],
            "threshold: expected a minimum, a maximum or both",
        ),
        (
            vec![keep(5).classes(Classes::AtLeast(Amount::Count(4)))],
            "class floor: expected at most 5 examples over all classes, the amount that was asked \
             for, got 7",
        ),
        (
            vec![keep(5).classes(Classes::AtLeast(Amount::Fraction(2.0)))],
            "class floor: fraction: expected between 0 and 1, got 2",
        ),
        (
            vec![drop(0.1).classes(Classes::AtLeast(Amount::Count(1)))],
            "class floor: expected a step that keeps, got one that drops",
        ),
        (
            vec![
                Step::keep("up", Rule::Threshold { min: Some(1.0), max: None })
                    .classes(Classes::Balanced),
            ],
            "classes: expected a rule with an amount to divide among the classes (balanced), got a \
             threshold",
        ),
        (
            vec![keep(1), Step::keep("other", Rule::Lowest(Amount::Count(1)))],
            "scores: expected `up` and `other` of the same examples",
        ),
    ];
    for (steps, expected) in cases {
        let error = refusal(&steps);
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    let error = refusal(&[drop(1.0), keep(1)]);
    assert_eq!(error.kind(), ErrorKind::Empty);
    let expected = "step 1 (drop lowest by `up`): this amount drops all of 10 examples, whose scores \
                    lie between 0 and 9";
    assert_eq!(error.to_string(), expected);
    let beyond = Step::keep("up", Rule::Threshold { min: Some(8.5), max: None });
    let error = refusal(&[Step::drop("up", Rule::Highest(Amount::Count(2))), beyond]);
    let expected = "step 2 (keep threshold by `up`): min 8.5 keeps none of 8 examples, whose scores \
                    lie between 0 and 7";
    assert_eq!(error.to_string(), expected);
}

/// Any step that a file can hold.
fn step() -> impl Strategy<Value = Step> {
    let number = prop_oneof![
        any::<f64>().prop_filter("a number", |number| !number.is_nan()),
        Just(f64::INFINITY),
        Just(-0.0)
    ];
    let amount = prop_oneof![
        (0.0..=1.0_f64).prop_map(Amount::Fraction),
        any::<usize>().prop_map(Amount::Count)
    ];
    let side = prop::option::of(number);
    let rule = prop_oneof![
        amount.clone().prop_map(Rule::Highest),
        amount.clone().prop_map(Rule::Lowest),
        (amount.clone(), amount.clone()).prop_map(|(offset, keep)| Rule::Window { offset, keep }),
        (side.clone(), side)
            .prop_filter("a side", |(min, max)| min.is_some() || max.is_some())
            .prop_map(|(min, max)| Rule::Threshold { min, max }),
        (amount.clone(), any::<u64>()).prop_map(|(amount, seed)| Rule::Random { amount, seed }),
        (amount.clone(), 1..1000_usize, any::<u64>())
            .prop_map(|(amount, strata, seed)| Rule::Stratified { amount, strata, seed }),
        (amount.clone(), f64::MIN_POSITIVE..f64::MAX, any::<u64>())
            .prop_map(|(amount, c_d, seed)| Rule::Beta { amount, c_d, seed }),
    ];
    let classes = prop_oneof![
        Just(Classes::Ignored),
        Just(Classes::Balanced),
        Just(Classes::Proportional),
        amount.prop_map(Classes::AtLeast)
    ];
    (".*", ".*", rule, classes, any::<bool>())
        .prop_map(|(by, mean, rule, classes, drops)| {
            let step = if drops { Step::drop(by, rule) } else { Step::keep(by, rule) };
            let is_beta = matches!(rule, Rule::Beta { .. });
            let step = if is_beta { step.prediction_mean(mean) } else { step };
            step.classes(classes)
        })
        .prop_filter("a step that makes sense", |step| step.validate().is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(steps in prop::collection::vec(step(), 1..5)) {
        let room = Room::new();
        let recipe = steps.into_iter().fold(Recipe::new(), Recipe::then);
        recipe.write(room.file()).unwrap();
        let again = Recipe::read(room.file()).unwrap();
        // Bit for bit: -0 is not 0.
        prop_assert_eq!(format!("{:?}", recipe), format!("{:?}", again));
    }

    #[test]
    fn no_damage_makes_it_panic(place: prop::sample::Index, byte: u8, cut: bool) {
        let room = Room::new();
        let mut file = RecipeFile::new(Recipe::coverage_centric(
            "aum", HardEnd::Low, Amount::Fraction(0.3), 50, Amount::Fraction(0.1), 7,
        ));
        file.manifest = Some(ManifestOrigin::new(None, Manifest::new(ManifestFormat::Csv)));
        file.write(room.file()).unwrap();
        let mut bytes = fs::read(room.file()).unwrap();
        let place = place.index(bytes.len());
        if cut { bytes.truncate(place) } else { bytes[place] = byte }
        if let Err(error) = room.with(&bytes) {
            prop_assert!(error.to_string().contains("kept.recipe.json"), "{error}");
        }
    }
}

#[test]
fn all_that_is_known_comes_back() {
    let room = Room::new();
    let recipe = Recipe::new().then(Step::keep("up", Rule::Lowest(Amount::Fraction(0.1 + 0.2))));
    let read_as = Manifest::new(ManifestFormat::Tsv)
        .key("id")
        .header(false)
        .quotes(false)
        .unscored(Unscored::Prune)
        .duplicates(Duplicates::Allow);
    let mut file = RecipeFile::new(recipe.clone());
    file.manifest = Some(ManifestOrigin::new(Some(Path::new("train.tsv")), read_as.clone()));
    file.scores = Some(ScoresOrigin {
        path: "scores.parquet".to_owned(),
        bytes: 3,
        crc32c: "0a".to_owned(),
        info: Some(crate::scores::ScoreInfo::default()),
    });
    let selection = recipe.select(read).unwrap();
    file.outcome = Some(Outcome::new(&selection, &crate::manifest::ManifestSummary::default()));
    file.write(room.file()).unwrap();
    let again = RecipeFile::read(room.file()).unwrap();
    assert_eq!(again.recipe, recipe);
    assert_eq!(again.data_diet_version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(again.scores, file.scores);
    assert_eq!(again.outcome, file.outcome);
    let manifest = again.manifest.unwrap();
    assert_eq!(manifest.path.as_deref(), Some("train.tsv"));
    let json = |manifest: &Manifest| serde_json::to_value(manifest).unwrap();
    assert_eq!(json(&manifest.read_as), json(&read_as));
}

#[test]
fn a_recipe_can_be_written_by_hand() {
    let room = Room::new();
    let text = r#"{ "schema_version": 1, "steps": [
        { "drop": { "lowest": { "fraction": 0.05 } }, "by": "aum" },
        { "keep": { "threshold": { "min": "-inf", "max": 1 } }, "by": "el2n",
          "classes": { "at_least": { "count": 3 } } } ] }"#;
    let recipe = room.with(text).unwrap().recipe;
    let threshold = Rule::Threshold { min: Some(f64::NEG_INFINITY), max: Some(1.0) };
    let expected = Recipe::new()
        .then(Step::drop("aum", Rule::Lowest(Amount::Fraction(0.05))))
        .then(Step::keep("el2n", threshold).classes(Classes::AtLeast(Amount::Count(3))));
    assert_eq!(recipe, expected);
}

#[test]
fn files_that_are_no_recipe() {
    let room = Room::new();
    let steps = |steps: &str| format!(r#"{{"schema_version": 1, "steps": [{steps}]}}"#);
    let cases = [
        (String::new(), ErrorKind::Corrupt, "is not JSON"),
        ("{".to_owned(), ErrorKind::Corrupt, "is not JSON"),
        ("[".repeat(100_000), ErrorKind::Corrupt, "is not JSON"),
        ("[1, 2]".to_owned(), ErrorKind::UnsupportedFormat, "it has no `schema_version`"),
        (r#"{"steps": []}"#.to_owned(), ErrorKind::UnsupportedFormat, "it has no `schema_version`"),
        (
            r#"{"schema_version": 2, "steps": 7}"#.to_owned(),
            ErrorKind::UnsupportedFormat,
            "has schema version 2, this crate knows 1",
        ),
        (
            r#"{"schema_version": "1"}"#.to_owned(),
            ErrorKind::UnsupportedFormat,
            "has schema version \"1\"",
        ),
        (r#"{"schema_version": 1}"#.to_owned(), ErrorKind::Corrupt, "missing field `steps`"),
        (steps(""), ErrorKind::InvalidArgument, "steps: expected at least one, got none"),
        (steps(r#"{"by": "a"}"#), ErrorKind::Corrupt, "a step has either `keep` or `drop`"),
        (
            steps(r#"{"by": "a", "keep": {"lowest": {"fraktion": 0.5}}}"#),
            ErrorKind::Corrupt,
            "unknown variant `fraktion`",
        ),
        (
            steps(r#"{"by": "a", "keep": {"lowest": {"fraction": "half"}}}"#),
            ErrorKind::Corrupt,
            "expected a number, got `half`",
        ),
        (
            steps(r#"{"by": "a", "keep": {"lowest": {"count": -1}}}"#),
            ErrorKind::Corrupt,
            "invalid value: integer `-1`",
        ),
        (
            steps(r#"{"by": "a", "keep": {"lowest": {"count": 1}}, "clases": "balanced"}"#),
            ErrorKind::Corrupt,
            "unknown field `clases`",
        ),
        (
            steps(r#"{"by": "a", "keep": {"best": {"count": 1}}}"#),
            ErrorKind::Corrupt,
            "unknown variant `best`",
        ),
        (
            steps(r#"{"by": "a", "keep": {"lowest": {"fraction": 1.5}}}"#),
            ErrorKind::InvalidArgument,
            "fraction: expected between 0 and 1, got 1.5",
        ),
        (
            steps(r#"{"by": "a", "keep": {"threshold": {"min": "NaN"}}}"#),
            ErrorKind::InvalidArgument,
            "threshold: expected a minimum, a maximum or both",
        ),
        (
            r#"{"schema_version": 1, "steps": [], "sores": {}}"#.to_owned(),
            ErrorKind::Corrupt,
            "unknown field `sores`",
        ),
    ];
    for (text, kind, expected) in cases {
        let error = room.with(&text).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("kept.recipe.json"), "{error}");
    }
    fs::remove_file(room.file()).unwrap();
    assert_eq!(RecipeFile::read(room.file()).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(Recipe::new().write(room.file()).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(!room.file().exists());
}
