//! The ids of a selection as a file of their own, for data loaders that take row numbers and for
//! people who join them with their own tables.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::write_failed;
use crate::error::{Error, ErrorKind, Result};
use crate::selection::{Decision, ScoreColumn, SelectedExample, Selection};
use crate::storage::{AtomicFile, StickyErrorWriter, io_error};

/// How to write ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IdFormat {
    /// One id per line; with decisions, CSV.
    Text,
    /// A NumPy array of 64-bit integers. Cannot hold decisions.
    Npy,
    /// A Parquet table with the column `example`.
    Parquet,
}

impl IdFormat {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Text, Self::Npy, Self::Parquet];

    /// Returns the name: `text`, `npy` or `parquet`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Npy => "npy",
            Self::Parquet => "parquet",
        }
    }

    /// Returns the format that a file name's extension means: `npy`, `parquet` or `pq`; text for
    /// `txt`, `csv` and any other.
    #[must_use]
    pub fn from_path(path: impl AsRef<Path>) -> Self {
        let extension = path.as_ref().extension().unwrap_or_default();
        match extension.to_string_lossy().to_lowercase().as_str() {
            "npy" => Self::Npy,
            "parquet" | "pq" => Self::Parquet,
            _ => Self::Text,
        }
    }
}

impl fmt::Display for IdFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for IdFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::invalid(format!("format: expected one of {names}, got `{name}`"))
        })
    }
}

/// The ids of a selection, ascending, to be written to a file.
///
/// # Examples
///
/// ```
/// use data_diet::{Amount, Rule};
/// use data_diet::manifest::{IdFormat, IdList};
/// use data_diet::selection::ScoreColumn;
///
/// let el2n = ScoreColumn::new(vec![0, 1, 2], vec![7, 7, 3], vec![0.9, 0.1, 0.4])?;
/// let hard = el2n.clone().select(Rule::Highest(Amount::Count(2)))?;
/// let mut text = Vec::new();
/// IdList::kept(&hard).write(IdFormat::Text, &mut text)?;
/// assert_eq!(text, b"0\n2\n");
///
/// let mut table = Vec::new();
/// IdList::annotated(&hard).with_score("el2n", &el2n).write(IdFormat::Text, &mut table)?;
/// assert_eq!(
///     String::from_utf8_lossy(&table),
///     "example,label,el2n,decision\n0,7,0.9,kept\n1,7,0.1,pruned\n2,3,0.4,kept\n"
/// );
/// # Ok::<(), data_diet::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct IdList<'a> {
    selection: &'a Selection,
    which: Which,
    scores: Vec<(String, &'a ScoreColumn)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Kept,
    Dropped,
    All,
}

/// So many rows are made at once.
const BATCH_ROWS: usize = if cfg!(test) { 7 } else { 1 << 16 };

impl<'a> IdList<'a> {
    fn new(selection: &'a Selection, which: Which) -> Self {
        Self { selection, which, scores: Vec::new() }
    }

    /// The examples that are kept.
    #[must_use]
    pub fn kept(selection: &'a Selection) -> Self {
        Self::new(selection, Which::Kept)
    }

    /// The examples that were considered and are not kept, those without a score among them.
    #[must_use]
    pub fn dropped(selection: &'a Selection) -> Self {
        Self::new(selection, Which::Dropped)
    }

    /// Every example that was considered, with its label and what was decided about it: `kept`,
    /// `pruned`, or `unscored` if one of its scores is NaN.
    #[must_use]
    pub fn annotated(selection: &'a Selection) -> Self {
        Self::new(selection, Which::All)
    }

    /// Adds a score as a column of this name, to an [annotated](Self::annotated) list. Examples
    /// without that score, or with NaN, get an empty field or null.
    #[must_use]
    pub fn with_score(mut self, name: impl Into<String>, scores: &'a ScoreColumn) -> Self {
        self.scores.push((name.into(), scores));
        self
    }

    /// Writes the list.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for decisions in an `npy` file, and for scores
    /// beside ids alone; [`Io`](ErrorKind::Io) if writing fails.
    pub fn write(&self, format: IdFormat, output: &mut (dyn Write + Send)) -> Result<()> {
        let annotated = self.which == Which::All;
        if annotated && format == IdFormat::Npy {
            return Err(Error::invalid(
                "format: expected text or parquet for decisions, got npy, which holds ids alone",
            ));
        }
        if !annotated && !self.scores.is_empty() {
            return Err(Error::invalid("scores: expected an annotated list, got ids alone"));
        }
        match format {
            IdFormat::Text => self.write_text(output),
            IdFormat::Npy => self.write_npy(output),
            IdFormat::Parquet => return self.write_parquet(output),
        }
        .and_then(|()| output.flush())
        .map_err(write_failed)
    }

