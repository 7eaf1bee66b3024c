//! The state of each example of a selection while rows go by, and counts by class.
//!
//! Rows come in any order, so every look-up of an example misses the cache. One word holds
//! everything about an example, and a selection of the ids 0, 1, 2 and so on finds it without a
//! search.

use std::collections::BTreeMap;

use super::summary::ClassCounts;
use crate::selection::{Decision, Selection};

/// One word for each example of the selection, by position: decision, whether a row has had its id,
/// class.
pub(super) struct ExampleStates<'a> {
    selection: &'a Selection,
    words: Vec<u32>,
    /// Whether every position is its id, and all words are filled in.
    dense: bool,
    classes: Classes,
}

const KEPT: u32 = 1;
const UNSCORED: u32 = 2;
const SEEN: u32 = 4;
const CLASS_SHIFT: u32 = 3;

/// The state of a row's example.
#[derive(Clone, Copy, Debug)]
pub(super) struct State(u32);

impl State {
    pub(super) fn kept(self) -> bool {
        self.0 & KEPT != 0
    }

    /// Whether the score is NaN.
    pub(super) fn unscored(self) -> bool {
        self.0 & UNSCORED != 0
    }

    /// Whether an earlier row had the same id.
    pub(super) fn seen(self) -> bool {
        self.0 & SEEN != 0
    }
}

impl<'a> ExampleStates<'a> {
    pub(super) fn new(selection: &'a Selection) -> Self {
        let mut states = Self {
            selection,
            words: vec![0; selection.considered()],
            dense: false,
            classes: Classes::default(),
        };
        states.dense = (0..states.words.len()).all(|position| {
            let selected = selection.get(position as i64);
            selected.filter(|selected| selected.position == position).is_some_and(|selected| {
                states.words[position] = states.classes.word(selected.decision, selected.label);
                true
            })
        });
        if !states.dense {
            states.words.fill(0);
        }
        states
    }

    /// Marks an example as seen, and returns its state before that; `None` if it is not in the
    /// selection.
    #[inline]
    pub(super) fn visit(&mut self, example: i64) -> Option<State> {
        if self.dense {
            let word = self.words.get_mut(usize::try_from(example).ok()?)?;
            let state = State(*word);
            *word |= SEEN;
            return Some(state);
        }
        let selected = self.selection.get(example)?;
        let word = &mut self.words[selected.position];
        let state = State(self.classes.word(selected.decision, selected.label) | *word);
        *word = SEEN;
        Some(state)
    }

    /// Counts a row that has a score.
    #[inline]
    pub(super) fn count(&mut self, state: State) {
        let class = (state.0 >> CLASS_SHIFT) as usize;
        self.classes.rows[class][usize::from(state.kept())] += 1;
    }

    /// Returns the counts by class, ascending.
    pub(super) fn classes(&self) -> Vec<ClassCounts> {
        let rows = self.classes.labels.iter().zip(&self.classes.rows);
        let mut classes: Vec<ClassCounts> = rows
            .filter(|(_, rows)| *rows != &[0; 2])
            .map(|(&label, &[pruned, kept])| ClassCounts { label, kept, pruned })
            .collect();
        classes.sort_unstable_by_key(|class| class.label);
        classes
    }
}

/// Numbers for the classes that occur, and the kept and dropped rows of each.
#[derive(Default)]
struct Classes {
    labels: Vec<i32>,
    rows: Vec<[u64; 2]>,
    numbers: BTreeMap<i32, u32>,
    /// The numbers of small labels plus one, found without searching a tree.
    small: Vec<u32>,
}

const SMALL_LABELS: usize = 1 << 16;

impl Classes {
    #[inline]
    fn word(&mut self, decision: Decision, label: i32) -> u32 {
        let decision = match decision {
            Decision::Kept => KEPT,
            Decision::Pruned => 0,
            Decision::Unscored => UNSCORED,
        };
        decision | self.number(label) << CLASS_SHIFT
    }

    #[inline]
    fn number(&mut self, label: i32) -> u32 {
        let place = usize::try_from(label).ok().filter(|&place| place < SMALL_LABELS);
        if let Some(number) = place.and_then(|place| self.small.get(place)?.checked_sub(1)) {
            return number;
        }
        let next = self.labels.len() as u32;
        let number = *self.numbers.entry(label).or_insert(next);
        if number == next {
            self.labels.push(label);
            self.rows.push([0; 2]);
        }
        if let Some(place) = place {
            self.small.resize(self.small.len().max(place + 1), 0);
            self.small[place] = number + 1;
        }
        number
    }
}
