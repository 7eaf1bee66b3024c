//! Scores over the train phase of a run, or a span of its epochs: forgetting, margins, the dataset map,
//! windows.

use std::ops::Range;

use super::accumulate::{
    CorrectRate, Slots, Spread, Sum, add_up, count_correct, means, spread_out,
};
use super::decoded::{DecodedRowGroup, overlaps};
use super::forgetting::Presentations;
use super::presentation_windows::{PresentationWindows, duals, slide, uncertainties};
use super::score::Span;
use super::train_phase_score::TrainPhaseScore;
use super::values::Values;
use crate::run::RowGroupOutline;

/// What the cartography code counts for an example that was never learned.
const NEVER_LEARNED_IN_CARTOGRAPHY: u32 = 1000;

/// The slots of the scores that are asked for over the same epochs.
#[derive(Default)]
pub(super) struct Training {
    /// The first and the last epoch that count; `None` for all.
    epochs: Option<(u32, u32)>,
    pub(super) scores: Vec<(usize, TrainPhaseScore)>,
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
    pub(super) fn new(epochs: Option<(u32, u32)>) -> Self {
        Self { epochs, ..Self::default() }
    }

    /// Returns the first and the last epoch that count; `None` for all.
    pub(super) fn epochs(&self) -> Option<(u32, u32)> {
        self.epochs
    }

    pub(super) fn includes(&self, epoch: u32) -> bool {
        self.epochs.is_none_or(|(first, last)| (first..=last).contains(&epoch))
    }

    /// Returns whether a row group may hold rows that count.
    pub(super) fn overlaps(&self, outline: &RowGroupOutline) -> bool {
        self.epochs.is_none_or(|(first, last)| overlaps(outline, Span::epochs(first, last)))
    }

    /// Returns whether no later epoch counts.
    pub(super) fn ends_by(&self, epoch: u32) -> bool {
        self.epochs.is_some_and(|(_, last)| last <= epoch)
    }

    /// Adds a score, with the index of the float column that it needs, if any.
    pub(super) fn add(&mut self, computed: usize, score: TrainPhaseScore, column: Option<usize>) {
        self.scores.push((computed, score));
        match (score, column) {
            (TrainPhaseScore::Aum, Some(column)) => self.margins = Some((column, Vec::new())),
            (
                TrainPhaseScore::CartographyConfidence
                | TrainPhaseScore::CartographyVariability
                | TrainPhaseScore::ThresholdCloseness,
                Some(column),
            ) => self.confidences = Some((column, Vec::new())),
            (TrainPhaseScore::DynamicUncertainty | TrainPhaseScore::Dual, Some(column)) => {
                self.windows = Some((column, Vec::new()));
            }
            (TrainPhaseScore::CartographyCorrectness, _) => self.correct = Some(Vec::new()),
            (
                TrainPhaseScore::Forgetting
                | TrainPhaseScore::ForgettingInf
                | TrainPhaseScore::NeverLearned
                | TrainPhaseScore::FirstLearned
                | TrainPhaseScore::Presentations
                | TrainPhaseScore::CartographyForgetting,
                _,
            ) => self.presentations = Some(Vec::new()),
            // Without its column there is nothing to accumulate.
            (_, None) => {}
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
    pub(super) fn values(&self, score: TrainPhaseScore) -> Values {
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
            TrainPhaseScore::Forgetting => {
                let most = presentations.iter().map(Presentations::count).max().unwrap_or(0);
                forgetting(&|example| example.score(most))
            }
            TrainPhaseScore::ForgettingInf => forgetting(&Presentations::score_or_infinity),
            TrainPhaseScore::NeverLearned => {
                forgetting(&|example| f64::from(u8::from(example.never_learned())))
            }
            TrainPhaseScore::FirstLearned => {
                forgetting(&|example| example.first_learned().map_or(f64::NAN, f64::from))
            }
            TrainPhaseScore::Presentations => forgetting(&|example| f64::from(example.count())),
            TrainPhaseScore::Aum => means(self.margins.as_ref().map_or(&[], |(_, sums)| sums)),
            TrainPhaseScore::CartographyConfidence => {
                Values::collect(spreads.len(), |place| spreads[place].mean())
            }
            TrainPhaseScore::CartographyVariability => {
                Values::collect(spreads.len(), |place| spreads[place].deviation())
            }
            TrainPhaseScore::CartographyCorrectness => {
                let shares = self.correct.as_deref().unwrap_or_default();
                Values::collect(shares.len(), |place| shares[place].share())
            }
            TrainPhaseScore::ThresholdCloseness => Values::collect(spreads.len(), |place| {
                let mean = spreads[place].mean();
                mean * (1.0 - mean)
            }),
            TrainPhaseScore::CartographyForgetting => {
                forgetting(&|example| example.score(NEVER_LEARNED_IN_CARTOGRAPHY))
            }
            TrainPhaseScore::DynamicUncertainty => uncertainties(windows),
            TrainPhaseScore::Dual => duals(windows),
        }
    }
}
