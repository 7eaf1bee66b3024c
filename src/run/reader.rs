//! Opens an experiment directory and reads its observations, checking every byte.

use std::path::{Path, PathBuf};
use std::vec;

use arrow::array::{Array, BooleanArray, Float32Array, Int32Array, Int64Array};
use arrow::record_batch::RecordBatch;

use super::layout::{ExperimentLayout, RunLayout};
use super::metadata::{RunMetadata, RunStatus};
use super::name::is_retyped;
use super::part::PartReader;
use super::recovery::{Recovered, recover};
use super::schema::Table;
use super::seal::file_bytes;
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{ModelKind, Phase, Signal, TargetForm};
use crate::storage::LocalDisk;

/// An experiment directory: any number of runs of the same data set.
///
/// # Examples
///
/// ```no_run
/// use data_diet::Experiment;
/// use data_diet::observe::Phase;
///
/// let experiment = Experiment::open("runs/digits")?;
/// for run in experiment.runs()? {
///     for rows in run.observations(Phase::Train, 0)? {
///         let rows = rows?;
///         println!("{} rows from step {}", rows.len(), rows.steps()[0]);
///     }
/// }
/// # Ok::<(), data_diet::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Experiment {
    layout: ExperimentLayout,
    recovered: Vec<Recovered>,
}

impl Experiment {
    /// Opens an experiment and recovers what interrupted runs have left in their logs. A run that
    /// is being recorded is left alone; what it has published can be read.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if the directory holds no runs; [`Io`](ErrorKind::Io) or
    /// [`Corrupt`](ErrorKind::Corrupt) if a run cannot be recovered. Use
    /// [`open_read_only`](Self::open_read_only) on a directory that cannot be written.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let mut experiment = Self::open_read_only(path)?;
        for run in experiment.layout.run_names()? {
            for rank in experiment.ranks_of(&run)? {
                let layout = experiment.layout.rank(&run, rank)?;
                let recovered = recover(&LocalDisk, &layout).map_err(|error| {
                    error.context(format!(
                        "run `{run}` (rank {rank}) was interrupted, recovering it"
                    ))
                })?;
                experiment.recovered.extend(recovered);
            }
        }
        Ok(experiment)
    }

    /// Opens an experiment without changing anything in it. Rows that an interrupted run has left
    /// in its log are not visible.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if the directory holds no runs.
    pub fn open_read_only(path: impl Into<PathBuf>) -> Result<Self> {
        let layout = ExperimentLayout::new(path);
        let is_file = |error: &Error| {
            error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotADirectory)
        };
        let names = match layout.run_names() {
            Err(error) if is_file(&error) => Vec::new(),
            names => names?,
        };
        if names.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "{} is not an experiment directory: expected runs under {}",
                    layout.root().display(),
                    layout.runs().display()
                ),
            ));
        }
        Ok(Self { layout, recovered: Vec::new() })
    }

    /// Returns the path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.layout.root()
    }

    /// Returns what [`open`](Self::open) has recovered.
    #[must_use]
    pub fn recovered(&self) -> &[Recovered] {
        &self.recovered
    }

    /// Returns every run, by name. A run whose recorder has only just started, or died while
    /// starting, is left out.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) or [`Corrupt`](ErrorKind::Corrupt) if the metadata of a run cannot be
    /// read.
    pub fn runs(&self) -> Result<Vec<Run>> {
        let names = self.layout.run_names()?;
        names.iter().filter_map(|name| self.find(name).transpose()).collect()
    }

    /// Returns the experiment directories of further heads of the same models, by name. A head is
    /// recorded beside the first one, with the same steps and epochs, and read like any experiment.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if the directory cannot be listed.
    pub fn heads(&self) -> Result<Vec<PathBuf>> {
        let names = self.layout.head_names()?;
        Ok(names.iter().map(|name| self.layout.head(name)).collect())
    }

    /// Returns the names of directories among the runs that cannot be runs: their names would break
    /// a reader. Nothing of them is read.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if the directory cannot be listed.
    pub fn other_names(&self) -> Result<Vec<String>> {
        self.layout.other_names()
    }

    /// Returns one run.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if there is no such run, listing the runs.
    pub fn run(&self, name: &str) -> Result<Run> {
        if let Some(run) = self.find(name)? {
            return Ok(run);
        }
        let names: Vec<String> = self.runs()?.into_iter().map(|run| run.name).collect();
        let names = names.join(", ");
        let path = self.path().display();
        let message = format!("{path} has no run `{name}`; there are: {names}");
        Err(Error::new(ErrorKind::NotFound, message))
    }

    fn find(&self, name: &str) -> Result<Option<Run>> {
        let mut ranks = Vec::new();
        for rank in self.layout.ranks(name)? {
            let layout = self.layout.rank(name, rank)?;
            ranks.extend(RunMetadata::read(&layout.metadata())?.map(|metadata| (layout, metadata)));
        }
        Ok((!ranks.is_empty()).then(|| Run { name: name.to_owned(), ranks }))
    }

    /// Lists the ranks with metadata; rank 0 if a crash came before any was written.
    fn ranks_of(&self, run: &str) -> Result<Vec<u32>> {
        let ranks = self.layout.ranks(run)?;
        Ok(if ranks.is_empty() { vec![0] } else { ranks })
    }
}

