//! What `data-diet compare` prints: tables for people, JSON for programs.

use std::io::{self, Write};

use data_diet::scores::agreement::{Agreement, Estimate, SplitAgreement, Spread};
use serde_json::{Value, json};

use super::Comparison;
use crate::args::{Between, Compare};
use crate::text::{count, counted, table};

pub(super) struct Report<'a> {
    pub(super) arguments: &'a Compare,
    /// The score that is compared with itself.
    pub(super) score: &'a str,
    pub(super) comparisons: Vec<Comparison>,
    pub(super) splits: Vec<SplitAgreement>,
}

impl Report<'_> {
    pub(super) fn text(&self, output: &mut dyn Write) -> io::Result<()> {
        let Compare { bootstrap, level, .. } = self.arguments;
        let keep = self.arguments.keep.name();
        let intervals = if *bootstrap > 0 {
            let resamples = counted(*bootstrap as u64, "resample");
            format!("; intervals of {} % from {resamples}", percent(*level))
        } else {
            String::new()
        };
        let title = match self.arguments.between {
            None => format!("keeping the {keep}"),
            Some(Between::Epochs) => {
                let last = self.comparisons.last().map_or("", |last| &last.second);
                format!("{} against {last}, keeping the {keep}", self.score)
            }
            Some(Between::Seeds) => format!("{} of each two runs, keeping the {keep}", self.score),
        };
        writeln!(output, "{title}{intervals}\n")?;
        let name = |it: &Comparison| match self.arguments.between {
            Some(Between::Epochs) => it.first.clone(),
            _ => format!("{}, {}", it.first, it.second),
        };
        let what = match self.arguments.between {
            None => "scores",
            Some(Between::Epochs) => "",
            Some(Between::Seeds) => "runs",
        };
        let mut rows = Vec::new();
        for comparison in &self.comparisons {
            let agreement = &comparison.agreement;
            let estimates = estimates(agreement);
            let values = estimates.iter().map(|it| number(it.value));
            let examples = count(agreement.examples as u64);
            rows.push([name(comparison), examples].into_iter().chain(values).collect());
            if *bootstrap > 0 {
                let intervals =
                    estimates.iter().map(|it| it.interval.map_or(String::new(), interval));
                rows.push([String::new(), String::new()].into_iter().chain(intervals).collect());
            }
        }
        if let Some(Comparison { agreement, .. }) = self.comparisons.first() {
            let by_chance = agreement.overlaps.iter().map(|overlap| overlap.by_chance);
            let values = [0.0, 0.0].into_iter().chain(by_chance).map(number);
            rows.push(["by chance".to_owned(), String::new()].into_iter().chain(values).collect());
        }
        table(output, &borrowed(&self.heading(what, "examples")), &rows)?;
        self.splits_text(output)
    }

    fn splits_text(&self, output: &mut dyn Write) -> io::Result<()> {
        if self.splits.is_empty() {
            return Ok(());
        }
        writeln!(
            output,
            "\nthe mean over some runs against the mean over all others: mean, and lowest to highest, \
             over the ways to split them\n"
        )?;
        let mut rows = Vec::new();
        for split in &self.splits {
            let spreads = spreads(split);
            let name = format!("{} against {}", split.runs, split.others);
            let means = spreads.iter().map(|spread| number(spread.mean));
            rows.push([name, count(split.splits as u64)].into_iter().chain(means).collect());
            if split.splits > 1 {
                let ranges = spreads.iter().map(|spread| interval((spread.low, spread.high)));
                rows.push([String::new(), String::new()].into_iter().chain(ranges).collect());
            }
        }
        table(output, &borrowed(&self.heading("runs", "ways")), &rows)
    }

    fn heading(&self, what: &str, number: &str) -> Vec<String> {
        let fixed = [what, number, "spearman", "kendall"].map(str::to_owned);
        let kept = |&fraction: &f64| format!("keep {} %", percent(fraction));
        fixed.into_iter().chain(self.arguments.fractions.iter().map(kept)).collect()
    }

    pub(super) fn json(&self, output: &mut dyn Write) -> io::Result<()> {
        let Compare { bootstrap, level, seed, .. } = self.arguments;
        let bootstrap = (*bootstrap > 0)
            .then(|| json!({ "resamples": bootstrap, "level": level, "seed": seed }));
        let mut report = json!({
            "keep": self.arguments.keep.name(),
            "bootstrap": bootstrap,
            "comparisons": self.comparisons.iter().map(comparison_json).collect::<Vec<_>>(),
        });
        if let Some(between) = self.arguments.between {
            report["score"] = json!(self.score);
            if between == Between::Seeds {
                report["splits"] = self.splits.iter().map(split_json).collect();
            }
        }
        serde_json::to_writer_pretty(&mut *output, &report)?;
        writeln!(output)
    }
}

fn borrowed(cells: &[String]) -> Vec<&str> {
    cells.iter().map(String::as_str).collect()
}

fn estimates(agreement: &Agreement) -> Vec<Estimate> {
    let shared = agreement.overlaps.iter().map(|overlap| overlap.shared);
    [agreement.spearman, agreement.kendall].into_iter().chain(shared).collect()
}

fn spreads(split: &SplitAgreement) -> Vec<Spread> {
    let shared = split.shared.iter().map(|&(_, spread)| spread);
    [split.spearman, split.kendall].into_iter().chain(shared).collect()
}

fn comparison_json(comparison: &Comparison) -> Value {
    let Comparison { first, second, agreement } = comparison;
    let overlap = |overlap: &data_diet::scores::agreement::Overlap| {
        let mut value = estimate_json(overlap.shared);
        value["fraction"] = json!(overlap.fraction);
        value["kept"] = json!(overlap.kept);
        value["by_chance"] = json!(overlap.by_chance);
        value
    };
    json!({
        "first": first,
        "second": second,
        "examples": agreement.examples,
        "without_score": agreement.without_score,
        "in_one_only": agreement.in_one_only,
        "spearman": estimate_json(agreement.spearman),
        "kendall": estimate_json(agreement.kendall),
        "overlaps": agreement.overlaps.iter().map(overlap).collect::<Vec<_>>(),
    })
}

fn estimate_json(estimate: Estimate) -> Value {
    let mut value = json!({ "value": estimate.value });
    if let Some((low, high)) = estimate.interval {
        value["low"] = json!(low);
        value["high"] = json!(high);
    }
    value
}

fn split_json(split: &SplitAgreement) -> Value {
    let spread =
        |spread: Spread| json!({ "mean": spread.mean, "low": spread.low, "high": spread.high });
    let shared = |&(fraction, it): &(f64, Spread)| {
        let mut value = spread(it);
        value["fraction"] = json!(fraction);
        value
    };
    json!({
        "runs": split.runs,
        "others": split.others,
        "splits": split.splits,
        "spearman": spread(split.spearman),
        "kendall": spread(split.kendall),
        "overlaps": split.shared.iter().map(shared).collect::<Vec<_>>(),
    })
}

/// Three decimals; `-` for NaN.
fn number(value: f64) -> String {
    match format!("{value:.3}").as_str() {
        _ if value.is_nan() => "-".to_owned(),
        "-0.000" => "0.000".to_owned(),
        text => text.to_owned(),
    }
}

fn interval((low, high): (f64, f64)) -> String {
    if low.is_nan() { "-".to_owned() } else { format!("{} to {}", number(low), number(high)) }
}

/// A share in percent, without the noise of binary fractions.
fn percent(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
