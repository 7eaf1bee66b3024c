//! Scores over the whole train phase of a run: forgetting, margins, the dataset map.

use std::ops::Range;

use super::accumulate::{
    CorrectRate, Slots, Spread, Sum, add_up, count_correct, means, spread_out,
};
use super::decoded::DecodedRowGroup;
use super::forgetting::Presentations;
use super::presentation_windows::{PresentationWindows, duals, slide, uncertainties};
use super::score::Score;
use super::values::Values;

/// What the cartography code counts for an example that was never learned.
const NEVER_LEARNED_IN_CARTOGRAPHY: u32 = 1000;

/// The slots of the scores that are asked for.
#[derive(Default)]
pub(super) struct Training {
    pub(super) scores: Vec<(usize, Score)>,
    presentations: Option<Vec<Presentations>>,
    /// For the margin, with the index of its column in the pass.
    margins: Option<(usize, Vec<Sum>)>,
    /// For the confidence, with the index of its column in the pass.
    confidences: Option<(usize, Vec<Spread>)>,
    /// For the confidence in its order, with the index of its column in the pass.
    windows: Option<(usize, Vec<PresentationWindows>)>,
    correct: Option<Vec<CorrectRate>>,
}

impl Training {
    /// Adds a score, with the index of the float column that it needs, if any.
    pub(super) fn add(&mut self, computed: usize, score: Score, column: Option<usize>) {
        self.scores.push((computed, score));
        match (score, column) {
            (Score::Aum, Some(column)) => self.margins = Some((column, Vec::new())),
            (
                Score::CartographyConfidence
                | Score::CartographyVariability
                | Score::ThresholdCloseness,
                Some(column),
            ) => self.confidences = Some((column, Vec::new())),
            (Score::DynamicUncertainty | Score::Dual, Some(column)) => {
                self.windows = Some((column, Vec::new()));
            }
            (Score::CartographyCorrectness, _) => self.correct = Some(Vec::new()),
            (
                Score::Forgetting
                | Score::ForgettingInf
                | Score::NeverLearned
                | Score::FirstLearned
                | Score::Presentations
                | Score::CartographyForgetting,
                _,
            ) => self.presentations = Some(Vec::new()),
            // Without its column there is nothing to accumulate; the others are means over a span.
            (
                Score::Aum
                | Score::CartographyConfidence
                | Score::CartographyVariability
                | Score::ThresholdCloseness
                | Score::DynamicUncertainty
                | Score::Dual,
                None,
            )
            | (
                Score::Latest(_)
                | Score::Signal { .. }
                | Score::LatestGrand
                | Score::Grand(_)
                | Score::LatestPerplexity
                | Score::Perplexity { .. },
                _,
            ) => {}
        }
    }

    /// Returns whether the column `correct` is needed.
    pub(super) fn reads_correct(&self) -> bool {
        self.presentations.is_some() || self.correct.is_some()
    }

    pub(super) fn slots(&mut self) -> impl Iterator<Item = &mut dyn Slots> {
        let presentations = self.presentations.iter_mut().map(|slots| slots as &mut dyn Slots);
        let margins = self.margins.iter_mut().map(|(_, slots)| slots as &mut dyn Slots);
        let confidences = self.confidences.iter_mut().map(|(_, slots)| slots as &mut dyn Slots);
        let correct = self.correct.iter_mut().map(|slots| slots as &mut dyn Slots);
        let windows = self.windows.iter_mut().map(|(_, slots)| slots as &mut dyn Slots);
        presentations.chain(margins).chain(confidences).chain(windows).chain(correct)
    }

    /// Returns the columns that go into a mean.
    pub(super) fn columns(&self) -> impl Iterator<Item = usize> {
        let margins = self.margins.iter().map(|(column, _)| *column);
        let windows = self.windows.iter().map(|(column, _)| *column);
        margins.chain(self.confidences.iter().map(|(column, _)| *column)).chain(windows)
    }

    pub(super) fn add_rows(
        &mut self,
        places: &[u32],
        decoded: &DecodedRowGroup,
        rows: &Range<usize>,
    ) {
        if let Some(presentations) = &mut self.presentations {
            for (&place, row) in places.iter().zip(rows.clone()) {
                if let Some(example) = presentations.get_mut(place as usize) {
                    example.present(decoded.correct.get(row));
                }
            }
        }
        if let Some((column, sums)) = &mut self.margins {
            add_up(sums, places, decoded.values(*column, rows));
        }
        if let Some((column, spreads)) = &mut self.confidences {
            spread_out(spreads, places, decoded.values(*column, rows));
        }
        if let Some((column, windows)) = &mut self.windows {
            slide(windows, places, decoded.values(*column, rows));
        }
        if let Some(shares) = &mut self.correct {
            count_correct(shares, places, &decoded.correct, rows.start);
        }
    }

    /// Returns a finished score.
    pub(super) fn values(&self, score: Score) -> Values {
        let presentations = self.presentations.as_deref().unwrap_or_default();
        let forgetting = |value: &dyn Fn(&Presentations) -> f64| {
            let value = |example: &Presentations| match example.count() {
                0 => f64::NAN,
                _ => value(example),
            };
            Values::collect(presentations.len(), |place| value(&presentations[place]))
        };
        let windows = self.windows.as_ref().map_or(&[][..], |(_, windows)| windows);
        let spreads = self.confidences.as_ref().map_or(&[][..], |(_, spreads)| spreads);
        match score {
            Score::Forgetting => {
                let most = presentations.iter().map(Presentations::count).max().unwrap_or(0);
                forgetting(&|example| example.score(most))
            }
            Score::ForgettingInf => forgetting(&Presentations::score_or_infinity),
            Score::NeverLearned => {
                forgetting(&|example| f64::from(u8::from(example.never_learned())))
            }
            Score::FirstLearned => {
                forgetting(&|example| example.first_learned().map_or(f64::NAN, f64::from))
            }
            Score::Presentations => forgetting(&|example| f64::from(example.count())),
            Score::Aum => means(self.margins.as_ref().map_or(&[], |(_, sums)| sums)),
            Score::CartographyConfidence => {
                Values::collect(spreads.len(), |place| spreads[place].mean())
            }
            Score::CartographyVariability => {
                Values::collect(spreads.len(), |place| spreads[place].deviation())
            }
            Score::CartographyCorrectness => {
                let shares = self.correct.as_deref().unwrap_or_default();
                Values::collect(shares.len(), |place| shares[place].share())
            }
            Score::ThresholdCloseness => Values::collect(spreads.len(), |place| {
                let mean = spreads[place].mean();
                mean * (1.0 - mean)
            }),
            Score::CartographyForgetting => {
                forgetting(&|example| example.score(NEVER_LEARNED_IN_CARTOGRAPHY))
            }
            Score::DynamicUncertainty => uncertainties(windows),
            Score::Dual => duals(windows),
            // Means over a span, not over a whole phase.
            Score::Latest(_)
            | Score::Signal { .. }
            | Score::LatestGrand
            | Score::Grand(_)
            | Score::LatestPerplexity
            | Score::Perplexity { .. } => Values::F32(Vec::new()),
        }
    }
}
