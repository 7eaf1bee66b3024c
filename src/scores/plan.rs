//! Matches what was asked for with what was recorded: which columns the table will have, and how
//! each is computed.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{RecordedRun, RecordedTable};
use super::request::{At, Quantity, ScoreRequest};
use super::run_table::{GRAND, RunTable, recorded_signals};
use super::score::{Score, Span};
use super::signal_source::{requirement, why_missing};
use super::train_phase_score::TrainPhaseScore;
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Phase, Signal};

const TRAIN: RunTable = RunTable::Observations(Phase::Train);
/// Where a name without a phase is looked up: the first that has a common epoch.
const LATEST: [RunTable; 3] =
    [RunTable::Observations(Phase::Score), TRAIN, RunTable::Observations(Phase::HeldOut)];

/// What a fold has to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The columns of the table, and which of `computed` each shows.
    pub(super) columns: Vec<(String, usize)>,
    /// What is computed, each once.
    pub(super) computed: Vec<ComputedColumn>,
    /// The scores that names without a moment refer to.
    pub(super) aliases: BTreeMap<String, String>,
    /// Groups of columns at steps, one group for each request and span: at least one of each group
    /// must have rows.
    pub(super) steps: Vec<Vec<usize>>,
}

/// What is computed for each run and example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ComputedColumn {
    /// The mean of a column of a table over a span.
    Window(Window),
    /// A score of the train phase, of all epochs or from the first to the last of these.
    TrainPhase { score: TrainPhaseScore, epochs: Option<(u32, u32)> },
}

impl ComputedColumn {
    /// Returns the column of floats that it is made of, and the table.
    pub(super) fn column(self) -> Option<(RunTable, &'static str)> {
        match self {
            Self::Window(window) => Some((window.source, window.column)),
            Self::TrainPhase { score, .. } => Some((TRAIN, score.signal()?.name())),
        }
    }
}

/// The rows of a table that a mean is taken over, and the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) source: RunTable,
    pub(super) column: &'static str,
    pub(super) span: Span,
    /// Whether the score is the exponential of the mean.
    pub(super) is_exponential: bool,
}

/// Returns whether a table has rows in a span, according to the footers: exactly for epochs; for
/// steps, whether a row group's range includes them.
fn reaches(table: &RecordedTable, span: Span) -> bool {
    match span {
        Span::Epochs { first, last } => table.epochs.range(first..=last).next().is_some(),
        Span::Steps { first, last } => table.groups().any(|group| {
            let (from, to) = (*group.outline.steps.start(), *group.outline.steps.end());
            i128::from(from) <= i128::from(last) && i128::from(first) <= i128::from(to)
        }),
    }
}

impl Plan {
    /// Resolves requests against what some runs have recorded.
    pub(super) fn new(requests: &[ScoreRequest], runs: &[RecordedRun]) -> Result<Self> {
        let mut plan = Self::default();
        for request in requests {
            plan.add(request, runs)?;
        }
        Ok(plan)
    }

    fn add(&mut self, request: &ScoreRequest, runs: &[RecordedRun]) -> Result<()> {
        match request.quantity {
            Quantity::Signal(signal) => {
                let asked = Asked { request, runs, column: signal.name() };
                let sources = match request.phase {
                    Some(phase) => vec![RunTable::Observations(phase)],
                    None => Phase::ALL.map(RunTable::Observations).to_vec(),
                };
                let score = |source, span| match source {
                    RunTable::Observations(phase) => Score::Signal { signal, phase, span },
                    RunTable::Grand => Score::Grand(span),
                };
                self.add_windows(&asked, &sources, &LATEST, score)
            }
            Quantity::Perplexity => {
                if request.if_recorded && !runs.iter().all(|run| run.run.kind().has_tokens()) {
                    return Ok(());
                }
                check_tokens(runs)?;
                let asked = Asked { request, runs, column: Signal::Loss.name() };
                let sources = match request.phase {
                    Some(phase) => vec![RunTable::Observations(phase)],
                    None => Phase::ALL.map(RunTable::Observations).to_vec(),
                };
                let score = |source, span| match source {
                    RunTable::Observations(phase) => Score::Perplexity { phase, span },
                    RunTable::Grand => Score::Grand(span),
                };
                self.add_windows(&asked, &sources, &LATEST, score)
            }
            Quantity::Grand => {
                let asked = Asked { request, runs, column: GRAND };
                let score = |_, span| Score::Grand(span);
                self.add_windows(&asked, &[RunTable::Grand], &[RunTable::Grand], score)
            }
            Quantity::Cartography => {
                let scores = [
                    TrainPhaseScore::CartographyConfidence,
                    TrainPhaseScore::CartographyVariability,
                    TrainPhaseScore::CartographyCorrectness,
                ];
                // Correctness alone does not make a dataset map.
                let confidence = Signal::Confidence.name();
                let is_there = runs.iter().any(|run| run.has(TRAIN, confidence));
                if request.if_recorded && !is_there {
                    return Ok(());
                }
                let epochs = request.epochs();
                let mut scores = scores.into_iter();
                scores.try_for_each(|score| {
                    self.add_score(Score::TrainPhase { score, epochs }, request, runs)
                })
            }
            Quantity::TrainPhase(score) => {
                let epochs = request.epochs();
                self.add_score(Score::TrainPhase { score, epochs }, request, runs)
            }
            Quantity::Score(score) => self.add_score(score, request, runs),
        }
    }

