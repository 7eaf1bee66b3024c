//! The columns of a table of scores while it is being made: keys, statistics, and where finished
//! columns go.

use super::moments::Moments;
use super::values::Values;
use crate::error::Result;

/// The first columns of every table of scores, in ascending order of id.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) examples: Vec<i64>,
    pub(super) labels: Vec<i32>,
    pub(super) runs: Vec<i32>,
}

impl Keys {
    /// Returns the rows at these places.
    pub(super) fn in_order(self, order: Option<&[u32]>) -> Self {
        fn gather<T: Copy>(values: Vec<T>, order: Option<&[u32]>) -> Vec<T> {
            match order {
                Some(order) => order.iter().map(|&place| values[place as usize]).collect(),
                None => values,
            }
        }
        Self {
            examples: gather(self.examples, order),
            labels: gather(self.labels, order),
            runs: gather(self.runs, order),
        }
    }
}

/// Some rows of one score.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    pub(super) mean: Vec<f64>,
    pub(super) std: Vec<f64>,
    pub(super) count: Vec<i32>,
}

impl Statistics {
    pub(super) fn with_capacity(rows: usize) -> Self {
        let (mean, std) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        Self { mean, std, count: Vec::with_capacity(rows) }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, moments: Moments) {
        self.mean.push(moments.mean());
        self.std.push(moments.standard_deviation());
        self.count.push(moments.count() as i32);
    }
}

/// Takes finished columns.
pub(super) trait ColumnSink {
    /// Announces the number of columns. A column may be pushed once for each run, or never.
    fn expect(&mut self, columns: usize);

    /// Takes a run's values of a column, by place. Examples that the run sees later have no value.
    fn push(&mut self, column: usize, values: Values) -> Result<()>;
}
