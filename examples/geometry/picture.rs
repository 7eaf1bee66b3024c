//! The chart of a study: kernel velocities on the left, error barriers on the right, a row for each round.

use super::Result;
use super::chart::{Chart, Frame, Line, svg, words};
use super::options::Options;
use super::report::{epochs, of_epoch, of_set};
use super::study::{Study, WINDOW};

const WIDTH: f64 = 1060.0;
const ROW: f64 = 330.0;
const HEADING: f64 = 60.0;
/// From early to late.
const EPOCH_COLORS: [&str; 6] = ["#440154", "#3b528b", "#21918c", "#5ec962", "#c9b400", "#d9822b"];
/// Of `lowest`, `random` and `highest`.
const SET_COLORS: [&str; 3] = ["#3b6fb6", "#777", "#c8433a"];

pub(crate) fn draw(studies: &[Study], options: &Options) -> Result<String> {
    let mut charts = Vec::new();
    for study in studies {
        charts.push((velocities(study, options)?, barriers(study)));
    }
    let examples = studies.first().map_or(0, |study| study.examples);
    let title = format!("The geometry of training on {examples} {}", options.what());
    let subtitle = format!(
        "EL2N after epoch {}, mean of {} runs; windows of {WINDOW} examples; {} children per spawn epoch",
        options.score_epoch, options.parents, options.children
    );
    let height = HEADING + ROW * charts.len() as f64;
    Ok(svg(WIDTH, height, |svg| {
        words(svg, 24.0, 28.0, "font-size=\"17\" font-weight=\"bold\"", &title);
        words(svg, 24.0, 47.0, "fill=\"#666\"", &subtitle);
        for (row, (velocities, barriers)) in charts.iter().enumerate() {
            let frame = Frame {
                left: 92.0,
                top: HEADING + ROW * row as f64 + 40.0,
                width: 430.0,
                height: ROW - 100.0,
            };
            velocities.draw(svg, frame);
            barriers.draw(svg, Frame { left: 690.0, width: 270.0, ..frame });
        }
    }))
}

fn labels(study: &Study, options: &Options) -> String {
    match study.name {
        "noisy" => format!("{:.0} % wrong labels", 100.0 * options.noise),
        _ => "true labels".to_owned(),
    }
}

fn velocities(study: &Study, options: &Options) -> Result<Chart> {
    let windows = study.windows.len();
    let place = |window: usize| (window as f64 + 0.5) / windows as f64;
    let mut lines = Vec::new();
    let shown = epochs(options);
    for (epoch, color) in shown.into_iter().zip(EPOCH_COLORS) {
        let values = of_epoch(study, epoch)?.into_iter().enumerate();
        let points = values.map(|(window, value)| (place(window), value)).collect();
        lines.push(Line { name: format!("epoch {epoch}"), color, points });
    }
    let wrong = study.windows.iter().enumerate().map(|(at, group)| (place(at), group.wrong));
    let bars: Vec<(f64, f64)> = wrong.collect();
    let noisy = bars.iter().any(|bar| bar.1 > 0.0);
    let note = if noisy { "bars: share of wrong labels, 0 to 1" } else { "" };
    Ok(Chart {
        title: format!("Kernel velocity, {}", labels(study, options)),
        note: note.to_owned(),
        x_name: "examples below the window, in ascending order of EL2N".to_owned(),
        x_ticks: ticks(study).into_iter().map(|(at, name)| (place(at), name)).collect(),
        y_name: "kernel velocity per epoch".to_owned(),
        logarithmic: true,
        lines,
        bars,
    })
}

/// About five of the windows, by how many examples are below them.
fn ticks(study: &Study) -> Vec<(usize, String)> {
    let windows = study.windows.len();
    let step = windows.div_ceil(6).max(1);
    let below = |at: usize| {
        let digits = study.windows[at].name.trim_start_matches("window_");
        digits.trim_start_matches('0').to_owned()
    };
    let name = |at: usize| Some(below(at)).filter(|name| !name.is_empty());
    (0..windows).step_by(step).map(|at| (at, name(at).unwrap_or_else(|| "0".to_owned()))).collect()
}

fn barriers(study: &Study) -> Chart {
    let mut lines = Vec::new();
    let mut x_ticks = Vec::new();
    for (set, color) in study.sets.iter().zip(SET_COLORS) {
        let means = of_set(study, &set.name);
        let place = |at: usize| (at as f64 + 0.5) / means.len() as f64;
        // Spawn epochs are chosen ever farther apart, and shown evenly.
        let points = means.iter().enumerate().map(|(at, mean)| (place(at), 100.0 * mean.1));
        let name = match set.name.as_str() {
            "random" => "random".to_owned(),
            extreme => format!("{extreme} EL2N"),
        };
        lines.push(Line { name, color, points: points.collect() });
        x_ticks =
            means.iter().enumerate().map(|(at, mean)| (place(at), mean.0.to_string())).collect();
    }
    Chart {
        title: "Error barrier between two children".to_owned(),
        note: String::new(),
        x_name: "spawned after epoch".to_owned(),
        x_ticks,
        y_name: "mean error barrier, %".to_owned(),
        logarithmic: false,
        lines,
        bars: Vec::new(),
    }
}
