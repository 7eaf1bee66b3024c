//! The arguments of `data-diet scores`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use data_diet::ScoreOptions;
use data_diet::observe::Phase;
use data_diet::scores::{At, ScoreRequest};

#[derive(Debug, Args)]
#[command(after_help = "Scores, and which end is hard or suspicious:\n\n  \
    el2n, el1n            ||p - y||_2 and _1, p the softmax, y the label; high (Paul et al. 2021)\n  \
    loss, entropy         cross-entropy and entropy of p, in nats; high\n  \
    margin, confidence    logit of the label minus the best other; p of the label; low\n  \
    grand                 norm of the loss's gradient; high, not at initialization (Paul et al. 2021)\n  \
    forgetting            times forgotten in training; never learned counts as the number of\n                        \
    presentations; high (Toneva et al. 2018)\n  \
    forgetting_inf        the same; never learned counts as infinity (Paul et al. 2021)\n  \
    never_learned         1 if no presentation was correct; first_learned: the first that was;\n                        \
    presentations: how many there were (Toneva et al. 2018)\n  \
    aum                   mean margin over training; low may be a wrong label (Pleiss et al. 2020)\n  \
    threshold_closeness   m (1 - m), m the mean of p_y over training; high is ambiguous\n  \
    cartography_forgetting  forgetting, never learned as 1000 (both: code of Swayamdipta et al. 2020)\n  \
    dynamic_uncertainty   deviation of p_y in windows of 10 presentations, averaged; high is\n                        \
    uncertain (He et al. 2023)\n  \
    dual                  in the same windows, (1 - mean) times the deviation, averaged; high is worth\n                        \
    keeping (Cho et al. 2025)\n  \
    perplexity            of tokens: exp of the mean loss of a sequence; high (Marion et al. 2023)\n  \
    cartography           three columns over training: cartography_confidence, mean of p_y, low;\n                        \
    cartography_variability, its deviation, high is ambiguous;\n                        \
    cartography_correctness, share correct (Swayamdipta et al. 2020)\n\n\
    A signal (the first three lines) by itself is its last epoch of the score phase that every run has, \
    or of the train phase if there is no score phase, or of the held_out phase if there is neither; so \
    is grand, which has no phase. Otherwise its name says when: el2n_PHASE_epoch_E, el2n_PHASE_epochs_A_to_B (the mean over them), el2n_PHASE_step_S, \
    el2n_PHASE_steps_A_to_B; grand_epoch_E, grand_step_S. --at-epoch, --at-step and --phase make these \
    of the bare names.\n\n\
    Scores over training take a range of epochs: aum_epochs_0_to_4, or --at-epoch 0..4, counts only \
    these epochs (the burn-out of dataset cartography; DUAL takes the first 30).\n\n\
    Without --score: el2n, el2n at every epoch (or as --at-epoch and --at-step say), the forgetting \
    scores, aum and cartography, each where it can be computed.\n\n\
    A signal that was not recorded is computed from what was, where that is exact: confidence from loss \
    if all targets were classes, any signal from logits that were recorded whole as f32 (el2n, el1n and \
    loss only of targets that were classes). `data-diet inspect` lists what each run can give.\n\n\
    Columns: example, label, runs, and for every score NAME_mean, NAME_std (n - 1) and NAME_count over \
    runs. Memory grows with the number of examples, not of observations, runs or scores.\n\n\
    Examples:\n\n  \
    data-diet scores runs/digits -o scores.parquet\n  \
    data-diet scores runs/digits --score el2n --score forgetting -o scores.parquet\n  \
    data-diet scores runs/digits --score el2n --score margin --at-epoch 3..7 --phase train -o early.parquet")]
