//! Finds the ids of rows by their keys: numbers, texts, floats and decimals that are whole, and texts
//! that a key map knows.

use super::super::key_text::{self, Spelled};
use super::{BadRow, RowFilter, UNMAPPED, shown};
use crate::error::Result;

impl RowFilter<'_> {
    /// Returns the id of the next row by its number over all files.
    #[inline]
    pub(in super::super) fn id_of_row(&mut self) -> i64 {
        let id = self.summary.rows + self.ahead;
        self.ahead += 1;
        id as i64
    }

    /// Returns the id of the next row by the text of its key.
    #[inline]
    pub(in super::super) fn id_of_text(&mut self, key: &[u8], column: &str) -> Result<i64, BadRow> {
        let id = match self.keys {
            Some(keys) => match keys.example(key) {
                Some(example) => example,
                None if key.is_empty() => return Err(self.missing(column)),
                None => self.unmapped(key),
            },
            None => match key_text::integer(key) {
                Some(Spelled { value, plain }) => {
                    self.summary.respelled += u64::from(!plain);
                    value
                }
                None if key.trim_ascii().is_empty() => return Err(self.missing(column)),
                None => return Err(self.no_id(column, &String::from_utf8_lossy(key))),
            },
        };
        self.ahead += 1;
        Ok(id)
    }

    /// Returns the id of the next row by the integer in its key.
    #[inline]
    pub(in super::super) fn id_of_number(
        &mut self,
        number: i64,
        column: &str,
    ) -> Result<i64, BadRow> {
        if self.keys.is_some() || number < 0 {
            return self.id_of_wide_number(number.into(), column);
        }
        self.ahead += 1;
        Ok(number)
    }

    /// As [`id_of_number`](Self::id_of_number), of an integer that may not be an id.
    pub(in super::super) fn id_of_wide_number(
        &mut self,
        number: i128,
        column: &str,
    ) -> Result<i64, BadRow> {
        if self.keys.is_some() {
            return self.id_of_text(number.to_string().as_bytes(), column);
        }
        let id = i64::try_from(number).ok().filter(|&id| id >= 0);
        let id = id.ok_or_else(|| self.no_id(column, &number.to_string()))?;
        self.ahead += 1;
        Ok(id)
    }

    /// Returns the id of the next row by the float in its key, which has to be whole.
    pub(in super::super) fn id_of_float(
        &mut self,
        number: f64,
        column: &str,
    ) -> Result<i64, BadRow> {
        if let Some(whole) = key_text::whole_float(number) {
            return self.id_of_number(whole, column);
        }
        if number.is_nan() {
            return Err(self.missing(column));
        }
        let text = number.to_string();
        if self.keys.is_some() {
            return self.id_of_text(text.as_bytes(), column);
        }
        if number.fract() == 0.0 {
            return Err(BadRow::new(format!(
                "expected an example id in `{column}`, got `{text}`, a float beyond 2^53, which may \
                 stand for several integers"
            )));
        }
        Err(self.no_id(column, &text))
    }

    /// Returns the id of the next row by the decimal in its key, which has to be whole unless keys
    /// are mapped.
    pub(in super::super) fn id_of_decimal(
        &mut self,
        unscaled: i128,
        scale: u32,
        column: &str,
    ) -> Result<i64, BadRow> {
        if let Some(whole) = key_text::whole_decimal(unscaled, scale) {
            return self.id_of_wide_number(whole, column);
        }
        let text = key_text::decimal(unscaled, scale);
        if self.keys.is_some() {
            return self.id_of_text(text.as_bytes(), column);
        }
        Err(self.no_id(column, &text))
    }

    fn unmapped(&mut self, key: &[u8]) -> i64 {
        self.summary.unmapped += 1;
        if self.first_unmapped.is_none() {
            let place = self.place(self.row());
            self.first_unmapped = Some((place, shown(&String::from_utf8_lossy(key))));
        }
        UNMAPPED
    }

    fn wanted(&self) -> &'static str {
        if self.keys.is_some() { "a key" } else { "an example id" }
    }

    pub(in super::super) fn missing(&self, column: &str) -> BadRow {
        BadRow::new(format!("expected {} in `{column}`, got nothing", self.wanted()))
    }

    pub(in super::super) fn no_id(&self, column: &str, got: &str) -> BadRow {
        let shown = shown(got);
        if self.keys.is_some() {
            return BadRow::new(format!(
                "expected a key (text or an integer) in `{column}`, got `{shown}`"
            ));
        }
        let hint = if got.trim_start_matches('\u{feff}') == column {
            "; a header again: files that have one each seem to have been joined"
        } else if got.parse::<f64>().is_err() {
            "; map text keys to ids with `key_map`"
        } else if got.contains(['e', 'E']) {
            "; a spreadsheet may have rounded it: export the column as text"
        } else {
            ""
        };
        BadRow::new(format!(
            "expected an example id (an integer in 0..2^63) in `{column}`, got `{shown}`{hint}"
        ))
    }

    /// Finds the id of the next row, which may have no key; of a format without lines.
    #[inline]
    pub(in super::super) fn find<T>(
        &mut self,
        column: &str,
        key: Option<T>,
        find: impl FnOnce(&mut Self, T) -> Result<i64, BadRow>,
    ) -> Result<i64> {
        let found = match key {
            Some(key) => find(self, key),
            None => Err(self.missing(column)),
        };
        found.map_err(|bad| self.refuse(bad, None))
    }
}
