//! Deliberately wrong labels, to study how training reacts to them.

use crate::error::{Error, Result};
use crate::selection::random::SplitMix64;

const STREAM: u64 = u64::from_be_bytes(*b"labelnoi");

/// Replaces the labels of a share of a data set. The same seed gives the same labels.
///
/// # Examples
///
/// ```
/// use data_diet::selection::LabelNoise;
///
/// let labels: Vec<u32> = (0..1000).map(|row| row % 10).collect();
/// let noisy = LabelNoise::symmetric(0.1, 7).apply(&labels, 10)?;
/// assert_eq!(noisy.count(), 100);
/// let row = noisy.noisy().iter().position(|&noisy| noisy).unwrap();
/// assert_ne!(noisy.labels()[row], noisy.original()[row]);
/// # Ok::<(), data_diet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelNoise {
    kind: Kind,
    fraction: f64,
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Symmetric,
    Permute,
}

/// Labels with noise, and the original ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoisyLabels {
    labels: Vec<u32>,
    original: Vec<u32>,
    chosen: Vec<bool>,
    noisy: Vec<bool>,
}

impl LabelNoise {
    /// Gives a share of the examples another class, every other class with equal probability. All
    /// of them end up with a wrong label.
    #[must_use]
    pub fn symmetric(fraction: f64, seed: u64) -> Self {
        Self { kind: Kind::Symmetric, fraction, seed }
    }

    /// Permutes the labels of a share of the examples, as the Data Diet paper does. Every class
    /// keeps its number of labels, and some of the chosen examples keep theirs by chance: about one
    /// in the number of classes.
    #[must_use]
    pub fn permute(fraction: f64, seed: u64) -> Self {
        Self { kind: Kind::Permute, fraction, seed }
    }

    /// Applies the noise to labels, which are class indices below `classes`, one for each example.
    ///
    /// The number of chosen examples is exactly the share, rounded to the nearest whole number, a
    /// half upwards. With the same seed, a larger share chooses the same examples and more.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the share is outside `0..=1`, a
    /// label is not below `classes`, or there are fewer than 2 classes.
    pub fn apply(&self, labels: &[u32], classes: usize) -> Result<NoisyLabels> {
        let fraction = self.fraction;
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::invalid(format!(
                "fraction: expected between 0 and 1, got {fraction}"
            )));
        }
        if classes < 2 || u32::try_from(classes).is_err() {
            return Err(Error::invalid(format!("classes: expected 2 to 2^32 - 1, got {classes}")));
        }
        if let Some(row) = labels.iter().position(|&label| label as usize >= classes) {
            let label = labels[row];
            return Err(Error::invalid(format!(
                "labels: expected classes below {classes}, got {label} in row {row}"
            )));
        }
        // A product that is a half in decimals can be just below it in binary: 0.7 * 45.
        let count = (fraction * labels.len() as f64 * (1.0 + 2.0 * f64::EPSILON)).round() as usize;
        let mut rows: Vec<usize> = (0..labels.len()).collect();
        // Differs from the seed of other choices: a random selection with the same seed would
        // otherwise choose exactly the examples with wrong labels.
        let mut random = SplitMix64::new(SplitMix64::new(self.seed).next() ^ STREAM);
        random.shuffle_front(&mut rows, count);
        rows.truncate(count);
        let mut spoiled = labels.to_vec();
        match self.kind {
            Kind::Symmetric => {
                for &row in &rows {
                    let other = random.below(classes as u64 - 1) as u32;
                    spoiled[row] = other + u32::from(other >= labels[row]);
                }
            }
            Kind::Permute => {
                let mut sources = rows.clone();
                random.shuffle_front(&mut sources, count);
                for (&row, &source) in rows.iter().zip(&sources) {
                    spoiled[row] = labels[source];
                }
            }
        }
        let mut chosen = vec![false; labels.len()];
        for row in rows {
            chosen[row] = true;
        }
        let noisy = labels.iter().zip(&spoiled).map(|(before, after)| before != after).collect();
        Ok(NoisyLabels { labels: spoiled, original: labels.to_vec(), chosen, noisy })
    }
}

impl NoisyLabels {
    /// Returns the labels to train with.
    #[must_use]
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Returns the original labels.
    #[must_use]
    pub fn original(&self) -> &[u32] {
        &self.original
    }

    /// Returns whether each example was chosen, whether or not its label changed.
    #[must_use]
    pub fn chosen(&self) -> &[bool] {
        &self.chosen
    }

    /// Returns whether each label differs from the original one.
    #[must_use]
    pub fn noisy(&self) -> &[bool] {
        &self.noisy
    }