/// One recorded run: its metadata and its rows.
#[derive(Clone, Debug)]
pub struct Run {
    name: String,
    ranks: Vec<(RunLayout, RunMetadata)>,
}

impl Run {
    /// Returns whether some reader takes the name for something other than text, unless it is told:
    /// a number, a Boolean, a date or nothing. New runs cannot have such names.
    #[must_use]
    pub fn has_retyped_name(&self) -> bool {
        is_retyped(self.name())
    }

    /// Returns the run's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the metadata of each process that recorded the run, by rank.
    #[must_use]
    pub fn ranks(&self) -> impl ExactSizeIterator<Item = &RunMetadata> {
        self.ranks.iter().map(|(_, metadata)| metadata)
    }

    /// Returns the kind of model.
    #[must_use]
    pub fn kind(&self) -> ModelKind {
        // A run has at least one rank, and all ranks record the same kind.
        self.ranks.first().map_or(ModelKind::LossOnly, |(_, metadata)| metadata.format.kind)
    }

    /// Returns what the targets were, over all ranks; `None` if that is unknown, as in runs of earlier
    /// versions, or if examples have no class.
    #[must_use]
    pub fn targets(&self) -> Option<TargetForm> {
        let forms: Option<Vec<TargetForm>> =
            self.ranks().map(|metadata| metadata.targets).collect();
        forms?.into_iter().reduce(TargetForm::and)
    }

    /// Returns the state of the run: `Finished` if every rank has finished, otherwise the worst
    /// state of any rank.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        let order =
            [RunStatus::Failed, RunStatus::Degraded, RunStatus::Running, RunStatus::Finished];
        let is = |status| self.ranks().any(|metadata| metadata.status == status);
        order.into_iter().find(|&status| is(status)).unwrap_or(RunStatus::Running)
    }

    /// Returns the number of published rows of one phase, over all ranks.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) or [`Corrupt`](ErrorKind::Corrupt) if a part cannot be opened.
    pub fn rows(&self, phase: Phase) -> Result<u64> {
        let mut rows = 0;
        for part in self.parts(Table::Observations, phase)? {
            rows += PartReader::open(&part, Table::Observations)?.rows();
        }
        Ok(rows)
    }

    /// Returns the distinct epochs of the published rows of one phase, ascending.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) or [`Corrupt`](ErrorKind::Corrupt) if a part cannot be opened.
    pub fn epochs(&self, phase: Phase) -> Result<Vec<u32>> {
        let mut epochs = Vec::new();
        for part in self.parts(Table::Observations, phase)? {
            epochs.extend(PartReader::open(&part, Table::Observations)?.epochs());
        }
        epochs.sort_unstable();
        epochs.dedup();
        Ok(epochs.into_iter().filter_map(|epoch| u32::try_from(epoch).ok()).collect())
    }

    /// Returns the number of optimizer updates that the published training rows span: one more than
    /// the last step.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) or [`Corrupt`](ErrorKind::Corrupt) if a part cannot be opened.
    pub fn steps(&self) -> Result<u64> {
        let mut steps = 0;
        for (layout, _) in &self.ranks {
            if let Some((_, part)) = layout.parts(Table::Observations, Phase::Train)?.last() {
                let last = PartReader::open(part, Table::Observations)?.last_step();
                steps = steps.max(last.map_or(0, |step| step as u64 + 1));
            }
        }
        Ok(steps)
    }

    /// Returns the size in bytes of all published parts of all tables.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if the parts cannot be listed.
    pub fn bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for (table, phase) in Table::streams() {
            bytes += self.parts(table, phase)?.iter().map(|part| file_bytes(part)).sum::<u64>();
        }
        for (layout, _) in self.ranks.iter().filter(|(layout, _)| layout.rank() == 0) {
            let snapshots = layout.published_snapshots()?;
            bytes += snapshots.iter().map(|(_, path)| file_bytes(path)).sum::<u64>();
        }
        Ok(bytes)
    }

    /// Returns the published observations of one phase and of the `rank`-th process, in the order
    /// in which they were recorded.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if there is no such rank; [`Io`](ErrorKind::Io) or
    /// [`Corrupt`](ErrorKind::Corrupt) if a part cannot be opened.
    pub fn observations(&self, phase: Phase, rank: usize) -> Result<Observations> {
        let parts = self.rank_parts(Table::Observations, phase, rank)?;
        Ok(Observations { parts: parts.into_iter(), part: None, rows: Vec::new().into_iter() })
    }

    /// Opens the published parts of the `rank`-th process, in order.
    pub(crate) fn open_parts(
        &self,
        table: Table,
        phase: Phase,
        rank: usize,
    ) -> Result<Vec<PartReader>> {
        let parts = self.rank_parts(table, phase, rank)?;
        parts.iter().map(|part| PartReader::open(part, table)).collect()
    }

    fn rank_parts(&self, table: Table, phase: Phase, rank: usize) -> Result<Vec<PathBuf>> {
        let (layout, _) = self.ranks.get(rank).ok_or_else(|| {
            let message =
                format!("run `{}` has {} ranks, no rank {rank}", self.name, self.ranks.len());
            Error::new(ErrorKind::NotFound, message)
        })?;
        Ok(layout.parts(table, phase)?.into_iter().map(|(_, path)| path).collect())
    }

    pub(crate) fn layouts(&self) -> impl Iterator<Item = (&RunLayout, &RunMetadata)> {
        self.ranks.iter().map(|(layout, metadata)| (layout, metadata))
    }

    fn parts(&self, table: Table, phase: Phase) -> Result<Vec<PathBuf>> {
        let mut parts = Vec::new();
        for (layout, _) in &self.ranks {
            parts.extend(layout.parts(table, phase)?.into_iter().map(|(_, path)| path));
        }
        Ok(parts)
    }
}

