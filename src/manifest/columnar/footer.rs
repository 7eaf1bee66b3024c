//! The footer of the manifest, and of the file that is written like it.
//!
//! What describes the file stays as it is stored: the schema, element for element, the key-value
//! metadata, the column orders and the version. The Parquet crate would rename the root of the
//! schema, derive converted types from logical ones, and add statistics of sizes and of NaN, with
//! which some readers fail (pyarrow 19.0.0, if there are lists).
//!
//! Fields of Thrift structs are named by their ids; the source is `parquet.thrift` of the Parquet
//! format, version 2.12.

use std::ops::Range;
use std::sync::Arc;

use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::file::reader::ChunkReader;

use super::thrift::{Kind, Reader, Struct, Value, Writer};

/// The length of the footer, in four bytes, and `PAR1`.
const END_BYTES: usize = 8;

mod file {
    pub(super) const VERSION: i16 = 1;
    pub(super) const SCHEMA: i16 = 2;
    pub(super) const ROW_GROUPS: i16 = 4;
    pub(super) const KEY_VALUES: i16 = 5;
    pub(super) const COLUMN_ORDERS: i16 = 7;
    pub(super) const ENCRYPTION: i16 = 8;
}

mod element {
    pub(super) const CHILDREN: i16 = 5;
    /// The converted type, its scale and its precision, and the logical type.
    pub(super) const ANNOTATIONS: [i16; 4] = [6, 7, 8, 10];
}

mod row_group {
    pub(super) const COLUMNS: i16 = 1;
}

mod chunk {
    pub(super) const METADATA: i16 = 3;
    pub(super) const OFFSET_INDEX: [i16; 2] = [4, 5];
    pub(super) const COLUMN_INDEX: [i16; 2] = [6, 7];
    /// In the metadata.
    pub(super) const STATISTICS: i16 = 12;
    pub(super) const SIZE_STATISTICS: i16 = 16;
    /// In the statistics.
    pub(super) const NAN_COUNT: i16 = 9;
}

mod index {
    /// The histograms of a column index, and the sizes of an offset index.
    pub(super) const COLUMN_SIZES: [i16; 2] = [6, 7];
    pub(super) const COLUMN_NAN_COUNTS: i16 = 8;
    pub(super) const OFFSET_SIZES: i16 = 2;
}

/// The footer of the manifest.
pub(super) struct Footer {
    bytes: Vec<u8>,
    /// As it is.
    pub(super) metadata: Arc<ParquetMetaData>,
}

impl Footer {
    pub(super) fn read(source: &impl ChunkReader) -> Result<Self> {
        let end = source.len().saturating_sub(END_BYTES as u64);
        if source.len() >= END_BYTES as u64 && source.get_bytes(end + 4, 4)?[..] == *b"PARE" {
            return Err(encrypted());
        }
        let metadata = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .parse_and_finish(source)?;
        let mut chunks = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
        if let Some(elsewhere) = chunks.find_map(ColumnChunkMetaData::file_path) {
            return Err(ParquetError::General(format!(
                "its columns are in other files, such as {elsewhere}; filter those"
            )));
        }
        let tail = source.get_bytes(end, 4)?;
        let length =
            u64::from(tail.iter().rev().fold(0_u32, |sum, &byte| sum << 8 | u32::from(byte)));
        let bytes = source.get_bytes(end.saturating_sub(length), length as usize)?.to_vec();
        let footer = Self { bytes, metadata: Arc::new(metadata) };
        match footer.field(file::ENCRYPTION)? {
            Some(_) => Err(encrypted()),
            None => Ok(footer),
        }
    }

    /// Returns the metadata of the same file with a schema of physical types alone, in which a
    /// value is no more than its bytes.
    pub(super) fn physical(&self) -> Result<ParquetMetaData> {
        let mut output = Writer::default();
        rewrite(&self.bytes, &mut output, |id, raw, output| {
            let bytes = match id {
                file::SCHEMA => physical_schema(raw)?,
                // It holds the Arrow schema, whose types are not physical.
                file::KEY_VALUES => return Ok(None),
                _ => raw.to_vec(),
            };
            output.bytes.extend(bytes);
            Ok(Some(()))
        })?;
        ParquetMetaDataReader::decode_metadata(&output.bytes)
    }

