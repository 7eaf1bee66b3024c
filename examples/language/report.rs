//! What is printed: numbers that were measured in this run, and where to look next.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use super::Result;
use super::data::{Corpus, Kind};
use super::figures::{mean_and_deviation, mean_difference, thousands};
use super::noise::{self, Finding};
use super::options::Options;
use super::pruning::{Outcome, Score, Scores, Subset};
use super::training::{Task, Trained};

/// Sequences to show of each end.
const SHOWN: usize = 5;

pub(crate) fn opening(
    output: &mut dyn Write,
    corpus: &Corpus,
    task: &Task,
    options: &Options,
) -> Result<()> {
    let sizes = task.sizes;
    let (train, test) = (thousands(corpus.train.len() as u64), corpus.test.len());
    writeln!(
        output,
        "{train} sequences to train on, {test} to test on; a transformer of {} blocks, width {}, {} weights\n",
        sizes.blocks,
        sizes.width,
        thousands(sizes.parameters() as u64)
    )?;
    let (seeds, epochs, experiment) = (options.seeds, options.epochs, options.experiment.display());
    writeln!(output, "Recording {seeds} runs of {epochs} epochs into {experiment}")?;
    Ok(())
}

/// One line for a recorded run.
pub(crate) fn trained(output: &mut dyn Write, trained: &Trained) -> Result<()> {
    let Trained { loss, perplexity, report, .. } = trained;
    writeln!(output, "  loss {loss:.4}, test perplexity {perplexity:.3}; {report}")?;
    Ok(())
}

/// How well each score finds the noise.
pub(crate) fn findings(output: &mut dyn Write, corpus: &Corpus, scores: &Scores) -> Result<()> {
    let train = &corpus.train;
    let hard = noise::count(train, Kind::is_hard);
    let copies = noise::count(train, |kind| kind == Kind::Duplicated);
    writeln!(
        output,
        "\nThe noise, by the scores of single runs, mean ± standard deviation. area: how often such a\n\
         sequence scores higher than a clean one. found: the share of it among the {hard} highest, as many\n\
         as are scrambled, reordered or foreign; of the duplicated, among the {copies} lowest\n"
    )?;
    writeln!(
        output,
        "  {:<12}{:>9}   {:<31}by EL2N: area, found",
        "", "sequences", "by perplexity: area, found"
    )?;
    for kind in Kind::NOISE {
        let sequences = noise::count(train, |other| other == kind);
        let mut line = format!("  {:<12}{sequences:>9}   ", kind.name());
        for score in Score::ALL {
            let findings = scores.by_run(score).map(|scores| noise::find(scores, train, kind));
            let findings = findings.collect::<Result<Vec<Finding>>>()?;
            let of = |figure: fn(&Finding) -> f64| findings.iter().map(figure).collect::<Vec<_>>();
            let area = with_deviation(&of(|finding| finding.area), "", 3);
            let found = with_deviation(&of(|finding| 100.0 * finding.found), " %", 0);
            write!(line, "{area:<15}{found:<16}")?;
        }
        writeln!(output, "{}", line.trim_end())?;
    }
    Ok(())
}

/// The sequences at either end, in words.
pub(crate) fn extremes(output: &mut dyn Write, corpus: &Corpus, scores: &Scores) -> Result<()> {
    let perplexity = scores.mean(Score::Perplexity);
    let mut places: Vec<usize> = (0..perplexity.scores().len()).collect();
    places.sort_by(|&a, &b| perplexity.scores()[a].total_cmp(&perplexity.scores()[b]));
    let ids: Vec<usize> = places.iter().map(|&at| perplexity.examples()[at] as usize).collect();
    let is_clean = |id: &usize| corpus.train[*id].kind == Kind::Clean;
    let hardest = || ids.iter().copied().rev();
    for (title, ids) in [
        ("The hardest by perplexity", distinct(corpus, hardest())),
        ("The hardest that are clean", distinct(corpus, hardest().filter(is_clean))),
        ("The easiest", distinct(corpus, ids.iter().copied())),
        ("The easiest that are clean", distinct(corpus, ids.iter().copied().filter(is_clean))),
    ] {
        writeln!(output, "\n{title}\n")?;
        for id in ids {
            let sequence = &corpus.train[id];
            write!(output, "  {:<12}", sequence.kind.name())?;
            for score in Score::ALL {
                let column = scores.mean(score);
                let row = column.examples().partition_point(|&other| other < id as i64);
                write!(output, "{} {:<7.3}", score.name(), score.shown(column.scores()[row]))?;
            }
            writeln!(output, " {}", sequence.text)?;
        }
    }
    Ok(())
}

