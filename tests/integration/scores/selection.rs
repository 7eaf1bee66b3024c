//! Every rule against a plain sort of all scores.

use data_diet::selection::ScoreColumn;
use data_diet::{Amount, ErrorKind, Rule};
use proptest::prelude::*;

/// Scores with many ties, with NaN and with infinities.
fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (-3_i8..=3).prop_map(|quarter| f64::from(quarter) / 4.0),
        2 => -1.0..1.0_f64,
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]),
    ]
}

/// Distinct ids in random order, each with a score.
fn column() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let id = prop_oneof![0..40_i64, 0..i64::MAX];
    prop::collection::hash_map(id, score(), 0..60).prop_flat_map(|scores| {
        let mut scores: Vec<(i64, f64)> = scores.into_iter().collect();
        scores.sort_unstable_by_key(|&(id, _)| id);
        Just(scores).prop_shuffle()
    })
}

/// The scored examples in ascending order of score, ties by id.
fn argsort(scores: &[(i64, f64)]) -> Vec<i64> {
    let mut scored: Vec<(i64, f64)> =
        scores.iter().copied().filter(|(_, score)| !score.is_nan()).collect();
    scored.sort_by(|a, b| a.1.partial_cmp(&b.1).unwrap().then(a.0.cmp(&b.0)));
    scored.into_iter().map(|(id, _)| id).collect()
}

/// The kept ids, ascending; none if the rule says that nothing would be kept.
fn kept(scores: &[(i64, f64)], rule: Rule) -> Vec<i64> {
    let (ids, values) = scores.iter().copied().unzip();
    let column = ScoreColumn::new(ids, vec![0; scores.len()], values).unwrap();
    match column.select(rule) {
        Ok(selection) => {
            let kept: Vec<i64> = selection.examples().collect();
            assert_eq!(selection.len(), kept.len());
            assert_eq!(selection.considered(), scores.len());
            let without = scores.iter().filter(|(_, score)| score.is_nan()).count();
            assert_eq!(selection.without_score(), without);
            for &(id, _) in scores {
                assert_eq!(selection.contains(id), kept.contains(&id));
            }
            kept
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Empty, "{error}");
            Vec::new()
        }
    }
}

fn sorted(ids: &[i64]) -> Vec<i64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

proptest! {
    #[test]
    fn highest_and_lowest_are_the_ends_of_the_order(scores in column(), cut: prop::sample::Index) {
        let order = argsort(&scores);
        let count = cut.index(order.len() + 1);
        let amount = Amount::Count(count);
        prop_assert_eq!(kept(&scores, Rule::Lowest(amount)), sorted(&order[..count]));
        let highest = sorted(&order[order.len() - count..]);
        prop_assert_eq!(kept(&scores, Rule::Highest(amount)), highest);
    }

    #[test]
    fn fractions_round_to_the_nearest_count(scores in column(), hundredths in 0_u32..=100) {
        let order = argsort(&scores);
        // A half is only a half if binary fractions can express it: 0.7 * 45 lies below 31.5.
        let is_half = order.len() * hundredths as usize % 100 == 50;
        prop_assume!(!is_half || hundredths % 25 == 0);
        // In whole numbers, a half upwards.
        let count = (order.len() * hundredths as usize * 2 + 100) / 200;
        let amount = Amount::Fraction(f64::from(hundredths) / 100.0);
        prop_assert_eq!(kept(&scores, Rule::Lowest(amount)), sorted(&order[..count]));
        let highest = sorted(&order[order.len() - count..]);
        prop_assert_eq!(kept(&scores, Rule::Highest(amount)), highest);
    }

    #[test]
    fn thresholds_include_their_ends(scores in column(), min in score(), max in score()) {
        prop_assume!(!min.is_nan() && !max.is_nan());
        let within = |low: f64, high: f64| {
            let inside = scores.iter().filter(|(_, score)| low <= *score && *score <= high);
            sorted(&inside.map(|&(id, _)| id).collect::<Vec<_>>())
        };
        let rule = |min, max| Rule::Threshold { min, max };
        prop_assert_eq!(kept(&scores, rule(Some(min), Some(max))), within(min, max));
        prop_assert_eq!(kept(&scores, rule(Some(min), None)), within(min, f64::INFINITY));
        prop_assert_eq!(kept(&scores, rule(None, Some(max))), within(f64::NEG_INFINITY, max));
    }

    #[test]
    fn random_keeps_scored_examples_and_does_not_look_at_their_scores(
        scores in column(),
        cut: prop::sample::Index,
        seed: u64,
    ) {
        let order = argsort(&scores);
        let count = cut.index(order.len() + 1);
        let rule = Rule::Random { amount: Amount::Count(count), seed };
        let chosen = kept(&scores, rule);
        prop_assert_eq!(chosen.len(), count);
        prop_assert!(chosen.iter().all(|id| order.contains(id)));
        let flat: Vec<(i64, f64)> = scores
            .iter()
            .map(|&(id, score)| (id, if score.is_nan() { score } else { 1.0 }))
            .collect();
        prop_assert_eq!(kept(&flat, rule), chosen);
    }

    /// The choice is a matter of scores and ids, not of the order of rows in a file.
    #[test]
    fn the_order_of_rows_does_not_matter(scores in column(), seed: u64) {
        let mut reversed = scores.clone();
        reversed.reverse();
        for rule in [
            Rule::Highest(Amount::Fraction(0.3)),
            Rule::Lowest(Amount::Fraction(0.3)),
            Rule::Random { amount: Amount::Fraction(0.3), seed },
        ] {
            prop_assert_eq!(kept(&scores, rule), kept(&reversed, rule));
        }
    }
}
