//! Divides a choice among the classes of the examples.

use std::collections::BTreeMap;

use super::apportion::apportion;
use super::row_chooser::{RowChooser, group};
use super::{Amount, Decision};
use crate::error::{Error, Result};

/// The classes of the scored examples in ascending order, and how many examples of each there are
/// before any step.
#[derive(Debug)]
pub(super) struct ClassSizes<'a> {
    labels: &'a [i32],
    classes: Vec<i32>,
    sizes: Vec<usize>,
    lookup: Option<Lookup>,
}

/// The index of every label between the lowest and the highest, for labels that are close together
/// as class indices are: a binary search would take most of the time of a choice among millions.
#[derive(Debug)]
struct Lookup {
    lowest: i32,
    places: Vec<u32>,
}

impl Lookup {
    const MOST_LABELS: i64 = 1 << 20;

    fn new(labels: &[i32]) -> Option<Self> {
        let (lowest, highest) = (*labels.iter().min()?, *labels.iter().max()?);
        let labels = i64::from(highest) - i64::from(lowest) + 1;
        let places = (labels <= Self::MOST_LABELS).then(|| vec![0; labels as usize])?;
        Some(Self { lowest, places })
    }

    fn place(&mut self, label: i32) -> &mut u32 {
        &mut self.places[(label - self.lowest) as usize]
    }
}

impl<'a> ClassSizes<'a> {
    pub(super) fn new(labels: &'a [i32], decisions: &[Decision]) -> Self {
        let scored =
            labels.iter().zip(decisions).filter(|&(_, &decision)| decision != Decision::Unscored);
        let scored = scored.map(|(&label, _)| label);
        let mut lookup = Lookup::new(labels);
        let mut sizes = BTreeMap::new();
        if let Some(lookup) = &mut lookup {
            // Holds counts first, then indices.
            scored.for_each(|label| *lookup.place(label) += 1);
            // In `i64`, since the highest label may be the largest `i32`.
            let labels = i64::from(lookup.lowest)..;
            let counts = labels.zip(&lookup.places).filter(|&(_, &count)| count > 0);
            sizes.extend(counts.map(|(label, &count)| (label as i32, count as usize)));
            for (place, &label) in (0..).zip(sizes.keys()) {
                *lookup.place(label) = place;
            }
        } else {
            scored.for_each(|label| *sizes.entry(label).or_insert(0) += 1);
        }
        let (classes, sizes) = sizes.into_iter().unzip();
        Self { labels, classes, sizes, lookup }
    }

    pub(super) fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The index of a scored row's class.
    pub(super) fn of(&self, row: u32) -> usize {
        let label = self.labels[row as usize];
        match &self.lookup {
            Some(lookup) => lookup.places[(label - lookup.lowest) as usize] as usize,
            // The class of every scored row is in the table.
            None => self.classes.partition_point(|&class| class < label),
        }
    }

    /// Chooses the best `count` of some rows class by class: equally many of every class, or in
    /// proportion to its size. A window's `skip` is always divided in proportion.
    pub(super) fn divided(
        &self,
        rows: &[u32],
        skip: usize,
        count: usize,
        chooser: &mut RowChooser<'_>,
        equal: bool,
    ) -> Vec<u32> {
        let (mut rows, left) = group(rows, self.sizes.len(), |row| self.of(row));
        let skips = apportion(skip, &self.sizes, &left);
        let rooms: Vec<usize> = left.iter().zip(&skips).map(|(left, skip)| left - skip).collect();
        let weights = if equal { &vec![1; rooms.len()] } else { &self.sizes };
        let budgets = apportion(count, weights, &rooms);
        let (mut chosen, mut start) = (Vec::with_capacity(count), 0);
        for ((size, skip), budget) in left.into_iter().zip(skips).zip(budgets) {
            let of_class = &mut rows[start..start + size];
            start += size;
            chooser.select_best(of_class, skip, budget);
            chosen.extend_from_slice(&of_class[..budget]);
        }
        chosen
    }

    /// Chooses the first `count` rows of an order with at least the floor of every class: the
    /// floors first, then the rest in order.
    pub(super) fn first_with_floors(
        &self,
        order: &[u32],
        count: usize,
        floor: Amount,
    ) -> Result<Vec<u32>> {
        let mut left = vec![0; self.sizes.len()];
        for &row in order {
            left[self.of(row)] += 1;
        }
        let floors = self.sizes.iter().zip(left);
        let mut floors: Vec<usize> =
            floors.map(|(&size, left)| floor.count_of(size).min(left)).collect();
        let all: usize = floors.iter().sum();
        if all > count {
            return Err(Error::invalid(format!(
                "class floor: expected at most {count} examples over all classes, the amount that \
                 was asked for, got {all}"
            )));
        }
        let (mut chosen, mut others) = (Vec::with_capacity(count), Vec::new());
        for &row in order {
            let floor = &mut floors[self.of(row)];
            if *floor > 0 {
                *floor -= 1;
                chosen.push(row);
            } else if others.len() < count - all {
                others.push(row);
            }
        }
        chosen.append(&mut others);
        Ok(chosen)
    }
}
