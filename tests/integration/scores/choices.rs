//! Windows, strata, classes and recipes against plain references that pick one example at a time.

use std::collections::{BTreeMap, BTreeSet};

use data_diet::manifest::recipe::{Recipe, Step};
use data_diet::selection::{Classes, ScoreColumn};
use data_diet::{Amount, ErrorKind, Rule};
use proptest::prelude::*;

/// Id, class and score of an example.
type Example = (i64, i32, f64);

/// Distinct ids in random order; whole scores, many of them equal, some NaN; classes of all sizes.
fn examples() -> impl Strategy<Value = Vec<Example>> {
    let score = prop_oneof![9 => (-8_i8..=8).prop_map(f64::from), 1 => Just(f64::NAN)];
    let class = prop_oneof![4 => Just(3), 2 => Just(-1), 1 => 5..8_i32];
    let id = prop_oneof![0..60_i64, 0..i64::MAX];
    let examples = prop::collection::hash_map(id, (class, score), 1..50);
    (examples, any::<bool>()).prop_flat_map(|(examples, far)| {
        // Classes are near each other, as indices are, or as far apart as can be.
        let apart = |class| match class {
            -1 if far => i32::MIN,
            3 | 7 if far => i32::MAX - (class - 3) / 4,
            class => class,
        };
        let mut examples: Vec<Example> =
            examples.into_iter().map(|(id, (class, score))| (id, apart(class), score)).collect();
        examples.sort_unstable_by_key(|example| example.0);
        Just(examples).prop_shuffle()
    })
}

fn column(examples: &[Example]) -> ScoreColumn {
    let ids = examples.iter().map(|example| example.0).collect();
    let labels = examples.iter().map(|example| example.1).collect();
    let scores = examples.iter().map(|example| example.2).collect();
    ScoreColumn::new(ids, labels, scores).unwrap()
}

/// The kept ids, ascending; none if the rule says that nothing would be kept.
fn kept(examples: &[Example], rule: Rule, classes: Classes) -> Vec<i64> {
    match column(examples).select_with_classes(rule, classes) {
        Ok(selection) => selection.examples().collect(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Empty, "{error}");
            Vec::new()
        }
    }
}

/// The scored examples in ascending order of score, ties by id.
fn ascending(examples: &[Example]) -> Vec<Example> {
    let mut scored: Vec<Example> =
        examples.iter().copied().filter(|example| !example.2.is_nan()).collect();
    scored.sort_by(|a, b| a.2.partial_cmp(&b.2).unwrap().then(a.0.cmp(&b.0)));
    scored
}

fn ids<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Vec<i64> {
    let mut ids: Vec<i64> = examples.into_iter().map(|example| example.0).collect();
    ids.sort_unstable();
    ids
}

/// How many of each class.
fn sizes(examples: &[Example], among: &[i64]) -> BTreeMap<i32, usize> {
    let mut sizes = BTreeMap::new();
    for example in examples.iter().filter(|example| among.contains(&example.0)) {
        *sizes.entry(example.1).or_insert(0) += 1;
    }
    sizes
}

/// Budgets as the paper's algorithm 1 hands them out: the smallest of the strata that are left, one
/// after the other.
fn budgets(sizes: &[usize], mut left: usize) -> Vec<usize> {
    let mut waiting: BTreeSet<(usize, usize)> =
        sizes.iter().enumerate().map(|(stratum, &size)| (size, stratum)).collect();
    let mut budgets = vec![0; sizes.len()];
    while let Some((size, stratum)) = waiting.first().copied() {
        let budget = size.min(left / waiting.len());
        budgets[stratum] = budget;
        left -= budget;
        waiting.pop_first();
    }
    budgets
}

