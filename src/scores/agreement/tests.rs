//! Agreement against closed forms, against counting every pair, and against the selections that the
//! kept sets stand for.

use proptest::prelude::*;

use super::*;
use crate::selection::Rule;

fn column(scores: &[f64]) -> ScoreColumn {
    let examples = (0..scores.len() as i64).collect();
    ScoreColumn::new(examples, vec![0; scores.len()], scores.to_vec()).unwrap()
}

fn options(fractions: &[f64], keep: Keep) -> AgreementOptions {
    AgreementOptions {
        fractions: fractions.to_vec(),
        keep,
        bootstrap: None,
        ..AgreementOptions::default()
    }
}

fn agreement(first: &[f64], second: &[f64]) -> Agreement {
    let options = options(&[0.3, 0.5, 1.0], Keep::Highest);
    Agreement::between(&column(first), &column(second), &options).unwrap()
}

#[test]
fn a_score_against_itself_its_reverse_and_a_monotone_map() {
    let scores: Vec<f64> = (0..101).map(|at| f64::from(at * 37 % 101).sqrt()).collect();
    let same = agreement(&scores, &scores.iter().map(|x| x.exp()).collect::<Vec<_>>());
    assert_eq!((same.spearman.value, same.kendall.value), (1.0, 1.0));
    assert!(same.overlaps.iter().all(|overlap| overlap.shared.value == 1.0));
    let reverse = agreement(&scores, &scores.iter().map(|x| -x).collect::<Vec<_>>());
    assert_eq!((reverse.spearman.value, reverse.kendall.value), (-1.0, -1.0));
    // 30 and 51 of 101 (a half rounds upwards); the halves meet in the middle one.
    let shared: Vec<f64> = reverse.overlaps.iter().map(|overlap| overlap.shared.value).collect();
    assert_eq!(shared, [0.0, 1.0 / 51.0, 1.0]);
    let kept: Vec<usize> = reverse.overlaps.iter().map(|overlap| overlap.kept).collect();
    assert_eq!(kept, [30, 51, 101]);
    assert_eq!(reverse.overlaps[0].by_chance, 30.0 / 101.0);
    let tied: Vec<f64> = scores.iter().map(|x| x.floor()).collect();
    let same = agreement(&tied, &tied);
    assert_eq!((same.spearman.value, same.kendall.value), (1.0, 1.0));
}

#[test]
fn closed_forms_without_ties() {
    // 1 - 6 sum d^2 / (n (n^2 - 1)); d = 1, 1, 2, 1, 1. Discordant: (1, 2), (3, 4), (3, 5).
    let agreement = agreement(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 5.0, 3.0, 4.0]);
    let rho = 1.0 - 6.0 * (1.0 + 1.0 + 4.0 + 1.0 + 1.0) / (5.0 * 24.0);
    assert!((agreement.spearman.value - rho).abs() < 1e-15);
    assert!((agreement.kendall.value - (10.0 - 2.0 * 3.0) / 10.0).abs() < 1e-15);
}

#[test]
fn closed_forms_with_ties() {
    // Ranks 1, 2.5, 2.5, 4 against 1.5, 1.5, 3, 4: sum of products of deviations 3.75, of squares 4.5
    // each. Of 6 pairs 4 are concordant, none discordant, one is tied in either.
    let agreement = agreement(&[1.0, 2.0, 2.0, 3.0], &[5.0, 5.0, 6.0, 7.0]);
    assert!((agreement.spearman.value - 3.75 / 4.5).abs() < 1e-15);
    assert!((agreement.kendall.value - 4.0 / 5.0).abs() < 1e-15);
}

#[test]
fn infinity_is_a_rank_and_zero_has_no_sign() {
    let inf = f64::INFINITY;
    let with = agreement(&[0.0, 3.0, inf, inf, -inf], &[1.0, 2.0, 3.0, 5.0, 0.0]);
    let like = agreement(&[0.0, 3.0, 9.0, 9.0, -9.0], &[1.0, 2.0, 3.0, 5.0, 0.0]);
    assert_eq!(with, like);
    assert_eq!(agreement(&[0.0, -0.0, 1.0], &[1.0, 2.0, 3.0]).spearman.value, {
        agreement(&[0.0, 0.0, 1.0], &[1.0, 2.0, 3.0]).spearman.value
    });
}

