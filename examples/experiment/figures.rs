//! Figures as the examples print them.

/// Mean and sample standard deviation (`n - 1`), which one value does not have.
pub(crate) fn mean_and_deviation(values: &[f64]) -> (f64, Option<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()))
}

/// The mean difference of the pairs and its standard error, which one pair does not have.
pub(crate) fn mean_difference(first: &[f64], second: &[f64]) -> (f64, Option<f64>) {
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let (mean, deviation) = mean_and_deviation(&differences);
    (mean, deviation.map(|deviation| deviation / (differences.len() as f64).sqrt()))
}

/// A share in percent, without the sign.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2}", 100.0 * share)
}

/// An accuracy beside a progress bar.
pub(crate) fn accuracy(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

pub(crate) fn thousands(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviation_is_that_of_a_sample() {
        let (mean, deviation) = mean_and_deviation(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        // Python: statistics.mean and statistics.stdev of the same list.
        assert_eq!(mean, 5.0);
        assert!((deviation.unwrap() - 2.138_089_935_299_395).abs() < 1e-15);
        assert_eq!(mean_and_deviation(&[3.0]), (3.0, None));
    }
}
