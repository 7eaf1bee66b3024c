//! Rules and classes by hand; what holds for all inputs stands with the integration tests.

use super::*;
use crate::error::ErrorKind;

fn column(scores: &[f64]) -> ScoreColumn {
    let examples = (0..scores.len() as i64).collect();
    ScoreColumn::new(examples, vec![0; scores.len()], scores.to_vec()).unwrap()
}

fn kept(scores: &[f64], rule: Rule) -> Vec<i64> {
    column(scores).select(rule).unwrap().examples().collect()
}

#[test]
fn ties_break_by_id_and_nan_is_never_kept() {
    let scores = [0.5, 0.5, f64::NAN, 0.1, 0.5];
    assert_eq!(kept(&scores, Rule::Highest(Amount::Count(2))), [1, 4]);
    assert_eq!(kept(&scores, Rule::Lowest(Amount::Count(2))), [0, 3]);
    assert_eq!(kept(&scores, Rule::Highest(Amount::Fraction(1.0))), [0, 1, 3, 4]);
    assert_eq!(kept(&[0.0, -0.0], Rule::Lowest(Amount::Count(1))), [0], "-0 equals 0");
    let all = column(&scores).select(Rule::Highest(Amount::Fraction(1.0))).unwrap();
    assert_eq!((all.considered(), all.without_score(), all.len()), (5, 1, 4));
    // 0.7 * 45 is a hair below 31.5 in binary.
    assert_eq!(kept(&[0.0; 45], Rule::Lowest(Amount::Fraction(0.7))).len(), 32);
}

#[test]
fn highest_and_lowest_partition_the_scored_examples() {
    let scores: Vec<f64> = (0..101).map(|i| f64::from(i * 37 % 11)).collect();
    for cut in 1..101 {
        let high = kept(&scores, Rule::Highest(Amount::Count(cut)));
        let low = kept(&scores, Rule::Lowest(Amount::Count(101 - cut)));
        let mut both = [high, low].concat();
        both.sort_unstable();
        assert_eq!(both, (0..101).collect::<Vec<_>>());
    }
}

#[test]
fn random_depends_on_the_seed_alone_and_is_uniform() {
    let scores = vec![1.0; 40];
    let pick = |seed| kept(&scores, Rule::Random { amount: Amount::Fraction(0.25), seed });
    assert_eq!(pick(7), pick(7));
    assert_ne!(pick(7), pick(8));
    let mut hits = [0_u32; 40];
    for seed in 0..4000 {
        assert_eq!(pick(seed).len(), 10);
        for id in pick(seed) {
            hits[id as usize] += 1;
        }
    }
    // Binomial(4000, 1/4): mean 1000, standard deviation 27; six of those on either side.
    assert!(hits.iter().all(|hits| (836..1164).contains(hits)), "{hits:?}");
}

#[test]
fn refusals_say_what_was_expected() {
    let message = |rule| column(&[0.25, 0.75]).select(rule).unwrap_err();
    let error = message(Rule::Highest(Amount::Fraction(1.5)));
    assert_eq!(error.to_string(), "fraction: expected between 0 and 1, got 1.5");
    let error = message(Rule::Lowest(Amount::Count(3)));
    assert!(error.to_string().contains("at most 2"), "{error}");
    let error = message(Rule::Threshold { min: Some(0.8), max: None });
    assert_eq!(error.kind(), ErrorKind::Empty);
    let expected = "min 0.8 keeps none of 2 examples, whose scores lie between 0.25 and 0.75";
    assert_eq!(error.to_string(), expected);
    assert!(column(&[1.0]).select(Rule::Threshold { min: None, max: None }).is_err());
    assert!(ScoreColumn::new(vec![1, 1], vec![0, 0], vec![0.0, 0.0]).is_err());
}

#[test]
fn sparse_ids_are_found() {
    let column = ScoreColumn::new(vec![90, 7, 1 << 60], vec![1, 2, 3], vec![0.0, 1.0, 2.0]);
    let selection = column.unwrap().select(Rule::Lowest(Amount::Count(1))).unwrap();
    assert_eq!(selection.examples().collect::<Vec<_>>(), [90]);
    assert_eq!(selection.get(1 << 60).unwrap().label, 3);
    assert_eq!(selection.get(8), None);
    assert_eq!(selection.get(-1), None);
}

/// Ten examples, 0 to 9 by score; class 1 is 7, 8 and 9.
fn two_classes(rule: Rule, classes: Classes) -> Vec<i64> {
    let labels = (0..10).map(|id| i32::from(id > 6)).collect();
    let scores = (0..10).map(f64::from).collect();
    let column = ScoreColumn::new((0..10).collect(), labels, scores).unwrap();
    column.select_with_classes(rule, classes).unwrap().examples().collect()
}

#[test]
fn windows_skip_the_lowest() {
    let window = |offset, keep| Rule::Window { offset: Amount::Count(offset), keep };
    assert_eq!(kept(&[5.0, 1.0, 4.0, 2.0, 3.0], window(1, Amount::Count(2))), [3, 4]);
    assert_eq!(two_classes(window(2, Amount::Fraction(0.3)), Classes::Ignored), [2, 3, 4]);
}

