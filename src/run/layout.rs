//! Every file name of an experiment directory, one function per name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::name::check_run_name;
use super::schema::Table;
use crate::error::{Error, Result};
use crate::observe::Phase;

const RUNS: &str = "_runs";
/// Further heads of the models, each an experiment directory of its own.
const HEADS: &str = "heads";
/// The table of kernel velocities, which is removed together with a run's weights. `geometry`
/// writes it.
pub(crate) const KERNEL_VELOCITY: &str = "kernel_velocity";

/// The directory of an experiment: `observations/`, `logits/`, `_runs/` and so on.
#[derive(Clone, Debug)]
pub(crate) struct ExperimentLayout {
    root: PathBuf,
}

/// The files of one rank of one run.
#[derive(Clone, Debug)]
pub(crate) struct RunLayout {
    root: PathBuf,
    run: String,
    rank: u32,
}

impl ExperimentLayout {
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.root.join(RUNS)
    }

    pub(crate) fn rank(&self, run: &str, rank: u32) -> Result<RunLayout> {
        RunLayout::new(&self.root, run, rank)
    }

    /// The experiment directory of another head of the same models.
    pub(crate) fn head(&self, name: &str) -> PathBuf {
        self.root.join(HEADS).join(name)
    }

    /// Lists the names of the further heads, sorted.
    pub(crate) fn head_names(&self) -> Result<Vec<String>> {
        let mut names = list(&self.root.join(HEADS))?;
        names.retain(|name| check_run_name(name).is_ok());
        Ok(names)
    }

    /// Lists the names of all runs, sorted.
    pub(crate) fn run_names(&self) -> Result<Vec<String>> {
        let mut names = list(&self.runs())?;
        names.retain(|name| check_run_name(name).is_ok());
        Ok(names)
    }

    /// Lists what is among the runs and cannot be one for its name, sorted.
    pub(crate) fn other_names(&self) -> Result<Vec<String>> {
        let mut names = list(&self.runs())?;
        names.retain(|name| check_run_name(name).is_err() && !name.starts_with('.'));
        names.retain(|name| !is_litter(Path::new(name)));
        Ok(names)
    }

    /// Lists the ranks that have recorded anything of a run, ascending.
    pub(crate) fn ranks(&self, run: &str) -> Result<Vec<u32>> {
        let rank_of = |name: String| match name.as_str() {
            "run.json" => Some(0),
            name => name.strip_prefix("run.rank-")?.strip_suffix(".json")?.parse().ok(),
        };
        let mut ranks: Vec<u32> =
            list(&self.runs().join(run))?.into_iter().filter_map(rank_of).collect();
        ranks.sort_unstable();
        Ok(ranks)
    }
}

impl RunLayout {
    pub(crate) fn new(root: &Path, run: &str, rank: u32) -> Result<Self> {
        check_run_name(run)?;
        Ok(Self { root: root.to_owned(), run: run.to_owned(), rank })
    }

    pub(crate) fn experiment(&self) -> &Path {
        &self.root
    }

    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    pub(crate) fn rank(&self) -> u32 {
        self.rank
    }

