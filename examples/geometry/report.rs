//! What the paper's figures show, as tables.

use std::fmt::Write as _;

use data_diet::{ErrorBarrierTable, KernelVelocityTable};

use crate::digits::Digits;
use crate::{Plan, Result};

pub(crate) fn opening(name: &str, data: &Digits, plan: &Plan) {
    let wrong = match name {
        "noisy" => format!("{:.0} % of the labels wrong", 100.0 * plan.noise),
        _ => "true labels".to_owned(),
    };
    println!("\n{name}: {} digits, {wrong}, {} epochs", data.labels.len(), plan.epochs);
}

/// A row for each window from the easiest to the hardest, a column for each of some epochs.
pub(crate) fn velocities(table: &KernelVelocityTable, plan: &Plan) -> Result<()> {
    let epochs: Vec<u32> = [0, 1, 2, 4, 8].into_iter().filter(|&at| at < plan.epochs).collect();
    println!("\nkernel velocity per epoch, windows of {} examples by EL2N\n", crate::WINDOW);
    let heading: Vec<String> =
        epochs.iter().map(|at| format!("{:>10}", format!("epoch {at}"))).collect();
    println!("{:<14}{}", "window", heading.concat());
    let mut windows: Vec<&str> = table.rows().iter().map(|row| row.set.as_str()).collect();
    windows.sort_unstable();
    windows.dedup();
    for window in windows {
        let mut line = format!("{:<14}", window.trim_start_matches("window_"));
        for &epoch in &epochs {
            let rows = table.rows().iter();
            let row = rows.filter(|row| row.set == window).find(|row| row.first_epoch == epoch);
            let velocity = row.map(data_diet::KernelVelocityRow::velocity).transpose()?;
            write!(line, "{:>10.5}", velocity.unwrap_or(f64::NAN))?;
        }
        println!("{line}");
    }
    Ok(())
}

/// A row for each spawn epoch, a column for each set.
pub(crate) fn barriers(table: &ErrorBarrierTable, steps_per_epoch: u64) {
    println!("\nerror barrier between two children at the end of training, in percent\n");
    println!("{:<14}{:>10}{:>10}{:>10}", "spawned after", "lowest", "random", "highest");
    let means = table.means();
    let mut spawned: Vec<u64> = means.iter().filter_map(|mean| mean.spawn_step).collect();
    spawned.sort_unstable();
    spawned.dedup();
    for step in spawned {
        let of = |set: &str| {
            let of_step = means.iter().filter(|mean| mean.spawn_step == Some(step));
            of_step
                .clone()
                .find(|mean| mean.set == set)
                .map_or(f64::NAN, |mean| mean.error_by_chord)
        };
        let epoch = step / steps_per_epoch;
        let [lowest, random, highest] = ["lowest", "random", "highest"].map(|set| 100.0 * of(set));
        println!("{:<14}{lowest:>10.2}{random:>10.2}{highest:>10.2}", format!("epoch {epoch}"));
    }
}