#[test]
fn classes_by_hand() {
    let highest = |count| Rule::Highest(Amount::Count(count));
    let lowest = |count| Rule::Lowest(Amount::Count(count));
    assert_eq!(two_classes(highest(5), Classes::Balanced), [4, 5, 6, 8, 9]);
    assert_eq!(two_classes(lowest(8), Classes::Balanced), [0, 1, 2, 3, 4, 7, 8, 9], "3 is all");
    // 5 * 7/10 and 5 * 3/10: 3.5 and 1.5, of which the lower class gets the one left.
    assert_eq!(two_classes(highest(5), Classes::Proportional), [3, 4, 5, 6, 9]);
    // Of two skipped, 1.4 and 0.6 make one of each class.
    let window = Rule::Window { offset: Amount::Count(2), keep: Amount::Count(4) };
    assert_eq!(two_classes(window, Classes::Balanced), [1, 2, 8, 9]);
}

#[test]
fn floors_by_hand() {
    let lowest = Rule::Lowest(Amount::Count(4));
    let floor = |count| Classes::AtLeast(Amount::Count(count));
    assert_eq!(two_classes(lowest, floor(0)), [0, 1, 2, 3]);
    assert_eq!(two_classes(lowest, floor(2)), [0, 1, 7, 8], "the least favored are given up");
    let third = Classes::AtLeast(Amount::Fraction(0.4));
    // 2.8 and 1.2 round to 3 and 1.
    assert_eq!(two_classes(lowest, third), [0, 1, 2, 7]);
    // Upwards from 2, then downwards from there.
    let window = Rule::Window { offset: Amount::Count(9), keep: Amount::Count(1) };
    assert_eq!(two_classes(window, Classes::AtLeast(Amount::Fraction(0.0))), [9]);
    let window = Rule::Window { offset: Amount::Count(8), keep: Amount::Count(2) };
    assert_eq!(two_classes(window, floor(1)), [6, 8]);
    // A threshold asks for no total.
    let threshold = |min, max| Rule::Threshold { min, max };
    assert_eq!(two_classes(threshold(Some(8.0), None), floor(3)), [4, 5, 6, 7, 8, 9]);
    assert_eq!(two_classes(threshold(None, Some(-1.0)), floor(1)), [0, 7]);
    // Below before above at the same distance.
    assert_eq!(two_classes(threshold(Some(2.0), Some(2.0)), floor(2)), [1, 2, 7, 8]);
    assert_eq!(two_classes(threshold(Some(f64::INFINITY), None), floor(1)), [6, 9]);
}

#[test]
fn the_hard_end_of_scores_that_are_known() {
    for name in [
        "el2n",
        "el2n_mean",
        "el1n_train_epoch_3",
        "loss_score_epochs_1_to_2",
        "forgetting_inf",
        "grand_epoch_4",
        "grand_step_7",
        "entropy_train_step_3",
        "first_learned",
    ] {
        assert_eq!(HardEnd::for_score(name), Some(HardEnd::High), "{name}");
    }
    for name in ["margin_score_epoch_1", "aum", "confidence", "cartography_correctness"] {
        assert_eq!(HardEnd::for_score(name), Some(HardEnd::Low), "{name}");
    }
    for name in ["presentations", "cartography_variability", "el2n_train_epoch_0_std", "el2nx", ""]
    {
        assert_eq!(HardEnd::for_score(name), None, "{name}");
    }
}

#[test]
fn a_selection_for_loaders() {
    let mine = Selection::from_examples([7, 3, 1 << 40]).unwrap();
    assert_eq!(mine.examples().len(), 3);
    assert_eq!((&mine).into_iter().collect::<Vec<_>>(), [3, 7, 1 << 40]);
    let error = mine.indices().unwrap_err();
    let expected =
        "indices: expected ids that are row numbers, at most 4294967295, got 1099511627776";
    assert_eq!(error.to_string(), expected);
    assert_eq!(
        Selection::from_examples([4_294_967_295, 0]).unwrap().indices().unwrap(),
        [0, u32::MAX]
    );
    assert_eq!(Selection::from_examples([]).unwrap_err().kind(), ErrorKind::Empty);
    let error = Selection::from_examples([2, 5, 2]).unwrap_err();
    assert_eq!(error.to_string(), "examples: expected every id once, got 2 twice");
    let error = Selection::from_examples([2, -5]).unwrap_err();
    assert_eq!(error.to_string(), "examples: expected ids in 0..2^63, got -5");
    assert!(ScoreColumn::new(vec![-1], vec![0], vec![0.0]).is_err());
    let rows = Selection::from_examples([2, 0, 1]).unwrap();
    assert!(rows.contains(2) && !rows.contains(3) && !rows.contains(-1));
    let some = column(&[0.0, 1.0, f64::NAN, 2.0]).select(Rule::Highest(Amount::Count(2))).unwrap();
    let mut examples = some.examples();
    assert_eq!(
        (examples.next(), examples.len(), examples.next(), examples.next()),
        (Some(1), 1, Some(3), None)
    );
}
