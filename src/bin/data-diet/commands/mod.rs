//! One file per command.

pub(crate) mod compare;
pub(crate) mod filter;
pub(crate) mod inspect;
mod outputs;
mod plan;
pub(crate) mod recover;
pub(crate) mod scores;
pub(crate) mod select;
pub(crate) mod verify;

use data_diet::Experiment;

use crate::text::{counted, tell};

/// Opens an experiment, and reports what was recovered.
fn open(path: &std::path::Path) -> data_diet::Result<Experiment> {
    let experiment = Experiment::open(path)?;
    for recovered in experiment.recovered() {
        let (run, rank) = (&recovered.run, recovered.rank);
        let rows = counted(recovered.rows, "row");
        tell(format_args!("run `{run}` (rank {rank}) was interrupted: {rows} recovered"));
        if recovered.damaged {
            tell(format_args!("  a damaged segment was moved to _runs/{run}/aside"));
        }
    }
    Ok(experiment)
}