#[test]
fn a_constant_score_has_no_correlation() {
    let constant = agreement(&[2.0; 6], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert!(constant.spearman.value.is_nan() && constant.kendall.value.is_nan());
    // Ties by id: the last three of both.
    assert_eq!(constant.overlaps[1].shared.value, 1.0);
    let both = agreement(&[2.0; 6], &[3.0; 6]);
    assert!(both.spearman.value.is_nan() && both.kendall.value.is_nan());
}

#[test]
fn only_what_both_know_is_compared() {
    let first = ScoreColumn::new(vec![9, 1, 5, 7], vec![0; 4], vec![1.0, 2.0, f64::NAN, 4.0]);
    let second =
        ScoreColumn::new(vec![1, 2, 5, 7, 9], vec![0; 5], vec![2.0, 8.0, 1.0, 4.0, f64::NAN]);
    let (first, second) = (first.unwrap(), second.unwrap());
    let agreement = Agreement::between(&first, &second, &options(&[0.1], Keep::Highest)).unwrap();
    assert_eq!((agreement.examples, agreement.without_score, agreement.in_one_only), (2, 2, 1));
    assert_eq!(agreement.spearman.value, 1.0);
    assert!(agreement.overlaps[0].shared.value.is_nan(), "a tenth of two is no example");
}

#[test]
fn refusals_say_what_was_expected() {
    let fine = column(&[1.0, 2.0, 3.0]);
    let refused = |second: &ScoreColumn, options: &AgreementOptions| {
        Agreement::between(&fine, second, options).unwrap_err()
    };
    let apart = ScoreColumn::new(vec![7, 8], vec![0; 2], vec![0.0; 2]).unwrap();
    let error = refused(&apart, &AgreementOptions::default());
    assert_eq!(error.kind(), ErrorKind::Empty);
    let expected = "agreement: expected at least 2 examples with both scores, got 0 (3 in the first \
                    column, 2 in the second)";
    assert_eq!(error.to_string(), expected);
    assert_eq!(refused(&column(&[1.0]), &AgreementOptions::default()).kind(), ErrorKind::Empty);
    for fraction in [0.0, -0.1, 1.1, f64::NAN] {
        let error = refused(&fine, &options(&[0.5, fraction], Keep::Highest)).to_string();
        assert_eq!(error, format!("fraction: expected above 0 and at most 1, got {fraction}"));
    }
    for (bootstrap, message) in [
        (
            Bootstrap { resamples: 0, ..Bootstrap::default() },
            "resamples: expected at least 1, got 0",
        ),
        (
            Bootstrap { level: 1.0, ..Bootstrap::default() },
            "level: expected between 0 and 1, both excluded, got 1",
        ),
        (
            Bootstrap { level: f64::NAN, ..Bootstrap::default() },
            "level: expected between 0 and 1, both excluded, got NaN",
        ),
    ] {
        let options =
            AgreementOptions { bootstrap: Some(bootstrap), ..AgreementOptions::default() };
        let error = refused(&fine, &options);
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::InvalidArgument, message)
        );
    }
}

/// Tau-b by looking at every pair.
fn kendall_of_pairs(scores: &[(f64, f64)]) -> f64 {
    let (mut difference, mut untied, mut other_untied) = (0_i64, 0_i64, 0_i64);
    for (at, a) in scores.iter().enumerate() {
        for b in &scores[..at] {
            let sign = |x: f64, y: f64| i64::from(x > y) - i64::from(x < y);
            let (first, second) = (sign(a.0, b.0), sign(a.1, b.1));
            difference += first * second;
            untied += first.abs();
            other_untied += second.abs();
        }
    }
    difference as f64 / ((untied as f64).sqrt() * (other_untied as f64).sqrt())
}

/// Ranks by counting what is below and what is equal.
fn rank(scores: &[f64], score: f64) -> f64 {
    let below = scores.iter().filter(|&&other| other < score).count() as f64;
    let equal = scores.iter().filter(|&&other| other == score).count() as f64;
    below + f64::midpoint(equal, 1.0)
}