    /// Adds a score whose name says everything.
    fn add_score(
        &mut self,
        score: Score,
        request: &ScoreRequest,
        runs: &[RecordedRun],
    ) -> Result<()> {
        let (source, column, span) = match score {
            Score::Signal { signal, phase, span } => {
                (RunTable::Observations(phase), Some(signal.name()), Some(span))
            }
            Score::Perplexity { phase, span } => {
                check_tokens(runs)?;
                (RunTable::Observations(phase), Some(Signal::Loss.name()), Some(span))
            }
            Score::Grand(span) => (RunTable::Grand, Some(GRAND), Some(span)),
            Score::TrainPhase { score, epochs } => {
                let span = epochs.map(|(first, last)| Span::epochs(first, last));
                (TRAIN, score.signal().map(Signal::name), span)
            }
            // Names without a moment are requests of their own.
            Score::Latest(_) | Score::LatestPerplexity | Score::LatestGrand => return Ok(()),
        };
        let has = |run: &&RecordedRun| match column {
            Some(column) => run.has(source, column),
            None => !run.table(source).epochs.is_empty() && run.run.kind().has_correct(),
        };
        if runs.iter().find(has).is_none() {
            let missing = || not_recorded(&score.to_string(), column, &[source], runs);
            return if request.if_recorded { Ok(()) } else { Err(missing()) };
        }
        if let Some(span) = span {
            match check(span, &[source], runs, column) {
                Err(error) if request.if_recorded && error.kind() == ErrorKind::NotFound => {
                    return Ok(());
                }
                checked => checked?,
            }
        }
        let computed = match (score, column, span) {
            (Score::TrainPhase { score, epochs }, ..) => {
                ComputedColumn::TrainPhase { score, epochs }
            }
            (_, Some(column), Some(span)) => {
                let is_exponential = matches!(score, Score::Perplexity { .. });
                ComputedColumn::Window(Window { source, column, span, is_exponential })
            }
            _ => return Ok(()),
        };
        let computed = self.push(score.to_string(), computed);
        if let Some(Span::Steps { .. }) = span {
            self.steps.push(vec![computed]);
        }
        Ok(())
    }