    /// Makes the end of a written file that of a file like this one. `tail` is what follows the
    /// last row group, which ends at `offset`: page indexes and a footer.
    pub(super) fn describe(&self, tail: &[u8], offset: u64) -> Result<Vec<u8>> {
        let written = footer_of(tail)?;
        let keep = Keep::of(&self.metadata);
        let mut output = Writer::default();
        let places = move_indexes(
            &tail[..written.start],
            written_groups(&tail[written.clone()])?,
            &keep,
            offset,
            &mut output,
        )?;
        let start = output.bytes.len();
        let mut places = places.into_iter();
        rewrite(&tail[written], &mut output, |id, raw, output| {
            match id {
                file::SCHEMA => self.schema(raw, output)?,
                file::COLUMN_ORDERS => match self.field(file::COLUMN_ORDERS)? {
                    Some(orders) => column_orders(orders, raw, output)?,
                    None => return Ok(None),
                },
                file::VERSION => {
                    let version = self.field(file::VERSION)?.unwrap_or(raw);
                    output.bytes.extend_from_slice(version);
                }
                file::ROW_GROUPS => row_groups(raw, &keep, &mut places, output)?,
                _ => output.bytes.extend_from_slice(raw),
            }
            Ok(Some(()))
        })?;
        let length = (output.bytes.len() - start) as u32;
        output.bytes.extend_from_slice(&length.to_le_bytes());
        output.bytes.extend_from_slice(b"PAR1");
        Ok(output.bytes)
    }

    /// Returns the bytes of a top-level field.
    fn field(&self, wanted: i16) -> Result<Option<&[u8]>> {
        let mut reader = Reader::new(&self.bytes);
        let mut previous = 0;
        while let Some((id, kind)) = reader.field(previous)? {
            let raw = reader.raw(kind)?;
            if id == wanted {
                return Ok(Some(raw));
            }
            previous = id;
        }
        Ok(None)
    }

    /// Writes the manifest's schema, and the elements that the written one has at its end.
    fn schema(&self, written: &[u8], output: &mut Writer) -> Result<()> {
        let raw = self.field(file::SCHEMA)?.unwrap_or_default();
        let mut ours = elements(raw)?;
        let written = elements(written)?;
        let added = written.get(ours.len()..).unwrap_or_default();
        if added.is_empty() {
            output.bytes.extend_from_slice(raw);
            return Ok(());
        }
        let root = ours.first_mut().and_then(|root| root.get_mut(element::CHILDREN));
        if let Some(Value::Integer(_, children)) = root {
            *children += added.len() as i64;
        }
        ours.extend_from_slice(added);
        output.list(Kind::STRUCT, ours.len());
        for element in &ours {
            output.write_struct(element);
        }
        Ok(())
    }
}

fn encrypted() -> ParquetError {
    ParquetError::General("it is encrypted; decrypt it first".to_owned())
}

/// Copies a struct field by field. `copy` writes a field's value, or returns `None` to leave it out.
fn rewrite(
    bytes: &[u8],
    output: &mut Writer,
    mut copy: impl FnMut(i16, &[u8], &mut Writer) -> Result<Option<()>>,
) -> Result<()> {
    let mut reader = Reader::new(bytes);
    let (mut previous, mut written) = (0, 0);
    while let Some((id, kind)) = reader.field(previous)? {
        let raw = reader.raw(kind)?;
        let start = output.bytes.len();
        output.field(written, id, kind);
        match copy(id, raw, output)? {
            Some(()) => written = id,
            None => output.bytes.truncate(start),
        }
        previous = id;
    }
    output.end_of_struct();
    Ok(())
}

fn elements(raw: &[u8]) -> Result<Vec<Struct>> {
    let mut reader = Reader::new(raw);
    let (_, count) = reader.list()?;
    (0..count).map(|_| reader.read_struct()).collect()
}

fn physical_schema(raw: &[u8]) -> Result<Vec<u8>> {
    let mut elements = elements(raw)?;
    let mut output = Writer::default();
    output.list(Kind::STRUCT, elements.len());
    for element in &mut elements {
        element.remove(&element::ANNOTATIONS);
        output.write_struct(element);
    }
    Ok(output.bytes)
}