/// The first ids whose texts differ.
fn distinct(corpus: &Corpus, ids: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut seen = BTreeMap::new();
    ids.filter(|&id| seen.insert(corpus.train[id].text.as_str(), id).is_none())
        .take(SHOWN)
        .collect()
}

/// The table that answers whether pruning helps, and the answer in words.
pub(crate) fn comparison(
    output: &mut dyn Write,
    task: &Task,
    options: &Options,
    outcomes: &[Outcome],
) -> Result<()> {
    let steps = thousands(task.steps(options.epochs) as u64);
    let (networks, test) = (options.retrain, task.test.len());
    let pruned = 100.0 * options.prune;
    writeln!(
        output,
        "\nTrained again, {networks} fresh seeds a line, {steps} steps each (more epochs where there are fewer\n\
         sequences); perplexity on the {test} clean test sequences, mean ± standard deviation\n"
    )?;
    writeln!(output, "  {:<40}{:>9}{:>9}   test perplexity", "trained on", "sequences", "noise")?;
    for outcome in outcomes {
        let name = name(outcome.subset, pruned);
        let sequences = thousands(outcome.sequences as u64);
        let noise = format!("{:.0} %", 100.0 * outcome.noise);
        let perplexity = with_deviation(&outcome.perplexities, "", 3);
        writeln!(output, "  {name:<40}{sequences:>9}{noise:>9}   {perplexity}")?;
    }
    let of = |subset| outcomes.iter().find(|outcome| outcome.subset == subset);
    if let Some(random) = of(Subset::Random) {
        writeln!(
            output,
            "\nAgainst the random subset, seed by seed, with the standard error over seeds:"
        )?;
        for outcome in outcomes.iter().filter(|outcome| outcome.subset != Subset::Random) {
            let verdict = verdict(&outcome.perplexities, &random.perplexities);
            writeln!(output, "  {:<40} {verdict}", name(outcome.subset, pruned))?;
        }
    }
    Ok(())
}

fn name(subset: Subset, pruned: f64) -> String {
    match subset {
        Subset::Everything => "everything".to_owned(),
        Subset::Random => format!("a random {:.0} %", 100.0 - pruned),
        Subset::WithoutHighest(score) => {
            format!("without the {pruned:.0} % of highest {}", score.name())
        }
        Subset::WithoutLowest(score) => {
            format!("without the {pruned:.0} % of lowest {}", score.name())
        }
    }
}

/// Compares perplexities of the same seeds, pair by pair; lower is better.
fn verdict(perplexities: &[f64], random: &[f64]) -> String {
    let (mean, error) = mean_difference(perplexities, random);
    let Some(error) = error else {
        return format!("{mean:+.3}; one pair of networks says little");
    };
    let answer = match mean {
        _ if mean.abs() <= 2.0 * error => "no clear difference",
        _ if mean < 0.0 => "better",
        _ => "WORSE",
    };
    format!("{mean:+.3} ± {error:.3}: {answer}")
}

/// Commands to go on with, as they can be pasted.
pub(crate) fn next(output: &mut dyn Write, options: &Options) -> Result<()> {
    let experiment = options.experiment.display();
    let command = "cargo run --features cli --";
    writeln!(
        output,
        "\nNext: the runs, and the ids without the {:.0} % of highest perplexity",
        100.0 * options.prune
    )?;
    writeln!(
        output,
        "\n  {command} inspect {experiment}\n\n  \
         {command} select --scores {experiment}/scores.parquet \\\n    \
         --by {} --keep lowest --fraction {} -o {experiment}/kept.txt",
        Score::Perplexity.column(),
        (options.kept() * 1e6).round() / 1e6,
    )?;
    Ok(())
}

fn with_deviation(values: &[f64], unit: &str, digits: usize) -> String {
    let (mean, deviation) = mean_and_deviation(values);
    let deviation = deviation.map(|deviation| format!(" ± {deviation:.digits$}"));
    format!("{mean:.digits$}{unit}{}", deviation.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_the_numbers() {
        assert!(verdict(&[3.0, 3.1, 3.2], &[4.0, 4.1, 4.3]).ends_with("better"));
        assert!(verdict(&[4.0, 4.1, 4.3], &[3.0, 3.1, 3.2]).ends_with("WORSE"));
        // Differences 0.1, -0.3, 0.5: mean 0.1, deviation 0.4, divided by the root of three.
        let close = verdict(&[4.1, 3.9, 4.5], &[4.0, 4.2, 4.0]);
        assert_eq!(close, "+0.100 ± 0.231: no clear difference");
        assert_eq!(verdict(&[3.0], &[4.0]), "-1.000; one pair of networks says little");
    }
}