    /// Returns the number of labels that differ from the original ones.
    #[must_use]
    pub fn count(&self) -> usize {
        self.noisy.iter().filter(|&&noisy| noisy).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::selection::{Amount, Rule, ScoreColumn};

    fn data_set() -> impl Strategy<Value = (Vec<u32>, usize)> {
        (2..12_usize).prop_flat_map(|classes| {
            (prop::collection::vec(0..classes as u32, 0..300), Just(classes))
        })
    }

    proptest! {
        #[test]
        fn symmetric_noise_makes_exactly_the_share_wrong(
            (labels, classes) in data_set(), percent in 0..=100_u32, seed: u64,
        ) {
            let noise = LabelNoise::symmetric(f64::from(percent) / 100.0, seed);
            let noisy = noise.apply(&labels, classes).unwrap();
            prop_assert_eq!(noisy.count(), (percent as usize * labels.len() * 2 + 100) / 200);
            prop_assert_eq!(noisy.chosen(), noisy.noisy());
            prop_assert_eq!(noisy.original(), &labels[..]);
            for (row, &label) in labels.iter().enumerate() {
                prop_assert_eq!(noisy.labels()[row] != label, noisy.noisy()[row]);
                prop_assert!((noisy.labels()[row] as usize) < classes);
            }
            prop_assert_eq!(noise.apply(&labels, classes).unwrap(), noisy);
        }

        #[test]
        fn permuting_keeps_every_class_and_touches_the_chosen_only(
            (labels, classes) in data_set(), percent in 0..=100_u32, seed: u64,
        ) {
            let noise = LabelNoise::permute(f64::from(percent) / 100.0, seed);
            let noisy = noise.apply(&labels, classes).unwrap();
            let chosen = noisy.chosen().iter().filter(|&&chosen| chosen).count();
            prop_assert_eq!(chosen, (percent as usize * labels.len() * 2 + 100) / 200);
            let sorted = |labels: &[u32]| {
                let mut labels = labels.to_vec();
                labels.sort_unstable();
                labels
            };
            prop_assert_eq!(sorted(noisy.labels()), sorted(&labels));
            for (row, &label) in labels.iter().enumerate() {
                prop_assert_eq!(noisy.labels()[row] != label, noisy.noisy()[row]);
                prop_assert!(noisy.chosen()[row] || !noisy.noisy()[row]);
            }
        }

        #[test]
        fn a_larger_share_adds_to_a_smaller_one(
            (labels, classes) in data_set(), shares in (0.0..=1.0_f64, 0.0..=1.0_f64), seed: u64,
        ) {
            let (less, more) = (shares.0.min(shares.1), shares.0.max(shares.1));
            let [less, more] = [less, more]
                .map(|share| LabelNoise::symmetric(share, seed).apply(&labels, classes).unwrap());
            let both = less.chosen().iter().zip(more.chosen());
            prop_assert!(both.clone().all(|(&less, &more)| more || !less));
        }
    }

    #[test]
    fn a_random_selection_with_the_same_seed_takes_its_share_of_wrong_labels() {
        let labels: Vec<u32> = (0..10_000).map(|row| row % 10).collect();
        let ids = (0..10_000).collect();
        let column = ScoreColumn::new(ids, vec![0; 10_000], vec![0.0; 10_000]).unwrap();
        for seed in 0..5 {
            let noisy = LabelNoise::symmetric(0.1, seed).apply(&labels, 10).unwrap();
            let amount = Amount::Count(1000);
            let random = column.clone().select(Rule::Random { amount, seed }).unwrap();
            let wrong = random.examples().filter(|&row| noisy.noisy()[row as usize]).count();
            // Hypergeometric: mean 100, standard deviation 9.
            assert!((55..145).contains(&wrong), "{wrong} with seed {seed}");
        }
    }

    #[test]
    fn other_classes_are_equally_likely() {
        let labels: Vec<u32> = (0..40_000).map(|row| row % 5).collect();
        let noisy = LabelNoise::symmetric(1.0, 3).apply(&labels, 5).unwrap();
        let mut counts = [[0_u32; 5]; 5];
        for (&before, &after) in labels.iter().zip(noisy.labels()) {
            counts[before as usize][after as usize] += 1;
        }
        for (before, row) in counts.iter().enumerate() {
            for (after, &count) in row.iter().enumerate() {
                // Binomial(8000, 1/4): mean 2000, standard deviation 39; six of those on either side.
                let expected = if before == after { 0..1 } else { 1768..2233 };
                assert!(expected.contains(&count), "{before} became {after} {count} times");
            }
        }
    }

    #[test]
    fn permuting_leaves_the_expected_share_as_it_was() {
        let labels: Vec<u32> = (0..20_000).map(|row| row % 10).collect();
        let noisy = LabelNoise::permute(0.5, 11).apply(&labels, 10).unwrap();
        // 10,000 chosen, nine in ten of them wrong; standard deviation near 30.
        assert!((8820..9180).contains(&noisy.count()), "{}", noisy.count());
        let other = LabelNoise::permute(0.5, 12).apply(&labels, 10).unwrap();
        assert_ne!(noisy.labels(), other.labels());
    }

    #[test]
    fn refusals_name_the_argument() {
        let message = |fraction, labels: &[u32], classes| {
            LabelNoise::symmetric(fraction, 0).apply(labels, classes).unwrap_err().to_string()
        };
        assert_eq!(message(1.5, &[0], 2), "fraction: expected between 0 and 1, got 1.5");
        assert_eq!(message(f64::NAN, &[0], 2), "fraction: expected between 0 and 1, got NaN");
        assert_eq!(message(0.5, &[0], 1), "classes: expected 2 to 2^32 - 1, got 1");
        assert_eq!(message(0.5, &[0, 3], 3), "labels: expected classes below 3, got 3 in row 1");
    }
}