pub(crate) struct Scores {
    /// The experiment directory, such as runs/digits
    pub(crate) experiment: PathBuf,
    /// Only these scores; repeat for several, in the order of the columns
    #[arg(long = "score", value_name = "NAME")]
    names: Vec<ScoreRequest>,
    /// The epochs at which to take signals: `all`, `last`, a list such as 1,5,10, or the mean over
    /// a range such as 3..7, both ends included; scores over training are then of that range only
    #[arg(long, value_name = "EPOCHS", value_parser = at_epoch)]
    at_epoch: Option<At>,
    /// The steps at which to take signals: a list such as 100,200, or the mean over a range such as
    /// 0..500, both ends included
    #[arg(long, value_name = "STEPS", value_parser = at_step, conflicts_with = "at_epoch")]
    at_step: Option<At>,
    /// The phase in which to take signals [default: all]
    #[arg(long, value_name = "train|score|held_out")]
    phase: Option<Phase>,
    /// Take the targets of runs that do not say so (recorded by earlier versions) for classes, so that
    /// signals can be derived from the loss and the logits
    #[arg(long)]
    assume_classes: bool,
    /// Only these runs; repeat for several
    #[arg(long = "run", value_name = "NAME")]
    pub(crate) runs: Vec<String>,
    /// The Parquet file to write; `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub(crate) force: bool,
}

impl Scores {
    /// Returns whether no score was asked for by name.
    pub(crate) fn uses_default_scores(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns what to compute.
    pub(crate) fn options(&self) -> data_diet::Result<ScoreOptions> {
        let mut options = ScoreOptions::default();
        options.runs.clone_from(&self.runs);
        options.assume_class_targets = self.assume_classes;
        let at = self.at_epoch.as_ref().or(self.at_step.as_ref());
        if self.names.is_empty() {
            options.scores = ScoreRequest::standard(at.unwrap_or(&At::EveryEpoch), self.phase);
            return Ok(options);
        }
        options.scores.clone_from(&self.names);
        if let Some(at) = at {
            options.set_time(at)?;
        }
        if let Some(phase) = self.phase {
            options.set_phase(phase)?;
        }
        Ok(options)
    }
}

fn at_epoch(text: &str) -> Result<At, String> {
    let expected = "`all`, `last`, a list such as 1,5,10 or a range such as 3..7";
    match text {
        "all" => Ok(At::EveryEpoch),
        "last" => Ok(At::LastEpoch),
        _ => moments(text, At::Epochs, At::EpochRange, expected),
    }
}

fn at_step(text: &str) -> Result<At, String> {
    moments(text, At::Steps, At::StepRange, "a list such as 100,200 or a range such as 0..500")
}

/// Parses a list or a range.
fn moments<T: FromStr>(
    text: &str,
    list: fn(Vec<T>) -> At,
    range: fn(T, T) -> At,
    expected: &str,
) -> Result<At, String>
where
    T::Err: std::fmt::Display,
{
    let number = |text: &str| {
        text.trim().parse::<T>().map_err(|error| format!("expected {expected}: {error}"))
    };
    match text.split_once("..") {
        Some((first, last)) => Ok(range(number(first)?, number(last)?)),
        None => text.split(',').map(number).collect::<Result<_, _>>().map(list),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_words_lists_and_ranges() {
        assert_eq!(at_epoch("all"), Ok(At::EveryEpoch));
        assert_eq!(at_epoch("last"), Ok(At::LastEpoch));
        assert_eq!(at_epoch("1, 5,10"), Ok(At::Epochs(vec![1, 5, 10])));
        assert_eq!(at_epoch("3..7"), Ok(At::EpochRange(3, 7)));
        assert_eq!(at_step("100"), Ok(At::Steps(vec![100])));
        assert_eq!(at_step("0..500"), Ok(At::StepRange(0, 500)));
        for text in ["", "first", "1,,2", "-1", "3..", "..7", "1..2..3", "3...7", "4294967296"] {
            let got = at_epoch(text);
            let expected = "expected `all`, `last`, a list such as 1,5,10";
            assert!(got.as_ref().is_err_and(|error| error.starts_with(expected)), "{got:?}");
        }
        assert!(at_step("all").is_err_and(|e| e.starts_with("expected a list such as 100,200")));
    }
}
