//! A choice divided among the classes of the examples.

use std::collections::BTreeMap;

use super::choice::{Chooser, group};
use super::share::apportion;
use super::{Amount, Fate};
use crate::error::{Error, Result};

/// The classes of the scored examples in ascending order, and how many there are of each before any
/// step.
#[derive(Debug)]
pub(super) struct ClassSizes<'a> {
    labels: &'a [i32],
    classes: Vec<i32>,
    sizes: Vec<usize>,
}

impl<'a> ClassSizes<'a> {
    pub(super) fn new(labels: &'a [i32], fates: &[Fate]) -> Self {
        let mut sizes = BTreeMap::new();
        for (label, fate) in labels.iter().zip(fates) {
            if *fate != Fate::Unscored {
                *sizes.entry(*label).or_insert(0) += 1;
            }
        }
        let (classes, sizes) = sizes.into_iter().unzip();
        Self { labels, classes, sizes }
    }

    pub(super) fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The place of a scored row's class.
    pub(super) fn of(&self, row: u32) -> usize {
        // Every scored row's class is there.
        self.classes.partition_point(|&class| class < self.labels[row as usize])
    }

    /// The best `count` of some rows, chosen class by class: equal numbers of every class, or else
    /// in proportion to its size. A window's `skip` is always divided in proportion.
    pub(super) fn divided(
        &self,
        rows: &[u32],
        skip: usize,
        count: usize,
        chooser: &mut Chooser<'_>,
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
            chooser.favour(of_class, skip, budget);
            chosen.extend_from_slice(&of_class[..budget]);
        }
        chosen
    }

    /// The first `count` of an order, of every class at least the floor: the floors first, then as the
    /// order goes.
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