/// Pearson's correlation of ranks.
fn spearman_of_ranks(scores: &[(f64, f64)]) -> f64 {
    let (first, second): (Vec<f64>, Vec<f64>) = scores.iter().copied().unzip();
    let middle = f64::midpoint(scores.len() as f64, 1.0);
    let deviations =
        |scores: &[f64]| scores.iter().map(|&s| rank(scores, s) - middle).collect::<Vec<_>>();
    let (first, second) = (deviations(&first), deviations(&second));
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    product(&first, &second) / (product(&first, &first) * product(&second, &second)).sqrt()
}

fn close(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12
}

/// Few values, so that ties are common, and infinities.
fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => (0..6_i32).prop_map(f64::from),
        3 => -1.0..1.0_f64,
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
    ]
}

fn pairs() -> impl Strategy<Value = Vec<(f64, f64)>> {
    prop::collection::vec((score(), score()), 2..60)
}

proptest! {
    #[test]
    fn correlations_are_those_of_all_pairs_and_of_ranks(scores in pairs()) {
        let (first, second): (Vec<f64>, Vec<f64>) = scores.iter().copied().unzip();
        let forth = agreement(&first, &second);
        prop_assert!(close(forth.kendall.value, kendall_of_pairs(&scores)));
        prop_assert!(close(forth.spearman.value, spearman_of_ranks(&scores)));
        let back = agreement(&second, &first);
        prop_assert!(close(back.kendall.value, forth.kendall.value));
        prop_assert!(close(back.spearman.value, forth.spearman.value));
        let negated: Vec<f64> = first.iter().map(|score| -score).collect();
        let negated = agreement(&negated, &second);
        prop_assert!(close(negated.kendall.value, -forth.kendall.value));
        prop_assert!(close(negated.spearman.value, -forth.spearman.value));
    }

    /// What is shared is what two selections share, with NaN in the columns and ids in any order.
    #[test]
    fn kept_sets_are_those_of_selections(
        scores in prop::collection::vec((score(), prop::option::weighted(0.9, score())), 2..60),
        fraction in 0.01..=1.0_f64,
        highest: bool,
    ) {
        let ids: Vec<i64> = (0..scores.len() as i64).map(|at| at * 7919 % 10007).collect();
        let column = |scores: Vec<f64>| {
            ScoreColumn::new(ids.clone(), vec![0; ids.len()], scores).unwrap()
        };
        let first = column(scores.iter().map(|s| s.0).collect());
        let second = column(scores.iter().map(|s| s.1.unwrap_or(f64::NAN)).collect());
        let keep = if highest { Keep::Highest } else { Keep::Lowest };
        let Ok(agreement) = Agreement::between(&first, &second, &options(&[fraction], keep)) else {
            prop_assert!(scores.iter().filter(|s| s.1.is_some()).count() < 2);
            return Ok(());
        };
        let overlap = agreement.overlaps[0];
        // The first column on those examples alone that both have.
        let on_both = scores.iter().map(|s| if s.1.is_some() { s.0 } else { f64::NAN });
        let amount = Amount::Fraction(fraction);
        let rule = if highest { Rule::Highest(amount) } else { Rule::Lowest(amount) };
        match (column(on_both.collect()).select(rule), second.select(rule)) {
            (Ok(first), Ok(second)) => {
                let shared = first.examples().filter(|&id| second.contains(id)).count();
                prop_assert_eq!(overlap.kept, first.len());
                prop_assert_eq!(overlap.shared.value, shared as f64 / first.len() as f64);
            }
            _ => prop_assert!(overlap.kept == 0 && overlap.shared.value.is_nan()),
        }
    }

    /// A resample is measured as if each copy were an example of its own.
    #[test]
    fn multiplicities_are_copies(
        scores in pairs(),
        seed: u64,
        fraction in 0.05..=1.0_f64,
        highest: bool,
    ) {
        let n = scores.len();
        let mut random = crate::selection::SplitMix64::new(seed);
        let mut weights = vec![0_u32; n];
        (0..n).for_each(|_| weights[(random.next() % n as u64) as usize] += 1);
        let keep = if highest { Keep::Highest } else { Keep::Lowest };
        let count = ((fraction * n as f64) as usize).max(1);

        // Rows by id; the pair's places are in the order of the first score.
        let mut places: Vec<usize> = (0..n).collect();
        places.sort_by(|&a, &b| scores[a].0.total_cmp(&scores[b].0).then(a.cmp(&b)));
        let of_places: Vec<u32> = places.iter().map(|&row| weights[row]).collect();
        let pair = Pair::new(&scores);
        let measures = pair.measures(&of_places, &[count], keep, &mut Workspace::new(&pair));

        let copies: Vec<usize> =
            (0..n).flat_map(|row| std::iter::repeat_n(row, weights[row] as usize)).collect();
        let copied: Vec<(f64, f64)> = copies.iter().map(|&row| scores[row]).collect();
        prop_assert!(close(measures.kendall, kendall_of_pairs(&copied)));
        prop_assert!(close(measures.spearman, spearman_of_ranks(&copied)));
        let kept = |score: &dyn Fn(usize) -> f64| {
            let mut order = copies.clone();
            order.sort_by(|&a, &b| score(a).total_cmp(&score(b)).then(a.cmp(&b)));
            if highest { order.split_off(n - count) } else { order[..count].to_vec() }
        };
        let (first, second) = (kept(&|row| scores[row].0), kept(&|row| scores[row].1));
        let times = |kept: &[usize], row| kept.iter().filter(|&&it| it == row).count();
        let shared: usize = (0..n).map(|row| times(&first, row).min(times(&second, row))).sum();
        prop_assert_eq!(measures.shared[0], shared as f64 / count as f64);
    }
}