    /// Everything about the run that is not a finished part of a table.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join(RUNS).join(&self.run)
    }

    /// Rank 0 owns `run.json`; every other process that records the run has a file of its own.
    pub(crate) fn metadata(&self) -> PathBuf {
        match self.rank {
            0 => self.state().join("run.json"),
            rank => self.state().join(format!("run.rank-{rank}.json")),
        }
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.state().join(format!("rank-{}.lock", self.rank))
    }

    pub(crate) fn open(&self) -> PathBuf {
        self.state().join("open")
    }

    pub(crate) fn log(&self, number: u32) -> PathBuf {
        self.open().join(format!("rank-{}.{number:06}.log", self.rank))
    }

    /// A Parquet part before it is published. The holder of the rank's lock may remove it.
    pub(crate) fn draft(&self, table: Table, phase: Phase, number: u32) -> PathBuf {
        let (rank, table) = (self.rank, table.name());
        self.open().join(format!("rank-{rank}.{number:06}.{table}.{phase}.draft"))
    }

    /// The weights after this many updates. They are the same on every rank, so the path has no
    /// rank.
    pub(crate) fn snapshot(&self, step: u64) -> PathBuf {
        self.snapshots().join(format!("step={step:012}")).join(part_name(0))
    }

    /// A snapshot before it is published.
    pub(crate) fn snapshot_draft(&self, step: u64) -> PathBuf {
        self.open().join(format!("rank-{}.snapshot.{step:012}.draft", self.rank))
    }

    /// Lists the published snapshots, by step.
    pub(crate) fn published_snapshots(&self) -> Result<Vec<(u64, PathBuf)>> {
        let step = |name: &String| name.strip_prefix("step=")?.parse().ok();
        let names = list(&self.snapshots())?;
        let mut steps: Vec<u64> = names.iter().filter_map(step).collect();
        steps.sort_unstable();
        let found = steps.into_iter().map(|step| (step, self.snapshot(step)));
        Ok(found.filter(|(_, path)| path.exists()).collect())
    }

    /// Lists the parts of the run's kernel velocities, by number.
    pub(crate) fn velocities(&self) -> Result<Vec<(u32, PathBuf)>> {
        numbered(&self.root.join(KERNEL_VELOCITY).join(format!("run={}", self.run)), part_number)
    }

    fn snapshots(&self) -> PathBuf {
        self.root.join(Table::Snapshots.name()).join(format!("run={}", self.run))
    }

    /// The first rows of a part that a resumed run cuts off, until the part is out of sight.
    pub(crate) fn replacement(
        &self,
        table: Table,
        phase: Phase,
        number: u32,
        replaces: u32,
    ) -> PathBuf {
        let (rank, table) = (self.rank, table.name());
        let name = format!("rank-{rank}.{number:06}.{table}.{phase}.{replaces:06}.replacement");
        self.open().join(name)
    }

    /// The files of the replacements that an interrupted cut left behind.
    pub(crate) fn replacements(&self) -> Result<Vec<PathBuf>> {
        let prefix = format!("rank-{}.", self.rank);
        let names = list(&self.open())?.into_iter().filter(|name| name.starts_with(&prefix));
        let files = names.filter(|name| name.ends_with(".replacement"));
        Ok(files.map(|name| self.open().join(name)).collect())
    }

    /// Returns the number of the next segment, above every number that was ever used, so that no
    /// name is reused.
    pub(crate) fn next_number(&self) -> Result<u32> {
        let mut highest = None;
        for (table, phase) in Table::streams() {
            highest = highest.max(self.parts(table, phase)?.last().map(|&(number, _)| number));
        }
        highest = highest.max(self.logs()?.last().map(|&(number, _)| number));
        highest = highest.max(self.highest_aside()?);
        Ok(highest.map_or(0, |number| number + 1))
    }

    /// Where a resume or a recovery moves files that it must not delete.
    pub(crate) fn aside(&self) -> PathBuf {
        self.state().join("aside")
    }

    /// Returns the highest segment number of this rank among the files that were moved aside.
    pub(crate) fn highest_aside(&self) -> Result<Option<u32>> {
        let rank = self.rank;
        let (part, log) = (format!(".rank={rank}.part-"), format!(".rank-{rank}."));
        let number = |name: &String| {
            let after = name.rsplit_once(&part).or_else(|| name.rsplit_once(&log))?.1;
            after.split('.').next()?.parse().ok()
        };
        Ok(list(&self.aside())?.iter().filter_map(number).max())
    }

    pub(crate) fn partition(&self, table: Table, phase: Phase) -> PathBuf {
        let mut path = self.root.join(table.name()).join(format!("run={}", self.run));
        if table.phases().len() > 1 {
            path.push(format!("phase={phase}"));
        }
        path.join(format!("rank={}", self.rank))
    }

    pub(crate) fn part(&self, table: Table, phase: Phase, number: u32) -> PathBuf {
        self.partition(table, phase).join(part_name(number))
    }

    /// Lists every existing directory that holds files of this rank.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        let partitions = Table::streams().map(|(table, phase)| self.partition(table, phase));
        let own = [self.state(), self.open(), self.aside()];
        let own = own.into_iter().chain([self.snapshots()]);
        own.chain(partitions).filter(|path| path.is_dir()).collect()
    }

    /// Lists the published parts of a table, by number.
    pub(crate) fn parts(&self, table: Table, phase: Phase) -> Result<Vec<(u32, PathBuf)>> {
        numbered(&self.partition(table, phase), part_number)
    }

    /// Lists the logs that are not sealed yet, by number.
    pub(crate) fn logs(&self) -> Result<Vec<(u32, PathBuf)>> {
        let prefix = format!("rank-{}.", self.rank);
        let number = |name: &str| name.strip_prefix(&prefix)?.strip_suffix(".log")?.parse().ok();
        numbered(&self.open(), number)
    }

    /// Lists the drafts that a crash left behind.
    pub(crate) fn drafts(&self) -> Result<Vec<PathBuf>> {
        let prefix = format!("rank-{}.", self.rank);
        let names = list(&self.open())?.into_iter();
        let is_draft = |name: &String| {
            name.starts_with(&prefix) && Path::new(name).extension().is_some_and(|e| e == "draft")
        };
        Ok(names.filter(is_draft).map(|name| self.open().join(name)).collect())
    }
}

/// Returns whether a file is one that an operating system leaves in every directory that it shows.
pub(crate) fn is_litter(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("._") || [".DS_Store", "Thumbs.db", "desktop.ini"].contains(&name)
}

/// The file name of a part of any table.
pub(crate) fn part_name(number: u32) -> String {
    format!("part-{number:06}.parquet")
}

/// Parses the number of a part from a name that [`part_name`] makes.
pub(crate) fn part_number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("part-")?.strip_suffix(".parquet")?.parse().ok()?;
    (part_name(number) == name).then_some(number)
}

fn numbered(directory: &Path, number: impl Fn(&str) -> Option<u32>) -> Result<Vec<(u32, PathBuf)>> {
    let mut found: Vec<(u32, PathBuf)> = list(directory)?
        .iter()
        .filter_map(|name| Some((number(name)?, directory.join(name))))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Lists the names in a directory, sorted; none if the directory does not exist.
fn list(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", directory, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("list", directory, error))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_contract() {
        let layout = RunLayout::new(Path::new("runs/digits"), "seed-0", 3).unwrap();
        assert_eq!(
            layout.part(Table::Observations, Phase::Train, 7),
            Path::new("runs/digits/observations/run=seed-0/phase=train/rank=3/part-000007.parquet")
        );
        assert_eq!(
            layout.part(Table::Grand, Phase::Score, 7),
            Path::new("runs/digits/grand/run=seed-0/rank=3/part-000007.parquet")
        );
        assert_eq!(
            layout.snapshot(123),
            Path::new("runs/digits/snapshots/run=seed-0/step=000000000123/part-000000.parquet")
        );
        assert_eq!(layout.metadata(), Path::new("runs/digits/_runs/seed-0/run.rank-3.json"));
        let first = RunLayout::new(Path::new("runs/digits"), "seed-0", 0).unwrap();
        assert_eq!(first.metadata(), Path::new("runs/digits/_runs/seed-0/run.json"));
    }
}
