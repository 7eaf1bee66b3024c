//! The second half of the Data Diet paper on handwritten digits: how fast the tangent kernel turns
//! on easy and on hard examples, with true labels and with some wrong ones, and from which epoch on
//! two copies of a network stay connected.
//!
//! ```text
//! cargo run --features cli --example geometry
//! cargo run --features cli --example geometry -- --mnist data/mnist
//! ```
//!
//! ```text
//! parents (EL2N, snapshots) -> windows of EL2N -> kernel velocity ------------> report, chart
//!        \-> children per spawn step -> sets by EL2N -> error barrier --------/
//! ```

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

#[path = "../experiment/arguments.rs"]
mod arguments;
mod chart;
mod data;
#[path = "../experiment/dataset.rs"]
#[allow(dead_code, reason = "the other examples need more of it")]
mod dataset;
#[path = "../digits/data.rs"]
#[allow(dead_code, reason = "the other examples need more of it")]
mod digits;
#[path = "../experiment/exit.rs"]
mod exit;
#[path = "../mnist/files.rs"]
mod files;
#[path = "../mnist/idx.rs"]
mod idx;
#[path = "../experiment/network.rs"]
#[allow(dead_code, reason = "the other examples need more of it")]
mod network;
mod options;
mod picture;
#[path = "../experiment/progress.rs"]
#[allow(dead_code, reason = "the other examples need more of it")]
mod progress;
mod report;
mod study;
#[cfg(test)]
mod tests;
#[path = "../experiment/weights.rs"]
mod weights;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use options::{Options, Request};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(Request::Run(options)) => options,
        Ok(Request::Help) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}\nSee --help.");
            return ExitCode::from(2);
        }
    };
    exit::with(run(&options, &mut io::stdout()))
}

/// Runs the study with true labels and with wrong ones, and shows both.
fn run(options: &Options, output: &mut dyn Write) -> Result<()> {
    let true_labels = data::load(options)?;
    let mut rounds = vec![true_labels.clone()];
    if options.noise > 0.0 {
        rounds.push(true_labels.with_noise(options.noise)?);
    }
    let mut studies = Vec::new();
    for data in rounds {
        report::opening(output, &data, options)?;
        let study = study::study(&data, options)?;
        report::velocities(output, &study, options)?;
        report::barriers(output, &study)?;
        studies.push(study);
    }
    let path = options.experiment.join("geometry.svg");
    std::fs::write(&path, picture::draw(&studies, options)?)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    writeln!(output, "\nchart: {}", path.display())?;
    for study in &studies {
        let experiment = options.experiment.join(study.name);
        let experiment = experiment.display();
        writeln!(output, "tables: {experiment}/kernel_velocity and {experiment}/error_barrier")?;
    }
    Ok(())
}