proptest! {
    #[test]
    fn a_window_is_the_difference_of_two_ends(
        examples in examples(),
        skip: prop::sample::Index,
        keep: prop::sample::Index,
    ) {
        let order = ascending(&examples);
        let skip = skip.index(order.len() + 1);
        let keep = keep.index(order.len() - skip + 1);
        let window = Rule::Window { offset: Amount::Count(skip), keep: Amount::Count(keep) };
        let window = kept(&examples, window, Classes::Ignored);
        let lowest = |count| kept(&examples, Rule::Lowest(Amount::Count(count)), Classes::Ignored);
        let mut below = lowest(skip);
        below.extend(&window);
        below.sort_unstable();
        prop_assert_eq!(below, lowest(skip + keep));
        prop_assert_eq!(window, ids(&order[skip..skip + keep]));
    }

    /// Who keeps more keeps all that who keeps less does.
    #[test]
    fn choices_are_nested(examples in examples(), seed: u64) {
        for rule in [
            |amount, _| Rule::Highest(amount),
            |amount, _| Rule::Lowest(amount),
            |amount, seed| Rule::Random { amount, seed },
        ] {
            let mut fewer = BTreeSet::new();
            for tenth in 0..=10_u8 {
                let amount = Amount::Fraction(f64::from(tenth) / 10.0);
                let more: BTreeSet<i64> =
                    kept(&examples, rule(amount, seed), Classes::Ignored).into_iter().collect();
                prop_assert!(fewer.is_subset(&more));
                fewer = more;
            }
            prop_assert_eq!(fewer.len(), ascending(&examples).len());
        }
    }

    #[test]
    fn balanced_classes_differ_by_one_at_most(examples in examples(), cut: prop::sample::Index, seed: u64) {
        let order = ascending(&examples);
        let count = cut.index(order.len() + 1);
        let amount = Amount::Count(count);
        let all = sizes(&examples, &ids(&order));
        for rule in [Rule::Highest(amount), Rule::Random { amount, seed }] {
            let chosen = kept(&examples, rule, Classes::Balanced);
            prop_assert_eq!(chosen.len(), count);
            let sizes = sizes(&examples, &chosen);
            let size = |class| sizes.get(class).copied().unwrap_or(0);
            let largest = all.keys().map(size).max().unwrap_or(0);
            for (class, &has) in &all {
                prop_assert!(size(class) + 1 >= largest || size(class) == has, "{:?}", sizes);
            }
        }
        // Of each class, its highest.
        let chosen = kept(&examples, Rule::Highest(amount), Classes::Balanced);
        for (class, size) in sizes(&examples, &chosen) {
            let of_class: Vec<&Example> =
                order.iter().rev().filter(|example| example.1 == class).take(size).collect();
            prop_assert!(of_class.iter().all(|example| chosen.contains(&example.0)));
        }
    }

    #[test]
    fn proportional_classes_keep_their_share(examples in examples(), cut: prop::sample::Index) {
        let order = ascending(&examples);
        let count = cut.index(order.len() + 1);
        let chosen = kept(&examples, Rule::Lowest(Amount::Count(count)), Classes::Proportional);
        prop_assert_eq!(chosen.len(), count);
        let sizes_kept = sizes(&examples, &chosen);
        for (class, has) in sizes(&examples, &ids(&order)) {
            let size = sizes_kept.get(&class).copied().unwrap_or(0);
            let exact = (count * has) as f64 / order.len() as f64;
            prop_assert!((size as f64 - exact).abs() < 1.0, "{} of {}, {} expected", size, has, exact);
            let lowest = order.iter().filter(|example| example.1 == class).take(size);
            prop_assert!(lowest.into_iter().all(|example| chosen.contains(&example.0)));
        }
    }

    /// The rule without floors, then one exchange after the other.
    #[test]
    fn floors_exchange_the_least_favored(
        examples in examples(),
        cut: prop::sample::Index,
        skip: prop::sample::Index,
        floor in 0..9_usize,
        which in 0..3_u8,
    ) {
        let up = ascending(&examples);
        let skip = skip.index(up.len() + 1);
        let order: Vec<Example> = match which {
            0 => up.clone(),
            1 => up.iter().rev().copied().collect(),
            _ => up[skip..].iter().chain(up[..skip].iter().rev()).copied().collect(),
        };
        let room = if which == 2 { up.len() - skip } else { up.len() };
        let count = cut.index(room + 1);
        let amount = Amount::Count(count);
        let rule = match which {
            0 => Rule::Lowest(amount),
            1 => Rule::Highest(amount),
            _ => Rule::Window { offset: Amount::Count(skip), keep: amount },
        };
        let all = sizes(&examples, &ids(&order));
        let floor_of = |class: i32| all[&class].min(floor);
        let wanted: usize = all.keys().map(|&class| floor_of(class)).sum();
        let classes = Classes::AtLeast(Amount::Count(floor));
        if wanted > count {
            let error = column(&examples).select_with_classes(rule, classes).unwrap_err();
            if order.is_empty() {
                prop_assert_eq!(error.kind(), ErrorKind::Empty);
            } else {
                prop_assert_eq!(error.kind(), ErrorKind::InvalidArgument);
                prop_assert!(error.to_string().starts_with("class floor: "), "{error}");
            }
            return Ok(());
        }
        let mut chosen: Vec<Example> = order[..count].to_vec();
        let has = |chosen: &[Example], class| chosen.iter().filter(|it| it.1 == class).count();
        for &class in all.keys() {
            while has(&chosen, class) < floor_of(class) {
                let next = order.iter().find(|it| it.1 == class && !chosen.contains(it)).unwrap();
                chosen.push(*next);
            }
        }
        while chosen.len() > count {
            let place = |it: &Example| order.iter().position(|other| other == it).unwrap();
            let spare = chosen.iter().filter(|it| has(&chosen, it.1) > floor_of(it.1));
            let worst = *spare.max_by_key(|it| place(it)).unwrap();
            chosen.retain(|it| *it != worst);
        }
        prop_assert_eq!(kept(&examples, rule, classes), ids(&chosen));
    }

    #[test]
    fn strata_get_the_budgets_of_the_paper(
        examples in examples(),
        cut: prop::sample::Index,
        strata in 1..12_usize,
        seed: u64,
    ) {
        let order = ascending(&examples);
        prop_assume!(!order.is_empty());
        let count = cut.index(order.len() + 1);
        let (low, high) = (order[0].2 as i64, order[order.len() - 1].2 as i64);
        // In whole numbers.
        let stratum = |example: &Example| {
            let place = (example.2 as i64 - low) * strata as i64;
            if high == low { 0 } else { (place / (high - low)).min(strata as i64 - 1) as usize }
        };
        let numbers = |among: &[i64]| {
            let mut numbers = vec![0; strata];
            for example in order.iter().filter(|example| among.contains(&example.0)) {
                numbers[stratum(example)] += 1;
            }
            numbers
        };
        let rule = Rule::Stratified { amount: Amount::Count(count), strata, seed };
        let chosen = kept(&examples, rule, Classes::Ignored);
        prop_assert_eq!(chosen.len(), count);
        let budgets = budgets(&numbers(&ids(&order)), count);
        prop_assert_eq!(numbers(&chosen), budgets);
        // A floor of nothing changes nothing; a class by itself has strata of its own.
        let none = Classes::AtLeast(Amount::Count(0));
        prop_assert_eq!(&kept(&examples, rule, none), &chosen);
        let one: Vec<Example> = examples.iter().map(|it| (it.0, 7, it.2)).collect();
        prop_assert_eq!(&kept(&one, rule, Classes::Balanced), &chosen);
    }

    #[test]
    fn steps_narrow_what_is_left(
        examples in examples(),
        drop: prop::sample::Index,
        cut: prop::sample::Index,
    ) {
        let order = ascending(&examples);
        prop_assume!(!order.is_empty());
        let drop = drop.index(order.len());
        let count = 1 + cut.index(order.len() - drop);
        let recipe = Recipe::new()
            .then(Step::drop("a", Rule::Highest(Amount::Count(drop))))
            .then(Step::keep("a", Rule::Highest(Amount::Count(count))));
        let selection = recipe.select(|_| Ok(column(&examples))).unwrap();
        let end = order.len() - drop;
        prop_assert_eq!(selection.examples().collect::<Vec<_>>(), ids(&order[end - count..end]));
        // By another score, the opposite of the first.
        let opposite: Vec<Example> = examples.iter().map(|it| (it.0, it.1, -it.2)).collect();
        let recipe = Recipe::new()
            .then(Step::drop("b", Rule::Lowest(Amount::Count(drop))))
            .then(Step::keep("a", Rule::Lowest(Amount::Count(count))));
        let read = |name: &str| Ok(column(if name == "a" { &examples } else { &opposite }));
        let chosen: Vec<i64> = recipe.select(read).unwrap().examples().collect();
        let left = &ascending(&opposite)[drop..];
        let left: Vec<Example> = order.iter().copied().filter(|it| ids(left).contains(&it.0)).collect();
        prop_assert_eq!(chosen, ids(&left[..count]));
    }

    #[test]
    fn the_order_of_rows_never_matters(examples in examples(), seed: u64) {
        let mut reversed = examples.clone();
        reversed.reverse();
        let share = Amount::Fraction(0.4);
        for rule in [
            Rule::Highest(share),
            Rule::Window { offset: Amount::Fraction(0.3), keep: share },
            Rule::Random { amount: share, seed },
            Rule::Stratified { amount: share, strata: 5, seed },
        ] {
            for classes in [
                Classes::Ignored,
                Classes::Balanced,
                Classes::Proportional,
                Classes::AtLeast(Amount::Fraction(0.2)),
            ] {
                let choose = |examples: &[Example]| {
                    let selection = column(examples).select_with_classes(rule, classes);
                    selection.map_err(|error| error.to_string())
                };
                prop_assert_eq!(choose(&examples), choose(&reversed));
            }
        }
    }
}

#[test]
fn strata_choose_uniformly() {
    // Two strata of 6 and 2, of which 2 and 2 are chosen.
    let scores = [0.0, 0.1, 0.2, 0.1, 0.3, 0.2, 0.9, 1.0];
    let examples: Vec<Example> = (0..).zip(scores).map(|(id, score)| (id, 0, score)).collect();
    let mut hits = [0_u32; 8];
    for seed in 0..3000 {
        let rule = Rule::Stratified { amount: Amount::Count(4), strata: 2, seed };
        for id in kept(&examples, rule, Classes::Ignored) {
            hits[id as usize] += 1;
        }
    }
    assert_eq!(hits[6..], [3000, 3000]);
    // Binomial(3000, 1/3): mean 1000, standard deviation 26; six of those on either side.
    assert!(hits[..6].iter().all(|hits| (845..1155).contains(hits)), "{hits:?}");
}
