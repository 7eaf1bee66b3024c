//! What the examples share: everything from a data set to the question whether pruning by EL2N pays
//! off.
//!
//! ```text
//! data set -> training (with the hook) -> experiment directory -> scores -> selection
//!                    ^                                                         |
//!                    +------------------- what is kept, seeds of its own ------+--> report
//! ```
//!
//! With `--grand`, [`gradients`] answers another question: whether EL2N ranks examples like GraNd.
//!
//! [`training`] is the file to copy from: a training loop with the five lines of the hook.

mod arguments;
pub(crate) mod dataset;
pub(crate) mod device;
mod exit;
mod figures;
pub(crate) mod gradients;
pub(crate) mod network;
pub(crate) mod options;
pub(crate) mod progress;
pub(crate) mod pruning;
pub(crate) mod report;
pub(crate) mod training;
mod weights;

mod extremes;
mod picture;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use candle_core::Device;

use options::{Options, Request};
use training::Task;

pub(crate) type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Reads the command line, loads the data and does everything else.
pub(crate) fn main(
    defaults: Options,
    help: &str,
    load: impl FnOnce(&Options, &Device) -> Result<Task>,
) -> ExitCode {
    let options = match options::parse(defaults, std::env::args().skip(1)) {
        Ok(Request::Run(options)) => options,
        Ok(Request::Help(options)) => {
            print!("{help}\n{options}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}\nSee --help.");
            return ExitCode::from(2);
        }
    };
    let study = || {
        let device = options.device.open()?;
        let task = load(&options, &device)?;
        if options.grand.is_empty() {
            run(&task, &options, &mut io::stdout())
        } else {
            gradients::run(&task, &options, &mut io::stdout())
        }
    };
    exit::with(study())
}

/// Trains and records, scores, prunes, trains again, and reports the result.
pub(crate) fn run(task: &Task, options: &Options, output: &mut dyn Write) -> Result<()> {
    report::opening(output, task, options)?;
    let networks = pruning::record(task, options, output)?;
    let scores = pruning::score(options)?;
    report::scores(output, &scores, options)?;
    let outcomes = pruning::compare(task, &scores, options)?;
    report::comparison(output, task, options, &outcomes)?;
    extremes::show(output, task, &scores, &networks, options)?;
    report::next(output, task, options)
}