    /// Adds the mean of a column in some sources at the moments of a request. A request without a
    /// moment is named for the column, and refers to the first of `latest` that has a common epoch.
    fn add_windows(
        &mut self,
        asked: &Asked,
        sources: &[RunTable],
        latest: &[RunTable],
        score: impl Fn(RunTable, Span) -> Score,
    ) -> Result<()> {
        let Asked { request, runs, column } = *asked;
        let is_exponential = request.quantity == Quantity::Perplexity;
        // A request without a moment is named for what is asked for.
        let alias =
            if is_exponential { Score::LatestPerplexity.to_string() } else { column.to_owned() };
        if !sources.iter().any(|&source| asked.tables(source).next().is_some()) {
            let missing = || not_recorded(column, Some(column), sources, runs);
            return if request.if_recorded { Ok(()) } else { Err(missing()) };
        }
        let mut push = |source: RunTable, span: Span| {
            let name = score(source, span).to_string();
            self.push(name, ComputedColumn::Window(Window { source, column, span, is_exponential }))
        };
        let at = match (&request.at, request.phase) {
            (None, None) => {
                let common = |&source: &RunTable| Some((source, asked.last_common(source)?));
                let Some((source, epoch)) = latest.iter().find_map(common) else {
                    let message = format!(
                        "no score `{alias}`: there is no epoch in which every run has recorded it; \
                         ask for an epoch"
                    );
                    let missing = Error::new(ErrorKind::NotFound, message);
                    return if request.if_recorded { Ok(()) } else { Err(missing) };
                };
                let span = Span::epoch(epoch);
                let window = Window { source, column, span, is_exponential };
                let computed = self.compute(ComputedColumn::Window(window));
                if !self.columns.iter().any(|(name, _)| *name == alias) {
                    self.aliases.insert(alias.clone(), score(source, span).to_string());
                    self.columns.push((alias, computed));
                }
                return Ok(());
            }
            (None, Some(_)) => &At::LastEpoch,
            (Some(at), _) => at,
        };
        let spans: Vec<Span> = match at {
            At::EveryEpoch => {
                for &source in sources {
                    for epoch in asked.epochs(source) {
                        push(source, Span::epoch(epoch));
                    }
                }
                return Ok(());
            }
            At::LastEpoch => {
                for &source in sources {
                    let last = || asked.epochs(source).last().copied();
                    if let Some(epoch) = asked.last_common(source).or_else(last) {
                        push(source, Span::epoch(epoch));
                    }
                }
                return Ok(());
            }
            At::Epochs(epochs) => epochs
                .iter()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .map(|&e| Span::epoch(e))
                .collect(),
            At::Steps(steps) => {
                steps.iter().collect::<BTreeSet<_>>().into_iter().map(|&s| Span::step(s)).collect()
            }
            &At::EpochRange(first, last) => vec![Span::epochs(first, last)],
            &At::StepRange(first, last) => vec![Span::steps(first, last)],
        };
        for &span in &spans {
            check(span, sources, runs, Some(column))?;
        }
        let mut pushed = vec![Vec::new(); spans.len()];
        for &source in sources {
            for (&span, pushed) in spans.iter().zip(&mut pushed) {
                if asked.tables(source).any(|table| reaches(table, span)) {
                    pushed.push(push(source, span));
                }
            }
        }
        if matches!(at, At::Steps(_) | At::StepRange(..)) {
            self.steps.extend(pushed);
        }
        Ok(())
    }

    fn push(&mut self, name: String, computed: ComputedColumn) -> usize {
        let computed = self.compute(computed);
        if !self.columns.iter().any(|(other, _)| *other == name) {
            self.columns.push((name, computed));
        }
        computed
    }

    fn compute(&mut self, computed: ComputedColumn) -> usize {
        let place = self.computed.iter().position(|other| *other == computed);
        place.unwrap_or_else(|| {
            self.computed.push(computed);
            self.computed.len() - 1
        })
    }
}

/// Perplexity is of sequences: the exponential of a single label's loss is one over its probability.
fn check_tokens(runs: &[RecordedRun]) -> Result<()> {
    match runs.iter().find(|run| !run.run.kind().has_tokens()) {
        None => Ok(()),
        Some(run) => Err(Error::invalid(format!(
            "score: `perplexity` is of tokens, but run `{}` has {}; `loss` has the same order",
            run.run.name(),
            run.run.kind()
        ))),
    }
}

/// A request for means of one column.
#[derive(Clone, Copy)]
struct Asked<'a> {
    request: &'a ScoreRequest,
    runs: &'a [RecordedRun],
    column: &'static str,
}

impl<'a> Asked<'a> {
    /// Returns the tables that have the column.
    fn tables(&self, source: RunTable) -> impl Iterator<Item = &'a RecordedTable> {
        let column = self.column;
        let runs = self.runs.iter().filter(move |run| run.has(source, column));
        runs.map(move |run| run.table(source))
    }

    fn epochs(&self, source: RunTable) -> BTreeSet<u32> {
        self.tables(source).flat_map(|table| table.epochs.iter().copied()).collect()
    }

    /// Returns the last epoch that every run has, ignoring runs without rows in this table.
    fn last_common(&self, source: RunTable) -> Option<u32> {
        let in_all = |epoch: &u32| self.tables(source).all(|table| table.epochs.contains(epoch));
        self.epochs(source).into_iter().rev().find(in_all)
    }
}

/// Returns the tables of these sources that have a column, or any rows if no column is asked for.
fn tables<'a>(
    sources: &'a [RunTable],
    runs: &'a [RecordedRun],
    column: Option<&'a str>,
) -> impl Iterator<Item = &'a RecordedTable> {
    let of_source = move |&source: &RunTable| {
        let has = move |run: &&RecordedRun| column.is_none_or(|column| run.has(source, column));
        runs.iter().filter(has).map(move |run| run.table(source))
    };
    sources.iter().flat_map(of_source)
}

