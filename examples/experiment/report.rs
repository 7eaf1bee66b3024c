//! What is printed: numbers that were measured in this run, and where to look next.

use std::io::Write;

use data_diet::run::Run;
use data_diet::{Experiment, ScoreTable};

use super::Result;
use super::figures::{mean_and_deviation, mean_difference, percent, thousands};
use super::options::Options;
use super::pruning::{Outcome, Subset};
use super::training::{Task, Trained};

pub(crate) fn opening(output: &mut dyn Write, task: &Task, options: &Options) -> Result<()> {
    let (train, test) = (thousands(task.train.len() as u64), thousands(task.test.len() as u64));
    let sizes = task.sizes;
    writeln!(
        output,
        "{train} {} to train on, {test} to test on; a network of {}-{}-{} units\n",
        task.name, sizes.pixels, sizes.hidden, sizes.classes
    )?;
    writeln!(
        output,
        "Recording {} runs of {} epochs into {}",
        options.seeds,
        options.epochs,
        options.experiment.display()
    )?;
    Ok(())
}

/// One line for a recorded run.
pub(crate) fn trained(output: &mut dyn Write, trained: &Trained) -> Result<()> {
    let Trained { loss, report, .. } = trained;
    let accuracy = percent(trained.accuracy);
    writeln!(output, "  loss {loss:.4}, test accuracy {accuracy} %; {report}")?;
    Ok(())
}

/// Where the scores are and which of them decides.
pub(crate) fn scores(output: &mut dyn Write, scores: &ScoreTable, options: &Options) -> Result<()> {
    let path = options.experiment.join("scores.parquet");
    writeln!(
        output,
        "\nScored {} examples -> {}",
        thousands(scores.examples().len() as u64),
        path.display()
    )?;
    let ours = scores.info().runs.as_slice();
    let all = Experiment::open_read_only(&options.experiment)?.runs()?;
    let others: Vec<&str> =
        all.iter().map(Run::name).filter(|name| !ours.iter().any(|ours| ours == name)).collect();
    if !others.is_empty() {
        writeln!(output, "  not scored, left by an earlier session: {}", others.join(", "))?;
    }
    let (epoch, epochs) = (options.score_epoch(), options.epochs);
    writeln!(
        output,
        "  EL2N after epoch {epoch} of {epochs} decides: early, as in the paper, for a score is worth most \
         before\n  training is done; not at initialization, where it says little. --score-epoch tries \
         another"
    )?;
    Ok(())
}

/// The table that answers the question, and the answer in words.
pub(crate) fn comparison(
    output: &mut dyn Write,
    task: &Task,
    options: &Options,
    outcomes: &[Outcome],
) -> Result<()> {
    let steps = thousands(task.steps(options.epochs) as u64);
    let (networks, test) = (options.retrain, thousands(task.test.len() as u64));
    let share = 100.0 * options.kept();
    writeln!(
        output,
        "\nTrained again, {networks} fresh seeds a line, {steps} steps each (more epochs where there are \
         fewer\nexamples); accuracy on the {test} test {}, mean ± standard deviation\n",
        task.name
    )?;
    writeln!(output, "  {:<30} {:>9} {:>20}", "trained on", "examples", "test accuracy")?;
    for outcome in outcomes {
        let name = match outcome.subset {
            Subset::Everything => "everything".to_owned(),
            Subset::Highest => format!("the {share:.0} % of highest EL2N"),
            Subset::Random => format!("a random {share:.0} %"),
            Subset::Lowest => format!("the {share:.0} % of lowest EL2N"),
        };
        let (mean, deviation) = mean_and_deviation(&outcome.accuracies);
        let deviation = deviation.map_or_else(String::new, |d| format!(" ± {}", percent(d)));
        let accuracy = format!("{} %{deviation}", percent(mean));
        let examples = thousands(outcome.examples as u64);
        writeln!(output, "  {name:<30} {examples:>9} {accuracy:>20}")?;
    }
    let of = |subset| outcomes.iter().find(|outcome| outcome.subset == subset);
    if let (Some(highest), Some(random)) = (of(Subset::Highest), of(Subset::Random)) {
        writeln!(output, "\n{}", verdict(&highest.accuracies, &random.accuracies))?;
    }
    Ok(())
}

/// Compares accuracies of the same seeds, pair by pair.
fn verdict(highest: &[f64], random: &[f64]) -> String {
    let (mean, error) = mean_difference(highest, random);
    let points = format!("{:+.2} points", 100.0 * mean);
    let Some(error) = error else {
        return format!("Highest EL2N against random: {points}; one pair of networks says little.");
    };
    let answer = match mean {
        _ if mean.abs() <= 2.0 * error => "no clear difference",
        _ if mean > 0.0 => "EL2N did better",
        _ => "EL2N did WORSE",
    };
    let error = percent(error);
    format!(
        "Highest EL2N against random, seed by seed: {points}, standard error {error} over the\n\
         seeds (one test set, one set of scores): {answer}."
    )
}

/// Commands to go on with, as they can be pasted.
pub(crate) fn next(output: &mut dyn Write, task: &Task, options: &Options) -> Result<()> {
    let experiment = options.experiment.display();
    let command = "cargo run --features cli --";
    let unscored = if task.manifest_lists_test { " --unscored keep" } else { "" };
    writeln!(
        output,
        "\nNext: the runs, the scores in Polars, and the manifest without what is pruned"
    )?;
    writeln!(
        output,
        "\n  {command} inspect {experiment}\n\n  \
         python examples/polars_scores.py {experiment}\n\n  \
         {command} filter --scores {experiment}/scores.parquet \\\n    \
         --manifest {} --key id{unscored} \\\n    \
         --by {} --keep highest --fraction {} -o {experiment}/kept.csv",
        task.manifest.display(),
        options.score_name(),
        (options.kept() * 1e6).round() / 1e6,
    )?;
    if task.manifest_lists_test {
        writeln!(output, "\n(--unscored keep: the test {} have no score, and stay.)", task.name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_the_numbers() {
        assert!(verdict(&[0.98, 0.97, 0.99], &[0.95, 0.94, 0.95]).ends_with("did better."));
        assert!(verdict(&[0.95, 0.94, 0.95], &[0.98, 0.97, 0.99]).ends_with("did WORSE."));
        let close = verdict(&[0.95, 0.97, 0.96], &[0.96, 0.95, 0.96]);
        assert_eq!(
            close,
            "Highest EL2N against random, seed by seed: +0.33 points, standard error 0.88 over the\n\
             seeds (one test set, one set of scores): no clear difference."
        );
        assert!(verdict(&[0.9], &[0.1]).ends_with("says little."));
    }
}
