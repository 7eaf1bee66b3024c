//! Example ids in ascending order. Ids that are row numbers take no memory.

/// Distinct ids, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// 0, 1, 2 and so on.
    Dense(usize),
    Listed(Vec<i64>),
}

impl Ids {
    /// Makes ids from distinct ids in ascending order.
    pub(crate) fn new(ids: Vec<i64>) -> Self {
        let dense = ids.first().is_none_or(|&first| first == 0)
            && ids.last().is_none_or(|&last| last == ids.len() as i64 - 1);
        if dense { Self::Dense(ids.len()) } else { Self::Listed(ids) }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Dense(length) => *length,
            Self::Listed(ids) => ids.len(),
        }
    }

    /// Returns the id at a position below the length.
    pub(crate) fn at(&self, position: usize) -> i64 {
        match self {
            Self::Dense(_) => position as i64,
            Self::Listed(ids) => ids[position],
        }
    }

    pub(crate) fn position(&self, id: i64) -> Option<usize> {
        let guess = usize::try_from(id).ok()?;
        match self {
            Self::Dense(length) => (guess < *length).then_some(guess),
            // Ids that are mostly row numbers are found at the first try.
            Self::Listed(ids) => match ids.get(guess) {
                Some(&found) if found == id => Some(guess),
                _ => ids.binary_search(&id).ok(),
            },
        }
    }

    /// Returns whether these are the same ids.
    pub(crate) fn are(&self, ids: &[i64]) -> bool {
        match self {
            Self::Dense(length) => {
                ids.len() == *length && ids.iter().zip(0_i64..).all(|(&id, row)| id == row)
            }
            Self::Listed(listed) => listed == ids,
        }
    }
}
