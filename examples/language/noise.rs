//! How well a score finds the noise.

use data_diet::selection::ScoreColumn;
use data_diet::{Amount, Rule};

use super::Result;
use super::data::{Kind, Sequence};

/// How a score ranks the noise of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Finding {
    /// The probability that such a sequence scores higher than a clean one, which is the area under
    /// the curve of the receiver operating characteristic.
    pub(crate) area: f64,
    /// The share of these sequences that is where one would look for it: hard noise among as many
    /// highest as there is hard noise, duplicates among as many lowest as there are duplicates.
    pub(crate) found: f64,
}

/// How many sequences are of these kinds.
pub(crate) fn count(sequences: &[Sequence], is_one: impl Fn(Kind) -> bool) -> usize {
    sequences.iter().filter(|sequence| is_one(sequence.kind)).count()
}

/// What a score of all sequences, whose ids are their places, finds of one kind.
pub(crate) fn find(scores: &ScoreColumn, sequences: &[Sequence], kind: Kind) -> Result<Finding> {
    let of = |asked: Kind| -> Vec<f64> {
        let pairs = scores.examples().iter().zip(scores.scores());
        let asked = pairs.filter(|&(&id, _)| sequences[id as usize].kind == asked);
        asked.map(|(_, &score)| score).collect()
    };
    let rule = if kind.is_hard() {
        Rule::Highest(Amount::Count(count(sequences, Kind::is_hard)))
    } else {
        Rule::Lowest(Amount::Count(count(sequences, |other| other == kind)))
    };
    let looked_at = scores.clone().select(rule)?;
    let ids = scores.examples().iter().filter(|&&id| sequences[id as usize].kind == kind);
    let (all, found) = ids
        .fold((0, 0), |(all, found), &id| (all + 1, found + usize::from(looked_at.contains(id))));
    Ok(Finding {
        area: area_under_curve(&of(kind), &of(Kind::Clean)),
        found: found as f64 / f64::from(all),
    })
}

/// The share of pairs in which the first score is higher than the second; equal ones count half.
pub(crate) fn area_under_curve(higher: &[f64], lower: &[f64]) -> f64 {
    let mut lower = lower.to_vec();
    lower.sort_by(f64::total_cmp);
    let below = |score: &f64| {
        let less = lower.partition_point(|other| other < score);
        let not_more = lower.partition_point(|other| other <= score);
        f64::midpoint(less as f64, not_more as f64)
    };
    higher.iter().map(below).sum::<f64>() / (higher.len() * lower.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_counts_pairs() {
        // Of four pairs each: one and two halves, four, and one.
        let area = area_under_curve(&[0.4, 0.9, 0.35], &[0.1, 0.4, 0.4, 0.8]);
        assert!((area - 7.0 / 12.0).abs() < 1e-15, "{area}");
        assert_eq!(area_under_curve(&[2.0, 3.0], &[0.0, 1.0]), 1.0);
        assert_eq!(area_under_curve(&[0.0], &[1.0]), 0.0);
    }

    #[test]
    fn noise_is_looked_for_at_its_end() {
        use Kind::{Clean, Duplicated, Foreign, Scrambled};
        let kinds = [Clean, Scrambled, Duplicated, Foreign, Clean, Duplicated, Scrambled];
        let sequences: Vec<Sequence> =
            kinds.iter().map(|&kind| Sequence { text: String::new(), kind }).collect();
        let values = vec![0.5, 0.9, 0.1, 0.2, 0.7, 0.6, 0.8];
        let scores = ScoreColumn::new((0..7).collect(), vec![0; 7], values).unwrap();
        let find = |kind| find(&scores, &sequences, kind).unwrap();
        // The highest three: 0.9, 0.8 scrambled, 0.7 clean. The lowest two: a duplicate, a foreign one.
        assert_eq!(find(Scrambled), Finding { area: 1.0, found: 1.0 });
        assert_eq!(find(Foreign), Finding { area: 0.0, found: 0.0 });
        assert_eq!(find(Duplicated), Finding { area: 0.25, found: 0.5 });
    }
}