/// Writes the orders of the manifest's columns, and those that the written file has at its end.
fn column_orders(ours: &[u8], written: &[u8], output: &mut Writer) -> Result<()> {
    let (mut orders, written) = (elements(ours)?, elements(written)?);
    orders.extend_from_slice(written.get(orders.len()..).unwrap_or_default());
    output.list(Kind::STRUCT, orders.len());
    for order in &orders {
        output.write_struct(order);
    }
    Ok(())
}

/// Which statistics the columns of the manifest have; its writer decided about them.
struct Keep {
    columns: Vec<KeepOfColumn>,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a field of its own in the footer")]
#[derive(Clone, Copy, Default)]
struct KeepOfColumn {
    /// Sizes of chunks, histograms of levels by page, sizes of pages.
    sizes: bool,
    histograms: bool,
    page_sizes: bool,
    nan_counts: bool,
}

impl Keep {
    fn of(metadata: &ParquetMetaData) -> Self {
        let columns = metadata.file_metadata().schema_descr().num_columns();
        let mut columns = vec![KeepOfColumn::default(); columns];
        for (number, group) in metadata.row_groups().iter().enumerate() {
            let indexes = metadata.page_index_for_row_group(number);
            for (place, (chunk, keep)) in group.columns().iter().zip(&mut columns).enumerate() {
                keep.sizes |= chunk.unencoded_byte_array_data_bytes().is_some()
                    || chunk.repetition_level_histogram().is_some()
                    || chunk.definition_level_histogram().is_some();
                keep.nan_counts |=
                    chunk.statistics().is_some_and(|it| it.nan_count_opt().is_some());
                keep.histograms |= indexes.column_index(place).is_some_and(|index| {
                    index.num_pages() > 0
                        && (index.repetition_level_histogram(0).is_some()
                            || index.definition_level_histogram(0).is_some())
                });
                keep.page_sizes |= indexes
                    .offset_index(place)
                    .is_some_and(|index| index.unencoded_byte_array_data_bytes().is_some());
            }
        }
        Self { columns }
    }

    /// Nothing for columns that the manifest does not have.
    fn of_column(&self, column: usize) -> KeepOfColumn {
        self.columns.get(column).copied().unwrap_or_default()
    }
}

/// Returns where the footer is in the end of a file.
fn footer_of(tail: &[u8]) -> Result<Range<usize>> {
    let broken = || ParquetError::General("the written footer is not whole".to_owned());
    let end = tail.len().checked_sub(END_BYTES).ok_or_else(broken)?;
    let length: [u8; 4] = tail[end..end + 4].try_into().map_err(|_length| broken())?;
    let start = end.checked_sub(u32::from_le_bytes(length) as usize).ok_or_else(broken)?;
    Ok(start..end)
}

/// Where the page indexes of a column chunk are in the file: their offset and length.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    column_index: Option<(u64, usize)>,
    offset_index: Option<(u64, usize)>,
}

/// Returns where the page indexes of the chunks are, row group by row group.
fn written_groups(footer: &[u8]) -> Result<Vec<Vec<Places>>> {
    let mut groups = Vec::new();
    let mut nothing = Writer::default();
    rewrite(footer, &mut nothing, |id, raw, _| {
        if id == file::ROW_GROUPS {
            for_chunks(raw, |group, chunk| {
                let place = |[offset, length]: [i16; 2]| {
                    let get = |id| chunk.get(id).and_then(Value::as_integer);
                    Some((get(offset)? as u64, get(length)? as usize))
                };
                groups.resize_with(group + 1, Vec::new);
                groups[group].push(Places {
                    column_index: place(chunk::COLUMN_INDEX),
                    offset_index: place(chunk::OFFSET_INDEX),
                });
                Ok(())
            })?;
        }
        Ok(None)
    })?;
    Ok(groups)
}

