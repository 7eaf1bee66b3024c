//! The examples' command line. Plain: the package's own command has the elaborate one.

use std::fmt;
use std::path::PathBuf;

use super::Result;
use super::arguments::{number, split};
use super::device::Place;

/// What may be chosen on the command line; an example's own choice is the default.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    /// The experiment directory; runs of the same names in it are replaced.
    pub(crate) experiment: PathBuf,
    /// Where the data lie, for an example that does not bring its own.
    pub(crate) data: Option<PathBuf>,
    pub(crate) device: Place,
    pub(crate) epochs: u32,
    /// Runs that are recorded; a score is the mean over them.
    pub(crate) seeds: u64,
    /// Networks trained on each subset, for the comparison.
    pub(crate) retrain: u64,
    /// The epoch whose EL2N decides; none for a tenth of all epochs.
    pub(crate) score_epoch: Option<u32>,
    /// The share of the examples that is pruned.
    pub(crate) prune: f64,
    /// Ascending epochs at which to compare GraNd with EL2N, instead of everything else.
    pub(crate) grand: Vec<u32>,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    Run(Options),
    Help(Options),
}

impl Options {
    /// The epoch whose EL2N decides: early, because a score is worth most before training is done;
    /// not at initialization, where EL2N tells little about an example. The paper takes epoch 10 or
    /// 20 of 200.
    pub(crate) fn score_epoch(&self) -> u32 {
        self.score_epoch.unwrap_or(self.epochs.div_ceil(10))
    }

    /// The name of that score.
    pub(crate) fn score_name(&self) -> String {
        format!("el2n_score_epoch_{}", self.score_epoch())
    }

    /// The share of the examples that is kept.
    pub(crate) fn kept(&self) -> f64 {
        1.0 - self.prune
    }
}

/// The options, as `--help` lists them.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Options:")?;
        let mut option = |name: &str, what: &str, default: String| {
            writeln!(f, "  {name:<18} {what} [default: {default}]")
        };
        let path = |path: &PathBuf| path.display().to_string();
        option("--experiment DIR", "where to record", path(&self.experiment))?;
        if let Some(data) = &self.data {
            option("--data DIR", "where the data lie", path(data))?;
        }
        option("--device DEVICE", "cpu, or cuda with `--features cuda`", "cpu".to_owned())?;
        option("--epochs N", "epochs per run", self.epochs.to_string())?;
        option("--seeds N", "runs to record and score by", self.seeds.to_string())?;
        let what = "networks to train on each subset afterwards";
        option("--retrain N", what, self.retrain.to_string())?;
        option("--score-epoch N", "prune by EL2N at this epoch", "a tenth of all".to_owned())?;
        option("--prune SHARE", "share to prune, between 0 and 1", self.prune.to_string())?;
        let what = "compare GraNd with EL2N at epochs such as 0,1,10, instead";
        option("--grand EPOCHS", what, "none".to_owned())?;
        writeln!(f, "  {:<18} show this", "--help")
    }
}

