//! The hardest and the easiest examples, drawn, with what is known of each.

use std::io::Write;

use candle_core::D;
use candle_nn::Module;
use data_diet::ScoreTable;
use data_diet::scores::ScoreStatistics;

use super::Result;
use super::network::Network;
use super::options::Options;
use super::picture::{self, Picture};
use super::training::Task;

/// At most so many networks are asked what they read.
const READERS: usize = 5;

/// Draws as many of either end as fit into a line.
pub(crate) fn show(
    output: &mut dyn Write,
    task: &Task,
    scores: &ScoreTable,
    networks: &[Network],
    options: &Options,
) -> Result<()> {
    let find = |name: &str| scores.statistics().iter().find(|score| score.name == name);
    let name = options.score_name();
    let missing = |name: &str| format!("the runs have no score {name}");
    let el2n = find(&name).ok_or_else(|| missing(&name))?;
    let forgetting = find("forgetting").ok_or_else(|| missing("forgetting"))?;
    let never_learned = find("never_learned").ok_or_else(|| missing("never_learned"))?;
    let shown = picture::in_a_line(task.width);
    let mut hardest = order(&el2n.mean);
    let easiest: Vec<usize> = hardest.iter().take(shown).copied().collect();
    hardest.reverse();
    hardest.truncate(shown);
    let gallery = Gallery { task, scores, networks, el2n, forgetting, never_learned };
    writeln!(output, "\nThe hardest by EL2N, and what the networks read in the end\n")?;
    gallery.hang(output, &hardest)?;
    writeln!(output, "\nThe easiest\n")?;
    gallery.hang(output, &easiest)
}

/// Rows by ascending score, those without one left out.
fn order(scores: &[f64]) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..scores.len()).filter(|&row| !scores[row].is_nan()).collect();
    rows.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    rows
}

struct Gallery<'a> {
    task: &'a Task,
    scores: &'a ScoreTable,
    networks: &'a [Network],
    el2n: &'a ScoreStatistics,
    forgetting: &'a ScoreStatistics,
    never_learned: &'a ScoreStatistics,
}

impl Gallery<'_> {
    fn hang(&self, output: &mut dyn Write, rows: &[usize]) -> Result<()> {
        let pictures = rows.iter().map(|&row| self.picture(row)).collect::<Result<Vec<_>>>()?;
        Ok(picture::line(output, &pictures)?)
    }

    fn picture(&self, row: usize) -> Result<Picture> {
        let id = self.scores.examples()[row];
        let image = self.task.train.example(id)?.inputs;
        let mut read = vec!["read".to_owned()];
        for network in self.networks.iter().take(READERS) {
            let logits = network.forward(&image)?;
            let class = logits.argmax(D::Minus1)?.to_vec1::<u32>()?[0];
            read.push(class.to_string());
        }
        let caption = vec![
            format!("id {id}"),
            format!("label {}", self.scores.labels()[row]),
            read.join(" "),
            format!("EL2N {:.3}", self.el2n.mean[row]),
            self.history(row),
        ];
        Ok(Picture { pixels: image.flatten_all()?.to_vec1()?, width: self.task.width, caption })
    }

    /// How training went for an example. Forgetting counts a run that never learned it as one that
    /// forgot it each time, so the two must not be mixed.
    fn history(&self, row: usize) -> String {
        let runs = self.never_learned.count[row];
        let never = (self.never_learned.mean[row] * f64::from(runs)).round() as i32;
        match never {
            0 => format!("forgotten {:.1}", self.forgetting.mean[row]),
            never if never == runs => "never learned".to_owned(),
            never => format!("not in {never} of {runs}"),
        }
    }
}