/// Calls a function with every chunk of all row groups, and the number of its row group.
fn for_chunks(raw: &[u8], mut visit: impl FnMut(usize, Struct) -> Result<()>) -> Result<()> {
    let mut reader = Reader::new(raw);
    let (_, groups) = reader.list()?;
    for group in 0..groups {
        let mut previous = 0;
        while let Some((id, kind)) = reader.field(previous)? {
            if id == row_group::COLUMNS {
                let (_, chunks) = reader.list()?;
                for _ in 0..chunks {
                    visit(group, reader.read_struct()?)?;
                }
            } else {
                reader.raw(kind)?;
            }
            previous = id;
        }
    }
    Ok(())
}

/// Writes the page indexes without what the manifest's do not have, and returns where they are.
fn move_indexes(
    written: &[u8],
    groups: Vec<Vec<Places>>,
    keep: &Keep,
    offset: u64,
    output: &mut Writer,
) -> Result<Vec<Places>> {
    let mut moved = |place: (u64, usize), drop: &[i16]| {
        let start = place.0.saturating_sub(offset) as usize;
        let raw = written.get(start..start.saturating_add(place.1)).unwrap_or_default();
        let begin = output.bytes.len();
        if drop.is_empty() {
            output.bytes.extend_from_slice(raw);
        } else {
            let mut index = Reader::new(raw).read_struct()?;
            index.remove(drop);
            output.write_struct(&index);
        }
        Ok::<_, ParquetError>((offset + begin as u64, output.bytes.len() - begin))
    };
    let mut places = groups;
    for (column, place) in places.iter_mut().flat_map(|group| group.iter_mut().enumerate()) {
        let Some(index) = &mut place.column_index else { continue };
        let mut drop = Vec::new();
        let keep = keep.of_column(column);
        if !keep.histograms {
            drop.extend(index::COLUMN_SIZES);
        }
        if !keep.nan_counts {
            drop.push(index::COLUMN_NAN_COUNTS);
        }
        *index = moved(*index, &drop)?;
    }
    for (column, place) in places.iter_mut().flat_map(|group| group.iter_mut().enumerate()) {
        let Some(index) = &mut place.offset_index else { continue };
        let keep = keep.of_column(column);
        let drop: &[i16] = if keep.page_sizes { &[] } else { &[index::OFFSET_SIZES] };
        *index = moved(*index, drop)?;
    }
    Ok(places.into_iter().flatten().collect())
}

/// Writes the row groups with the new places of page indexes.
fn row_groups(
    raw: &[u8],
    keep: &Keep,
    places: &mut impl Iterator<Item = Places>,
    output: &mut Writer,
) -> Result<()> {
    let mut reader = Reader::new(raw);
    let (kind, groups) = reader.list()?;
    output.list(kind, groups);
    for _ in 0..groups {
        let mut previous = 0;
        while let Some((id, kind)) = reader.field(previous)? {
            output.field(previous, id, kind);
            if id == row_group::COLUMNS {
                let (kind, chunks) = reader.list()?;
                output.list(kind, chunks);
                for column in 0..chunks {
                    let mut chunk = reader.read_struct()?;
                    let places = places.next().unwrap_or_default();
                    edit_chunk(&mut chunk, keep.of_column(column), places);
                    output.write_struct(&chunk);
                }
            } else {
                output.bytes.extend_from_slice(reader.raw(kind)?);
            }
            previous = id;
        }
        output.end_of_struct();
    }
    Ok(())
}

fn edit_chunk(chunk: &mut Struct, keep: KeepOfColumn, places: Places) {
    for ([offset, length], place) in
        [(chunk::COLUMN_INDEX, places.column_index), (chunk::OFFSET_INDEX, places.offset_index)]
    {
        let Some(place) = place else { continue };
        for (id, value) in [(offset, place.0 as i64), (length, place.1 as i64)] {
            if let Some(Value::Integer(_, found)) = chunk.get_mut(id) {
                *found = value;
            }
        }
    }
    let Some(metadata) = chunk.get_mut(chunk::METADATA).and_then(Value::as_struct_mut) else {
        return;
    };
    if !keep.sizes {
        metadata.remove(&[chunk::SIZE_STATISTICS]);
    }
    let statistics = metadata.get_mut(chunk::STATISTICS).and_then(Value::as_struct_mut);
    if let Some(statistics) = statistics
        && !keep.nan_counts
    {
        statistics.remove(&[chunk::NAN_COUNT]);
    }
}