/// Reads `--name value` and `--name=value`.
pub(crate) fn parse(
    mut options: Options,
    arguments: impl IntoIterator<Item = String>,
) -> Result<Request> {
    let mut arguments = arguments.into_iter();
    let defaults = options.clone();
    let mut recorded_elsewhere = false;
    while let Some(argument) = arguments.next() {
        if ["--help", "-h"].contains(&argument.as_str()) {
            return Ok(Request::Help(defaults));
        }
        let (name, value) = split(argument);
        let mut value = || {
            let value = value.clone().or_else(|| arguments.next());
            value.ok_or_else(|| format!("{name}: expected a value after it"))
        };
        match name.as_str() {
            "--experiment" => {
                options.experiment = value()?.into();
                recorded_elsewhere = true;
            }
            "--data" if options.data.is_some() => options.data = Some(value()?.into()),
            "--device" => {
                options.device = value()?.parse().map_err(|error| format!("{name}: {error}"))?;
            }
            "--epochs" => options.epochs = number(&name, &value()?)?,
            "--seeds" => options.seeds = number(&name, &value()?)?.into(),
            "--retrain" => options.retrain = number(&name, &value()?)?.into(),
            "--score-epoch" => options.score_epoch = Some(number(&name, &value()?)?),
            "--prune" => {
                let text = value()?;
                let share = text.parse().ok().filter(|share| *share > 0.0 && *share < 1.0);
                options.prune = share
                    .ok_or_else(|| format!("{name}: expected a share such as 0.3, got {text}"))?;
            }
            "--grand" => options.grand = epochs(&name, &value()?)?,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    if !options.grand.is_empty() && !recorded_elsewhere {
        // Runs of another network, beside those of the pruning experiment.
        options.experiment.as_mut_os_string().push("-grand");
    }
    if options.score_epoch() > options.epochs {
        let (asked, epochs) = (options.score_epoch(), options.epochs);
        return Err(format!("--score-epoch: expected 1 to {epochs}, got {asked}").into());
    }
    Ok(Request::Run(options))
}

/// Epochs in ascending order, with commas between them.
fn epochs(name: &str, text: &str) -> Result<Vec<u32>> {
    let epochs: Option<Vec<u32>> = text.split(',').map(|epoch| epoch.parse().ok()).collect();
    let ascending = epochs.filter(|epochs| epochs.is_sorted_by(|a, b| a < b));
    Ok(ascending.ok_or_else(|| format!("{name}: expected ascending epochs 0,1,10, got {text}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Options {
        Options {
            experiment: "runs/test".into(),
            data: None,
            device: Place::Cpu,
            epochs: 20,
            seeds: 3,
            retrain: 5,
            score_epoch: None,
            prune: 0.3,
            grand: Vec::new(),
        }
    }

    fn parsed(line: &str) -> Result<Options> {
        match parse(defaults(), line.split_whitespace().map(str::to_owned))? {
            Request::Run(options) => Ok(options),
            Request::Help(_) => panic!("`{line}` asks for help"),
        }
    }

    #[test]
    fn values_may_follow_or_be_joined() {
        let options =
            parsed("--experiment=runs/other --epochs 7 --device cuda --prune=.5").unwrap();
        let expected = Options {
            experiment: "runs/other".into(),
            device: Place::Cuda,
            epochs: 7,
            prune: 0.5,
            ..defaults()
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn the_score_epoch_is_early_but_never_initialization() {
        assert_eq!(defaults().score_epoch(), 2);
        assert_eq!(parsed("--epochs 1").unwrap().score_epoch(), 1);
        assert_eq!(parsed("--score-epoch 20").unwrap().score_epoch(), 20);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (line, expected) in [
            ("--epochs 0", "--epochs: expected a whole number above 0, got 0"),
            ("--seeds", "--seeds: expected a value after it"),
            ("--prune 1", "--prune: expected a share such as 0.3, got 1"),
            ("--prune NaN", "--prune: expected a share such as 0.3, got NaN"),
            ("--device gpu", "--device: expected cpu or cuda, got gpu"),
            ("--epochs 3 --score-epoch 4", "--score-epoch: expected 1 to 3, got 4"),
            ("--grand 3,1", "--grand: expected ascending epochs 0,1,10, got 3,1"),
            ("--grand 1,1", "--grand: expected ascending epochs 0,1,10, got 1,1"),
            ("--grand 1,", "--grand: expected ascending epochs 0,1,10, got 1,"),
            ("--data somewhere", "unknown option --data"),
            ("stray", "unknown option stray"),
        ] {
            assert_eq!(parsed(line).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn gradients_are_recorded_apart_unless_told_where() {
        let options = parsed("--grand 0,1,10").unwrap();
        assert_eq!((options.grand, options.experiment), (vec![0, 1, 10], "runs/test-grand".into()));
        let options = parsed("--grand 2 --experiment here").unwrap();
        assert_eq!((options.grand, options.experiment), (vec![2], "here".into()));
    }

    #[test]
    fn data_can_be_given_where_they_are_needed() {
        let defaults = Options { data: Some("data".into()), ..defaults() };
        let arguments = ["--data", "elsewhere"].map(str::to_owned);
        let Request::Run(options) = parse(defaults, arguments).unwrap() else { panic!() };
        assert_eq!(options.data, Some("elsewhere".into()));
    }

    #[test]
    fn help_shows_the_defaults() {
        let arguments = ["--epochs", "7", "--help"].map(str::to_owned);
        let Request::Help(options) = parse(defaults(), arguments).unwrap() else { panic!() };
        assert!(options.to_string().contains("epochs per run [default: 20]"), "{options}");
    }
}
