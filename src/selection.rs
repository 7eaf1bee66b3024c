//! Scores in, chosen examples out. Knows neither signals nor runs.
//!
//! Every rule orders the examples by ascending score and breaks ties by example id, so that a
//! selection is the same on every machine and every day. An example whose score is NaN has no place
//! in that order: no rule keeps it, and it is counted.

use crate::error::{Error, ErrorKind, Result};

/// How many of the scored examples to keep.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Amount {
    /// A share of the examples that have a score, in `0..=1`; the count is rounded to the nearest
    /// whole number, a half upwards.
    Fraction(f64),
    /// That many examples.
    Count(usize),
}

/// Which of the scored examples to keep.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// The highest scores; the lowest-scored examples are pruned, as in the Data Diet paper.
    Highest(Amount),
    /// The lowest scores.
    Lowest(Amount),
    /// Scores in `min..=max`, either side open where it is `None`.
    Threshold {
        /// The lowest score that is kept.
        min: Option<f64>,
        /// The highest score that is kept.
        max: Option<f64>,
    },
    /// A uniformly random subset that depends on the seed and the scored ids alone: the baseline that
    /// any score has to beat.
    Random {
        /// How many to keep.
        amount: Amount,
        /// The same seed gives the same subset.
        seed: u64,
    },
}

/// One score for each of a set of examples: what a selection is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoreColumn {
    examples: Vec<i64>,
    labels: Vec<i32>,
    scores: Vec<f64>,
}

impl ScoreColumn {
    /// Joins ids, labels and scores, in any order of the ids.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the lengths differ or an id occurs twice.
    pub fn new(examples: Vec<i64>, labels: Vec<i32>, scores: Vec<f64>) -> Result<Self> {
        let (ids, names, values) = (examples.len(), labels.len(), scores.len());
        if names != ids || values != ids {
            return Err(Error::invalid(format!(
                "scores: expected one label and one score for each of {ids} ids, got {names} labels \
                 and {values} scores"
            )));
        }
        if examples.is_sorted_by(|a, b| a < b) {
            return Ok(Self { examples, labels, scores });
        }
        let mut order: Vec<usize> = (0..ids).collect();
        order.sort_unstable_by_key(|&row| examples[row]);
        if let Some(pair) = order.windows(2).find(|pair| examples[pair[0]] == examples[pair[1]]) {
            let example = examples[pair[0]];
            return Err(Error::invalid(format!("scores: example {example} occurs twice")));
        }
        Ok(Self {
            examples: order.iter().map(|&row| examples[row]).collect(),
            labels: order.iter().map(|&row| labels[row]).collect(),
            scores: order.iter().map(|&row| scores[row]).collect(),
        })
    }

    /// The example ids, ascending.
    #[must_use]
    pub fn examples(&self) -> &[i64] {
        &self.examples
    }

    /// The class of each example.
    #[must_use]
    pub fn labels(&self) -> &[i32] {
        &self.labels
    }

    /// The score of each example; NaN where it has none.
    #[must_use]
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// Chooses examples by a rule.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a fraction outside `0..=1`, a count above
    /// the number of scored examples, a threshold that is NaN or has neither side;
    /// [`Empty`](ErrorKind::Empty) if nothing would be kept, with the range of the scores.
    ///
    /// # Examples
    ///
    /// ```
    /// use data_diet::{Amount, Rule, ScoreColumn};
    ///
    /// let el2n = ScoreColumn::new(vec![10, 11, 12], vec![0, 1, 0], vec![0.9, 0.1, 0.4])?;
    /// let kept = el2n.select(Rule::Highest(Amount::Count(2)))?;
    /// assert_eq!(kept.examples().collect::<Vec<_>>(), [10, 12]);
    /// assert!(!kept.contains(11));
    /// # Ok::<(), data_diet::Error>(())
    /// ```
    pub fn select(self, rule: Rule) -> Result<Selection> {
        let mut order: Vec<usize> =
            (0..self.scores.len()).filter(|&row| !self.scores[row].is_nan()).collect();
        let scored = order.len();
        // Rows are in ascending order of id already: a stable order of equal scores is by id.
        let by_score = |&a: &usize, &b: &usize| {
            (self.scores[a] + 0.0).total_cmp(&(self.scores[b] + 0.0)).then(a.cmp(&b))
        };
        let mut kept = vec![false; self.scores.len()];
        match rule {
            Rule::Highest(amount) => {
                order.sort_unstable_by(by_score);
                let count = amount.of(scored)?;
                order[scored - count..].iter().for_each(|&row| kept[row] = true);
            }
            Rule::Lowest(amount) => {
                order.sort_unstable_by(by_score);
                let count = amount.of(scored)?;
                order[..count].iter().for_each(|&row| kept[row] = true);
            }
            Rule::Threshold { min, max } => {
                let side = |value: Option<f64>| value.is_some_and(f64::is_nan);
                if side(min) || side(max) || (min.is_none() && max.is_none()) {
                    return Err(Error::invalid("threshold: expected a minimum, a maximum or both"));
                }
                let (min, max) = (min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
                order
                    .iter()
                    .filter(|&&row| (min..=max).contains(&self.scores[row]))
                    .for_each(|&row| kept[row] = true);
            }
            Rule::Random { amount, seed } => {
                let count = amount.of(scored)?;
                let mut random = SplitMix64(seed);
                // The first `count` steps of a Fisher-Yates shuffle.
                for place in 0..count {
                    let other = place + random.below((scored - place) as u64) as usize;
                    order.swap(place, other);
                    kept[order[place]] = true;
                }
            }
        }
        let count = kept.iter().filter(|&&keep| keep).count();
        if count == 0 {
            return Err(Error::new(ErrorKind::Empty, self.nothing_kept(rule, scored)));
        }
        let fate = |(&score, &kept): (&f64, &bool)| match (score.is_nan(), kept) {
            (true, _) => Fate::Unscored,
            (_, true) => Fate::Kept,
            (_, false) => Fate::Pruned,
        };
        Ok(Selection {
            fates: self.scores.iter().zip(&kept).map(fate).collect(),
            examples: self.examples,
            labels: self.labels,
            count,
            without_score: self.scores.len() - scored,
        })
    }

    fn nothing_kept(&self, rule: Rule, scored: usize) -> String {
        let finite = self.scores.iter().copied().filter(|score| !score.is_nan());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), score| {
            (low.min(score), high.max(score))
        });
        if scored == 0 {
            return "no example has a score, so nothing is kept".to_owned();
        }
        let rule = match rule {
            Rule::Threshold { min, max } => {
                let side = |name, value: Option<f64>| {
                    value.map(|value| format!("{name} {value}")).into_iter()
                };
                side("min", min).chain(side("max", max)).collect::<Vec<_>>().join(", ")
            }
            _ => "this amount".to_owned(),
        };
        format!("{rule} keeps none of {scored} examples, whose scores lie in {low}..={high}")
    }
}