/// Checks that one of these sources has rows in a span.
fn check(
    span: Span,
    sources: &[RunTable],
    runs: &[RecordedRun],
    column: Option<&str>,
) -> Result<()> {
    let is_empty = match span {
        Span::Epochs { first, last } => first > last,
        Span::Steps { first, last } => first > last,
    };
    if is_empty {
        let range = match span {
            Span::Epochs { first, last } => format!("epochs: got {first} to {last}"),
            Span::Steps { first, last } => format!("steps: got {first} to {last}"),
        };
        return Err(Error::invalid(format!("{range}; the lower end must come first")));
    }
    if tables(sources, runs, column).any(|table| reaches(table, span)) {
        return Ok(());
    }
    Err(nothing_at(span, sources, runs, column))
}

/// The error for a span in which nothing was recorded, listing what was.
pub(super) fn nothing_at(
    span: Span,
    sources: &[RunTable],
    runs: &[RecordedRun],
    column: Option<&str>,
) -> Error {
    let place = match sources {
        [RunTable::Observations(phase)] => format!(" in the {phase} phase"),
        [RunTable::Grand] => " in the table `grand`".to_owned(),
        _ => String::new(),
    };
    let tables = || tables(sources, runs, column);
    let message = match span {
        Span::Epochs { first, last } => {
            let epochs: BTreeSet<u32> =
                tables().flat_map(|table| table.epochs.iter().copied()).collect();
            let what = if first == last {
                format!("epoch {first} was")
            } else {
                format!("epochs {first} to {last} were")
            };
            format!("{what} not recorded{place}; there are: {}", list(&epochs))
        }
        Span::Steps { first, last } => {
            let what = if first == last {
                format!("step {first} was")
            } else {
                format!("steps {first} to {last} were")
            };
            let steps = tables().filter_map(RecordedTable::steps);
            let steps = steps.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
            let (from, to) = steps.unwrap_or_default();
            format!("{what} not recorded{place}; the recorded steps are {from} to {to}")
        }
    };
    Error::new(ErrorKind::NotFound, message)
}

/// Formats epochs as `0, 1, 2, 5 to 90`.
fn list(epochs: &BTreeSet<u32>) -> String {
    let mut stretches: Vec<(u32, u32)> = Vec::new();
    for &epoch in epochs {
        match stretches.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(epoch) => *last = epoch,
            _ => stretches.push((epoch, epoch)),
        }
    }
    let shown = stretches.into_iter().flat_map(|(first, last)| match last - first {
        0..5 => (first..=last).map(|epoch| epoch.to_string()).collect(),
        _ => vec![format!("{first} to {last}")],
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn not_recorded(
    name: &str,
    column: Option<&str>,
    sources: &[RunTable],
    runs: &[RecordedRun],
) -> Error {
    let what = match column {
        Some(column) if column != name => {
            format!("`{name}` needs `{column}`, which no chosen run has recorded")
        }
        _ => format!("no chosen run has recorded `{name}`"),
    };
    let place = match sources {
        [RunTable::Observations(phase)] => format!(" in the {phase} phase"),
        _ => String::new(),
    };
    let signals = |run: &RecordedRun| {
        let phases = Phase::ALL.map(RunTable::Observations).into_iter();
        let phases = phases.filter(|s| !run.table(*s).epochs.is_empty());
        let phases: Vec<&str> = phases.map(RunTable::name).collect();
        let signals = recorded_signals(&run.run).join(", ");
        format!("`{}` has {signals} (phases: {})", run.run.name(), phases.join(", "))
    };
    let signal = Signal::ALL.into_iter().find(|signal| column == Some(signal.name()));
    // Else the signal is there, but no rows of these phases.
    let lacks = |run: &RecordedRun, signal: Signal| {
        let mut of_ranks = sources.iter().flat_map(|&table| run.sources_of(table, signal.name()));
        of_ranks.all(|source| source.is_none())
    };
    let described = |run: &RecordedRun| match (signal, run.run.ranks().next()) {
        (Some(signal), Some(rank)) if lacks(run, signal) => {
            format!("{}: {}", signals(run), why_missing(rank, signal))
        }
        (None, Some(rank)) if column.is_none() && !rank.format.kind.has_correct() => {
            format!("{}: no right answers in {}", signals(run), rank.format.kind)
        }
        _ => signals(run),
    };
    let needed = signal.filter(|&signal| runs.iter().all(|run| lacks(run, signal)));
    let needed = needed.map_or(String::new(), |signal| format!("; {}", requirement(signal)));
    let runs: Vec<String> = runs.iter().map(described).collect();
    Error::new(ErrorKind::NotFound, format!("{what}{place}; {}{needed}", runs.join("; ")))
}
