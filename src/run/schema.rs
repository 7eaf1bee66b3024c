//! The schemas of a run's tables: columns, types, and how each column is encoded.
//!
//! Integers are signed (Spark reads unsigned ones badly). Floats are byte-stream-split, ids, steps and
//! epochs delta-packed, labels dictionary-coded, booleans plain, all under zstd level 1, one page
//! per column chunk: about 13 bytes a row for the default observations, near their entropy.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use super::snapshots;
use crate::observe::{BatchFormat, LogitsFormat, Phase};
use crate::storage::CREATED_BY;

/// The column of `logits` with the label's own logit.
pub(crate) const LABEL_LOGIT: &str = "label_logit";
/// The column of `logits` with the logarithm of the sum by which the softmax divides.
pub(crate) const LOG_SUM_EXP: &str = "log_sum_exp";

/// Rows of a full row group of observations.
const ROW_GROUP_ROWS: usize = 131_072;
/// Wide tables have fewer rows per row group, because a reader has to hold a whole one.
const ROW_GROUP_BYTES: usize = 16 << 20;

/// A table of an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Table {
    Observations,
    Logits,
    Grand,
    Snapshots,
}

impl Table {
    pub(crate) const ALL: [Self; 4] =
        [Self::Observations, Self::Logits, Self::Grand, Self::Snapshots];

    /// Lists the streams of rows that go through a rank's log: each table with each of its phases.
    pub(crate) fn streams() -> impl Iterator<Item = (Self, Phase)> {
        Self::ALL.into_iter().flat_map(|table| table.phases().iter().map(move |&at| (table, at)))
    }

    /// The phases whose rows a table keeps apart. Gradients are always taken with the weights held
    /// still.
    pub(crate) fn phases(self) -> &'static [Phase] {
        match self {
            Self::Observations | Self::Logits => &Phase::ALL,
            Self::Grand => &[Phase::Score],
            Self::Snapshots => &[],
        }
    }

    /// Returns whether its rows are counted; rows of `logits` accompany observations, which are.
    pub(crate) fn is_counted(self) -> bool {
        matches!(self, Self::Observations | Self::Grand)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Observations => "observations",
            Self::Logits => "logits",
            Self::Grand => "grand",
            Self::Snapshots => "snapshots",
        }
    }

    /// Returns the columns of this table for a run of this format, or `None` if the run does not
    /// record it.
    pub(crate) fn schema(self, format: &BatchFormat) -> Option<SchemaRef> {
        if self == Self::Snapshots {
            return Some(snapshots::schema());
        }
        let mut fields = vec![
            Field::new("step", DataType::Int64, false),
            Field::new("epoch", DataType::Int32, false),
            Field::new("example", DataType::Int64, false),
            Field::new("label", DataType::Int32, false),
        ];
        match self {
            Self::Observations => {
                if format.kind.has_correct() {
                    fields.push(Field::new("correct", DataType::Boolean, false));
                }
                if format.kind.has_tokens() {
                    fields.push(Field::new("tokens", DataType::Int32, false));
                    fields.push(Field::new("accuracy", DataType::Float32, false));
                }
                let signals = format.signals.iter();
                fields.extend(
                    signals.map(|signal| Field::new(signal.name(), DataType::Float32, false)),
                );
            }
            Self::Snapshots => {}
            Self::Grand => fields.push(Field::new("grand", DataType::Float32, false)),
            Self::Logits => {
                let classes = format.kind.outputs() as i32;
                let list = |name: &str, item: DataType, length: i32| {
                    let item = Arc::new(Field::new("element", item, false));
                    Field::new(name, DataType::FixedSizeList(item, length), false)
                };
                match format.logits {
                    LogitsFormat::Off => return None,
                    LogitsFormat::F32 => fields.push(list("logits", DataType::Float32, classes)),
                    LogitsFormat::F16 => {
                        let bytes = DataType::FixedSizeBinary(2 * classes);
                        fields.push(Field::new("logits", bytes, false));
                    }
                    LogitsFormat::TopK(k) | LogitsFormat::TopKAndLabel(k) => {
                        fields.push(list("classes", DataType::Int32, k as i32));
                        fields.push(list("logits", DataType::Float32, k as i32));
                        if matches!(format.logits, LogitsFormat::TopKAndLabel(_)) {
                            fields.push(Field::new(LABEL_LOGIT, DataType::Float32, false));
                            fields.push(Field::new(LOG_SUM_EXP, DataType::Float32, false));
                        }
                    }
                }
            }
        }
        Some(Arc::new(Schema::new(fields)))
    }
}

/// Returns how to write a table of this schema.
pub(crate) fn writer_properties(table: Table, schema: &Schema) -> WriterProperties {
    if table == Table::Snapshots {
        return snapshots::writer_properties();
    }
    let row_bytes: usize = schema.fields().iter().map(|field| width(field.data_type())).sum();
    let rows = ROW_GROUP_ROWS.min(ROW_GROUP_BYTES / row_bytes.max(1)).max(1);
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(rows))
        .set_data_page_row_count_limit(usize::MAX)
        // A row group of `ROW_GROUP_BYTES` is one page per column; a single wider row may not be.
        .set_data_page_size_limit(2 * ROW_GROUP_BYTES)
        .set_write_batch_size(8192);
    for field in schema.fields() {
        let leaf = match field.data_type() {
            DataType::FixedSizeList(..) => {
                vec![field.name().clone(), "list".into(), "element".into()]
            }
            _ => vec![field.name().clone()],
        };
        let column = ColumnPath::new(leaf);
        if is_float(field.data_type()) {
            builder = builder.set_column_statistics_enabled(column.clone(), FLOAT_STATISTICS);
        }
        builder = match field.name().as_str() {
            "step" | "epoch" | "tokens" => {
                builder.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
            }
            "label" => builder.set_column_dictionary_enabled(column, true),
            _ => match field.data_type() {
                DataType::Boolean | DataType::FixedSizeBinary(_) => {
                    builder.set_column_encoding(column, Encoding::PLAIN)
                }
                // DuckDB before 2.0 reads byte-stream-split floats only.
                DataType::Int64 => {
                    builder.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
                }
                DataType::FixedSizeList(item, _) if item.data_type().is_integer() => {
                    builder.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
                }
                _ => builder.set_column_encoding(column, Encoding::BYTE_STREAM_SPLIT),
            },
        };
    }
    builder.build()
}

/// Minima and maxima leave NaN out. Readers that trust them take `isnan` for false, and a comparison
/// for true or false, where a NaN is (DuckDB 2.0 does both).
pub(crate) const FLOAT_STATISTICS: EnabledStatistics = EnabledStatistics::None;

fn is_float(data_type: &DataType) -> bool {
    match data_type {
        DataType::FixedSizeList(item, _) => is_float(item.data_type()),
        _ => data_type.is_floating(),
    }
}

/// The size in bytes of one value of a type that our tables use.
fn width(data_type: &DataType) -> usize {
    match data_type {
        DataType::FixedSizeList(item, length) => width(item.data_type()) * *length as usize,
        DataType::FixedSizeBinary(bytes) => *bytes as usize,
        DataType::Int64 => 8,
        DataType::Boolean => 1,
        _ => 4,
    }
}
