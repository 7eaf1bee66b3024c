//! What the paper's figures show, as tables.

use std::fmt::Write as _;
use std::io::Write;

use data_diet::scores::agreement::{Agreement, AgreementOptions};
use data_diet::selection::ScoreColumn;

use super::Result;
use super::data::Data;
use super::options::Options;
use super::study::{Study, WINDOW};

pub(crate) fn opening(output: &mut dyn Write, data: &Data, options: &Options) -> Result<()> {
    let labels = match data.wrong() {
        0 => "true labels".to_owned(),
        wrong => format!("{wrong} of the labels wrong"),
    };
    let (examples, what) = (data.len(), options.what());
    writeln!(output, "\n{}: {examples} {what}, {labels}, {} epochs", data.name, options.epochs)?;
    Ok(())
}

/// The epochs to show: those of the paper's kind, early ones densely.
pub(crate) fn epochs(options: &Options) -> Vec<u32> {
    let epochs = [0, 1, 2, 4, 7, 11, 19, 39, 79, 159];
    epochs.into_iter().filter(|&at| at < options.epochs).collect()
}

/// The velocity of every window from one epoch to the next, from the easiest to the hardest window, as the mean
/// over the parents.
pub(crate) fn of_epoch(study: &Study, epoch: u32) -> Result<Vec<f64>> {
    let mut velocities = Vec::new();
    for window in &study.windows {
        let mut sum = 0.0;
        for table in &study.velocities {
            let mut rows = table.rows().iter();
            let row = rows.find(|row| (&row.set, row.first_epoch) == (&window.name, epoch));
            let name = &window.name;
            sum += row
                .ok_or_else(|| format!("{name} has no velocity at epoch {epoch}"))?
                .velocity()?;
        }
        velocities.push(sum / study.velocities.len() as f64);
    }
    Ok(velocities)
}

/// A row for each window from the easiest to the hardest, a column for each of some epochs.
pub(crate) fn velocities(output: &mut dyn Write, study: &Study, options: &Options) -> Result<()> {
    let epochs = epochs(options);
    let columns = epochs.iter().map(|&at| of_epoch(study, at)).collect::<Result<Vec<_>>>()?;
    let noisy = study.windows.iter().any(|window| window.wrong > 0.0);
    let parents = study.velocities.len();
    writeln!(
        output,
        "\nkernel velocity per epoch, mean of {parents} runs, windows of {WINDOW} examples by EL2N\n"
    )?;
    let heading: Vec<String> =
        epochs.iter().map(|at| format!("{:>10}", format!("epoch {at}"))).collect();
    let wrong = if noisy { "  wrong labels" } else { "" };
    writeln!(output, "{:<14}{}{wrong}", "window", heading.concat())?;
    for (place, window) in study.windows.iter().enumerate() {
        let mut line = format!("{:<14}", window.name.trim_start_matches("window_"));
        for column in &columns {
            write!(line, "{:>10.5}", column[place])?;
        }
        if noisy {
            write!(line, "{:>12.0} %", 100.0 * window.wrong)?;
        }
        writeln!(output, "{line}")?;
    }
    let mut line = format!("{:<14}", "rank corr.");
    for column in &columns {
        write!(line, "{:>10.3}", order_agreement(column)?)?;
    }
    writeln!(output, "{line}\n")?;
    writeln!(output, "rank corr.: Spearman's, of EL2N and velocity over the windows")
        .map_err(Into::into)
}

/// Spearman's correlation of values with their places.
pub(crate) fn order_agreement(values: &[f64]) -> Result<f64> {
    let places: Vec<f64> = (0..values.len()).map(|place| place as f64).collect();
    let column = |scores: &[f64]| {
        let ids = (0..scores.len() as i64).collect();
        ScoreColumn::new(ids, vec![0; scores.len()], scores.to_vec())
    };
    let mut options = AgreementOptions::default();
    options.bootstrap = None;
    Ok(Agreement::between(&column(&places)?, &column(values)?, &options)?.spearman.value)
}

/// The mean barrier of a set for each spawn epoch, as a share.
pub(crate) fn of_set(study: &Study, set: &str) -> Vec<(u64, f64)> {
    let means = study.barriers.means().into_iter().filter(|mean| mean.set == set);
    let epoch = |step: u64| step / study.steps_per_epoch;
    means.filter_map(|mean| Some((epoch(mean.spawn_step?), mean.error_by_chord))).collect()
}

/// A row for each spawn epoch, a column for each set.
pub(crate) fn barriers(output: &mut dyn Write, study: &Study) -> Result<()> {
    writeln!(output, "\nmean error barrier between children at the end of training, in percent\n")?;
    let heading: Vec<String> = study.sets.iter().map(|set| format!("{:>10}", set.name)).collect();
    writeln!(output, "{:<14}{}", "spawned after", heading.concat())?;
    let columns: Vec<_> = study.sets.iter().map(|set| of_set(study, &set.name)).collect();
    for row in 0..columns.first().map_or(0, Vec::len) {
        let mut line = format!("{:<14}", format!("epoch {}", columns[0][row].0));
        for column in &columns {
            write!(line, "{:>10.2}", 100.0 * column[row].1)?;
        }
        writeln!(output, "{line}")?;
    }
    if study.sets.iter().any(|set| set.wrong > 0.0) {
        let mut line = format!("{:<14}", "wrong labels");
        for set in &study.sets {
            write!(line, "{:>8.0} %", 100.0 * set.wrong)?;
        }
        writeln!(output, "{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_correlation_is_that_of_the_ranks() {
        assert_eq!(order_agreement(&[0.1, 0.2, 5.0]).unwrap(), 1.0);
        assert_eq!(order_agreement(&[3.0, 2.0, 1.0]).unwrap(), -1.0);
        // Ranks 2 1 4 3: 1 - 6 * 4 / (4 * 15).
        assert!((order_agreement(&[0.2, 0.1, 0.9, 0.8]).unwrap() - 0.6).abs() < 1e-12);
    }
}