/// Streams a run's observations; holds one row group at a time.
#[derive(Debug)]
pub struct Observations {
    parts: vec::IntoIter<PathBuf>,
    part: Option<PartReader>,
    rows: vec::IntoIter<RecordBatch>,
}

impl Iterator for Observations {
    type Item = Result<ObservationRows>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_rows().transpose()
    }
}

impl Observations {
    fn next_rows(&mut self) -> Result<Option<ObservationRows>> {
        loop {
            if let (Some(rows), Some(part)) = (self.rows.next(), &self.part) {
                return ObservationRows::new(rows, part.path()).map(Some);
            }
            if let Some(part) = &mut self.part
                && let Some(rows) = part.next_row_group(None)?
            {
                self.rows = rows.into_iter();
                continue;
            }
            let Some(path) = self.parts.next() else { return Ok(None) };
            self.part = Some(PartReader::open(&path, Table::Observations)?);
        }
    }
}

/// Some consecutive rows of observations, column by column.
#[derive(Clone, Debug)]
pub struct ObservationRows {
    rows: RecordBatch,
}

impl ObservationRows {
    fn new(rows: RecordBatch, path: &Path) -> Result<Self> {
        for column in rows.schema().fields() {
            let is = match column.name().as_str() {
                "step" | "example" => downcast::<Int64Array>(&rows, column.name()).is_some(),
                "epoch" | "label" | "tokens" => {
                    downcast::<Int32Array>(&rows, column.name()).is_some()
                }
                "correct" => downcast::<BooleanArray>(&rows, column.name()).is_some(),
                _ => downcast::<Float32Array>(&rows, column.name()).is_some(),
            };
            let nulls = rows.column_by_name(column.name()).map_or(0, Array::null_count);
            if !is || nulls > 0 {
                let (name, got) = (column.name(), column.data_type());
                return Err(Error::unsupported_format(
                    path,
                    format!("column `{name}` is {got}, which data-diet does not write"),
                ));
            }
        }
        Ok(Self { rows })
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Returns whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The optimizer updates applied before each row's logits were made.
    #[must_use]
    pub fn steps(&self) -> &[i64] {
        downcast::<Int64Array>(&self.rows, "step").map_or(&[], |column| column.values())
    }

    /// The epochs completed before each row's logits were made.
    #[must_use]
    pub fn epochs(&self) -> &[i32] {
        downcast::<Int32Array>(&self.rows, "epoch").map_or(&[], |column| column.values())
    }

    /// Example ids.
    #[must_use]
    pub fn examples(&self) -> &[i64] {
        downcast::<Int64Array>(&self.rows, "example").map_or(&[], |column| column.values())
    }

    /// Class indices; -1 where an example has no class.
    #[must_use]
    pub fn labels(&self) -> &[i32] {
        downcast::<Int32Array>(&self.rows, "label").map_or(&[], |column| column.values())
    }

    /// How many tokens of each sequence count; `None` unless the run is of the kind `tokens`.
    #[must_use]
    pub fn tokens(&self) -> Option<&[i32]> {
        downcast::<Int32Array>(&self.rows, "tokens").map(|column| &column.values()[..])
    }

    /// The share of each sequence's counted tokens that is right; `None` unless the run is of the kind
    /// `tokens`.
    #[must_use]
    pub fn accuracy(&self) -> Option<&[f32]> {
        downcast::<Float32Array>(&self.rows, "accuracy").map(|column| &column.values()[..])
    }

    /// Whether each row was classified correctly; nothing for kinds of models where nothing can be right.
    pub fn correct(&self) -> impl Iterator<Item = bool> + '_ {
        let column = downcast::<BooleanArray>(&self.rows, "correct");
        column.into_iter().flat_map(|column| column.values().iter())
    }

    /// Returns one signal, or `None` if the run does not record it.
    #[must_use]
    pub fn signal(&self, signal: Signal) -> Option<&[f32]> {
        downcast::<Float32Array>(&self.rows, signal.name()).map(|column| &column.values()[..])
    }
}

fn downcast<'a, T: 'static>(rows: &'a RecordBatch, name: &str) -> Option<&'a T> {
    rows.column_by_name(name)?.as_any().downcast_ref()
}