    /// Writes a file that appears only when it is complete.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write); also [`AlreadyExists`](ErrorKind::AlreadyExists) if the file
    /// exists and is not to be overwritten.
    pub fn write_to_file(
        &self,
        format: IdFormat,
        path: impl AsRef<Path>,
        overwrite: bool,
    ) -> Result<()> {
        let path = path.as_ref();
        let mut file = AtomicFile::create(path)?;
        let mut output = std::io::BufWriter::new(file.file());
        self.write(format, &mut output)?;
        drop(output);
        if overwrite { file.commit() } else { file.commit_new() }
    }

    fn rows(&self) -> impl Iterator<Item = (i64, SelectedExample)> + '_ {
        self.selection.decisions().filter(|(_, selected)| match self.which {
            Which::Kept => selected.decision == Decision::Kept,
            Which::Dropped => selected.decision != Decision::Kept,
            Which::All => true,
        })
    }

    fn len(&self) -> usize {
        match self.which {
            Which::Kept => self.selection.len(),
            Which::Dropped => self.selection.considered() - self.selection.len(),
            Which::All => self.selection.considered(),
        }
    }

    fn write_text(&self, output: &mut dyn Write) -> std::io::Result<()> {
        if self.which != Which::All {
            return self.rows().try_for_each(|(id, _)| writeln!(output, "{id}"));
        }
        write!(output, "example,label")?;
        for (name, _) in &self.scores {
            if name.contains(['"', ',', '\r', '\n']) {
                write!(output, ",\"{}\"", name.replace('"', "\"\""))?;
            } else {
                write!(output, ",{name}")?;
            }
        }
        writeln!(output, ",decision")?;
        for (id, selected) in self.rows() {
            write!(output, "{id},{}", selected.label)?;
            for (_, scores) in &self.scores {
                match scores.of(id) {
                    Some(score) => write!(output, ",{score}")?,
                    None => write!(output, ",")?,
                }
            }
            writeln!(output, ",{}", decision_name(selected.decision))?;
        }
        Ok(())
    }

    /// Source: NumPy Enhancement Proposal 1, version 1.0 of the format.
    fn write_npy(&self, output: &mut dyn Write) -> std::io::Result<()> {
        let header =
            format!("{{'descr': '<i8', 'fortran_order': False, 'shape': ({},), }}", self.len());
        // Magic, version, length and header together are a multiple of 64 bytes long.
        let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
        output.write_all(b"\x93NUMPY\x01\x00")?;
        output.write_all(&(padded as u16).to_le_bytes())?;
        writeln!(output, "{header:<width$}", width = padded - 1)?;
        self.rows().try_for_each(|(id, _)| output.write_all(&id.to_le_bytes()))
    }

    fn write_parquet(&self, output: &mut (dyn Write + Send)) -> Result<()> {
        let failed = |error: ParquetError| match io_error(error) {
            Ok(error) => write_failed(error),
            Err(error) => {
                Error::new(ErrorKind::Io, "cannot encode the ids as Parquet").with_source(error)
            }
        };
        let mut fields = vec![Field::new("example", DataType::Int64, false)];
        if self.which == Which::All {
            fields.push(Field::new("label", DataType::Int32, false));
            for (name, _) in &self.scores {
                fields.push(Field::new(name, DataType::Float64, true));
            }
            fields.push(Field::new("decision", DataType::Utf8, false));
        }
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build();
        let output = StickyErrorWriter::new(output);
        let mut writer =
            ArrowWriter::try_new(output, Arc::clone(&schema), Some(properties)).map_err(failed)?;
        let mut rows = self.rows().peekable();
        while rows.peek().is_some() {
            let some: Vec<_> = rows.by_ref().take(BATCH_ROWS).collect();
            let ids = || some.iter().map(|(id, _)| *id);
            let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(ids()))];
            if self.which == Which::All {
                let labels = some.iter().map(|(_, selected)| selected.label);
                columns.push(Arc::new(Int32Array::from_iter_values(labels)));
                for (_, scores) in &self.scores {
                    let scores: Float64Array = ids().map(|id| scores.of(id)).collect();
                    columns.push(Arc::new(scores));
                }
                let decisions = some.iter().map(|(_, selected)| decision_name(selected.decision));
                columns.push(Arc::new(StringArray::from_iter_values(decisions)));
            }
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
                .map_err(|error| failed(error.into()))?;
            writer.write(&batch).map_err(failed)?;
        }
        writer.finish().map_err(failed)?;
        writer.inner_mut().flush().map_err(write_failed)
    }
}

