//! One score of one run: a number per example, by place.

/// A number per place; NaN where the run has none, and beyond the end.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    /// Numbers that need no more precision: a signal recorded once, or a small count.
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Values {
    /// Collects a number for each place, as `f32` if none of them loses precision. Every NaN gets the
    /// same bits, so that those of a file do not depend on the arithmetic that led to it.
    pub(super) fn collect(places: usize, value: impl Fn(usize) -> f64) -> Self {
        let value = |place| {
            let value = value(place);
            if value.is_nan() { f64::NAN } else { value }
        };
        let mut narrow = Vec::with_capacity(places);
        for place in 0..places {
            let wide = value(place);
            let short = wide as f32;
            if f64::from(short) != wide && !wide.is_nan() {
                return Self::F64((0..places).map(value).collect());
            }
            narrow.push(short);
        }
        Self::F32(narrow)
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    pub(super) fn get(&self, place: usize) -> f64 {
        match self {
            Self::F32(values) => values.get(place).map_or(f64::NAN, |&value| value.into()),
            Self::F64(values) => values.get(place).map_or(f64::NAN, |&value| value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_loses_nothing_is_narrowed() {
        let of = |values: &'static [f64]| Values::collect(values.len(), |place| values[place]);
        let narrow = of(&[0.5, -f64::NAN, f64::INFINITY, -3.0]);
        assert!(matches!(narrow, Values::F32(_)));
        assert!(narrow.get(0) == 0.5 && narrow.get(1).is_nan() && narrow.get(2) == f64::INFINITY);
        assert!(narrow.get(4).is_nan());
        let bits = |values: Values| values.get(1).to_bits();
        assert_eq!(bits(narrow), f64::NAN.to_bits());
        assert_eq!(bits(of(&[0.1, -f64::NAN])), f64::NAN.to_bits());
        for wide in [of(&[0.5, 0.1]), of(&[16_777_217.0]), of(&[1e300])] {
            assert!(matches!(wide, Values::F64(_)));
        }
        assert_eq!(of(&[0.5, 0.1]).get(1), 0.1);
    }
}