#[test]
fn intervals_hold_the_truth_about_as_often_as_they_say() {
    // Scores with a known tau: the second is the first with probability p = 0.7, else fresh. Of two
    // examples, both repeat theirs with p^2: concordant. One does with 2 p (1 - p), and both differences
    // share an end x: (2 x - 1)^2, which is 1/3 on average. So tau = 0.49 + 0.42 / 3 = 0.63, which an
    // interval of 80 % should hold for about 80 of 100 data sets.
    let mut random = crate::selection::SplitMix64::new(5);
    let mut uniform = || (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
    let mut held = 0;
    for seed in 0..100 {
        let pairs: Vec<(f64, f64)> = (0..150)
            .map(|_| {
                let (x, y, same) = (uniform(), uniform(), uniform() < 0.7);
                (x, if same { x } else { y })
            })
            .collect();
        let (first, second): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let mut options = options(&[0.5], Keep::Highest);
        options.bootstrap = Some(Bootstrap { resamples: 200, level: 0.8, seed });
        let agreement = Agreement::between(&column(&first), &column(&second), &options).unwrap();
        let (low, high) = agreement.kendall.interval.unwrap();
        held += u32::from((low..=high).contains(&0.63));
        for estimate in [agreement.spearman, agreement.overlaps[0].shared] {
            let (low, high) = estimate.interval.unwrap();
            assert!(low <= high && (estimate.value - low).abs() < 0.3, "{estimate:?}");
        }
    }
    assert!((65..=92).contains(&held), "{held} of 100");
}

#[test]
fn intervals_do_not_depend_on_the_threads() {
    let first: Vec<f64> = (0..300).map(|at| f64::from(at * 7 % 31)).collect();
    let second: Vec<f64> = (0..300).map(|at| f64::from(at * 11 % 37)).collect();
    let with = |threads, seed| {
        let mut options = options(&[0.3, 0.7], Keep::Lowest);
        options.threads = threads;
        options.bootstrap = Some(Bootstrap { resamples: 50, level: 0.9, seed });
        let mut done = 0;
        let agreement = Agreement::between_with_progress(
            &column(&first),
            &column(&second),
            &options,
            |resamples| {
                done += resamples;
            },
        );
        assert_eq!(done, 50);
        agreement.unwrap()
    };
    assert_eq!(with(1, 3), with(5, 3));
    assert_ne!(with(1, 3), with(1, 4));
}

#[test]
fn a_resample_without_an_answer_is_left_out() {
    // Of two examples every second resample holds one of them twice, where nothing can be ranked.
    let mut options = options(&[0.5], Keep::Highest);
    options.bootstrap = Some(Bootstrap { resamples: 60, ..Bootstrap::default() });
    let agreement =
        Agreement::between(&column(&[1.0, 2.0]), &column(&[1.0, 2.0]), &options).unwrap();
    assert_eq!(agreement.spearman.interval, Some((1.0, 1.0)));
    let constant =
        Agreement::between(&column(&[1.0, 1.0]), &column(&[1.0, 2.0]), &options).unwrap();
    let (low, high) = constant.kendall.interval.unwrap();
    assert!(low.is_nan() && high.is_nan());
}