fn decision_name(decision: Decision) -> &'static str {
    match decision {
        Decision::Kept => "kept",
        Decision::Pruned => "pruned",
        Decision::Unscored => "unscored",
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

    use super::*;
    use crate::selection::{Amount, Rule};

    fn scores() -> ScoreColumn {
        let ids = vec![3, 5, 8, 900, 901, 902, 903, 904, 905, i64::MAX];
        let scores = vec![0.5, f64::NAN, 0.25, 1.5, 0.0, 2.0, 0.1, 0.2, 0.3, 4.0];
        ScoreColumn::new(ids, vec![0, 1, 2, 0, 1, 2, 0, 1, 2, 9], scores).unwrap()
    }

    fn selection() -> Selection {
        scores().select(Rule::Highest(Amount::Count(4))).unwrap()
    }

    fn written(list: &IdList<'_>, format: IdFormat) -> Vec<u8> {
        let mut bytes = Vec::new();
        list.write(format, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn every_format_holds_the_same_ids() {
        let selection = selection();
        let kept = vec![3, 900, 902, i64::MAX];
        let dropped = vec![5, 8, 901, 903, 904, 905];
        for (list, expected) in
            [(IdList::kept(&selection), kept), (IdList::dropped(&selection), dropped)]
        {
            let text = String::from_utf8(written(&list, IdFormat::Text)).unwrap();
            let ids: Vec<i64> = text.lines().map(|line| line.parse().unwrap()).collect();
            assert_eq!(ids, expected);

            let npy = written(&list, IdFormat::Npy);
            let header = usize::from(u16::from_le_bytes([npy[8], npy[9]])) + 10;
            assert_eq!(
                (&npy[..8], header % 64, npy[header - 1]),
                (&b"\x93NUMPY\x01\0"[..], 0, b'\n')
            );
            let shape = format!("'shape': ({},)", expected.len());
            assert!(String::from_utf8_lossy(&npy[10..header]).contains(&shape));
            let ids = npy[header..].as_chunks::<8>().0.iter().map(|id| i64::from_le_bytes(*id));
            assert_eq!(ids.collect::<Vec<_>>(), expected);

            let parquet = Bytes::from(written(&list, IdFormat::Parquet));
            let reader = ParquetRecordBatchReader::try_new(parquet, 100).unwrap();
            let ids = reader
                .map(Result::unwrap)
                .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
            assert_eq!(ids.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn annotations_tell_scores_and_decisions() {
        let (selection, scores) = (selection(), scores());
        let list = IdList::annotated(&selection).with_score("a \"b\", c", &scores);
        let text = String::from_utf8(written(&list, IdFormat::Text)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "example,label,\"a \"\"b\"\", c\",decision");
        assert_eq!(lines[1..4], ["3,0,0.5,kept", "5,1,,unscored", "8,2,0.25,pruned"]);
        assert_eq!(lines.len(), 11);
        let parquet = Bytes::from(written(&list, IdFormat::Parquet));
        let batches: Vec<_> =
            ParquetRecordBatchReader::try_new(parquet, 100).unwrap().map(Result::unwrap).collect();
        let decisions = batches[0].column(3).as_string::<i32>();
        assert_eq!((decisions.value(0), decisions.value(1)), ("kept", "unscored"));
        assert!(batches[0].column(2).is_null(1));

        let error = list.write(IdFormat::Npy, &mut std::io::sink()).unwrap_err();
        assert!(error.to_string().contains("which holds ids alone"), "{error}");
        let plain = IdList::kept(&selection).with_score("el2n", &scores);
        let error = plain.write(IdFormat::Text, &mut std::io::sink()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }

    #[test]
    fn a_file_is_named_for_its_format_and_never_replaced_unasked() {
        let directory = tempfile::tempdir().unwrap();
        let selection = selection();
        let list = IdList::kept(&selection);
        for name in ["a.txt", "a.npy", "a.parquet", "ids"] {
            let path = directory.path().join(name);
            list.write_to_file(IdFormat::from_path(&path), &path, false).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(bytes, written(&list, IdFormat::from_path(name)));
            let error = list.write_to_file(IdFormat::Text, &path, false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
            IdList::dropped(&selection).write_to_file(IdFormat::Text, &path, true).unwrap();
            assert_ne!(std::fs::read(&path).unwrap(), bytes);
        }
    }
}
