//! Groups of examples on which the geometry of training is measured: windows of similar difficulty,
//! and the easiest, hardest and random examples.

use crate::error::{Error, Result};
use crate::selection::ScoreColumn;
use crate::selection::random::SplitMix64;

/// A named group of examples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExampleSet {
    /// The name of the group in tables.
    pub name: String,
    /// The example ids, in the order in which inputs are stacked.
    pub examples: Vec<i64>,
}

impl ExampleSet {
    /// Returns groups of `size` consecutive examples in ascending order of score; the Data Diet
    /// paper takes 100 by EL2N. Fewer than `size` examples left over at the top are in no group.
    ///
    /// A window is named `window_` and the number of examples below it. Ties in score are broken by
    /// example id; examples without a score (NaN) are left out. Use `step_by(10)` to take every
    /// tenth window where all of them would cost too much.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if `size` is 0 or exceeds the number
    /// of examples that have a score.
    ///
    /// # Examples
    ///
    /// ```
    /// use data_diet::selection::{ExampleSet, ScoreColumn};
    ///
    /// let el2n = ScoreColumn::new(vec![1, 2, 3, 4, 5], vec![0; 5], vec![0.9, 0.1, 0.5, 0.3, 0.7])?;
    /// let windows = ExampleSet::windows(&el2n, 2)?;
    /// assert_eq!(windows[0].examples, [2, 4]);
    /// assert_eq!(windows[1].examples, [3, 5]);
    /// assert_eq!(windows[1].name, "window_2");
    /// # Ok::<(), data_diet::Error>(())
    /// ```
    pub fn windows(scores: &ScoreColumn, size: usize) -> Result<Vec<Self>> {
        let order = ascending(scores);
        check_size("size", size, order.len())?;
        // Zero-padded, so that names sort as the windows do.
        let digits = (order.len() - 1).to_string().len();
        let window = |(place, examples): (usize, &[i64])| Self {
            name: format!("window_{:0digits$}", place * size),
            examples: examples.to_vec(),
        };
        Ok(order.chunks_exact(size).enumerate().map(window).collect())
    }

    /// Returns the ids as row numbers, to gather inputs by.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if an id is not below `rows`, the
    /// number of rows.
    pub fn rows(&self, rows: u32) -> Result<Vec<u32>> {
        let row = |&example: &i64| {
            u32::try_from(example).ok().filter(|&row| row < rows).ok_or_else(|| {
                let name = &self.name;
                Error::invalid(format!(
                    "rows: expected ids of set `{name}` below {rows}, got {example}"
                ))
            })
        };
        self.examples.iter().map(row).collect()
    }

    /// Returns the `count` examples with the lowest scores, the `count` with the highest, and
    /// `count` random ones, named `lowest`, `highest` and `random`. The Data Diet paper measures
    /// error barriers on such sets of 1,000 by EL2N. Each set is in ascending order of id; sets may
    /// overlap.
    ///
    /// Ties in score are broken by example id. Examples without a score (NaN) are in no set.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if `count` is 0 or exceeds the number
    /// of examples that have a score.
    pub fn extremes(scores: &ScoreColumn, count: usize, seed: u64) -> Result<[Self; 3]> {
        let mut order = ascending(scores);
        check_size("count", count, order.len())?;
        let set = |name: &str, examples: &[i64]| {
            let mut examples = examples.to_vec();
            examples.sort_unstable();
            Self { name: name.to_owned(), examples }
        };
        let lowest = set("lowest", &order[..count]);
        let highest = set("highest", &order[order.len() - count..]);
        // Like a random selection, the random set depends on the seed and the scored ids only.
        order.sort_unstable();
        SplitMix64::new(seed).shuffle_front(&mut order, count);
        Ok([lowest, highest, set("random", &order[..count])])
    }
}

fn check_size(what: &str, size: usize, scored: usize) -> Result<()> {
    if (1..=scored).contains(&size) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{what}: expected 1 to {scored}, the examples that have a score, got {size}"
    )))
}

/// Returns the ids of examples that have a score, by score, then id.
fn ascending(scores: &ScoreColumn) -> Vec<i64> {
    let examples = scores.examples().iter().copied().zip(scores.scores().iter().copied());
    let mut order: Vec<(i64, f64)> = examples.filter(|(_, score)| !score.is_nan()).collect();
    // Adding zero turns -0 into 0.
    order.sort_unstable_by(|a, b| (a.1 + 0.0).total_cmp(&(b.1 + 0.0)).then(a.0.cmp(&b.0)));
    order.into_iter().map(|(example, _)| example).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::{Amount, Rule};

    fn scores() -> ScoreColumn {
        let examples: Vec<i64> = (0..103).map(|row| row * 1_000_003).collect();
        let mut scores: Vec<f64> = (0..103).map(|row| f64::from(row * 37 % 20)).collect();
        scores[7] = f64::NAN;
        ScoreColumn::new(examples, vec![0; 103], scores).unwrap()
    }

    #[test]
    fn windows_follow_the_score_and_then_the_id() {
        let column = scores();
        let windows = ExampleSet::windows(&column, 10).unwrap();
        assert_eq!(windows.len(), 10, "two of 102 are left over");
        let mut expected: Vec<usize> = (0..103).filter(|&row| row != 7).collect();
        expected.sort_by_key(|&row| (column.scores()[row] as i64, row));
        let joined: Vec<i64> = windows.iter().flat_map(|set| set.examples.clone()).collect();
        let ids: Vec<i64> = expected[..100].iter().map(|&row| column.examples()[row]).collect();
        assert_eq!(joined, ids);
        assert_eq!((&*windows[0].name, &*windows[9].name), ("window_000", "window_090"));
    }

    #[test]
    fn extremes_are_what_the_rules_keep() {
        let kept = |rule| -> Vec<i64> { scores().select(rule).unwrap().examples().collect() };
        let amount = Amount::Count(30);
        let [lowest, highest, random] = ExampleSet::extremes(&scores(), 30, 5).unwrap();
        assert_eq!(lowest.examples, kept(Rule::Lowest(amount)));
        assert_eq!(highest.examples, kept(Rule::Highest(amount)));
        assert_eq!(random.examples, kept(Rule::Random { amount, seed: 5 }));
        assert_eq!([&*lowest.name, &*highest.name, &*random.name], ["lowest", "highest", "random"]);
    }

    #[test]
    fn ids_are_row_numbers_or_refused() {
        let set = |examples: &[i64]| ExampleSet { name: "a".into(), examples: examples.to_vec() };
        assert_eq!(set(&[7, 0, 3]).rows(8).unwrap(), [7, 0, 3]);
        let error = set(&[7, 0, 3]).rows(7).unwrap_err();
        assert_eq!(error.to_string(), "rows: expected ids of set `a` below 7, got 7");
        assert!(set(&[-1]).rows(u32::MAX).is_err() && set(&[1 << 40]).rows(u32::MAX).is_err());
    }

    #[test]
    fn refusals_name_the_argument() {
        let error = ExampleSet::windows(&scores(), 0).unwrap_err();
        let expected = "size: expected 1 to 102, the examples that have a score, got 0";
        assert_eq!(error.to_string(), expected);
        let error = ExampleSet::extremes(&scores(), 103, 0).unwrap_err();
        assert!(error.to_string().starts_with("count: expected 1 to 102"), "{error}");
        let none = ScoreColumn::new(vec![1], vec![0], vec![f64::NAN]).unwrap();
        assert!(ExampleSet::windows(&none, 1).is_err());
    }
}