impl Amount {
    pub(crate) fn of(self, scored: usize) -> Result<usize> {
        match self {
            Self::Fraction(fraction) if (0.0..=1.0).contains(&fraction) => {
                // What is a half in decimals may be a hair less in binary: 0.7 * 45.
                let count = fraction * scored as f64;
                Ok((count * (1.0 + 2.0 * f64::EPSILON)).round() as usize)
            }
            Self::Fraction(fraction) => {
                Err(Error::invalid(format!("fraction: expected 0..=1, got {fraction}")))
            }
            Self::Count(count) if count <= scored => Ok(count),
            Self::Count(count) => Err(Error::invalid(format!(
                "count: expected at most {scored}, the examples that have a score, got {count}"
            ))),
        }
    }
}

/// The outcome of a rule: for every example that was considered, whether it stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    examples: Vec<i64>,
    labels: Vec<i32>,
    fates: Vec<Fate>,
    count: usize,
    without_score: usize,
}

/// What a rule has decided about an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Kept,
    /// Its score is not among those that the rule keeps.
    Pruned,
    /// Its score is NaN, about which no rule can decide.
    Unscored,
}

/// What a selection knows of one example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its place among all considered examples in ascending order of id.
    pub position: usize,
    /// Its class.
    pub label: i32,
    /// Whether it stays.
    pub fate: Fate,
}

impl Selection {
    /// The kept example ids, ascending.
    pub fn examples(&self) -> impl Iterator<Item = i64> + '_ {
        let members = self.examples.iter().zip(&self.fates);
        members.filter(|&(_, &fate)| fate == Fate::Kept).map(|(&id, _)| id)
    }

    /// The number of kept examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing is kept, which no rule returns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of examples that the rule considered, kept or not, with a score or not.
    #[must_use]
    pub fn considered(&self) -> usize {
        self.examples.len()
    }

    /// The examples whose score was NaN; they are not kept.
    #[must_use]
    pub fn without_score(&self) -> usize {
        self.without_score
    }

    /// Whether an example is kept; `false` for one that the rule never saw.
    #[must_use]
    pub fn contains(&self, example: i64) -> bool {
        self.member(example).is_some_and(|member| member.fate == Fate::Kept)
    }

    /// What is known of an example, or `None` if the rule never saw it.
    #[must_use]
    pub fn member(&self, example: i64) -> Option<Member> {
        let guess = usize::try_from(example).ok()?;
        // Ids that are row numbers are found at once.
        let position = match self.examples.get(guess) {
            Some(&found) if found == example => guess,
            _ => self.examples.binary_search(&example).ok()?,
        };
        Some(Member { position, label: self.labels[position], fate: self.fates[position] })
    }
}

/// The generator of Steele, Lea and Flood (2014), 64 bits of state; its output is fixed for ever,
/// which a selection that people cite needs and a general crate does not promise.
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound` by rejection, so that no value is favoured.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let zone = u64::MAX - u64::MAX % bound;
        loop {
            let value = self.next();
            if value < zone {
                return value % bound;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(error.to_string(), "fraction: expected 0..=1, got 1.5");
        let error = message(Rule::Lowest(Amount::Count(3)));
        assert!(error.to_string().contains("at most 2"), "{error}");
        let error = message(Rule::Threshold { min: Some(0.8), max: None });
        assert_eq!(error.kind(), ErrorKind::Empty);
        let expected = "min 0.8 keeps none of 2 examples, whose scores lie in 0.25..=0.75";
        assert_eq!(error.to_string(), expected);
        assert!(column(&[1.0]).select(Rule::Threshold { min: None, max: None }).is_err());
        assert!(ScoreColumn::new(vec![1, 1], vec![0, 0], vec![0.0, 0.0]).is_err());
    }

    #[test]
    fn sparse_ids_are_found() {
        let column = ScoreColumn::new(vec![90, 7, 1 << 60], vec![1, 2, 3], vec![0.0, 1.0, 2.0]);
        let selection = column.unwrap().select(Rule::Lowest(Amount::Count(1))).unwrap();
        assert_eq!(selection.examples().collect::<Vec<_>>(), [90]);
        assert_eq!(selection.member(1 << 60).unwrap().label, 3);
        assert_eq!(selection.member(8), None);
        assert_eq!(selection.member(-1), None);
    }
}
