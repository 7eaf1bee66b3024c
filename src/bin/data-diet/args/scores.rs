//! The grammar of `data-diet scores`.

use std::path::PathBuf;

use clap::Args;
use data_diet::Epochs;

#[derive(Debug, Args)]
#[command(after_help = "Columns: example, label, runs, and for every score NAME_mean, NAME_std \
    (n - 1) and NAME_count over runs.\n\n  \
    el2n                  the last epoch of the score phase (of the train phase if there is none)\n  \
    el2n_PHASE_epoch_E    EL2N at one epoch\n  \
    forgetting            forgetting events; never learned counts as the number of presentations\n  \
    forgetting_inf        the same; never learned counts as infinity\n  \
    never_learned, first_learned, presentations\n\n\
    Memory grows with the number of examples, not of observations or epochs.")]
pub(crate) struct Scores {
    /// The experiment directory, such as runs/digits
    pub(crate) experiment: PathBuf,
    /// Only these runs; repeat for several
    #[arg(long = "run", value_name = "NAME")]
    pub(crate) runs: Vec<String>,
    /// The epochs to compute EL2N at: `all`, `last`, or a list such as 1,5,10
    #[arg(long, value_name = "EPOCHS", default_value = "all", value_parser = parse_epochs)]
    pub(crate) epochs: Epochs,
    /// The Parquet file to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

fn parse_epochs(text: &str) -> Result<Epochs, String> {
    match text {
        "all" => Ok(Epochs::All),
        "last" => Ok(Epochs::Last),
        list => list
            .split(',')
            .map(|epoch| epoch.trim().parse::<u32>())
            .collect::<Result<Vec<_>, _>>()
            .map(Epochs::List)
            .map_err(|error| format!("expected `all`, `last` or a list such as 1,5,10: {error}")),
    }
}
