//! Scores over windows of consecutive presentations: dynamic uncertainty and DUAL.

use super::values::Values;

/// The presentations of a window, `J`. Both papers take 10 (He et al. 2023, section 4.1; Cho et al. 2025,
/// appendix).
pub(super) const WINDOW: usize = 10;

/// The `p_t` of one example, in the order of its presentations, and the sums over its windows so far.
///
/// Window `k` is `p_k, ..., p_(k+J-1)`, with mean `m_k` and sample standard deviation `s_k` (`n - 1`, as in
/// the authors' code). *Dynamic uncertainty* (He et al. 2023, equations 2 and 3) is the mean of `s_k` over
/// all windows, *DUAL* (Cho et al. 2025, equation 4) the mean of `(1 - m_k) s_k`. The code of the latter
/// multiplies by 10, which changes no order and is left out here.
///
/// An example that came fewer than `J` times has one window, of all its presentations; two at least.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PresentationWindows {
    /// The latest values, the oldest at `seen % WINDOW`.
    latest: [f32; WINDOW],
    seen: u32,
    uncertainty: f64,
    dual: f64,
}

impl PresentationWindows {
    fn add(&mut self, value: f32) {
        self.latest[self.seen as usize % WINDOW] = value;
        self.seen = self.seen.saturating_add(1);
        if self.seen as usize >= WINDOW {
            let (deviation, dual) = of_window(&self.latest);
            self.uncertainty += deviation;
            self.dual += dual;
        }
    }

    /// Returns dynamic uncertainty and DUAL; NaN for fewer than two presentations.
    fn means(&self) -> (f64, f64) {
        let seen = self.seen as usize;
        if seen < WINDOW {
            return of_window(&self.latest[..seen]);
        }
        let windows = (seen - WINDOW + 1) as f64;
        (self.uncertainty / windows, self.dual / windows)
    }
}

/// Returns `s` and `(1 - m) s`; NaN for fewer than two values.
fn of_window(values: &[f32]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().copied().map(f64::from).sum::<f64>() / count;
    let squares: f64 = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum();
    let deviation = if values.len() < 2 { f64::NAN } else { (squares / (count - 1.0)).sqrt() };
    (deviation, (1.0 - mean) * deviation)
}

/// Adds the next values of some examples. Values that are not finite are left out.
pub(super) fn slide(windows: &mut [PresentationWindows], places: &[u32], values: &[f32]) {
    for (&place, &value) in places.iter().zip(values) {
        if let Some(window) = windows.get_mut(place as usize)
            && value.is_finite()
        {
            window.add(value);
        }
    }
}

/// Returns dynamic uncertainty.
pub(super) fn uncertainties(windows: &[PresentationWindows]) -> Values {
    Values::collect(windows.len(), |place| windows[place].means().0)
}

/// Returns DUAL.
pub(super) fn duals(windows: &[PresentationWindows]) -> Values {
    Values::collect(windows.len(), |place| windows[place].means().1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Word for word: every window by itself.
        #[test]
        fn agree_with_the_definitions(history in prop::collection::vec(0.0_f32..1.0, 0..40)) {
            let mut windows = [PresentationWindows::default()];
            for &value in &history {
                slide(&mut windows, &[0], &[value]);
                slide(&mut windows, &[0, 7], &[f32::NAN, 0.5]);
            }
            let length = history.len().min(WINDOW);
            let each: Vec<(f64, f64)> = history
                .windows(length.max(1))
                .map(|window| {
                    let n = window.len() as f64;
                    let m: f64 = window.iter().map(|&p| f64::from(p)).sum::<f64>() / n;
                    let v = window.iter().map(|&p| (f64::from(p) - m) * (f64::from(p) - m)).sum::<f64>() / (n - 1.0);
                    (v.sqrt(), (1.0 - m) * v.sqrt())
                })
                .collect();
            let n = each.len() as f64;
            let (uncertainty, dual) = windows[0].means();
            if history.len() < 2 {
                prop_assert!(uncertainty.is_nan() && dual.is_nan());
            } else {
                let expected = each.iter().map(|window| window.0).sum::<f64>() / n;
                prop_assert!((uncertainty - expected).abs() < 1e-9);
                let expected = each.iter().map(|window| window.1).sum::<f64>() / n;
                prop_assert!((dual - expected).abs() < 1e-9);
            }
        }
    }
}
